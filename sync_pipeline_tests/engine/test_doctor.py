"""What the doctor finds of the clocks, of whose the ledger is, and of what it cannot see."""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
import requests

from sync_pipeline.engine import binding
from sync_pipeline.engine.doctor import Finding, examine
from sync_pipeline.ledger import cursors
from sync_pipeline.systems.wire import Wire
from sync_pipeline_tests.engine.installation import Installation


@pytest.mark.parametrize(
    ("behind", "verdict", "words"),
    [(0, "ok", "s ahead of Salesforce's"), (3_600, "failed", "s ahead of"), (-3_600, "failed", "s behind")],
)
def test_a_clock_that_is_wrong_is_told(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, behind: int, verdict: str, words: str
) -> None:
    send = Wire.send

    def dated(self: Wire, *request: Any, **options: Any) -> requests.Response:
        answer = send(self, *request, **options)
        answer.headers["Date"] = formatdate(time.time() - behind, usegmt=True)
        return answer

    monkeypatch.setattr(Wire, "send", dated)
    (told,) = [each for each in examine(replace(sync.settings, clock_url=None)) if each.check == "clock"]
    assert told.verdict == verdict
    assert words in told.detail


def test_the_clock_of_the_sandbox_is_its_own(sync: Installation) -> None:
    (told,) = [each for each in examine(sync.settings) if each.check == "clock"]
    assert (told.verdict, told.detail.partition(",")[0]) == ("ok", "the sandbox's virtual clock")


def of_the_ledger(sync: Installation, org: str, stripe_account: str) -> list[Finding]:
    """What the doctor says of the ledger once it is bound so; None of what it is bound to changes by looking."""
    bound_to = {binding.ORG: org, binding.STRIPE_ACCOUNT: stripe_account}
    with sync.ledger.tx() as conn:
        for name, value in bound_to.items():
            cursors.put(conn, name, value, sync.env.now())
    found = [each for each in examine(sync.settings) if each.check == "ledger" and each.verdict == "failed"]
    with sync.ledger.read() as conn:
        assert cursors.get_all(conn, bound_to) == bound_to
    return found


def test_a_ledger_of_another_org_or_account_is_told_as_every_other_command_tells_it(sync: Installation) -> None:
    with sync.ledger.read() as conn:
        org, account = (cursors.get(conn, name) or "" for name in (binding.ORG, binding.STRIPE_ACCOUNT))
    assert of_the_ledger(sync, org, account) == []
    (other_org,) = of_the_ledger(sync, "00DZz0000000009:sandbox", account)
    assert other_org.detail.startswith("belongs to Salesforce org 00DZz0000000009 (sandbox), but the credentials lead")
    (other_account,) = of_the_ledger(sync, org, "acct_other:test")
    assert other_account.detail.startswith("belongs to Stripe account acct_other (test), but the credentials lead to")
    (live,) = of_the_ledger(sync, org, account.replace(":test", ":live"))
    assert "(live), but the credentials lead to" in live.detail


def test_a_discount_on_lines_that_cannot_be_seen_is_told(sync: Installation) -> None:
    """Salesforce hides it as if it were not there: its lines would be billed in full unseen."""

    def of_discounts() -> list[Finding]:
        return [each for each in examine(sync.settings) if "OpportunityLineItem.Discount" in each.detail]

    assert of_discounts() == []
    sync.sandbox.control("POST", "/settings", {"salesforce": {"hidden_fields": ["OpportunityLineItem.Discount"]}})
    (told,) = of_discounts()
    assert (told.check, told.verdict) == ("Salesforce fields", "warning")
