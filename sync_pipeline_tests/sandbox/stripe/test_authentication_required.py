"""A card that needs its holder: confirming again is the holder's answer once the control plane has planned it."""

from __future__ import annotations

from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox

CARD = "pm_card_authenticationRequired"


def test_confirming_a_subscriptions_first_payment(sandbox: Sandbox) -> None:
    """Facts 3.7: incomplete until the intent is confirmed; then paid and active. Without a plan it asks again."""
    customer = sandbox.customer(CARD)
    subscription = sandbox.subscribe(customer, sandbox.price(1000), expand=["latest_invoice.payments"])
    [payment] = subscription.latest_invoice.payments.data
    intent = payment.payment.payment_intent
    assert sandbox.v1.payment_intents.confirm(intent).status == "requires_action"
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "incomplete"
    sandbox.system.plan_payment(customer.id, "succeed")
    confirmed = sandbox.v1.payment_intents.confirm(intent)
    assert (confirmed.status, confirmed.amount_received, confirmed.next_action) == ("succeeded", 1000, None)
    after = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (after.status, after.latest_invoice.status, after.latest_invoice.amount_paid) == ("active", "paid", 1000)


def test_confirming_an_intent_by_itself(sandbox: Sandbox) -> None:
    """Facts 3.7: the same for a payment intent without an invoice; the plan is used up by it."""
    customer = sandbox.customer(CARD)
    method = customer.invoice_settings.default_payment_method
    fields = {"amount": 700, "currency": "gbp", "customer": customer.id, "payment_method": method, "confirm": True}
    intent = sandbox.v1.payment_intents.create(fields)
    assert intent.status == "requires_action"
    sandbox.system.plan_payment(customer.id, "succeed")
    assert sandbox.v1.payment_intents.confirm(intent.id).status == "succeeded"
    assert sandbox.v1.payment_intents.create(fields).status == "requires_action"
