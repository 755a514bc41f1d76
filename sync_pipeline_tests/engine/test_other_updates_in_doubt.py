"""Updates of Stripe without an answer: discounts, added items and ramps, of which a look tells in other ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.ledger.tables import command, conflict
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import create, edit, fault, only, records, win
from sync_pipeline_tests.engine.selling import entry, sell
from sync_pipeline_tests.engine.test_updates_in_doubt import GIVEN_UP_SECONDS, line_of
from sync_pipeline_tests.sandbox_process import SandboxHandle


@pytest.mark.parametrize("happened", [True, False])
def test_a_discount_that_was_edited_since_is_no_conflict(
    sandbox: SandboxHandle, tmp_path: Path, happened: bool
) -> None:
    """A coupon that the look does not read was taken for one that is there."""
    with installed(sandbox, tmp_path) as sync:
        deal = _billed(sandbox, sync)
        _discount(sandbox, deal, 10)
        _loses_the_answer(sandbox, sync, "subscriptions", happened=happened)
        _discount(sandbox, deal, 15)
        sync.wait(5)
        sync.drain()
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert sync.rows(select(conflict.c.key)) == []
        assert len(only(sandbox, "subscription")["discounts"]) == 1
        sync.check_books()


def test_a_discount_that_was_taken_off_since_does_not_come_late(sandbox: SandboxHandle, tmp_path: Path) -> None:
    with installed(sandbox, tmp_path) as sync:
        deal = _billed(sandbox, sync)
        _discount(sandbox, deal, 10)
        _loses_the_answer(sandbox, sync, "subscriptions", happened=False)
        body, key = sync.in_doubt()
        edit(sandbox, "Opportunity", deal, Discount_Percent__c=None, Discount_Duration__c=None)
        sync.wait(5)
        sync.drain()
        sync.arrives(body, key)
        for _ in range(3):
            sync.wait(GIVEN_UP_SECONDS)
            sync.drain()
        sync.rest()
        assert only(sandbox, "subscription")["discounts"] == []
        assert sync.open_reviews() == {}


def test_a_discount_on_one_invoice_is_not_given_twice(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """Its answer was lost, the renewal has used it up, and only then somebody looks."""
    with installed(sandbox, tmp_path) as sync:
        deal = _billed(sandbox, sync)
        (end,) = {each["current_period_end"] for each in only(sandbox, "subscription")["items"]["data"]}
        sync.wait(end - sync.env.now() // 1_000_000 - 3600)
        sync.rest()
        edit(sandbox, "Opportunity", deal, Discount_Percent__c=10, Discount_Duration__c="Once")
        _loses_the_answer(sandbox, sync, "subscriptions", happened=True)
        sync.wait(3 * 3600)
        sync.drain()
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        renewal = max(records(sandbox, "invoice"), key=lambda invoice: invoice["created"])
        assert renewal["total"] == renewal["subtotal"] * 9 // 10
        assert only(sandbox, "subscription")["discounts"] == []


@pytest.mark.parametrize("edited_after", [None, 5, GIVEN_UP_SECONDS])
def test_an_added_item_is_seen_and_its_line_may_be_edited(
    sandbox: SandboxHandle, tmp_path: Path, edited_after: int | None
) -> None:
    with installed(sandbox, tmp_path) as sync:
        deal = _billed(sandbox, sync)
        addon = entry(sandbox, {"product": "Addon"}, None, only(sandbox, "Opportunity")["Pricebook2Id"])
        line = create(
            sandbox, "OpportunityLineItem", OpportunityId=deal, PricebookEntryId=addon, Quantity=5, UnitPrice=100
        )
        _loses_the_answer(sandbox, sync, "subscriptions", happened=True)
        if edited_after is not None:
            edit(sandbox, "OpportunityLineItem", line, Quantity=7, UnitPrice=100)
        sync.wait(edited_after or 5)
        sync.drain()
        assert sync.rows(select(command.c.target).where(command.c.state == "ambiguous")) == []
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert sync.rows(select(conflict.c.key)) == []
        quantities = [each["quantity"] for each in only(sandbox, "subscription")["items"]["data"]]
        assert (5 if edited_after is None else 7) in quantities
        sync.check_books()


def test_a_ramp_whose_answer_was_lost_was_not_edited_at_stripe(sandbox: SandboxHandle, tmp_path: Path) -> None:
    with installed(sandbox, tmp_path) as sync:
        later = {"product": "Platform", "price": 1000, "quantity": 1, "From_Month__c": 13}
        sell(sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 10}, later, Term_Months__c=24)
        sync.rest()
        (line,) = [each["Id"] for each in records(sandbox, "OpportunityLineItem") if each["UnitPrice"] == 1000]
        edit(sandbox, "OpportunityLineItem", line, Quantity=2, UnitPrice=1000)
        _loses_the_answer(sandbox, sync, "subscription_schedules", happened=True)
        edit(sandbox, "OpportunityLineItem", line, Quantity=3, UnitPrice=1000)
        sync.wait(60)
        sync.drain()
        assert sync.open_reviews() == {}
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert sync.open_reviews() == {}
        (schedule,) = records(sandbox, "subscription_schedule")
        assert [[each["quantity"] for each in phase["items"]] for phase in schedule["phases"]][-1] == [10, 3]


def _billed(sandbox: SandboxHandle, sync: Installation) -> str:
    """The story's deal, won and billed; its id."""
    win(sandbox)
    sync.rest()
    return str(line_of(sandbox, 20)["OpportunityId"])


def _discount(sandbox: SandboxHandle, deal: str, percent: int) -> None:
    edit(sandbox, "Opportunity", deal, Discount_Percent__c=percent, Discount_Duration__c="Forever")


def _loses_the_answer(sandbox: SandboxHandle, sync: Installation, objects: str, *, happened: bool) -> None:
    """The sync writes what was edited, Stripe's answer to that is lost, and no event wakes anybody."""
    sync.wait(60)
    changes: dict[str, Any] = {"side": "stripe", "method": "POST", "path": f"^/v1/{objects}/"}
    fault(sandbox, "drop_after" if happened else "drop_before", **changes)
    fault(sandbox, "stripe_503", side="stripe", method="GET", path="^/v1/events$", times=20)
    in_doubt = select(command.c.target).where(command.c.state == "ambiguous")
    for _ in range(3):
        sync.drain()
        if sync.rows(in_doubt):
            break
        sync.wait(3)
    assert sync.rows(in_doubt)
    sandbox.control("DELETE", "/faults")
