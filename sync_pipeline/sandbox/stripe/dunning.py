"""Dunning: when a failed charge is tried again, and what happens when the attempts or the patience run out."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.standing import ENDED, close_open, is_awaited
from sync_pipeline.sandbox.stripe.subscriptions import cancel_now
from sync_pipeline.sandbox.stripe.world import World, timer


def after_failure(world: World, invoice: Row, *, automatic: bool) -> Row:
    """Set the next attempt by the retry schedule. Attempts by hand leave the schedule as it stands."""
    subscription = world.get("subscription", invoice.get("_subscription"))
    awaited = subscription is not None and (subscription["status"] == "incomplete" or is_awaited(subscription, invoice))
    if not automatic or not invoice.get("auto_advance") or awaited:
        return invoice
    retries = world.settings.retry_days
    done = invoice["attempt_count"] - 1
    at = world.now() + retries[done] * DAY if done < len(retries) else None
    world.set_timer("retry", invoice["id"], at)
    return world.update(invoice, {"next_payment_attempt": at}, "invoice.updated")


def give_up_if_exhausted(world: World, invoice: Row) -> Row:
    """The last retry failed: the account's final action for the subscription, once."""
    subscription = world.get("subscription", invoice.get("_subscription"))
    scheduled = invoice.get("next_payment_attempt") is not None
    if scheduled or subscription is None or subscription["status"] != "past_due":
        return invoice
    if invoice["attempt_count"] <= len(world.settings.retry_days):
        return invoice
    invoice = world.update(invoice, {"auto_advance": False}, "invoice.updated")
    if world.settings.mark_uncollectible_at_end:
        invoice = close_open(world, invoice, "uncollectible", "max_payment_attempts")
    _final_action(world, subscription, world.settings.final_action)
    return invoice


def _final_action(world: World, subscription: Row, action: str) -> None:
    if action == "cancel":
        cancel_now(world, subscription, reason="payment_failed")
    elif action == "unpaid":
        world.update(subscription, {"status": "unpaid"}, "customer.subscription.updated")


@timer("overdue")
def overdue(world: World, invoice_id: str) -> None:
    """A sent invoice was not paid by its due date."""
    invoice = world.get("invoice", invoice_id)
    if invoice is None or invoice["status"] != "open":
        return
    world.emit("invoice.overdue", invoice)
    customer = world.get("customer", invoice["customer"])
    if customer and not customer.get("delinquent"):
        world.update(customer, {"delinquent": True}, "customer.updated")
    subscription = world.get("subscription", invoice.get("_subscription"))
    if subscription is None or subscription["status"] in ENDED:
        return
    if subscription["status"] == "active":
        world.update(subscription, {"status": "past_due"}, "customer.subscription.updated")
    if world.settings.overdue_grace is not None:
        world.set_timer("overdue_end", invoice["id"], world.now() + world.settings.overdue_grace)


@timer("overdue_end")
def overdue_end(world: World, invoice_id: str) -> None:
    invoice = world.get("invoice", invoice_id)
    subscription = world.get("subscription", invoice.get("_subscription")) if invoice else None
    if invoice and invoice["status"] == "open" and subscription and subscription["status"] == "past_due":
        _final_action(world, subscription, world.settings.overdue_action)


def forget(world: World, invoice: Row) -> None:
    """Paid: nothing is to be retried or to fall due."""
    for name in ("retry", "overdue", "overdue_end", "finalize"):
        world.set_timer(name, invoice["id"], None)
