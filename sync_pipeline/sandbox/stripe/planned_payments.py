"""What people and the demo decide about money: the next payments of a customer succeed, fail, or need action."""

from __future__ import annotations

from typing import Literal

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import payments
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.world import World

Outcome = Literal["succeed", "fail", "action_required"]


def plan(
    world: World, customer: Row, outcome: Outcome, decline_code: str | None, invoice_id: str | None, times: int
) -> Row:
    """An invoice that was sent is paid (or refused) now, by bank transfer; automatic charges remember the plan."""
    sent = _sent_invoice(world, customer, invoice_id)
    if sent is not None:
        invoice = _pay_sent(world, sent, outcome, decline_code)
        return {"customer": customer["id"], "outcome": outcome, "invoice": invoice["id"], "status": invoice["status"]}
    told = "succeed" if outcome == "succeed" else decline_code or "generic_decline"
    told = "action_required" if outcome == "action_required" else told
    planned = [*customer.get("_planned", ()), *[told] * times]
    world.update(customer, {"_planned": planned})
    return {"customer": customer["id"], "outcome": outcome, "planned": len(planned)}


def _sent_invoice(world: World, customer: Row, invoice_id: str | None) -> Row | None:
    if invoice_id is not None:
        invoice = world.need("invoice", invoice_id, "invoice")
        if invoice["status"] != "open":
            raise StripeError(f"Invoice {invoice_id} is {invoice['status']}, only an open one can be paid.")
        return invoice if invoice["collection_method"] == "send_invoice" else None
    rows = world.find("invoice", customer=customer["id"])
    return next((i for i in rows if i["status"] == "open" and i["collection_method"] == "send_invoice"), None)


def _pay_sent(world: World, invoice: Row, outcome: Outcome, decline_code: str | None) -> Row:
    payment = payments.default_payment(world, invoice)
    assert payment is not None, invoice["id"]
    intent = world.need("payment_intent", payment["_payment"])
    if outcome == "succeed":
        return payments.succeed(world, invoice, intent, None, payment)
    if outcome == "action_required":
        raise StripeError("A bank transfer cannot need an action; use succeed or fail.")
    error = {"code": decline_code or "payment_intent_payment_attempt_failed", "type": "invalid_request_error",
             "message": "The bank transfer failed."}  # fmt: skip
    return payments.fail(world, invoice, intent, None, error, automatic=False)
