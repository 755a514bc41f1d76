"""The rules against a running org: what a check costs, when it is made, and what stops the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_pipeline.config.rules import RulesError
from sync_pipeline.engine.assembly import open_engine
from sync_pipeline.engine.context import Halted
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import mark, requests_since, win
from sync_pipeline_tests.sandbox_process import SandboxHandle

FIRST_USE = 4
"""Describes of what is mapped, the stages, the objects that paths lead to; and what kind of org it is."""


def _calls(sandbox: SandboxHandle, since: int) -> int:
    """Salesforce calls other than signing in."""
    entries = requests_since(sandbox, since, "salesforce")
    return len([entry for entry in entries if "oauth2" not in entry["path"]])


def test_the_shipped_rules_fit_the_org_that_has_the_package(sync: Installation) -> None:
    assert sync.engine.warnings == ()


def test_a_check_that_went_well_costs_nothing_for_a_day(sandbox: SandboxHandle, tmp_path: Path) -> None:
    start = mark(sandbox)
    with installed(sandbox, tmp_path) as sync:
        assert _calls(sandbox, start) == FIRST_USE
        start = mark(sandbox)
        with open_engine(sync.settings, run="the next run"):
            pass
        assert _calls(sandbox, start) == 0


def test_other_rules_are_checked_anew_and_a_wrong_name_stops_everything(sync: Installation, tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text("salesforce: {account: {fields: {mrr: Monthly__c}}}\n")
    with pytest.raises(RulesError, match=r"mine\.yaml:1: the org has no field Account\.Monthly__c"):
        installed(sync.sandbox, tmp_path, extra={"SYNC_RULES": str(rules)}).__enter__()


def test_a_permission_that_goes_later_halts_with_the_field_in_one_line(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """Within the day that a check holds for, the first read meets it."""
    with installed(sandbox, tmp_path) as first:
        first.rest()
    sandbox.control("POST", "/settings", {"salesforce": {"hidden_fields": ["Account.MRR__c"]}})
    with installed(sandbox, tmp_path, url=first.settings.database_url) as sync:
        win(sandbox)
        with pytest.raises(Halted, match=r"cannot see Account\.MRR__c; deploy") as halted:
            sync.drain()
        assert "\n" not in str(halted.value)


def test_a_permission_that_is_missing_from_the_start_is_told_before_anything_is_done(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    hidden = ["Account.MRR__c", "Opportunity.Billing_Status__c"]
    sandbox.control("POST", "/settings", {"salesforce": {"hidden_fields": hidden}})
    with pytest.raises(RulesError) as refused:
        installed(sandbox, tmp_path).__enter__()
    lines = str(refused.value).splitlines()
    assert len(lines) == len(hidden)
    assert all(name in line and "permission set" in line for name, line in zip(hidden, lines, strict=True))
