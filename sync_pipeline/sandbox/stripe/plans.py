"""What older clients still ask for: plans (recurring prices by their former name) and features of products."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.catalog import plan_of, price_tiers
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.listing import list_objects
from sync_pipeline.sandbox.stripe.operations import operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World


@operation("GET /v1/plans", "active created limit product starting_after ending_before")
def list_plans(world: World, params: Params, args: list[str]) -> Row:
    page = list_objects(world, "price", params, "/v1/plans", type="recurring")
    return page | {"data": [_plan(world, price) for price in page["data"]]}


@operation("GET /v1/plans/{plan}")
def get_plan(world: World, params: Params, args: list[str]) -> Row:
    price = world.get("price", args[0])
    if price is None or price["type"] != "recurring":
        raise errors.missing("plan", args[0], "plan", status=404)
    return _plan(world, world.render(price))


def _plan(world: World, price: Row) -> Row:
    shown: Row = world.contract.fill("plan")(plan_of(price))
    return shown


@included("plan", "tiers")
def plan_tiers(world: World, plan: Row) -> list[Row] | None:
    tiers: list[Row] | None = price_tiers(world, plan)
    return tiers


@operation("GET /v1/products/{product}/features", "limit starting_after ending_before")
def list_features(world: World, params: Params, args: list[str]) -> Row:
    """None can be made here, so there are none."""
    world.need("product", args[0], "product", 404)
    return {"object": "list", "data": [], "has_more": False, "url": f"/v1/products/{args[0]}/features"}
