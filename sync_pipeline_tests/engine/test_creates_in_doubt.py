"""Creates without an answer that bill a customer: made only where the deal still asks for them as they were sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from sync_pipeline.core.rules import Guards
from sync_pipeline.engine.guard import hold
from sync_pipeline.engine.plan_text import as_text
from sync_pipeline.engine.planning import document, foresee_accounts
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.resolve import GRACE_US
from sync_pipeline.engine.retention import retain
from sync_pipeline.ledger.tables import command, conflict, link, unasked
from sync_pipeline_tests.engine.installation import DAY, Installation, installed
from sync_pipeline_tests.engine.people import (
    another_deal,
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
from sync_pipeline_tests.engine.selling import entry, sell
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


def test_a_deal_that_is_moved_before_its_service_starts_is_billed_where_it_was_and_told(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """An attack found it: its new Account never came to rest, and billed it again once the ledger had forgotten how it
    was billed."""
    with installed(sandbox, tmp_path) as sync:
        other = create(sandbox, "Account", Name="Contoso Ltd", BillingCountry="United Kingdom")
        deal = sell(sandbox, {"product": "Seat", "price": 100}, Service_Start_Date__c="2026-02-15")
        sync.rest()
        schedule = only(sandbox, "subscription_schedule")["id"]
        edit(sandbox, "Opportunity", deal, AccountId=other)
        sync.wait(60)
        sync.rest()
        told = f"{schedule} bills this Opportunity, but the Account's customer does not have it"
        assert sync.open_reviews()["missing_subscription"] == told
        sync.wait(91 * DAY)
        rules = sync.engine.rules
        retain(sync.ledger, rules, sync.env, run="retention")
        sync.rest()
        reconcile(sync.engine)
        assert len(records(sandbox, "subscription")) == 1
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


@pytest.mark.parametrize("code", [None, "resource_missing"])
def test_a_refusal_tells_nothing_of_the_request_before_it(
    sandbox: SandboxHandle, tmp_path: Path, code: str | None
) -> None:
    """An attack found it: the first request arrived after the second was refused and a third had made another."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=False)
        body, key = sync.in_doubt()
        error = {"type": "invalid_request_error", "code": code, "message": "This account cannot do that at present."}
        refused = {"error": error}
        fault(sandbox, "http", side="stripe", method="POST", path=SUBSCRIPTIONS, status=400, body=refused)
        sync.wait(20)
        sync.drain()
        edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], NextStep="Call them")
        sync.wait(60)
        sync.drain()
        assert records(sandbox, "subscription") == []
        assert sum(report.total.parked for report in sync.reports) == 0
        sync.arrives(body, key)
        _time_passes(sync)
        assert len(records(sandbox, "invoice")) == 1
        sync.check_books()


def test_what_is_refused_for_good_is_parked_when_nothing_can_arrive_any_more(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=False)
        refused = {"error": {"type": "invalid_request_error", "message": "This account cannot do that at present."}}
        fault(sandbox, "http", side="stripe", method="POST", path=SUBSCRIPTIONS, status=400, body=refused, times=9)
        _time_passes(sync)
        _time_passes(sync)
        assert _in_doubt(sync) == []
        assert sum(report.total.parked for report in sync.reports) == 1
        sandbox.control("DELETE", "/faults")
        edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], NextStep="Call them")
        _time_passes(sync)
        assert len(records(sandbox, "invoice")) == 1
        sync.check_books()


@pytest.mark.parametrize("happened", [True, False])
def test_a_ramp_is_told_from_the_subscription_that_it_began(
    sandbox: SandboxHandle, tmp_path: Path, happened: bool
) -> None:
    """The subscription has the metadata of its schedule."""
    with installed(sandbox, tmp_path) as sync:
        seats = {"product": "Analyst Seat", "price": 600}
        sell(
            sandbox,
            {**seats, "quantity": 10, "To_Month__c": 12},
            {**seats, "quantity": 20, "From_Month__c": 13},
            Term_Months__c=24,
        )
        _loses_the_answer(sandbox, sync, "^/v1/subscription_schedules$", happened=happened)
        _time_passes(sync)
        linked = {row.kind: row.external_id for row in sync.rows(select(link.c.kind, link.c.external_id))}
        schedule = only(sandbox, "subscription_schedule")
        assert linked["subscription_schedule"] == schedule["id"]
        assert linked["subscription"] == schedule["subscription"]
        assert sync.open_reviews() == {}
        sync.check_books()


def test_what_arrives_between_the_look_and_the_list_is_looked_at_before_anything_is_told(
    sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, SUBSCRIPTIONS, happened=False)
        body, key = sync.in_doubt()
        (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
        edit(sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
        find = sync.engine.stripe.find_created

        def late(*args: Any, **options: Any) -> str | None:
            sync.arrives(body, key)
            return find(*args, **options)

        monkeypatch.setattr(sync.engine.stripe, "find_created", late)
        sync.wait(20)
        sync.serve_once(only(sandbox, "Opportunity")["AccountId"])
        assert sync.open_reviews() == {}
        assert only(sandbox, "Opportunity")["Stripe_Subscription_Id__c"] == only(sandbox, "subscription")["id"]
        _time_passes(sync)
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


@pytest.mark.parametrize(("path", "target"), [("customers", "cus:"), ("prices", "price:")])
def test_a_plan_says_what_is_in_doubt_and_that_more_follows(
    sandbox: SandboxHandle, tmp_path: Path, path: str, target: str
) -> None:
    """An attack found it: the plan showed some products, and what was applied made an invoice of 45,000."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        _loses_the_answer(sandbox, sync, f"^/v1/{path}$", happened=False)
        account = str(records(sandbox, "Opportunity")[0]["AccountId"])
        planned = document(sync.engine, foresee_accounts(sync.engine, [account]))
        (doubt,) = planned.in_doubt
        assert (doubt.account_id, planned.not_whole) == (account, (account,))
        assert doubt.target.startswith(target)
        assert doubt.why in as_text(planned, width=160)
        _time_passes(sync)
        assert reconcile(sync.engine).agrees


@pytest.mark.parametrize("path", ["customers", "prices"])
def test_no_certificate_agrees_while_a_deal_waits_for_what_is_in_doubt(
    sandbox: SandboxHandle, tmp_path: Path, path: str
) -> None:
    """An attack found it: nothing else was to be written, so a won deal that was not billed counted as agreed."""
    with installed(sandbox, tmp_path) as sync:
        _, deal = another_deal(sandbox, "One Ltd")
        sync.rest()
        if path == "customers":
            another_deal(sandbox, "Two Ltd")
        else:
            product = {"product": "Training", "family": "One-Time"}
            training = entry(sandbox, product, None, records(sandbox, "Opportunity")[0]["Pricebook2Id"])
            charged = {"PricebookEntryId": training, "Quantity": 1, "UnitPrice": 900, "Charge_Type__c": "One-Time"}
            create(sandbox, "OpportunityLineItem", OpportunityId=deal, **charged)
        fault(sandbox, "drop_before", side="stripe", method="POST", path=f"^/v1/{path}$", times=100)
        sync.wait(60)
        for _ in range(2):
            certificate = reconcile(sync.engine)
            (left,) = certificate.left
            assert "in doubt" in left.what
            assert not certificate.agrees
        sandbox.control("DELETE", "/faults")
        _time_passes(sync)
        assert reconcile(sync.engine).agrees


def _loses_the_answer(sandbox: SandboxHandle, sync: Installation, path: str, *, happened: bool) -> None:
    """A create to this path leaves, whether it happens or not, and its answer is lost."""
    fault(sandbox, "drop_after" if happened else "drop_before", side="stripe", method="POST", path=path)
    sync.serve_once(records(sandbox, "Opportunity")[0]["AccountId"])
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
