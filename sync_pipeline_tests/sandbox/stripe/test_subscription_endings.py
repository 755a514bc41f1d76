"""How a subscription ends or holds still as it was told to: computed ends, paused collection, long overdue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, START, Sandbox


@pytest.mark.parametrize(("word", "end"), [("min_period_end", (2026, 2, 1)), ("max_period_end", (2027, 1, 1))])
def test_cancel_at_an_end_of_a_period(sandbox: Sandbox, word: str, end: tuple[int, int, int]) -> None:
    """Facts 2.4, 3.6: the earliest or the latest end among the items' periods, kept as a moment."""
    expected = int(datetime(*end, tzinfo=UTC).timestamp())
    items = [{"price": sandbox.price(1000, interval).id} for interval in ("month", "year")]
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.v1.subscriptions.create({"customer": customer.id, "items": items})
    ending = sandbox.v1.subscriptions.update(subscription.id, {"cancel_at": word})
    assert (ending.cancel_at, ending.cancel_at_period_end, ending.status) == (expected, False, "active")
    sandbox.advance(expected - START - 1)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"
    sandbox.advance(1)
    ended = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at, ended.cancellation_details.reason) == (
        "canceled", expected, "cancellation_requested")  # fmt: skip


def test_collection_paused_with_drafts(sandbox: Sandbox) -> None:
    """Facts 3.7: keep_as_draft leaves renewals as drafts that do not advance, also after collection resumes."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    pause = {"pause_collection": {"behavior": "keep_as_draft"}}
    assert sandbox.v1.subscriptions.update(subscription.id, pause).status == "active"
    sandbox.advance(33 * DAY)
    [kept, first] = sandbox.v1.invoices.list({"subscription": subscription.id}).data
    assert (kept.status, kept.auto_advance, kept.amount_due, first.status) == ("draft", False, 1000, "paid")
    sandbox.v1.subscriptions.update(subscription.id, {"pause_collection": ""})
    sandbox.advance(28 * DAY)
    invoices = sandbox.v1.invoices.list({"subscription": subscription.id}).data
    assert [i.status for i in invoices] == ["paid", "draft", "paid"]


def test_collection_paused_as_uncollectible(sandbox: Sandbox) -> None:
    """Facts 2.6, 3.7: mark_uncollectible makes renewals final and uncollectible, and says why; nothing is charged."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    sandbox.v1.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "mark_uncollectible"}})
    sandbox.advance(33 * DAY)
    after = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    invoice = after.latest_invoice
    assert (after.status, invoice.status, invoice.amount_remaining) == ("active", "uncollectible", 1000)
    assert invoice.status_details.uncollectible.reason == "subscription_paused"
    assert len(sandbox.v1.charges.list().data) == 1


@pytest.mark.parametrize(
    ("action", "status", "reason"),
    [("cancel", "canceled", "payment_failed"), ("unpaid", "unpaid", None), ("past_due", "past_due", None)],
)
def test_overdue_for_too_long(
    make_sandbox: Callable[..., Sandbox], action: str, status: str, reason: str | None
) -> None:
    """Facts 3.7: an unpaid sent invoice makes it past due at once, and after the grace what the account is set to."""
    sandbox = make_sandbox(overdue_action=action, overdue_grace=10 * DAY)
    subscription = sandbox.subscribe(
        sandbox.customer(), sandbox.price(1000, "year"), collection_method="send_invoice", days_until_due=14
    )
    sandbox.advance(24 * DAY - 1)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    sandbox.advance(1)
    after = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (after.status, after.cancellation_details.reason) == (status, reason)
    assert sandbox.v1.invoices.retrieve(subscription.latest_invoice).status == "open"


def test_paid_within_the_grace(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.7: what was paid in time is active, and stays so when the grace is over."""
    sandbox = make_sandbox(overdue_action="cancel", overdue_grace=10 * DAY)
    customer = sandbox.customer()
    subscription = sandbox.subscribe(
        customer, sandbox.price(1000, "year"), collection_method="send_invoice", days_until_due=14
    )
    sandbox.advance(20 * DAY)
    sandbox.system.plan_payment(customer.id, "succeed")
    sandbox.advance(20 * DAY)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"
