"""Changing a subscription: items with proration, its end, trial, anchor, collection and everything plain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, pending_updates, taxes
from sync_pipeline.sandbox.stripe.billing import (
    add_item_line,
    add_pending,
    begin_invoice,
    issue_now,
    pending_items,
)
from sync_pipeline.sandbox.stripe.cycles import full_period, schedule_next
from sync_pipeline.sandbox.stripe.discounts import grant
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.finalization import collect
from sync_pipeline.sandbox.stripe.invoice_items import add_charges
from sync_pipeline.sandbox.stripe.limits import count_quantity_update
from sync_pipeline.sandbox.stripe.operations import merge_metadata
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import card_error
from sync_pipeline.sandbox.stripe.periods import add_interval
from sync_pipeline.sandbox.stripe.proration import check_date, credit, debit
from sync_pipeline.sandbox.stripe.standing import ENDED, give_up_pending
from sync_pipeline.sandbox.stripe.subscription_create import check_collection, plain_fields, set_cancellation
from sync_pipeline.sandbox.stripe.subscriptions import check_items, items_of, named_price, new_item, price_for, price_of
from sync_pipeline.sandbox.stripe.world import World

EDITABLE_WHEN_CANCELED = {"metadata", "cancellation_details", "expand"}
EDITABLE_WHEN_INCOMPLETE = {"metadata", "default_payment_method", "cancellation_details", "description", "expand"}


def change_subscription(world: World, subscription: Row, params: Params) -> Row:
    check_editable(subscription, params)
    check_collection(params, subscription)
    customer = world.store.table("customer")[subscription["customer"]]
    id = subscription["id"]
    with changing(world, subscription, params):
        subscription = change_terms(world, world.need("subscription", id), params)
        if params.get("items"):
            change_items(world, subscription, params["items"], params)
        add_charges(world, customer, subscription, params.get("add_invoice_items") or ())
        subscription = world.need("subscription", id)
        subscription = _change_end(world, subscription, params)
        subscription = _change_trial_or_anchor(world, subscription, params)
        if params.get("proration_behavior") == "always_invoice":
            invoice_pending(world, subscription, params)
    subscription = world.need("subscription", id)
    schedule_next(world, subscription)
    return subscription


@contextmanager
def changing(world: World, subscription: Row, params: Params) -> Iterator[None]:
    """One change, announced as one; if it is to wait for its payment, it is put aside until that has come."""
    id = subscription["id"]
    pending_updates.check(subscription, params)
    give_up_pending(world, subscription)
    before, items = world.need("subscription", id), items_of(world, id)
    with world.watching("subscription", id, "customer.subscription.updated"):
        yield
        if params.get("payment_behavior") == pending_updates.BEHAVIOUR:
            invoice = pending_updates.put_aside(world, before, items)
            if invoice and collect(world, invoice)["status"] == "open":
                pending_updates.show(world, world.need("subscription", id), world.settings.incomplete_seconds)


def change_terms(world: World, subscription: Row, params: Params) -> Row:
    """What is not billed by itself: how it is described, discounted, taxed, collected and paused."""
    customer = world.store.table("customer")[subscription["customer"]]
    changes = plain_fields(world, params, customer) | {"metadata": merge_metadata(subscription, params)}
    if "default_tax_rates" in params:
        changes["_tax_rates"] = taxes.check_rates(world, params["default_tax_rates"], "default_tax_rates")
    if "discounts" in params:
        changes["discounts"] = grant(world, params["discounts"], "discounts", redeemer=customer["id"],
                                     currency=subscription["currency"], subscription=subscription["id"])  # fmt: skip
    if "pause_collection" in params:
        if ((params["pause_collection"] or {}).get("resumes_at") or world.now() + 1) <= world.now():
            raise StripeError("`resumes_at` must be in the future.", param="pause_collection[resumes_at]")
        changes["pause_collection"] = params["pause_collection"]
    if params.get("trial_settings"):
        changes["trial_settings"] = {
            "end_behavior": {**subscription["trial_settings"]["end_behavior"],
                             **params["trial_settings"]["end_behavior"]},
        }  # fmt: skip
    return world.update(subscription, changes)


def check_editable(subscription: Row, params: Params) -> None:
    """Raises StripeError for what cannot be changed while the subscription is as it is."""
    status = subscription["status"]
    if subscription.get("schedule") and params.keys() & {"cancel_at", "cancel_at_period_end"}:
        raise StripeError(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and updating any "
            "cancelation behavior directly is not allowed. Please update the schedule instead.",
            param=min(params.keys() & {"cancel_at", "cancel_at_period_end"}),
        )  # fmt: skip
    if status in ENDED and params.keys() - EDITABLE_WHEN_CANCELED:
        raise StripeError(
            "A canceled subscription can only update its cancellation_details and metadata.",
            code="invalid_canceled_subscription_fields", param=min(params.keys() - EDITABLE_WHEN_CANCELED),
        )  # fmt: skip
    if status == "incomplete" and params.keys() - EDITABLE_WHEN_INCOMPLETE:
        raise StripeError(
            "This subscription is incomplete: until its first invoice is paid, only its metadata and default payment "
            "method can be updated.", param=min(params.keys() - EDITABLE_WHEN_INCOMPLETE),
        )  # fmt: skip


def change_items(world: World, subscription: Row, entries: list[Params], params: Params) -> None:
    """Each entry changes the item whose id it gives, or adds one. Prorates as `proration_behavior` says."""
    at = check_date(world, subscription, params.get("proration_date"))
    prorates = params.get("proration_behavior", "create_prorations") != "none" and subscription["status"] in (
        "active", "past_due", "unpaid",
    )  # fmt: skip
    for i, entry in enumerate(entries):
        if entry.get("id"):
            item = world.need("subscription_item", entry["id"], f"items[{i}][id]")
            if item["subscription"] != subscription["id"]:
                raise errors.missing("subscription_item", entry["id"], f"items[{i}][id]")
            if entry.get("deleted"):
                remove_item(world, subscription, item, at, prorates)
            else:
                change_item(world, subscription, item, entry, at, prorates, f"items[{i}]")
        else:
            add_item(world, subscription, entry, at, prorates, f"items[{i}]")
    check_items(world, subscription)


def add_item(world: World, subscription: Row, entry: Params, at: int, prorates: bool, param: str) -> Row:
    """A co-terminal addition: it joins the running cycle, and is charged for the rest of it."""
    entry = named_price(world, entry, param)
    price = price_for(world, entry, param)
    item = new_item(world, subscription, entry, _running_period(world, subscription, price, at), param)
    if prorates:
        debit(world, subscription, item, at)
    return world.need("subscription_item", item["id"])


def _running_period(world: World, subscription: Row, price: Row, at: int) -> tuple[int, int]:
    anchor = subscription["billing_cycle_anchor"]
    if subscription["status"] == "trialing":
        return subscription["trial_start"], subscription["trial_end"]
    if anchor > at:
        return subscription["start_date"], anchor
    return full_period(subscription, price, at)


def change_item(world: World, subscription: Row, item: Row, entry: Params, at: int, prorates: bool, param: str) -> Row:
    changes = _item_terms(world, subscription, item, entry, param)
    if entry.get("price") or entry.get("plan") or entry.get("price_data"):
        if (entry.get("price") or entry.get("plan")) == item["_price"]:
            price = price_of(world, item)
        else:
            price = price_for(world, entry, param)
        changes["_price"] = price["id"]
        if price["id"] != item["_price"]:
            changes["quantity"] = 1  # a new price without a quantity means one of it
    if "quantity" in entry:
        changes["quantity"] = entry["quantity"]
        if entry["quantity"] != item["quantity"]:
            count_quantity_update(world, subscription)
    billed = any(changes.get(f, item[f]) != item[f] for f in ("_price", "quantity"))
    if billed and prorates:
        credit(world, subscription, item, at)
    item = world.update(item, changes)
    if billed and subscription["status"] != "trialing":
        period = _running_period(world, subscription, price_of(world, item), at)
        item = world.update(item, {"current_period_start": period[0], "current_period_end": period[1]})
    if billed and prorates:
        debit(world, subscription, item, at)
    return world.need("subscription_item", item["id"])


def _item_terms(world: World, subscription: Row, item: Row, entry: Params, param: str) -> Row:
    changes: Row = {"metadata": merge_metadata(item, entry)}
    if "tax_rates" in entry:
        changes["_tax_rates"] = taxes.check_rates(world, entry["tax_rates"], f"{param}[tax_rates]")
    if "discounts" in entry:
        changes["discounts"] = grant(
            world, entry["discounts"], f"{param}[discounts]", redeemer=subscription["customer"],
            currency=subscription["currency"], subscription_item=item["id"],
        )  # fmt: skip
    return changes


def swap_items(world: World, subscription: Row, entries: list[Params]) -> None:
    """New items between two periods, where nothing is prorated: they end now, so that the renewal of this moment
    bills them."""
    now = world.now()
    items = items_of(world, subscription["id"])
    ending = items[0]["current_period_start"], now
    for i, entry in enumerate(entries):
        old = world.get("subscription_item", entry.get("id"))
        if old is None:
            new_item(world, subscription, entry, ending, f"items[{i}]")
        elif entry.get("deleted"):
            world.delete(old)
        else:
            changes = _item_terms(world, subscription, old, entry, f"items[{i}]")
            world.update(old, changes | {"quantity": entry["quantity"]})
    check_items(world, subscription)


def remove_item(world: World, subscription: Row, item: Row, at: int, prorates: bool) -> Row:
    if prorates:
        credit(world, subscription, item, at)
    return world.delete(item)


def invoice_pending(world: World, subscription: Row, params: Params) -> None:
    """`always_invoice`: bill what waits now, finalised and collected within the request."""
    waiting = pending_items(world, subscription, loose=False)
    if not waiting:
        return
    start = min(i["period"]["start"] for i in waiting)
    invoice = begin_invoice(world, subscription, "subscription_update", (start, world.now()))
    add_pending(world, invoice, waiting)
    behaviour = params.get("payment_behavior", "allow_incomplete")
    invoice = issue_now(world, subscription, invoice, behaviour)
    if invoice["status"] == "open" and behaviour == "error_if_incomplete" and invoice["attempted"]:
        raise card_error("generic_decline")


def _change_end(world: World, subscription: Row, params: Params) -> Row:
    """A new end inside the current period credits or debits the time between."""
    before = subscription.get("cancel_at")
    subscription = set_cancellation(world, subscription, params)
    after = subscription.get("cancel_at")
    if before == after or params.get("proration_behavior") == "none" or subscription["status"] == "trialing":
        return subscription
    for item in items_of(world, subscription["id"]):
        end = item["current_period_end"]
        old, new = min(before or end, end), min(after or end, end)
        if new < old:
            credit(world, subscription, item, new, old)
        elif old < new:
            debit(world, subscription, item, old, new)
    return subscription


def _change_trial_or_anchor(world: World, subscription: Row, params: Params) -> Row:
    now = world.now()
    reset = (params.get("billing_cycle_anchor") or {}).get("type") == "now"
    if reset and "proration_date" in params:
        raise StripeError("You cannot specify `proration_date` when `billing_cycle_anchor=now`",
                          param="proration_date")  # fmt: skip
    end = params.get("trial_end")
    if end is not None and end != "now":
        if end <= now:
            raise StripeError("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
        if end > add_interval(now, "year", 2):
            raise StripeError("Invalid trial_end: a trial can last at most two years.", param="trial_end")
        return start_trial(world, subscription, end, params)
    if end == "now" and subscription["status"] == "trialing":
        subscription = world.update(subscription, {"status": "active", "trial_end": now})
        reset = True
    if not reset:
        return subscription
    subscription = world.update(subscription, {"billing_cycle_anchor": now})
    return restart_periods(world, subscription, now, params)


def start_trial(world: World, subscription: Row, end: int, params: Params) -> Row:
    """Free until `end`, which becomes the anchor; what was paid for the time is credited."""
    now = world.now()
    for item in items_of(world, subscription["id"]):
        if params.get("proration_behavior") != "none" and subscription["status"] != "trialing":
            credit(world, subscription, item, now)
        start = item["current_period_start"] if subscription["status"] == "trialing" else now
        item = world.need("subscription_item", item["id"])
        world.update(item, {"current_period_start": start, "current_period_end": end, "_debits": []})
    return world.update(subscription, {
        "status": "trialing", "trial_end": end, "billing_cycle_anchor": end,
        "trial_start": subscription.get("trial_start", now) if subscription["status"] == "trialing" else now,
    })  # fmt: skip


def restart_periods(world: World, subscription: Row, now: int, params: Params) -> Row:
    """New periods for every item from this moment, billed at once; unused time of the old ones is credited."""
    prorates = params.get("proration_behavior", "create_prorations") != "none"
    for item in items_of(world, subscription["id"]):
        if prorates and item["current_period_end"] > now:
            credit(world, subscription, item, now)
    invoice = begin_invoice(world, subscription, "subscription_update", (now, now))
    for item in items_of(world, subscription["id"]):
        period = full_period(subscription, price_of(world, item), now)
        item = world.update(item, {"current_period_start": period[0], "current_period_end": period[1]})
        add_item_line(world, invoice, subscription, item, period)
    add_pending(world, invoice, pending_items(world, subscription))
    issue_now(world, subscription, invoice, params.get("payment_behavior", "allow_incomplete"))
    return world.need("subscription", subscription["id"])
