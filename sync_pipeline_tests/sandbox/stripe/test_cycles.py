"""The clock's work: renewals, dunning, overdue invoices, test clocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox


def moment(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp())


def test_renewal(sandbox: Sandbox) -> None:
    """Facts 3.7, 3.8, 4.3: the period turns before payment; a draft for an hour, then final and charged."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    sandbox.advance(31 * DAY)
    after = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    item, draft = after["items"].data[0], after.latest_invoice
    assert (item.current_period_start, item.current_period_end) == (moment(2026, 2, 1), moment(2026, 3, 1))
    assert (draft.status, draft.billing_reason, draft.total) == ("draft", "subscription_cycle", 1000)
    assert draft.automatically_finalizes_at == START + 31 * DAY + HOUR
    period = draft.lines.data[0].period
    assert (period.start, period.end) == (moment(2026, 2, 1), moment(2026, 3, 1))
    assert (draft.period_start, draft.period_end) == (START, moment(2026, 2, 1))
    new = [e for e in sandbox.events() if e.created == draft.created]
    assert [e.type for e in new] == ["customer.subscription.updated", "invoice.created"]
    previous = new[0].data.previous_attributes.to_dict()
    assert previous["latest_invoice"] == subscription.latest_invoice
    assert previous["items"]["data"][0]["current_period_start"] == START
    assert new[0].request.id is None
    sandbox.advance(HOUR)
    assert sandbox.v1.invoices.retrieve(draft.id).status == "paid"
    assert {e.type for e in sandbox.events() if e.created == draft.created + HOUR} == {
        "invoice.finalized", "payment_intent.created", "charge.succeeded", "payment_intent.succeeded",
        "invoice.updated", "invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded", "customer.updated",
    }  # fmt: skip


def test_anchor_on_the_31st(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.2: anchored on the 31st, short months bill on their last day, and it returns to the 31st."""
    sandbox = make_sandbox(moment(2026, 1, 31, 10))
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    ends = []
    for _ in range(4):
        end = sandbox.v1.subscriptions.retrieve(subscription.id)["items"].data[0].current_period_end
        ends.append(end)
        sandbox.advance(end - sandbox.clock.now())
    days = [(2026, 2, 28), (2026, 3, 31), (2026, 4, 30), (2026, 5, 31)]
    assert ends == [moment(*day, 10) for day in days]


def test_three_years_of_renewals_in_one_move(sandbox: Sandbox) -> None:
    """A long jump lives through every period at its own moment. Facts 3.7: at each renewal the period advances."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000, "year"))
    sandbox.advance(3 * 366 * DAY)
    invoices = sandbox.v1.invoices.list({"subscription": subscription.id}).data
    assert [i.status for i in invoices] == ["paid"] * 4
    assert [i.created for i in invoices][::-1] == [moment(2026 + n, 1, 1) for n in range(4)]


def test_dunning_until_cancelation(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.8: active to past_due, retries by the schedule, attempt_count, then the final action."""
    sandbox = make_sandbox(retry_days=(3, 5, 7), final_action="cancel")
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    sandbox.system.plan_payment(customer.id, "fail", decline_code="insufficient_funds", times=4)
    sandbox.advance(31 * DAY + HOUR)
    invoice = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]
    first = sandbox.clock.now()
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt) == ("open", 1, first + 3 * DAY)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert sandbox.v1.customers.retrieve(customer.id).delinquent is True
    sandbox.advance(3 * DAY)
    assert sandbox.v1.invoices.retrieve(invoice.id).next_payment_attempt == first + 8 * DAY
    sandbox.advance(12 * DAY)
    over = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (over.status, over.cancellation_details.reason, over.ended_at) == (
        "canceled", "payment_failed", first + 15 * DAY)  # fmt: skip
    after = sandbox.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count, after.next_payment_attempt) == ("open", 4, None)
    failed = sandbox.events("invoice.payment_failed")
    assert [e.data.object.attempt_count for e in failed] == [1, 2, 3, 4]
    assert len(sandbox.events("charge.failed")) == 4


def test_dunning_recovers(sandbox: Sandbox) -> None:
    """Facts 3.7: past_due becomes active when the latest invoice is paid by a retry."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    sandbox.system.plan_payment(customer.id, "fail")
    sandbox.advance(31 * DAY + HOUR)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    sandbox.advance(3 * DAY)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert sandbox.v1.customers.retrieve(customer.id).delinquent is False
    invoice = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert (invoice.status, invoice.attempt_count) == ("paid", 2)


@pytest.mark.parametrize("action", ["unpaid", "past_due"])
def test_other_final_actions(make_sandbox: Callable[..., Sandbox], action: str) -> None:
    """Facts 3.7: unpaid keeps new invoices as drafts; past_due stays."""
    sandbox = make_sandbox(retry_days=(1,), final_action=action, mark_uncollectible_at_end=True)
    customer = sandbox.customer("pm_card_chargeCustomerFail")
    subscription = sandbox.subscribe(customer, sandbox.price(1000), trial_period_days=1)
    sandbox.advance(4 * DAY)
    after = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (after.status, after.latest_invoice.status) == (action, "uncollectible")
    assert after.latest_invoice.status_details.uncollectible.reason == "max_payment_attempts"
    sandbox.advance(31 * DAY)
    status = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0].status
    assert status == ("draft" if action == "unpaid" else "uncollectible")


def test_sent_invoice_falls_overdue(sandbox: Sandbox) -> None:
    """Facts 3.7, 3.8: unpaid at its due date: invoice.overdue, past_due; no retries; paid: active again."""
    customer = sandbox.customer()
    subscription = sandbox.subscribe(
        customer, sandbox.price(1000, "year"), collection_method="send_invoice", days_until_due=14
    )
    sandbox.advance(14 * DAY)
    invoice = sandbox.v1.invoices.retrieve(subscription.latest_invoice)
    assert (invoice.status, invoice.next_payment_attempt) == ("open", None)
    assert "invoice.overdue" in sandbox.event_types()
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    sandbox.system.plan_payment(customer.id, "succeed")
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_voiding_what_is_late_makes_it_active(sandbox: Sandbox) -> None:
    """Facts 3.7: voiding the newest invoice lets the older ones decide."""
    subscription = sandbox.subscribe(
        sandbox.customer(), sandbox.price(1000, "year"), collection_method="send_invoice", days_until_due=1
    )
    sandbox.advance(DAY)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    sandbox.v1.invoices.void_invoice(subscription.latest_invoice)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"


def clocked(sandbox: Sandbox, frozen: int = START) -> tuple[Any, Any]:
    clock = sandbox.v1.test_helpers.test_clocks.create({"frozen_time": frozen, "name": "c"})
    return clock, sandbox.customer("pm_card_visa", test_clock=clock.id)


def advance_clock(sandbox: Sandbox, clock: Any, to: int) -> Any:
    moving = sandbox.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": to})
    assert (moving.status, moving.status_details.advancing.target_frozen_time) == ("advancing", to)
    with pytest.raises(stripe.RateLimitError):
        sandbox.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": to + 1})
    sandbox.advance(2)
    return sandbox.v1.test_helpers.test_clocks.retrieve(clock.id)


def test_test_clock(sandbox: Sandbox) -> None:
    """Facts 7: advancing, then ready; everything inside lives in simulated time and is hidden from plain lists."""
    clock, customer = clocked(sandbox, START + 500 * DAY)
    price = sandbox.price(1000)
    subscription = sandbox.subscribe(customer, price)
    assert (subscription.created, subscription.test_clock) == (START + 500 * DAY, clock.id)
    end = subscription["items"].data[0].current_period_end
    assert advance_clock(sandbox, clock, end).status == "ready"
    renewed = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (renewed.latest_invoice.status, renewed.latest_invoice.created) == ("draft", end)
    advance_clock(sandbox, clock, end + HOUR)
    assert sandbox.v1.invoices.retrieve(renewed.latest_invoice.id).status == "paid"
    assert sandbox.v1.customers.list().data == []
    assert sandbox.v1.subscriptions.list().data == []
    assert [c.id for c in sandbox.v1.customers.list({"test_clock": clock.id}).data] == [customer.id]
    assert "test_helpers.test_clock.ready" in sandbox.event_types()


def test_test_clock_limits(sandbox: Sandbox) -> None:
    """Facts 7: at most two intervals of the shortest subscription, forward only, three customers, deletion."""
    clock, customer = clocked(sandbox)
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    advance = sandbox.v1.test_helpers.test_clocks.advance
    with pytest.raises(stripe.InvalidRequestError, match="You can only advance it up to 1772323200"):
        advance(clock.id, {"frozen_time": moment(2026, 3, 2)})
    with pytest.raises(stripe.InvalidRequestError):
        advance(clock.id, {"frozen_time": START})
    for _ in range(2):
        sandbox.customer(test_clock=clock.id)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.customer(test_clock=clock.id)
    sandbox.v1.test_helpers.test_clocks.delete(clock.id)
    assert sandbox.v1.customers.retrieve(customer.id).deleted is True
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_money_becomes_available_after_some_days(sandbox: Sandbox) -> None:
    """Facts 2.7: balance transactions are pending until available_on; fees are only here."""
    sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    [line] = sandbox.v1.balance_transactions.list().data
    assert (line.status, line.fee, line.net) == ("pending", 35, 965)
    assert sandbox.v1.balance.retrieve().pending[0].amount == 965
    sandbox.advance(2 * DAY)
    assert sandbox.v1.balance_transactions.retrieve(line.id).status == "available"
    assert sandbox.v1.balance.retrieve().available[0].amount == 965


def test_upcoming_invoice_is_announced(sandbox: Sandbox) -> None:
    """Facts 4.3: invoice.upcoming some days before a renewal that is charged, not for send_invoice."""
    price = sandbox.price(1000)
    sandbox.subscribe(sandbox.customer("pm_card_visa"), price, 2)
    sandbox.subscribe(sandbox.customer(), price, collection_method="send_invoice", days_until_due=3)
    before = len(sandbox.v1.invoices.list({"limit": 100}).data)
    sandbox.advance(24 * DAY)
    [event] = sandbox.events("invoice.upcoming")
    assert (event.data.object.total, event.data.object.billing_reason) == (2000, "upcoming")
    assert len(sandbox.v1.invoices.list({"limit": 100}).data) == before


def test_invoices_per_subscription_are_limited(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 5.1: so many new invoices per subscription and minute; the answer says resource-specific."""
    sandbox = make_sandbox(subscription_invoices_per_minute=3)
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    item = subscription["items"].data[0].id

    def change(quantity: int) -> Any:
        params = {"items": [{"id": item, "quantity": quantity}], "proration_behavior": "always_invoice"}
        return sandbox.v1.subscriptions.update(subscription.id, params)

    change(2)
    change(3)
    with pytest.raises(stripe.RateLimitError) as caught:
        change(4)
    headers = caught.value.headers or {}
    assert headers["stripe-rate-limited-reason"] == "resource-specific"
    sandbox.advance(60)
    assert change(4)["items"].data[0].quantity == 4
