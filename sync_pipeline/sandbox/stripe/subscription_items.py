"""The operations on single subscription items: the same changes as through the subscription."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.cycles import schedule_next
from sync_pipeline.sandbox.stripe.errors import StripeError, required
from sync_pipeline.sandbox.stripe.listing import list_objects
from sync_pipeline.sandbox.stripe.operations import action, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.subscription_changes import (
    change_items,
    changing,
    check_editable,
    invoice_pending,
)
from sync_pipeline.sandbox.stripe.subscriptions import items_of
from sync_pipeline.sandbox.stripe.world import World

_HOW = "proration_behavior proration_date payment_behavior"
_WHAT = "price plan price_data quantity metadata tax_rates discounts"


@operation("POST /v1/subscription_items", f"subscription {_WHAT} {_HOW}")
def create_item(world: World, params: Params, args: list[str]) -> Row:
    subscription = world.need("subscription", params["subscription"], "subscription")
    if not params.keys() & {"price", "plan", "price_data"}:
        raise required("price")
    before = {i["id"] for i in items_of(world, subscription["id"])}
    _change(world, subscription, {k: v for k, v in params.items() if k in _WHAT.split()}, params)
    return next(i for i in items_of(world, subscription["id"]) if i["id"] not in before)


@action("POST /v1/subscription_items/{item}", f"off_session {_WHAT} {_HOW}")
def update_item(world: World, params: Params, item: Row) -> Row:
    subscription = world.need("subscription", item["subscription"])
    entry = {k: v for k, v in params.items() if k in _WHAT.split()}
    _change(world, subscription, {"id": item["id"], **entry}, params)
    return world.need("subscription_item", item["id"])


@action("DELETE /v1/subscription_items/{item}", f"{_HOW}")
def delete_item(world: World, params: Params, item: Row) -> Row:
    subscription = world.need("subscription", item["subscription"])
    if len(items_of(world, subscription["id"])) == 1:
        raise StripeError(
            "A subscription must have at least one active item. To cancel the subscription, cancel it instead.",
            param="item",
        )  # fmt: skip
    _change(world, subscription, {"id": item["id"], "deleted": True}, params)
    return {"id": item["id"], "object": "subscription_item", "deleted": True}


def _change(world: World, subscription: Row, entry: Params, params: Params) -> None:
    check_editable(subscription, {"items": [entry]})
    with changing(world, subscription, params):
        change_items(world, subscription, [entry], params)
        if params.get("proration_behavior") == "always_invoice":
            invoice_pending(world, world.need("subscription", subscription["id"]), params)
    schedule_next(world, world.need("subscription", subscription["id"]))


@operation("GET /v1/subscription_items", "subscription limit starting_after ending_before")
def list_items(world: World, params: Params, args: list[str]) -> Row:
    id = params["subscription"]
    world.need("subscription", id, "subscription")
    return list_objects(world, "subscription_item", params, f"/v1/subscription_items?subscription={id}")
