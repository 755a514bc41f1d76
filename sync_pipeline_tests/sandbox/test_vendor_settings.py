"""The settings file: what it changes, and that a wrong one is refused by the name of the setting.

Facts: sandbox.md 2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.sandbox.options import SandboxError
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings, ValidationRule
from sync_pipeline.sandbox.stripe.settings import StripeSettings
from sync_pipeline.sandbox.vendor_settings import read_settings
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import ControlError, start_sandbox


def written(folder: Path, said: Any) -> Path:
    path = folder / "settings.json"
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    return path


def test_without_a_file_everything_is_as_by_default() -> None:
    vendors = read_settings(None)
    assert (vendors.salesforce, vendors.stripe) == (SalesforceSettings(), StripeSettings())


def test_every_kind_of_setting_can_be_given(tmp_path: Path) -> None:
    rule = {"object": "Account", "when": "Name = 'x'", "message": "no"}
    said = {
        "salesforce": {"package": "/some/where", "multi_currency": True, "validation_rules": [rule]},
        "stripe": {"retry_days": [1, 2], "final_action": "unpaid", "overdue_grace": None},
    }
    vendors = read_settings(written(tmp_path, said))
    assert vendors.salesforce.package == Path("/some/where")
    assert vendors.salesforce.validation_rules == (ValidationRule("Account", "Name = 'x'", "no"),)
    assert vendors.stripe == StripeSettings(retry_days=(1, 2), final_action="unpaid")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "not JSON"),
        ([], "must be"),
        ({"paypal": {}}, "must be"),
        ({"stripe": []}, "stripe: Expected"),
        ({"stripe": {"retry_day": [1]}}, r"stripe\.retry_day is not a setting; there are country"),
        ({"stripe": {"retry_days": "soon"}}, r"retry_days"),
        ({"stripe": {"final_action": "explode"}}, r"final_action"),
        ({"stripe": {"exchange_rates": {"EUR": "0.85"}}}, r'exchange_rates: must be like .*"EUR": "0.85"'),
        ({"stripe": {"exchange_rates": {"eur": "0.0"}}}, r'exchange_rates: must be like .*"eur": "0.0"'),
        ({"salesforce": {"page_size": "big"}}, r"page_size"),
    ],
)
def test_a_wrong_file_is_refused_by_what_is_wrong_in_it(tmp_path: Path, said: Any, message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        read_settings(written(tmp_path, said))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="No such file"):
        read_settings(tmp_path / "absent.json")


def test_the_process_lives_by_its_settings(tmp_path: Path) -> None:
    rule = {"object": "Account", "when": "Name = 'Forbidden'", "message": "This name is not allowed."}
    settings = written(tmp_path, {"salesforce": {"validation_rules": [rule]}})
    with start_sandbox("--settings", str(settings), "--now", str(START)) as handle:
        edit = {"system": "salesforce", "object": "Account"}
        handle.control("POST", "/humans", edit | {"fields": {"Name": "Allowed"}})
        with pytest.raises(ControlError) as refused:
            handle.control("POST", "/humans", edit | {"fields": {"Name": "Forbidden"}})
    assert refused.value.body["error"]["message"] == "This name is not allowed."
