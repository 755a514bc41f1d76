"""Collecting an invoice: its payment intent, attempts to charge, and what success or failure does.

The reaction of the subscription to a paid or failed invoice is `standing`; when to try again is `dunning`.
"""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import dunning, standing
from sync_pipeline.sandbox.stripe.balances import move_money, processing_fee
from sync_pipeline.sandbox.stripe.payment_methods import SUCCEEDING, behaviour_of, decline
from sync_pipeline.sandbox.stripe.world import World, timer

BANK_TRANSFER = "customer_balance"


def prepare(world: World, invoice: Row) -> Row:
    """The default payment of a finalised invoice: a payment intent and the invoice payment that joins them."""
    intent = create_intent(world, invoice["amount_due"], invoice["currency"], invoice["customer"], {
        "description": f"Payment for Invoice {invoice['number']}",
        "payment_method_types": [
            "card" if invoice["collection_method"] == "charge_automatically" else BANK_TRANSFER
        ],
    })  # fmt: skip
    return join(world, invoice, "payment_intent", intent["id"], invoice["amount_due"], is_default=True)


def create_intent(world: World, amount: int, currency: str, customer: str | None, fields: Row) -> Row:
    id = world.new_id("pi_")
    return world.create("payment_intent", {
        "amount": amount, "amount_capturable": 0, "amount_received": 0, "amount_details": {"tip": {}},
        "capture_method": "automatic", "client_secret": f"{id}_secret_{world.token(id, 24)}",
        "confirmation_method": "automatic", "currency": currency, "customer": customer, "metadata": {},
        "payment_method_options": {}, "payment_method_types": ["card"], "status": "requires_payment_method", **fields,
    }, id=id, event="payment_intent.created")  # fmt: skip


def join(world: World, invoice: Row, kind: str, target: str, amount: int, *, is_default: bool) -> Row:
    return world.create("invoice_payment", {
        "amount_requested": amount, "currency": invoice["currency"], "invoice": invoice["id"],
        "is_default": is_default, "payment": {"type": kind, kind: target}, "status": "open",
        "status_transitions": {}, "_payment": target,
    })  # fmt: skip


def default_payment(world: World, invoice: Row) -> Row | None:
    rows = world.find("invoice_payment", invoice=invoice["id"])
    return next((r for r in rows if r["is_default"] and r["status"] == "open"), None)


def method_for(world: World, invoice: Row) -> Row | None:
    """The payment method that an automatic charge would use."""
    subscription = world.get("subscription", invoice.get("_subscription")) or {}
    customer = world.get("customer", invoice["customer"]) or {}
    id = (
        invoice.get("default_payment_method")
        or subscription.get("default_payment_method")
        or customer.get("invoice_settings", {}).get("default_payment_method")
    )
    return world.get("payment_method", id)


def attempt(world: World, invoice: Row, method: Row | None = None, *, automatic: bool = True) -> Row:
    """Try to charge an open invoice once. The invoice as it is afterwards; look at its status."""
    method = method or method_for(world, invoice)
    payment = default_payment(world, invoice)
    assert payment is not None, invoice["id"]
    intent = world.need("payment_intent", payment["_payment"])
    if method is None:
        told = {"code": "missing", "message": "This customer has no attached payment source or default payment method."}
        return fail(world, invoice, intent, None, {**told, "type": "invalid_request_error"}, automatic=automatic)
    outcome = planned_outcome(world, invoice["customer"]) or behaviour_of(method)
    if outcome in SUCCEEDING:
        return succeed(world, invoice, intent, method, payment, automatic=automatic)
    if outcome == "action_required":
        return need_action(world, invoice, intent, method, automatic=automatic)
    error = {**decline(outcome), "type": "card_error"}
    return fail(world, invoice, intent, method, error, automatic=automatic)


@timer("retry")
def retry(world: World, invoice_id: str) -> None:
    """The next attempt of the dunning schedule is due."""
    invoice = world.get("invoice", invoice_id)
    if invoice and invoice["status"] == "open" and invoice.get("auto_advance"):
        attempt(world, world.update(invoice, {"next_payment_attempt": None}))


def planned_outcome(world: World, customer_id: str) -> str | None:
    """What the control plane has planned for this customer's next attempt; each plan is used once."""
    customer = world.get("customer", customer_id)
    if not customer or not customer.get("_planned"):
        return None
    outcome, *rest = customer["_planned"]
    world.update(customer, {"_planned": rest or None})
    return str(outcome)


def succeed(
    world: World, invoice: Row, intent: Row, method: Row | None, payment: Row, *, automatic: bool = False
) -> Row:
    charge = charge_intent(world, intent, method, f"Payment for Invoice {invoice['number']}")
    world.update(payment, {
        "status": "paid", "amount_paid": charge["amount"],
        "status_transitions": {**payment["status_transitions"], "paid_at": world.now()},
    })  # fmt: skip
    world.emit("invoice_payment.paid", world.need("invoice_payment", payment["id"]))
    invoice = world.update(invoice, _attempted(invoice, automatic))
    return mark_paid(world, invoice, amount=charge["amount"], charged=True)


def charge_intent(world: World, intent: Row, method: Row | None, description: str | None) -> Row:
    """Money arrives: a succeeded charge, and the intent that is done with it."""
    charge = take_money(world, intent, method, description)
    world.update(intent, {
        "status": "succeeded", "amount_received": charge["amount"], "latest_charge": charge["id"],
        "payment_method": method["id"] if method else None, "last_payment_error": None, "next_action": None,
    })  # fmt: skip
    world.emit("payment_intent.succeeded", world.need("payment_intent", intent["id"]))
    return charge


def take_money(world: World, paying: Row, method: Row | None, description: str | None) -> Row:
    """A succeeded charge and its ledger line. `paying` says what is paid: an intent, or the same fields without id."""
    charge = book(world, create_charge(world, paying, method, description, paid=True))
    world.emit("charge.succeeded", charge)
    return charge


def book(world: World, charge: Row) -> Row:
    """The ledger line of what a charge captured. A card that its holder will dispute is disputed from here on."""
    transaction = move_money(
        world, charge, "charge" if "payment_method" in charge else "payment", charge["amount_captured"],
        fee=processing_fee(world, charge), category="charge",
    )  # fmt: skip
    if behaviour_of(world.get("payment_method", charge.get("payment_method"))) == "dispute":
        world.set_timer("open_dispute", charge["id"], world.now() + 60)
    return world.update(charge, {"balance_transaction": transaction["id"]})


def create_charge(world: World, paying: Row, method: Row | None, description: str | None, *, paid: bool) -> Row:
    customer = world.get("customer", paying.get("customer")) or {}
    if method:
        card = {
            k: v
            for k, v in method["card"].items()
            if k in ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet")
        }
        details = {"type": "card", "card": {**card, "amount_authorized": paying["amount"], "network": card["brand"]}}
    else:
        details = {"type": BANK_TRANSFER, BANK_TRANSFER: {}}
    billing = {"address": customer.get("address") or {}, "email": customer.get("email"), "name": customer.get("name"),
               "phone": customer.get("phone")}  # fmt: skip
    amount = paying["amount"]
    id = world.new_id("ch_")
    return world.create("charge", {
        "amount": amount, "amount_captured": amount if paid else 0, "amount_refunded": 0, "billing_details": billing,
        "captured": paid, "currency": paying["currency"], "customer": paying.get("customer"),
        "description": description, "disputed": False, "fraud_details": {}, "metadata": paying["metadata"],
        "outcome": {"network_status": "approved_by_network", "risk_level": "normal", "risk_score": 10,
                    "seller_message": "Payment complete.", "type": "authorized"} if paid else None,
        "paid": paid, "payment_intent": paying.get("id"), "payment_method": method["id"] if method else None,
        "payment_method_details": details, "refunded": False, "status": "succeeded" if paid else "failed",
        "receipt_url": f"https://pay.stripe.com/receipts/{id}" if paid else None,
    }, id=id)  # fmt: skip


def refuse_charge(world: World, intent: Row, method: Row, error: Row) -> Row:
    """A declined card: a failed charge, and the intent back to where a new method is needed."""
    charge = take_no_money(world, intent, method, error)
    told = {**error, "charge": charge["id"], "payment_method": world.render(method)}
    world.update(intent, {
        "status": "requires_payment_method", "last_payment_error": told, "latest_charge": charge["id"],
    })  # fmt: skip
    world.emit("payment_intent.payment_failed", world.need("payment_intent", intent["id"]))
    return charge


def take_no_money(world: World, paying: Row, method: Row, error: Row) -> Row:
    """A failed charge: the card was declined."""
    charge = world.update(create_charge(world, paying, method, paying.get("description"), paid=False), {
        "failure_code": error["code"], "failure_message": error["message"],
        "outcome": {"network_status": "declined_by_network", "reason": error.get("decline_code"),
                    "risk_level": "normal", "risk_score": 10, "seller_message": "The bank declined the payment.",
                    "type": "issuer_declined"},
    })  # fmt: skip
    world.emit("charge.failed", charge)
    return charge


def fail(world: World, invoice: Row, intent: Row, method: Row | None, error: Row, *, automatic: bool) -> Row:
    if method:
        refuse_charge(world, intent, method, error)
    invoice = world.update(invoice, _attempted(invoice, automatic), "invoice.updated")
    invoice = dunning.after_failure(world, invoice, automatic=automatic)
    world.emit("invoice.payment_failed", invoice)
    standing.on_failed(world, invoice)
    return dunning.give_up_if_exhausted(world, invoice)


def need_action(world: World, invoice: Row, intent: Row, method: Row, *, automatic: bool) -> Row:
    world.update(intent, {
        "status": "requires_action", "payment_method": method["id"],
        "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}},
    })  # fmt: skip
    world.emit("payment_intent.requires_action", world.need("payment_intent", intent["id"]))
    invoice = world.update(invoice, _attempted(invoice, automatic), "invoice.updated")
    world.emit("invoice.payment_action_required", invoice)
    standing.on_failed(world, invoice)
    return invoice


def _attempted(invoice: Row, automatic: bool) -> Row:
    """The first attempt of any kind counts; after it only automatic ones do."""
    counts = automatic or invoice["attempt_count"] == 0
    return {"attempted": True, "attempt_count": invoice["attempt_count"] + (1 if counts else 0)}


def mark_paid(world: World, invoice: Row, *, amount: int, charged: bool = False, off_stripe: int = 0) -> Row:
    """Count money towards an invoice. Once it covers what is due, the invoice is paid and nothing else may pay it.

    `charged`: by a charge of Stripe's, which also announces invoice.payment_succeeded.
    """
    paid = invoice["amount_paid"] + amount
    off_stripe += invoice["amount_paid_off_stripe"]
    if paid < invoice["amount_due"]:
        invoice = world.update(invoice, {
            "amount_paid": paid, "amount_remaining": invoice["amount_due"] - paid, "amount_paid_off_stripe": off_stripe,
        }, "invoice.updated")  # fmt: skip
        ask_for_rest(world, invoice)
        return invoice
    dunning.forget(world, invoice)
    standing.cancel_payments(world, invoice, "automatic")
    invoice = world.update(invoice, {
        "attempted": True, "status": "paid", "amount_paid": paid,
        "amount_remaining": max(0, invoice["amount_due"] - paid),
        "amount_overpaid": max(0, paid - invoice["amount_due"]), "auto_advance": False, "next_payment_attempt": None,
        "amount_paid_off_stripe": off_stripe,
        "status_transitions": {**invoice["status_transitions"], "paid_at": world.now()},
    }, "invoice.updated")  # fmt: skip
    world.emit("invoice.paid", invoice)
    if charged or not (off_stripe or invoice["pre_payment_credit_notes_amount"]):
        world.emit("invoice.payment_succeeded", invoice)
    standing.on_paid(world, invoice)
    return invoice


def ask_for_rest(world: World, invoice: Row) -> None:
    """The default payment is for what remains."""
    payment = default_payment(world, invoice)
    if payment:
        world.update(payment, {"amount_requested": invoice["amount_remaining"]})
        intent = world.need("payment_intent", payment["_payment"])
        world.update(intent, {"amount": invoice["amount_remaining"]})


def create_record(world: World, amount: int, currency: str, customer: str | None, fields: Row) -> Row:
    """Money that came in elsewhere, as Stripe keeps it on record."""
    money, nothing = {"currency": currency, "value": amount}, {"currency": currency, "value": 0}
    return world.create("payment_record", {
        "amount": money, "amount_authorized": money, "amount_canceled": nothing, "amount_failed": nothing,
        "amount_guaranteed": money, "amount_refunded": nothing, "amount_requested": money,
        "customer_details": {"customer": customer} if customer else None, "metadata": {},
        "processor_details": {"type": "custom"},
        "reported_by": "stripe", "payment_method_details": {"type": "custom"}, **fields,
    })  # fmt: skip


def count_attached(world: World, payment: Row) -> Row:
    """The money of an attached payment has come in: it counts towards the invoice."""
    record = world.get("payment_record", payment["_payment"])
    if record:
        amount = record["amount_guaranteed"]["value"]
    else:
        amount = world.need("payment_intent", payment["_payment"])["amount_received"]
    payment = world.update(payment, {
        "status": "paid", "amount_paid": amount,
        "status_transitions": {**payment["status_transitions"], "paid_at": world.now()},
    })  # fmt: skip
    world.emit("invoice_payment.paid", payment)
    invoice = world.need("invoice", payment["invoice"])
    return mark_paid(world, invoice, amount=amount, charged=record is None, off_stripe=amount if record else 0)
