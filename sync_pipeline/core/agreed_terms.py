"""Where a billed deal and its subscription say different things that this version does not carry over by itself.

Prices, added and removed lines, a deal that is no longer won, an Opportunity that is gone: each is told to a
person and nothing is changed, because money follows from it. While one is open the two systems do not agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Review
from sync_pipeline.core.crosswalk import Match, match_item, match_subscription, own_billing
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.money import MoneyError, minor_units
from sync_pipeline.core.records import LineItem, Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing, Deal, World


def unapplied_changes(world: World) -> Iterator[Review]:
    """One review per difference, for every running subscription of a deal."""
    billing = own_billing(world)
    if billing is None:
        return
    running = {s.id: s for s in billing.subscriptions if not has_ended(s)}
    known = {deal.opportunity.id for deal in world.deals}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if isinstance(found, Match) and found.id in running:
            yield from _of_one_deal(world, billing, deal, running[found.id])
    for link in sorted(world.links, key=lambda each: each.external_id):
        if link.kind == "subscription" and link.external_id in running and link.subject not in known:
            detail = f"the Opportunity is gone from Salesforce, but {link.external_id} goes on billing it"
            yield _review(world, "billed_deal_gone", link.subject, detail)


def _of_one_deal(world: World, billing: Billing, deal: Deal, subscription: Subscription) -> Iterator[Review]:
    if not deal.opportunity.is_won:
        detail = f"it is not won any more, but {subscription.id} goes on billing it; cancel that, or win it again"
        yield _review(world, "billed_deal_not_won", deal.opportunity.id, detail)
    items = {item.id: item for item in billing.items if item.subscription == subscription.id}
    billed = set()
    for line in sorted(deal.lines, key=lambda each: each.id):
        found = match_item(line, items.values(), subscription.id)
        name = line.product_name or line.id
        if found is None:
            detail = f"line {name} is on no item of {subscription.id}; add it there, or take it off the deal"
            yield _review(world, "line_not_billed", line.id, detail)
            continue
        billed.add(found.id)
        if not _same_price(line, items[found.id]):
            shown = number(items[found.id].unit_amount)
            detail = f"line {name} says {number(line.unit_price)}, Stripe bills {shown} minor units; make them equal"
            yield _review(world, "price_differs", line.id, detail)
    for item_id in sorted(items.keys() - billed):
        item = items[item_id]
        detail = f"Stripe bills {item.quantity} of {item.product} ({item_id}), which is on no line of the deal"
        yield _review(world, "item_on_no_line", deal.opportunity.id, detail, item_id)


def _same_price(line: LineItem, item: SubscriptionItem) -> bool:
    if line.unit_price is None or item.unit_amount is None:
        return False
    try:
        return minor_units(line.unit_price, item.currency) == item.unit_amount
    except MoneyError:
        return False


def _review(world: World, rule: str, subject: str, detail: str, key: str = "") -> Review:
    return Review(f"{rule}:{key or subject}", world.account_id, rule, subject, detail)
