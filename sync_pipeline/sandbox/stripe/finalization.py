"""Finalising: a draft becomes a numbered document, the customer's balance is applied, payment is prepared."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import payments
from sync_pipeline.sandbox.stripe.balances import adjust_balance
from sync_pipeline.sandbox.stripe.discounts import spend
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoices import refresh_customer, subscription_parent, sum_up
from sync_pipeline.sandbox.stripe.money import settle_balance
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.world import World, timer


@timer("finalize")
def finalize_when_due(world: World, invoice_id: str) -> None:
    """The hour of a draft is over: finalise, then collect."""
    invoice = world.get("invoice", invoice_id)
    if invoice and invoice["status"] == "draft" and world.get("customer", invoice["customer"]):
        invoice = finalize(world, invoice)
        collect(world, invoice)


def heed_delivery(world: World, invoice_id: str, *, taken: bool) -> None:
    """An endpoint failed `invoice.created`: the draft waits for it, up to three days; once all endpoints have it, its
    hour begins. Invoices on test clocks do not wait, as deliveries happen in real time."""
    invoice, longest = world.get("invoice", invoice_id), world.settings.webhook_failure_delay
    if invoice is None or "_clock" in invoice or longest is None or "automatically_finalizes_at" not in invoice:
        return
    latest = invoice["created"] + longest
    at = min(latest, world.clock.now() + world.settings.draft_seconds) if taken else latest
    attempt = at if "next_payment_attempt" in invoice else None
    world.update(invoice, {"automatically_finalizes_at": at, "next_payment_attempt": attempt})
    with world.at(None):
        world.set_timer("finalize", invoice["id"], at)


def finalize(world: World, invoice: Row) -> Row:
    """Raises StripeError if its customer is gone: nobody is left to owe it."""
    if world.get("customer", invoice["customer"]) is None:
        raise StripeError("The customer of this invoice has been deleted; it can no longer be finalized.",
                          param="invoice")  # fmt: skip
    invoice = sum_up(world, refresh_customer(world, invoice))
    world.set_timer("finalize", invoice["id"], None)
    customer = world.store.table("customer")[invoice["customer"]]
    due, ending = settle_balance(invoice["total"], customer["balance"], invoice["currency"])
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    subscription = world.get("subscription", invoice.get("_subscription"))
    now = world.now()
    changes: Row = {
        "status": "open", "number": number, "effective_at": now, "automatically_finalizes_at": None,
        "next_payment_attempt": None,
        "starting_balance": customer["balance"], "ending_balance": ending, "amount_due": due,
        "amount_remaining": due, "hosted_invoice_url": f"https://invoice.stripe.com/i/{invoice['id']}",
        "invoice_pdf": f"https://pay.stripe.com/invoice/{invoice['id']}/pdf",
        "status_transitions": {**invoice["status_transitions"], "finalized_at": now},
    }  # fmt: skip
    if subscription:
        old = invoice["parent"]["subscription_details"].get("subscription_proration_date")
        changes["parent"] = subscription_parent(subscription, old)
    if invoice["collection_method"] == "send_invoice" and "due_date" not in invoice:
        changes["due_date"] = now + invoice["_days_until_due"] * DAY
    spend(world, invoice)
    invoice = world.update(invoice, changes)
    _settle_customer(world, customer, invoice, ending)
    if due > 0:
        payments.prepare(world, invoice)
    world.emit("invoice.finalized", invoice)
    if due == 0:
        return payments.mark_paid(world, invoice, amount=0)
    if invoice["collection_method"] == "send_invoice":
        world.set_timer("overdue", invoice["id"], invoice["due_date"])
    return invoice


def _settle_customer(world: World, customer: Row, invoice: Row, ending: int) -> None:
    with world.watching("customer", customer["id"], "customer.updated"):
        customer = world.update(customer, {
            "next_invoice_sequence": customer["next_invoice_sequence"] + 1,
            "currency": customer.get("currency") or invoice["currency"],
        })  # fmt: skip
        if ending != customer["balance"]:
            adjust_balance(
                world, customer, ending - customer["balance"], "applied_to_invoice", currency=invoice["currency"],
                event=False, invoice=invoice["id"],
            )  # fmt: skip


def collect(world: World, invoice: Row) -> Row:
    """After finalising by itself: charge the customer, or send the invoice."""
    if invoice["status"] != "open":
        return invoice
    if invoice["collection_method"] == "send_invoice":
        world.emit("invoice.sent", invoice)
        return invoice
    return payments.attempt(world, invoice)
