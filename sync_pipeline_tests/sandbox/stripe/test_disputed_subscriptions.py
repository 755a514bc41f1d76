"""What a disputed payment does to its subscription: nothing, unless the account is set to cancel it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync_pipeline_tests.sandbox.stripe.conftest import HOUR, START, Sandbox


def test_a_dispute_leaves_the_subscription_alone(sandbox: Sandbox) -> None:
    """Facts 3.6: cancelling on a dispute is an option of the Dashboard that is off at first."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_createDispute"), sandbox.price(1000))
    sandbox.advance(HOUR)
    assert len(sandbox.events("charge.dispute.created")) == 1
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"


@pytest.mark.parametrize("others", [0, 1])
def test_a_dispute_ends_the_subscription_it_paid_for(make_sandbox: Callable[..., Sandbox], others: int) -> None:
    """Facts 2.4, 3.6: at once, with the reason payment_disputed; the customer's other subscriptions go on."""
    sandbox = make_sandbox(cancel_on_dispute=True)
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    going_on = [sandbox.subscribe(customer, price) for _ in range(others)]
    card = sandbox.v1.payment_methods.attach("pm_card_createDispute", {"customer": customer.id})
    disputed = sandbox.subscribe(customer, price, default_payment_method=card.id)
    sandbox.advance(HOUR)
    ended = sandbox.v1.subscriptions.retrieve(disputed.id)
    assert (ended.status, ended.cancellation_details.reason, ended.ended_at) == (
        "canceled", "payment_disputed", START + 60)  # fmt: skip
    [event] = sandbox.events("customer.subscription.deleted")
    assert (event.data.object.id, event.request.id) == (disputed.id, None)
    assert sandbox.v1.invoices.retrieve(disputed.latest_invoice).status == "paid"
    assert [sandbox.v1.subscriptions.retrieve(s.id).status for s in going_on] == ["active"] * others
