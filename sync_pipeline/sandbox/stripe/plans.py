"""What older clients still ask for: plans, which are recurring prices by their former name.

A price cannot be deleted, but a plan can: it is gone for new subscriptions, and those that have it keep it.
"""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.catalog import new_price, plan_of, price_tiers, update_price
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.listing import list_objects
from sync_pipeline.sandbox.stripe.operations import operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World


@operation("GET /v1/plans", "active created limit product starting_after ending_before")
def list_plans(world: World, params: Params, args: list[str]) -> Row:
    page = list_objects(world, "price", params, "/v1/plans", type="recurring")
    return page | {"data": [_plan(world, price) for price in page["data"]]}


@operation("GET /v1/plans/{plan}")
def get_plan(world: World, params: Params, args: list[str]) -> Row:
    return _plan(world, world.render(_need(world, args[0])))


_SAME = "active billing_scheme currency metadata nickname tiers tiers_mode"
_RENAMED = {"amount": "unit_amount", "amount_decimal": "unit_amount_decimal", "transform_usage": "transform_quantity"}
_RECURRING = "interval interval_count usage_type"


@operation("POST /v1/plans", f"id product {_SAME} {_RECURRING} {' '.join(_RENAMED)}")
def create_plan(world: World, params: Params, args: list[str]) -> Row:
    """A recurring price, under an id of the client's choice; its product may be made with it."""
    if params.get("billing_scheme") != "tiered" and not {"amount", "amount_decimal"} & params.keys():
        raise errors.required("amount")
    id = params.get("id") or world.new_id("plan_")
    if world.get("price", id):
        raise StripeError("Plan already exists.", code="resource_already_exists", param="id")
    product = params.get("product")
    price = new_price(world, {
        **pick(params, _SAME), **{new: params[old] for old, new in _RENAMED.items() if old in params},
        "recurring": pick(params, _RECURRING),
        **({} if product is None else {"product_data" if isinstance(product, dict) else "product": product}),
    }, id)  # fmt: skip
    return _plan(world, world.render(price))


@operation("POST /v1/plans/{plan}", "active metadata nickname")
def update_plan(world: World, params: Params, args: list[str]) -> Row:
    return _plan(world, world.render(update_price(world, params, _need(world, args[0]))))


@operation("DELETE /v1/plans/{plan}")
def delete_plan(world: World, params: Params, args: list[str]) -> Row:
    price = world.update(_need(world, args[0]), {"active": False, "_gone": True})
    world.emit("price.deleted", price)
    return {"id": price["id"], "object": "plan", "deleted": True}


def _need(world: World, id: str) -> Row:
    price = world.get("price", id)
    if price is None or price["type"] != "recurring" or "_gone" in price:
        raise errors.missing("plan", id, "plan", status=404)
    return price


def _plan(world: World, price: Row) -> Row:
    shown: Row = world.contract.fill("plan")(plan_of(price))
    return shown


@included("plan", "tiers")
def plan_tiers(world: World, plan: Row) -> list[Row] | None:
    tiers: list[Row] | None = price_tiers(world, plan)
    return tiers
