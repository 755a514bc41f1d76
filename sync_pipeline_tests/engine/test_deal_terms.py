"""Terms of a deal that somebody edits after its first invoice: carried where Stripe takes them, or told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.ledger.tables import conflict
from sync_pipeline_tests.engine.installation import DAY, Installation, installed
from sync_pipeline_tests.engine.people import delete, edit, mark, only, records, win, writes_since
from sync_pipeline_tests.engine.selling import sell
from sync_pipeline_tests.sandbox_process import SandboxHandle


def test_days_until_an_invoice_is_due_count_from_the_next_invoice_on(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """An attack found it: they were lost without a word."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.rest()
        deal = only(sandbox, "Opportunity")["Id"]
        before = only(sandbox, "subscription")["days_until_due"]
        for days in (60, None):
            edit(sandbox, "Opportunity", deal, Net_Days__c=days)
            sync.wait(60)
            since = mark(sandbox)
            sync.rest()
            assert only(sandbox, "subscription")["days_until_due"] == (days or before)
            assert [each for each in writes_since(sandbox, since) if "subscriptions" in each] == [
                "POST /v1/subscriptions/{id}"
            ]
        assert sync.open_reviews() == {}
        sync.check_books()


def test_who_is_to_be_charged_needs_something_to_charge(sandbox: SandboxHandle, tmp_path: Path) -> None:
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.rest()
        edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], Collection_Method__c="Charge Automatically")
        sync.wait(60)
        sync.rest()
        assert only(sandbox, "subscription")["collection_method"] == "send_invoice"
        assert "no default payment method" in sync.open_reviews()["subscription.collection"]


@pytest.mark.parametrize("says", [{"Service_Start_Date__c": "2026-03-01"}, {"Free_Months__c": 2}])
def test_a_beginning_that_was_billed_is_told(sandbox: SandboxHandle, tmp_path: Path, says: dict[str, Any]) -> None:
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.rest()
        edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], **says)
        sync.wait(60)
        sync.rest()
        assert [rule for (rule,) in sync.rows(select(conflict.c.rule))] == ["deal.begins"]
        assert only(sandbox, "Sync_Conflict__c")["Status__c"] == "Open"
        sync.check_books()


@pytest.mark.parametrize("what", ["edited", "deleted"])
def test_what_was_charged_on_the_first_invoice_is_told_when_its_line_changes(
    sandbox: SandboxHandle, tmp_path: Path, what: str
) -> None:
    with installed(sandbox, tmp_path) as sync:
        setup = _with_setup(sandbox)
        sync.rest()
        assert [each["total"] for each in records(sandbox, "invoice")] == [110_000]
        assert sync.open_reviews() == {}
        if what == "edited":
            edit(sandbox, "OpportunityLineItem", setup, UnitPrice=500)
        else:
            delete(sandbox, "OpportunityLineItem", setup)
        sync.wait(60)
        sync.rest()
        assert [each["total"] for each in records(sandbox, "invoice")] == [110_000]
        assert "was charged once" in sync.open_reviews()["late_charge"]
        sync.check_books()


def test_what_is_taken_off_before_service_begins_is_not_charged_and_not_told(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    with installed(sandbox, tmp_path) as sync:
        setup = _with_setup(sandbox, Service_Start_Date__c="2026-02-01")
        sync.rest()
        assert only(sandbox, "subscription_schedule")["status"] == "not_started"
        delete(sandbox, "OpportunityLineItem", setup)
        sync.wait(60)
        sync.rest()
        _days_pass(sandbox, sync, 20)
        assert [each["total"] for each in records(sandbox, "invoice")] == [20_000]
        assert sync.open_reviews() == {}
        sync.check_books()


def _with_setup(sandbox: SandboxHandle, **fields: Any) -> str:
    """A deal with two seats and a setup that is charged once is won; the line of the setup."""
    sell(
        sandbox,
        {"product": "Seat", "price": 100, "quantity": 2},
        {"product": "Setup", "family": "One-Time", "price": 900, "Charge_Type__c": "One-Time"},
        **fields,
    )
    (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["UnitPrice"] == 900]
    return str(line["Id"])


def _days_pass(sandbox: SandboxHandle, sync: Installation, days: int) -> None:
    sandbox.control("POST", "/clock", {"advance_seconds": days * DAY})
    sync.env.sleep(days * DAY)
    sync.rest()
