"""Updates that take place only once they are paid (facts 3.2; Stripe's reference of pending updates)."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox

PENDING = {"payment_behavior": "pending_if_incomplete", "proration_behavior": "always_invoice"}


def a_subscription(sandbox: Sandbox, **fields: Any) -> Any:
    """Two seats at 10 pounds a month, paid; ten days of January have passed."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000), 2, **fields)
    sandbox.advance(10 * DAY)
    return subscription


def more_seats(subscription: Any, quantity: int = 5) -> dict[str, Any]:
    return {"items": [{"id": subscription["items"].data[0].id, "quantity": quantity}]}


def declined(sandbox: Sandbox, subscription: Any, quantity: int = 5) -> Any:
    """The update to more seats, whose payment is declined."""
    sandbox.system.plan_payment(subscription.customer, "fail")
    return sandbox.v1.subscriptions.update(subscription.id, {**more_seats(subscription, quantity), **PENDING})


def seats(sandbox: Sandbox, subscription: Any) -> int:
    found: int = sandbox.v1.subscriptions.retrieve(subscription.id)["items"].data[0].quantity
    return found


def test_what_can_be_paid_takes_place_at_once(sandbox: Sandbox) -> None:
    """Facts 3.2: `pending_if_incomplete` stages only what cannot be paid."""
    subscription = a_subscription(sandbox)
    updated = sandbox.v1.subscriptions.update(subscription.id, {**more_seats(subscription), **PENDING})
    assert (updated["items"].data[0].quantity, updated.pending_update) == (5, None)
    # three seats more for 21 of 31 days: -2 * 1000 * 21/31 = -1354.8, 5 * 1000 * 21/31 = 3387.1
    assert sandbox.v1.invoices.retrieve(updated.latest_invoice).total == 3387 - 1355
    assert "customer.subscription.pending_update_applied" not in sandbox.event_types()


def test_a_declined_update_waits_for_its_payment(sandbox: Sandbox) -> None:
    """The subscription goes on as if no update request was made; the latest invoice is open; 23 hours at most.

    Facts 3.2.
    """
    subscription = a_subscription(sandbox)
    updated = declined(sandbox, subscription)
    assert (updated["items"].data[0].quantity, updated.status) == (2, "active")
    assert updated.pending_update.expires_at == START + 10 * DAY + 23 * HOUR
    assert [i.quantity for i in updated.pending_update.subscription_items] == [5]
    invoice = sandbox.v1.invoices.retrieve(updated.latest_invoice)
    assert (invoice.status, invoice.total, invoice.next_payment_attempt) == ("open", 3387 - 1355, None)

    paid = sandbox.v1.invoices.pay(invoice.id)
    assert paid.status == "paid"
    after = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (after["items"].data[0].quantity, after.pending_update) == (5, None)
    assert len(sandbox.events("customer.subscription.pending_update_applied")) == 1
    sandbox.advance(22 * DAY)
    renewal = sandbox.v1.invoices.list({"limit": 1}).data[0]
    assert (renewal.billing_reason, renewal.total) == ("subscription_cycle", 5000)


def test_an_update_that_nobody_pays_expires(sandbox: Sandbox) -> None:
    """Facts 3.2: after 23 hours it is over; 4.2: customer.subscription.pending_update_expired."""
    subscription = a_subscription(sandbox)
    invoice = declined(sandbox, subscription).latest_invoice
    sandbox.advance(23 * HOUR)
    after = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (after["items"].data[0].quantity, after.pending_update, after.status) == (2, None, "active")
    assert sandbox.v1.invoices.retrieve(invoice).status == "void"
    assert len(sandbox.events("customer.subscription.pending_update_expired")) == 1


def test_it_does_not_outlive_the_period(sandbox: Sandbox) -> None:
    """`expires_at` is the end of the period or of the trial, where that comes before the 23 hours. Facts 3.2."""
    subscription = a_subscription(sandbox)
    sandbox.advance(20 * DAY + 20 * HOUR)
    assert declined(sandbox, subscription, 500).pending_update.expires_at == START + 31 * DAY
    sandbox.advance(4 * HOUR)
    assert seats(sandbox, subscription) == 2
    assert sandbox.v1.invoices.list({"limit": 1}).data[0].total == 2000


@pytest.mark.parametrize("how", ["void", "another update"])
def test_it_is_given_up(sandbox: Sandbox, how: str) -> None:
    """Facts 3.2: voiding the invoice that would pay for it ends it, and so does another update."""
    subscription = a_subscription(sandbox)
    invoice = declined(sandbox, subscription).latest_invoice
    if how == "void":
        sandbox.v1.invoices.void_invoice(invoice)
    else:
        sandbox.v1.subscriptions.update(subscription.id, {"description": "Another thing"})
    after = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (after["items"].data[0].quantity, after.pending_update) == (2, None)
    assert sandbox.v1.invoices.retrieve(invoice).status == "void"


def test_a_new_item_by_its_own_operation(sandbox: Sandbox) -> None:
    """The operations of items know pending updates as well. Facts 3.2."""
    subscription = a_subscription(sandbox)
    sandbox.system.plan_payment(subscription.customer, "fail")
    more = sandbox.price(300, product=subscription["items"].data[0].price.product)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.subscription_items.update(
            subscription["items"].data[0].id, {"quantity": 3, "metadata": {"a": "b"}, **PENDING}
        )
    sandbox.v1.subscription_items.update(subscription["items"].data[0].id, {"price": more.id, "quantity": 9, **PENDING})
    found = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (found["items"].data[0].price.id, found["items"].data[0].quantity) == (
        subscription["items"].data[0].price.id,
        2,
    )
    assert [(i.price.id, i.quantity) for i in found.pending_update.subscription_items] == [(more.id, 9)]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"cancel_at_period_end": True}, "cancel_at_period_end"),
        ({"collection_method": "send_invoice", "days_until_due": 30}, "collection_method"),
    ],
)
def test_only_what_is_invoiced_can_wait(sandbox: Sandbox, change: dict[str, Any], param: str) -> None:
    """Facts 3.2: changes without an invoice cannot be staged."""
    subscription = a_subscription(sandbox)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.subscriptions.update(subscription.id, {**change, **PENDING})
    assert caught.value.param == param


def test_sent_invoices_and_new_subscriptions_know_no_pending_updates(sandbox: Sandbox) -> None:
    """Facts 3.2: for updates only, and only with charge_automatically."""
    sent = sandbox.subscribe(
        sandbox.customer(), sandbox.price(1000), collection_method="send_invoice", days_until_due=30
    )
    with pytest.raises(stripe.InvalidRequestError) as changed:
        sandbox.v1.subscriptions.update(sent.id, {**more_seats(sent), **PENDING})
    with pytest.raises(stripe.InvalidRequestError) as made:
        sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1), 1, **PENDING)
    assert {error.value.param for error in (changed, made)} == {"payment_behavior"}
