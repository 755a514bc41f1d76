"""The clock's work on subscriptions: trials end, periods turn, scheduled ends arrive."""

from __future__ import annotations

from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.billing import add_item_line, add_pending, begin_invoice, pending_items
from sync_pipeline.sandbox.stripe.finalization import finalize
from sync_pipeline.sandbox.stripe.invoices import sum_up
from sync_pipeline.sandbox.stripe.money import exact_amount
from sync_pipeline.sandbox.stripe.payments import method_for
from sync_pipeline.sandbox.stripe.periods import period_at
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.standing import ENDED, close_open
from sync_pipeline.sandbox.stripe.subscriptions import cancel_now, items_of, price_of
from sync_pipeline.sandbox.stripe.world import World, timer

TRIAL_NOTICE = 3 * DAY


def full_period(subscription: Row, price: Row, moment: int) -> tuple[int, int]:
    """The whole period on the subscription's grid that a price has at a moment."""
    recurring = price["recurring"]
    return period_at(subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], moment)


def schedule_next(world: World, subscription: Row) -> None:
    """Wake up for whatever happens to this subscription next."""
    id = subscription["id"]
    if subscription["status"] in (*ENDED, "incomplete"):
        moments = []
    elif subscription["status"] == "paused":
        moments = [subscription.get("cancel_at")]
    else:
        moments = [
            min(i["current_period_end"] for i in items_of(world, id)), subscription.get("cancel_at"),
            (subscription.get("pause_collection") or {}).get("resumes_at"),
        ]  # fmt: skip
    known = [m for m in moments if m is not None]
    world.set_timer("subscription", id, min(known) if known else None)
    notice = world.settings.upcoming_days
    if known and notice is not None and subscription["collection_method"] == "charge_automatically":
        at = min(known) - notice * DAY
        world.set_timer("upcoming_invoice", id, at if at > world.now() else None)
    trial_end = subscription.get("trial_end")
    if subscription["status"] == "trialing" and trial_end and subscription.get("_told_trial") != trial_end:
        world.set_timer("trial_will_end", id, max(world.now(), trial_end - TRIAL_NOTICE))


@timer("trial_will_end")
def tell_trial_end(world: World, id: str) -> None:
    subscription = world.get("subscription", id)
    if subscription and subscription["status"] == "trialing":
        subscription = world.update(subscription, {"_told_trial": subscription["trial_end"]})
        world.emit("customer.subscription.trial_will_end", subscription)


@timer("subscription")
def turn(world: World, id: str) -> None:
    subscription = world.get("subscription", id)
    if subscription is None or subscription["status"] in ENDED:
        return
    now = world.now()
    pause = subscription.get("pause_collection")
    if pause and pause.get("resumes_at") is not None and pause["resumes_at"] <= now:
        subscription = world.update(subscription, {"pause_collection": None}, "customer.subscription.updated")
    if subscription.get("cancel_at") is not None and subscription["cancel_at"] <= now:
        end_as_scheduled(world, subscription)
        return
    if subscription["status"] == "trialing" and subscription["trial_end"] <= now and _trial_stops(world, subscription):
        return
    if any(i["current_period_end"] <= now for i in items_of(world, id)) and subscription["status"] != "paused":
        renew(world, world.need("subscription", id))
    schedule_next(world, world.need("subscription", id))


def end_as_scheduled(world: World, subscription: Row) -> None:
    """The end that was asked for: prorations that still wait are billed a last time."""
    waiting = pending_items(world, subscription, loose=False)
    if waiting and sum(i["amount"] for i in waiting) > 0:
        invoice = begin_invoice(world, subscription, "subscription_cycle", _span(world, subscription))
        add_pending(world, invoice, waiting)
        invoice = sum_up(world, invoice)
        world.emit("invoice.created", invoice)
        subscription = world.update(subscription, {"latest_invoice": invoice["id"]})
        finalize(world, invoice)
    cancel_now(world, world.need("subscription", subscription["id"]), asked_at=subscription.get("canceled_at"))


def _span(world: World, subscription: Row) -> tuple[int, int]:
    items = items_of(world, subscription["id"])
    return min(i["current_period_start"] for i in items), min(i["current_period_end"] for i in items)


def _trial_stops(world: World, subscription: Row) -> bool:
    """At the trial's end without a way to pay: canceled or paused, where the subscription says so."""
    behaviour = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    automatic = subscription["collection_method"] == "charge_automatically"
    if behaviour == "create_invoice" or not automatic or method_for(world, _as_invoice(subscription)):
        return False
    if behaviour == "cancel":
        cancel_now(world, subscription)
    else:
        paused = {"type": "subscription", "transitioned_at": world.now(),
                  "subscription": {"type": "trial_end_without_payment_method"}}  # fmt: skip
        with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
            subscription = world.update(subscription, {"status": "paused", "status_details": {"paused": paused}})
        world.emit("customer.subscription.paused", subscription)
        world.set_timer("subscription", subscription["id"], None)
    return True


def _as_invoice(subscription: Row) -> Row:
    return {"_subscription": subscription["id"], "customer": subscription["customer"]}


def renew(world: World, subscription: Row) -> None:
    """Items whose period is over enter the next one, which is billed at once, before any payment."""
    now, before = world.now(), _span(world, subscription)
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        changes: Row = {}
        if subscription["status"] == "trialing":
            changes["status"] = "active"
        subscription = world.update(subscription, changes)
        invoice = begin_invoice(world, subscription, "subscription_cycle", before)
        for item in items_of(world, subscription["id"]):
            if item["current_period_end"] <= now:
                _advance(world, invoice, subscription, item)
        add_pending(world, invoice, pending_items(world, subscription))
        invoice = sum_up(world, invoice)
        subscription = world.update(subscription, {"latest_invoice": invoice["id"]})
    _start_draft(world, subscription, invoice)


def _advance(world: World, invoice: Row, subscription: Row, item: Row) -> None:
    price = price_of(world, item)
    whole = full_period(subscription, price, item["current_period_end"])
    start, end = item["current_period_end"], whole[1]
    item = world.update(item, {"current_period_start": start, "current_period_end": end})
    exact = exact_amount(price, item["quantity"])
    cancel_at = subscription.get("cancel_at")
    if cancel_at is not None and start < cancel_at < end:  # the last period is shorter
        end = cancel_at
    if (start, end) != whole:
        exact *= Fraction(end - start, whole[1] - whole[0])
    add_item_line(world, invoice, subscription, item, (start, end), exact)


def _start_draft(world: World, subscription: Row, invoice: Row) -> None:
    """A renewal stays a draft for an hour; unpaid subscriptions and paused collection keep it longer."""
    pause = subscription.get("pause_collection")
    due = world.now() + world.settings.draft_seconds
    if subscription["status"] == "unpaid" or (pause and pause["behavior"] == "keep_as_draft"):
        invoice = world.update(invoice, {"auto_advance": False})
        world.emit("invoice.created", invoice)
        return
    if pause:
        world.emit("invoice.created", invoice)
        invoice = finalize(world, world.update(invoice, {"auto_advance": False}))
        if invoice["status"] == "open":
            closed = {"void": "void", "mark_uncollectible": "uncollectible"}[pause["behavior"]]
            close_open(world, invoice, closed, "subscription_paused" if closed == "uncollectible" else None)
        return
    charged_at = due if invoice["collection_method"] == "charge_automatically" else None
    invoice = world.update(invoice, {"automatically_finalizes_at": due, "next_payment_attempt": charged_at})
    world.emit("invoice.created", invoice)
    world.set_timer("finalize", invoice["id"], due)
