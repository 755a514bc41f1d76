"""Creates without an answer that bill a customer: made only where the deal still asks for them as they were sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from sync_pipeline.core.rules import Guards
from sync_pipeline.engine.guard import hold
from sync_pipeline.engine.resolve import GRACE_US
from sync_pipeline.ledger.tables import command, conflict, unasked
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import (
    at_stripe,
    create,
    delete,
    edit,
    fault,
    mark,
    only,
    records,
    requests_since,
    win,
)
from sync_pipeline_tests.engine.selling import entry
from sync_pipeline_tests.sandbox_process import SandboxHandle

SUBSCRIPTIONS = "^/v1/subscriptions$"
CHARGES = "^/v1/invoiceitems$"
GIVEN_UP_SECONDS = GRACE_US // 1_000_000 + 1


@pytest.mark.parametrize("what", ["reopened", "lost", "deleted"])
def test_a_deal_that_is_undone_meanwhile_is_not_billed(sandbox: SandboxHandle, tmp_path: Path, what: str) -> None:
    """An attack found it: the create was sent again before anybody looked, and a lost deal was invoiced."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=False)
        deal = only(sandbox, "Opportunity")["Id"]
        if what == "deleted":
            delete(sandbox, "Opportunity", deal)
        else:
            edit(sandbox, "Opportunity", deal, StageName="Closed Lost" if what == "lost" else "Negotiation/Review")
        _time_passes(sync)
        assert records(sandbox, "subscription") == []
        assert records(sandbox, "invoice") == []
        assert _in_doubt(sync) == []
        if what == "reopened":
            win(sandbox)
            _time_passes(sync)
            assert [each["total"] for each in records(sandbox, "invoice")] == [4_500_000]
        sync.check_books()


@pytest.mark.parametrize("happened", [True, False])
def test_a_deal_that_is_moved_meanwhile_is_billed_once(sandbox: SandboxHandle, tmp_path: Path, happened: bool) -> None:
    """To whom it belongs when it is known that it was not made; whose it was where it was made."""
    with installed(sandbox, tmp_path) as sync:
        own = only(sandbox, "Account")["Id"]
        other = create(sandbox, "Account", Name="Contoso Ltd", BillingCountry="United Kingdom")
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=happened)
        edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], AccountId=other)
        _time_passes(sync)
        customer = only(sandbox, "subscription")["customer"]
        (billed,) = [each for each in records(sandbox, "customer") if each["id"] == customer]
        assert billed["metadata"]["sf_account_id"] == (own if happened else other)
        assert len(records(sandbox, "invoice")) == 1
        assert _in_doubt(sync) == []
        sync.check_books()


@pytest.mark.parametrize("happened", [True, False])
def test_a_deal_that_is_edited_meanwhile_is_billed_as_it_is_now(
    sandbox: SandboxHandle, tmp_path: Path, happened: bool
) -> None:
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=happened)
        (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
        edit(sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
        _time_passes(sync)
        items = only(sandbox, "subscription")["items"]["data"]
        assert [each["quantity"] for each in items if each["price"]["unit_amount"] == 60_000] == [25]
        # What was not made is made at the new terms; what was is changed, with proration.
        assert len(records(sandbox, "invoiceitem")) == (2 if happened else 0)
        assert only(sandbox, "invoice")["total"] == (4_500_000 if happened else 4_800_000)
        sync.check_books()


def test_seats_that_the_customer_changes_at_once_are_an_edit_of_what_was_made(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """What the create has set is agreed on before the look is planned from."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=True)
        items = only(sandbox, "subscription")["items"]["data"]
        (item,) = [each for each in items if each["price"]["unit_amount"] == 60_000]
        at_stripe(sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=23)
        since = mark(sandbox)
        sync.wait(5)
        sync.rest()
        assert 23 in [each["Quantity"] for each in records(sandbox, "OpportunityLineItem")]
        assert sync.rows(select(conflict.c.key)) == []
        assert _sent(sandbox, since, "POST /v1/subscriptions") == []
        sync.check_books()


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("what", ["deleted", "edited"])
def test_a_charge_whose_line_changes_meanwhile(
    sandbox: SandboxHandle, tmp_path: Path, what: str, happened: bool
) -> None:
    """It is charged as its line says when it is charged; where it was charged before, a person is told."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.rest()
        deal = only(sandbox, "Opportunity")
        training = entry(sandbox, {"product": "Training", "family": "One-Time"}, None, deal["Pricebook2Id"])
        line = create(
            sandbox,
            "OpportunityLineItem",
            OpportunityId=deal["Id"],
            PricebookEntryId=training,
            Quantity=1,
            UnitPrice=900,
            Charge_Type__c="One-Time",
        )
        sync.wait(60)
        _loses_the_answer(sandbox, sync, CHARGES, happened=happened)
        if what == "deleted":
            delete(sandbox, "OpportunityLineItem", line)
        else:
            edit(sandbox, "OpportunityLineItem", line, UnitPrice=500)
        _time_passes(sync)
        wanted = [90_000] if happened else [] if what == "deleted" else [50_000]
        assert [each["amount"] for each in records(sandbox, "invoiceitem")] == wanted
        assert bool(sync.open_reviews()) == happened
        assert _in_doubt(sync) == []
        sync.check_books()


def test_it_counts_once_for_the_guards_however_often_it_is_sent(sandbox: SandboxHandle, tmp_path: Path) -> None:
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync = replace(sync, engine=replace(sync.engine, rules=replace(sync.engine.rules, guards=Guards(creates=2))))
        fault(sandbox, "drop_before", side="stripe", method="POST", path=SUBSCRIPTIONS, times=4)
        for _ in range(6):
            sync.wait(60)
            sync.drain()
        made = select(func.sum(unasked.c.amount)).where(unasked.c.what == "creates")
        # Its customer, and itself.
        assert [tuple(row) for row in sync.rows(made)] == [(2,)]
        assert hold(sync.ledger) is None
        assert len(records(sandbox, "subscription")) == 1


def _loses_the_answer(sandbox: SandboxHandle, sync: Installation, path: str, *, happened: bool) -> None:
    """A create to this path leaves, whether it happens or not, and its answer is lost."""
    fault(sandbox, "drop_after" if happened else "drop_before", side="stripe", method="POST", path=path)
    sync.serve_once(only(sandbox, "Opportunity")["AccountId"])
    assert _in_doubt(sync)
    sandbox.control("DELETE", "/faults")


def _time_passes(sync: Installation) -> None:
    """Until nothing that was sent can arrive any more, and it is dealt with."""
    for _ in range(4):
        sync.wait(GIVEN_UP_SECONDS // 2)
        sync.drain()
    sync.rest()


def _in_doubt(sync: Installation) -> list[str]:
    return [row.key for row in sync.rows(select(command.c.key).where(command.c.state == "ambiguous"))]


def _sent(sandbox: SandboxHandle, since: int, endpoint: str) -> list[int]:
    return [each["status"] for each in requests_since(sandbox, since, "stripe") if each["endpoint"] == endpoint]
