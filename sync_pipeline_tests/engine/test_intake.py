"""What Stripe's events lead to: those that name a charge instead of a customer, and those that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import intake
from sync_pipeline.engine.drain import DrainPlan, drain, drain_is_needed
from sync_pipeline.engine.intake import CHARGES_PER_PASS, LOOK_AGAIN_US, receive, sweep_stripe
from sync_pipeline.ledger import cursors, links, work
from sync_pipeline.ledger.inbox import NO_ACCOUNT
from sync_pipeline.ledger.tables import inbox
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.systems.stripe.events import HEARD, hint
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import (
    at_stripe,
    edit,
    fault,
    mark,
    only,
    records,
    requests_since,
    win,
)
from sync_pipeline_tests.engine.test_payments import billed, pay_by

Event = Mapping[str, Any]
NO_POLLS = DrainPlan(poll_seconds=DAY, sweep_seconds=DAY)
LOOK_AGAIN_SECONDS = LOOK_AGAIN_US // 1_000_000


def arriving(patch: pytest.MonkeyPatch, told: Callable[[Event], Event | None]) -> None:
    """From now on Stripe lists its events as `told` makes them, and not at all where that is None."""
    real = Stripe.events_since

    def listed(stripe: Stripe, since: int) -> Iterator[Event]:
        return (event for each in real(stripe, since) if (event := told(each)) is not None)

    patch.setattr(Stripe, "events_since", listed)


def _without_news_of_charges(event: Event) -> Event | None:
    """A decided dispute is told by its own events alone; the sandbox also tells of its charge, which has a customer."""
    return None if event["type"] == "charge.updated" else event


def _nothing(_: Event) -> None:
    """The endpoint's webhooks are all that comes."""


def _account(sync: Installation) -> dict[str, Any]:
    return only(sync.sandbox, "Account")


def _disputed(sync: Installation) -> str:
    pay_by(sync, billed(sync), "pm_card_createDispute")
    sync.rest()
    sync.wait(61)
    return str(only(sync.sandbox, "dispute")["id"])


def _disputed_and_at_risk(sync: Installation) -> str:
    """A dispute that the Account shows, with everything that Stripe told of it an hour ago."""
    dispute = _disputed(sync)
    for _ in range(2):
        sync.rest()
        sync.wait(3_600)
    assert (_account(sync)["Lifetime_Value__c"], _account(sync)["MRR_At_Risk__c"]) == (0.0, 3_750.0)
    return dispute


def _waiting(sync: Installation) -> list[str]:
    return [row.type for row in sync.rows(select(inbox.c.type).where(inbox.c.account.is_(None)))]


def _reads_of_charges(sync: Installation, since: int) -> int:
    asked = requests_since(sync.sandbox, since, "stripe")
    return sum(entry["path"].startswith("/v1/charges/") for entry in asked)


def _webhooks(sync: Installation, *kinds: str) -> None:
    """The receiver takes in the newest event of each kind."""
    listed = list(sync.engine.stripe.events_since(0))
    newest = [next(event for event in listed if event["type"] == kind) for kind in kinds]
    receive(sync.ledger, map(hint, newest), sync.env)


def test_a_lost_dispute_ends_the_risk(sync: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    dispute = _disputed_and_at_risk(sync)
    arriving(monkeypatch, _without_news_of_charges)
    at_stripe(sync.sandbox, "POST", f"/v1/disputes/{dispute}/close")
    sync.drain()
    assert (_account(sync)["Lifetime_Value__c"], _account(sync)["MRR_At_Risk__c"]) == (0.0, 0.0)


def test_a_won_dispute_brings_the_money_back(sync: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    dispute = _disputed_and_at_risk(sync)
    arriving(monkeypatch, _without_news_of_charges)
    winning = {"evidence": {"uncategorized_text": "winning_evidence"}}
    at_stripe(sync.sandbox, "POST", f"/v1/disputes/{dispute}", **winning)
    sync.wait(61)
    sync.drain()
    assert (_account(sync)["Lifetime_Value__c"], _account(sync)["MRR_At_Risk__c"]) == (45_000.0, 0.0)


def test_a_dispute_of_a_partly_refunded_charge_is_heard(sync: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    pay_by(sync, billed(sync), "pm_card_createDispute")
    at_stripe(sync.sandbox, "POST", "/v1/refunds", charge=only(sync.sandbox, "charge")["id"], amount=500_000)
    sync.rest()
    assert _account(sync)["Lifetime_Value__c"] == 40_000.0
    arriving(monkeypatch, _without_news_of_charges)
    sync.wait(61)
    sync.drain()
    assert (_account(sync)["Lifetime_Value__c"], _account(sync)["MRR_At_Risk__c"]) == (0.0, 3_750.0)
    at_stripe(sync.sandbox, "POST", f"/v1/disputes/{only(sync.sandbox, 'dispute')['id']}/close")
    sync.drain()
    assert (_account(sync)["Lifetime_Value__c"], _account(sync)["MRR_At_Risk__c"]) == (0.0, 0.0)


def test_the_webhook_of_a_dispute_is_enough(sync: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is due, and no sweep: the event starts a drain, and that one asks once whose charge it is."""
    _disputed(sync)
    arriving(monkeypatch, _nothing)
    drain(sync.engine, NO_POLLS)
    assert not drain_is_needed(sync.ledger, sync.env)
    assert _account(sync)["MRR_At_Risk__c"] == 0.0
    monkeypatch.undo()
    since = mark(sync.sandbox)
    _webhooks(sync, "charge.dispute.created", "charge.dispute.funds_withdrawn")
    assert _reads_of_charges(sync, since) == 0, "the webhook is answered before Stripe is asked"
    arriving(monkeypatch, _nothing)
    assert drain_is_needed(sync.ledger, sync.env)
    since = mark(sync.sandbox)
    drain(sync.engine, NO_POLLS)
    assert (_account(sync)["Lifetime_Value__c"], _account(sync)["MRR_At_Risk__c"]) == (0.0, 3_750.0)
    assert _reads_of_charges(sync, since) == 1
    assert not drain_is_needed(sync.ledger, sync.env)


def test_a_charge_that_cannot_be_read_is_told_and_asked_for_later(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    _disputed(sync)
    _webhooks(sync, "charge.dispute.created")
    arriving(monkeypatch, _nothing)
    fault(sync.sandbox, "stripe_500", side="stripe", method="GET", path="^/v1/charges/")
    report = drain(sync.engine, NO_POLLS)
    assert [problem.partition(" ")[0] for problem in report.problems] == ["Stripe:"]
    assert _waiting(sync) == ["charge.dispute.created"]
    assert not drain_is_needed(sync.ledger, sync.env), "Stripe is not asked again at once"
    sync.wait(LOOK_AGAIN_SECONDS)
    assert drain_is_needed(sync.ledger, sync.env)
    assert drain(sync.engine, NO_POLLS).problems == set()
    assert _account(sync)["MRR_At_Risk__c"] == 3_750.0
    assert _waiting(sync) == []


def test_disputes_whose_charges_cannot_be_read_keep_no_other_from_its_turn(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest were asked for again and again, and whoever came behind them was heard in the night."""
    _disputed(sync)
    ours = next(event for event in sync.engine.stripe.events_since(0) if event["type"] == "charge.dispute.created")
    odd = [{"id": f"du_{n}", "object": "dispute", "charge": f"ch_odd{n}"} for n in range(CHARGES_PER_PASS + 10)]
    unreadable = [{**ours, "id": f"evt_{each['id']}", "data": {"object": each}} for each in odd]
    receive(sync.ledger, map(hint, unreadable), sync.env)
    sync.wait(1)
    _webhooks(sync, "charge.dispute.created")
    arriving(monkeypatch, _nothing)
    payer = Stripe.payer

    def readable(stripe: Stripe, charge: str) -> str | None:
        if "odd" in charge:
            raise ReadFailed("Stripe", f"{charge} cannot be read")
        return payer(stripe, charge)

    monkeypatch.setattr(Stripe, "payer", readable)
    for _ in range(2):
        drain(sync.engine, NO_POLLS)
        sync.wait(LOOK_AGAIN_SECONDS)
    assert _account(sync)["MRR_At_Risk__c"] == 3_750.0


def _linked_later(sync: Installation, ours: str, *others: str) -> None:
    """Payments of these customers fail, ours last, which is linked to the Account after that."""
    for customer in (*others, ours):
        failed = {"object": "invoice", "id": f"in_{customer}", "customer": customer}
        event = {"id": f"evt_{customer}", "type": "invoice.payment_failed", "data": {"object": failed}}
        receive(sync.ledger, [hint(event | {"created": sync.env.now() // 1_000_000})], sync.env)
    account = _account(sync)["Id"]
    with sync.ledger.tx() as conn:
        links.put(conn, links.Link(account, "stripe", "customer", ours, subject=account), sync.env.now())


def test_events_of_nobody_keep_no_other_from_its_turn(sync: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Stripe account bills others as well; a customer of ours is linked while its event waits behind theirs."""
    monkeypatch.setattr(intake, "UNRESOLVED_PER_PASS", 10)
    _linked_later(sync, "cus_ours", *(f"cus_{number}" for number in range(15)))
    for _ in range(2):
        sweep_stripe(sync.ledger, sync.engine.stripe, sync.env, print)
    assert len(_waiting(sync)) == 15


def test_a_failed_payment_that_waited_for_its_customer_is_as_urgent_as_any(sync: Installation) -> None:
    _linked_later(sync, "cus_ours")
    sweep_stripe(sync.ledger, sync.engine.stripe, sync.env, print)
    with sync.ledger.read() as conn:
        assert work.most_urgent(conn, sync.env.wall()) == Priority.PAYMENT_FAILED


def test_marks_of_a_clock_that_was_ahead_keep_no_poll_waiting(sync: Installation) -> None:
    sync.env.sleep(3_600)
    sync.drain()
    assert not intake.poll_is_due(sync.ledger, sync.env, 30)
    assert not intake.sweep_is_due(sync.ledger, sync.env, 300)
    sync.env.ahead_us -= 3_600 * 1_000_000
    assert intake.poll_is_due(sync.ledger, sync.env, 30)
    assert intake.sweep_is_due(sync.ledger, sync.env, 300)


def test_a_sweep_whose_mark_a_clock_has_put_ahead_hears_of_what_happens_now(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    with sync.ledger.tx() as conn:
        cursors.put(conn, "stripe.swept", str(sync.env.now() + 3_600 * 1_000_000), sync.env.now())
    at_stripe(sync.sandbox, "POST", f"/v1/customers/{only(sync.sandbox, 'customer')['id']}", name="Renamed")
    assert sweep_stripe(sync.ledger, sync.engine.stripe, sync.env, print) == 1


def test_a_dispute_of_somebody_else_is_asked_for_once(sync: Installation) -> None:
    """The customer of another business of this Stripe account, and a charge that has no customer at all."""
    win(sync.sandbox)
    sync.rest()
    other = at_stripe(sync.sandbox, "POST", "/v1/customers", name="Nobody")["id"]
    card = at_stripe(sync.sandbox, "POST", "/v1/payment_methods/pm_card_createDispute/attach", customer=other)["id"]
    charged = {"amount": 5_000, "currency": "gbp", "confirm": True}
    for payer in ({"customer": other, "payment_method": card}, {"payment_method": "pm_card_createDispute"}):
        at_stripe(sync.sandbox, "POST", "/v1/payment_intents", **charged, **payer)
    sync.wait(61)
    assert len(records(sync.sandbox, "dispute")) == 2
    since = mark(sync.sandbox)
    sync.drain()
    assert _reads_of_charges(sync, since) == 2
    sync.drain()
    assert _reads_of_charges(sync, since) == 2
    disputes = sync.rows(select(inbox.c.account).where(inbox.c.type.startswith("charge.dispute.")))
    assert {row.account for row in disputes} == {NO_ACCOUNT}


def test_what_a_webhook_endpoint_has_to_send_leads_to_an_account(sync: Installation) -> None:
    dispute = _disputed(sync)
    winning = {"evidence": {"uncategorized_text": "winning_evidence"}}
    at_stripe(sync.sandbox, "POST", f"/v1/disputes/{dispute}", **winning)
    sync.wait(61)
    hints = [hint(event) for event in sync.engine.stripe.events_since(0) if event["type"] in HEARD]
    moving = {"created", "funds_withdrawn", "funds_reinstated", "closed"}
    assert {f"charge.dispute.{name}" for name in moving} <= {each.type for each in hints}
    assert [each.type for each in hints if not (each.customer or each.charge or each.account_id)] == []


@pytest.mark.parametrize(
    ("strange", "told"),
    [
        ({"data": {"object": {"id": 5, "object": "order", "parent": "sku_123", "metadata": "none"}}}, None),
        ({"data": {"object": "sku_123"}}, "{id} (customer.created)"),
        ({"created": "yesterday"}, "{id} (customer.created)"),
        ({"id": 5}, "without an id (customer.created)"),
    ],
)
def test_an_event_that_cannot_be_read_stops_nobody(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, strange: dict[str, Any], told: str | None
) -> None:
    """It is somebody else's, and stays on Stripe's list for 30 days."""
    win(sync.sandbox)
    sync.rest()
    other = at_stripe(sync.sandbox, "POST", "/v1/customers", name="Nobody")["id"]
    listed: list[str] = []

    def strangely(event: Event) -> Event:
        if event["data"]["object"].get("id") != other:
            return event
        listed.append(event["id"])
        plain: dict[str, Any] = json.loads(json.dumps(event))
        return plain | strange

    arriving(monkeypatch, strangely)
    edit(sync.sandbox, "Account", _account(sync)["Id"], Name="New name")
    subscription = only(sync.sandbox, "subscription")
    at_stripe(sync.sandbox, "DELETE", f"/v1/subscriptions/{subscription['id']}")
    report = sync.drain()
    assert report.problems == ({f"Stripe: event {told.format(id=listed[0])} cannot be read"} if told else set())
    assert _account(sync)["Billing_Status__c"] == "Canceled"
    assert [each["name"] for each in records(sync.sandbox, "customer") if each["id"] != other] == ["New name"]
    for _ in range(2):
        sync.wait(3_600)
        report = sync.drain()
    assert report.problems == set()
