"""Subscriptions as objects: their items, how they are shown, how they end. Operations and cycles are elsewhere."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.catalog import inline_price, plan_of
from sync_pipeline.sandbox.stripe.discounts import grant
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import merge_metadata
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.periods import compatible
from sync_pipeline.sandbox.stripe.pictures import all_of, finish, page, parts, take
from sync_pipeline.sandbox.stripe.taxes import check_rates
from sync_pipeline.sandbox.stripe.world import World

MAX_ITEMS = 20
ITEM_PARAMETERS = "price plan price_data quantity metadata tax_rates discounts"


def items_of(world: World, subscription_id: str) -> list[Row]:
    return world.find("subscription_item", subscription=subscription_id)


def price_of(world: World, item: Row) -> Row:
    row: Row = world.store.table("price")[item["_price"]]
    return row


def price_for(world: World, params: Params, param: str) -> Row:
    """The recurring price that an item names or describes."""
    if params.get("price_data"):
        price = inline_price(world, params["price_data"], f"{param}[price_data]")
    else:
        name = "price" if params.get("price") or not params.get("plan") else "plan"
        id = params.get("price") or params.get("plan")
        if not id:
            raise errors.required(f"{param}[price]")
        price = world.need("price", id, f"{param}[{name}]")
        if "_gone" in price:
            raise errors.missing("price", id, f"{param}[{name}]")
        if not price["active"]:
            raise StripeError("The price specified is inactive. This field only accepts active prices.",
                              param=f"{param}[price]")  # fmt: skip
        if not (world.get("product", price["product"]) or {"active": True})["active"]:
            raise StripeError(
                f"Product is inactive: the product {price['product']} is marked as inactive, and thus no new "
                "subscriptions can be created to any of its prices.", code="product_inactive",
                param=f"{param}[price]",
            )  # fmt: skip
    if price["type"] != "recurring":
        raise StripeError("The price specified is set to `type=one_time` but this field only accepts prices with "
                          "`type=recurring`.", param=f"{param}[price]")  # fmt: skip
    if price["recurring"]["usage_type"] == "metered":
        raise errors.unsupported("metered prices", f"{param}[price]")
    return price


def named_price(world: World, entry: Params, param: str) -> Params:
    """The parameters of an item by the id of its price, which is made where they only describe it."""
    if not entry.get("price_data"):
        return entry
    price = world.update(price_for(world, entry, param), {"active": True})
    return {k: v for k, v in entry.items() if k != "price_data"} | {"price": price["id"]}


def new_item(world: World, subscription: Row, params: Params, period: tuple[int, int], param: str) -> Row:
    price = price_for(world, params, param)
    id = world.new_id("si_")
    return world.create("subscription_item", {
        "current_period_start": period[0], "current_period_end": period[1],
        "quantity": params.get("quantity", 1),
        "discounts": grant(world, params.get("discounts"), f"{param}[discounts]", redeemer=subscription["customer"],
                           currency=subscription["currency"], subscription_item=id),
        "metadata": merge_metadata(None, params), "subscription": subscription["id"], "_price": price["id"],
        "_tax_rates": check_rates(world, params.get("tax_rates"), f"{param}[tax_rates]"), "_debits": [],
    }, id=id)  # fmt: skip


def check_items(world: World, subscription: Row) -> None:
    """What must hold between the items of one subscription."""
    items = items_of(world, subscription["id"])
    prices = [price_of(world, item) for item in items]
    if len(items) > MAX_ITEMS:
        raise StripeError(f"A subscription can have at most {MAX_ITEMS} items.", param="items")
    if not items:
        raise StripeError("A subscription must have at least one active item.", param="items")
    seen: set[str] = set()
    for price in prices:
        if price["id"] in seen:
            raise StripeError(f"Cannot add multiple subscription items with the same plan: '{price['id']}'.",
                              param="items")  # fmt: skip
        seen.add(price["id"])
        if price["currency"] != subscription["currency"]:
            raise StripeError(
                f"The price specified only supports `{price['currency']}`. This doesn't match the expected currency: "
                f"`{subscription['currency']}`.", param="items",
            )  # fmt: skip
    intervals = [(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices]
    mixed = len(set(intervals)) > 1
    if mixed and (subscription["billing_mode"]["type"] == "classic" or not compatible(intervals)):
        raise StripeError(
            "Currently, all intervals of the items of a subscription must be multiples of the shortest one."
            if subscription["billing_mode"]["type"] == "flexible" else
            "All prices on a subscription must have the same `recurring.interval` and `recurring.interval_count`.",
            param="items",
        )  # fmt: skip


@parts("subscription")
def parts_of_subscription(world: World, row: Row) -> Row:
    url = f"/v1/subscription_items?subscription={row['id']}"
    return {
        "items": page(world, items_of(world, row["id"]), url, MAX_ITEMS),
        "default_tax_rates": all_of(world, "tax_rate", row.get("_tax_rates")),
    }


@parts("subscription_item")
def parts_of_item(world: World, row: Row) -> Row:
    return {
        "price": take(world, world.store.table("price")[row["_price"]]),
        "tax_rates": all_of(world, "tax_rate", row.get("_tax_rates")),
    }


@finish("subscription_item")
def add_plan(world: World, shown: Row) -> None:
    shown["plan"] = world.contract.fill("plan")(plan_of(shown["price"]))


def period_end(world: World, subscription: Row) -> int:
    """The earliest end among the items: when something is next billed."""
    ends: list[int] = [i["current_period_end"] for i in items_of(world, subscription["id"])]
    return min(ends)


def cancel_now(world: World, subscription: Row, *, reason: str = "cancellation_requested", details: Row | None = None,
               asked_at: int | None = None) -> Row:  # fmt: skip
    """End a subscription at this moment. Open invoices stay owed, but are no longer collected."""
    for name in ("subscription", "expire_incomplete", "expire_pending_update", "trial_will_end", "upcoming_invoice"):
        world.set_timer(name, subscription["id"], None)
    _end_schedule(world, subscription, aborted=reason == "payment_failed")
    told = {**(subscription.get("cancellation_details") or {}), **(details or {}), "reason": reason}
    subscription = world.update(subscription, {
        "status": "canceled", "ended_at": world.now(), "cancellation_details": told, "schedule": None,
        "canceled_at": asked_at or subscription.get("canceled_at") or world.now(), "pause_collection": None,
        "pending_update": None, "_waiting": None,
    })  # fmt: skip
    for invoice in world.find("invoice", _subscription=subscription["id"]):
        if invoice["status"] in ("draft", "open") and invoice.get("auto_advance"):
            world.set_timer("finalize", invoice["id"], None)
            world.set_timer("retry", invoice["id"], None)
            world.update(invoice, {"auto_advance": False, "next_payment_attempt": None}, "invoice.updated")
    world.emit("customer.subscription.deleted", subscription)
    return subscription


def _end_schedule(world: World, subscription: Row, *, aborted: bool) -> None:
    schedule = world.get("subscription_schedule", subscription.get("schedule"))
    if schedule is None or schedule["status"] != "active":
        return
    for name in ("schedule", "schedule_expiring"):
        world.set_timer(name, schedule["id"], None)
    changes = {"status": "canceled", "canceled_at": world.now(), "current_phase": None}
    schedule = world.update(schedule, changes)
    world.emit("subscription_schedule.aborted" if aborted else "subscription_schedule.canceled", schedule)
