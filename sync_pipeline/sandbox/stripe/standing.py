"""How a subscription and its customer stand after their invoice was paid, failed, voided or fell overdue."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import pending_updates
from sync_pipeline.sandbox.stripe.world import World, timer

ENDED = ("canceled", "incomplete_expired")


def on_paid(world: World, invoice: Row) -> None:
    customer = world.get("customer", invoice["customer"])
    if customer and customer.get("delinquent"):
        world.update(customer, {"delinquent": False}, "customer.updated")
    subscription = world.get("subscription", invoice.get("_subscription"))
    if subscription is None or subscription.get("latest_invoice") != invoice["id"]:
        return
    if "_waiting" in subscription:
        pending_updates.apply(world, subscription)
    if subscription["status"] == "incomplete":
        world.set_timer("expire_incomplete", subscription["id"], None)
    if subscription["status"] in ("incomplete", "past_due", "unpaid"):
        status = "trialing" if subscription.get("trial_end", 0) > world.now() else "active"
        world.update(subscription, {"status": status}, "customer.subscription.updated")


def on_failed(world: World, invoice: Row) -> None:
    """An automatic charge failed or needs the customer: the first leaves it incomplete, a later one past due.

    An invoice that was sent is only late once its due date has passed.
    """
    if invoice["collection_method"] == "send_invoice":
        return
    subscription = world.get("subscription", invoice.get("_subscription"))
    live = subscription is not None and subscription["status"] in ("active", "trialing")
    if subscription and live and not is_awaited(subscription, invoice) and invoice["billing_reason"] != "manual":
        world.update(subscription, {"status": "past_due"}, "customer.subscription.updated")
    customer = world.get("customer", invoice["customer"])
    if customer and not customer.get("delinquent"):
        world.update(customer, {"delinquent": True}, "customer.updated")


def on_closed_unpaid(world: World, invoice: Row) -> None:
    """Voided: an incomplete subscription expires; otherwise the invoices before decide."""
    subscription = world.get("subscription", invoice.get("_subscription"))
    if subscription is None or subscription.get("latest_invoice") != invoice["id"]:
        return
    if is_awaited(subscription, invoice):
        with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
            pending_updates.drop(world, subscription)
    elif subscription["status"] == "incomplete":
        expire_incomplete(world, subscription["id"])
    elif subscription["status"] in ("past_due", "unpaid"):
        older = world.find("invoice", _subscription=subscription["id"])
        owed = [i for i in older if i["status"] == "open" and i["id"] != invoice["id"] and _late(world, i)]
        if not owed:
            world.update(subscription, {"status": "active"}, "customer.subscription.updated")


def _late(world: World, invoice: Row) -> bool:
    if invoice["collection_method"] == "send_invoice":
        return bool(invoice["due_date"] <= world.now())
    return bool(invoice["attempted"])


@timer("expire_incomplete")
def expire_incomplete(world: World, id: str) -> None:
    """23 hours passed without the first payment: the subscription is over and its invoice void."""
    subscription = world.get("subscription", id)
    if subscription is None or subscription["status"] != "incomplete":
        return
    world.set_timer("subscription", id, None)
    world.set_timer("expire_incomplete", id, None)
    changes = {"status": "incomplete_expired", "ended_at": world.now(), "canceled_at": world.now()}
    world.update(subscription, changes, "customer.subscription.updated")
    invoice = world.get("invoice", subscription.get("latest_invoice"))
    if invoice and invoice["status"] == "open":
        close_open(world, invoice, "void")


@timer("expire_pending_update")
def expire_pending_update(world: World, id: str) -> None:
    """The invoice was not paid in time: the update never takes place."""
    subscription = give_up_pending(world, world.need("subscription", id))
    world.emit("customer.subscription.pending_update_expired", subscription)


def give_up_pending(world: World, subscription: Row) -> Row:
    """Whatever waits for its payment is dropped, and its invoice void."""
    if "_waiting" not in subscription:
        return subscription
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        dropped = pending_updates.drop(world, subscription)
    close_open(world, world.need("invoice", subscription["_waiting"]["invoice"]), "void")
    return dropped


def is_awaited(subscription: Row, invoice: Row) -> bool:
    """Whether a pending update takes place only once this invoice is paid."""
    return bool(subscription.get("_waiting", {}).get("invoice") == invoice["id"])


def close_open(world: World, invoice: Row, status: str, reason: str | None = None) -> Row:
    """Void or uncollectible: no more attempts; voiding also cancels the payment intent."""
    world.set_timer("overdue", invoice["id"], None)
    world.set_timer("retry", invoice["id"], None)
    stamp, event = {
        "void": ("voided_at", "invoice.voided"),
        "uncollectible": ("marked_uncollectible_at", "invoice.marked_uncollectible"),
    }[status]
    changes: Row = {
        "status": status, "next_payment_attempt": None, "auto_advance": False,
        "status_transitions": {**invoice["status_transitions"], stamp: world.now()},
    }  # fmt: skip
    if status == "void":
        cancel_payments(world, invoice, "void_invoice")
    if reason:
        changes["status_details"] = {"uncollectible": {"reason": reason}}
    invoice = world.update(invoice, changes, "invoice.updated")
    world.emit(event, invoice)
    return invoice


def cancel_payments(world: World, invoice: Row, reason: str) -> None:
    """Give up the payments of an invoice that are still open, with their intents."""
    for payment in world.find("invoice_payment", invoice=invoice["id"]):
        if payment["status"] != "open":
            continue
        transitions = {**payment["status_transitions"], "canceled_at": world.now()}
        world.update(payment, {"status": "canceled", "status_transitions": transitions})
        intent = world.get("payment_intent", payment.get("_payment"))
        if intent and intent["status"] not in ("succeeded", "canceled"):
            intent = world.update(intent, {
                "status": "canceled", "canceled_at": world.now(), "cancellation_reason": reason,
            })  # fmt: skip
            world.emit("payment_intent.canceled", intent)
