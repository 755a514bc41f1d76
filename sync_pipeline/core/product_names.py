"""What people call the products that are billed: as Salesforce sells them, or as Stripe calls what no line sells.

Of those Stripe's name is looked up only where a person is told of them.
"""

from __future__ import annotations

from sync_pipeline.core.billed_items import agreed_rate
from sync_pipeline.core.rates import OUR_PRODUCT
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.world import World


def product_name(world: World, product: str) -> str:
    """The name of a Stripe product; its id where it has none that was read."""
    return _of_salesforce(world).get(product) or world.product_names.get(product) or product


def told_products(world: World, commercial: Commercial) -> frozenset[str]:
    """The products of items that bill no line, or something else than their lines sell, if Salesforce has no name."""
    found = set()
    for running in running_deals(world, commercial):
        found |= {billed.item.product for billed in running.unlined}
        for billed in running.items:
            agreed = {rate.product for line in billed.lines if (rate := agreed_rate(world, line)) is not None}
            found |= {billed.item.product} - agreed if agreed else set()
    return frozenset(found - _of_salesforce(world).keys())


def _of_salesforce(world: World) -> dict[str, str]:
    lines = sorted((line for deal in world.deals for line in deal.lines), key=lambda line: line.id)
    sold = {f"{OUR_PRODUCT}{line.product_id}": line.product_name for line in lines}
    listed = {f"{OUR_PRODUCT}{each.product_id}": each.product_name for each in world.listed}
    return {product: name for product, name in (listed | sold).items() if name}
