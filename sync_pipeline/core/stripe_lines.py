"""Lines that a deal gets because of what somebody did at Stripe, where the rules accept it: products that were added,
removed, or exchanged for another product or interval.

A product that Stripe bills becomes a line, once: the line's key names its item. What Stripe does not bill any more is
taken back by a line of the same rate with the opposite quantity, as amendments do it: Salesforce has no quantity of
zero, and deleting a line would delete what was sold. An exchange is both, one after the other, so that no moment shows
the new line without the old one taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from sync_pipeline.core import writing
from sync_pipeline.core.billed_items import QUANTITY, RATE, BilledItem, RunningDeal, rate_of_item
from sync_pipeline.core.billed_lines import TAKES_BACK, taken_back
from sync_pipeline.core.canon import text
from sync_pipeline.core.commands import Agreement, Command
from sync_pipeline.core.money import exponent
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.product_names import product_name
from sync_pipeline.core.rates import OUR_PRODUCT, RECURRING
from sync_pipeline.core.rules import Commercial, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.salesforce_ids import record_id
from sync_pipeline.core.salesforce_records import LineItem, PriceBookEntry
from sync_pipeline.core.seats import agreed_quantities
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.world import Deal, World

ITEMS = "subscription.items"
"""The rule of what items a subscription has."""


def products_to_look_up(world: World, commercial: Commercial) -> frozenset[str]:
    """The Salesforce products that running subscriptions bill and no line of their deal sells."""
    found = set()
    for running in running_deals(world, commercial):
        sold = {line.product_id for line in running.deal.lines}
        billed = {product for item in running.all_items if (product := product_of(item)) is not None}
        found |= billed - sold
    return frozenset(found)


def product_of(item: SubscriptionItem) -> str | None:
    """The Salesforce product that an item bills; None for a Stripe product that is none of ours."""
    ours = item.product.startswith(OUR_PRODUCT)
    return record_id(item.product.removeprefix(OUR_PRODUCT)) if ours else None


def was_taken_off(world: World, deal: Deal, item: SubscriptionItem) -> bool:
    """An item that bills no line did bill one, which somebody took off the deal."""
    if set(item.line_ids) - taken_back(deal.lines):
        return True
    return (_key(deal, item), QUANTITY) in world.base


def is_exchanged(deal: Deal, item: SubscriptionItem) -> bool:
    """What an item billed before was taken back on the deal: what it bills now has to follow."""
    settled = taken_back(deal.lines)
    named = {line.id for line in deal.lines if line.stripe_item_id == item.id} | set(item.line_ids)
    return bool(named & settled)


def why_no_exchange(
    world: World, rules: Rules, billed: RunningDeal | BilledItem, lines: Sequence[LineItem], item: SubscriptionItem
) -> str | None:
    """Why the deal cannot follow an item that bills something else than its lines; None where it can."""
    both = (lines_taken_back(world, rules, billed, lines, ""), line_of_added(world, rules, billed, item))
    return next((why for why in both if isinstance(why, str)), None)


def line_of_added(
    world: World, rules: Rules, billed: RunningDeal | BilledItem, item: SubscriptionItem
) -> Command | str:
    """What makes an item that bills no line a line of the deal; or why it cannot be one."""
    deal = billed.deal
    commercial, opportunity = rules.commercial, deal.opportunity
    entry, shown = _entry(world, commercial, deal, item), rate_of_item(item)
    every = (item.interval, item.interval_count)
    interval = next((word for word, each in commercial.intervals.items() if each == every), None)
    if (why := _why_by_hand(world, billed)) is not None:
        return why
    if isinstance(entry, str):
        return entry
    if shown is None or shown.unit_amount % 1 or not item.quantity:
        return "a line cannot say its quantity and price"
    if interval is None:
        return f"the rules have no word for {item.interval_count} {item.interval}"
    made = writing.create(
        world,
        rules,
        "line",
        _key(deal, item),
        {
            "opportunity_id": opportunity.id,
            "pricebook_entry_id": entry.id,
            "quantity": Decimal(item.quantity),
            "unit_price": shown.unit_amount.scaleb(-exponent(item.currency)),
            "billing_interval": None if interval == text(opportunity.billing_interval) else interval,
            "charge_type": RECURRING if entry.product_family in commercial.one_time_families else None,
            "stripe_item_id": item.id,
        },
        key_field="stripe_change_key",
        intent=f"item:{_key(deal, item)}",
        subject=opportunity.id,
        rule=ITEMS,
        reason="it was added at Stripe",
    )
    # The line has no id yet: until both sides agreed once more, what was agreed stands under its key.
    rate = Agreement(_key(deal, item), RATE, shown.remembered())
    return replace(made, agreements=(*agreed_quantities([(_key(deal, item), item.quantity)]), rate))


def lines_taken_back(
    world: World, rules: Rules, billed: RunningDeal | BilledItem, lines: Sequence[LineItem], why: str
) -> list[Command] | str:
    """What takes lines back that Stripe does not bill any more; or why that cannot be."""
    if (by_hand := _why_by_hand(world, billed)) is not None:
        return by_hand
    keys = {line.stripe_change_key for line in billed.deal.lines}
    for line in lines:
        if line.pricebook_entry_id is None or not line.quantity:
            return "it has no price book entry or no quantity"
        if f"{TAKES_BACK}{line.id}" in keys:
            return "it was taken back before, and its lines were edited since"
    return [_taken_back(world, rules, line, why) for line in lines]


def _taken_back(world: World, rules: Rules, line: LineItem, why: str) -> Command:
    key = f"{TAKES_BACK}{line.id}"
    made = writing.create(
        world,
        rules,
        "line",
        key,
        {
            "opportunity_id": line.opportunity_id,
            "pricebook_entry_id": line.pricebook_entry_id,
            "quantity": -(line.quantity or Decimal(0)),
            "unit_price": line.unit_price,
            "service_date": line.service_date,
            "billing_interval": text(line.billing_interval),
            "charge_type": text(line.charge_type),
        },
        key_field="stripe_change_key",
        intent=f"item:{key}",
        subject=line.opportunity_id,
        rule=ITEMS,
        reason=why,
    )
    return replace(made, agreements=agreed_quantities([(line.id, 0)]))


def _why_by_hand(world: World, billed: RunningDeal | BilledItem) -> str | None:
    """Why a person has to bring the lines of a deal up to date, whatever was changed at Stripe."""
    deal, subscription = billed.deal, billed.subscription
    if subscription.intent is None:
        return f"{subscription.id} was not made by the sync"
    if any(line.from_month is not None or line.to_month is not None for line in deal.lines):
        return "the deal is a ramp, of which later phases would not know"
    of_deal = opportunity_of(deal.opportunity.id)
    in_parts = sum(opportunity_of(each.opportunity.id) == of_deal for each in world.deals) > 1
    return "the deal is billed in parts" if in_parts else None


def _key(deal: Deal, item: SubscriptionItem) -> str:
    """The key of the next line that an item becomes: it becomes another one each time its product is exchanged."""
    keys = (line.stripe_change_key or "" for line in deal.lines)
    before = [int(key.rpartition(":")[2]) for key in keys if key.startswith(f"{item.id}:")]
    return f"{item.id}:{max(before, default=0) + 1}"


def _entry(world: World, commercial: Commercial, deal: Deal, item: SubscriptionItem) -> PriceBookEntry | str:
    """What lists an item's product in the price book of the deal."""
    opportunity, product = deal.opportunity, product_of(item)
    currency = commercial.currency_of(opportunity.currency)
    if currency != item.currency:
        return f"the deal is in {currency}"
    if product is None:
        return f"{product_name(world, item.product)} is no product of Salesforce"
    for line in sorted(deal.lines, key=lambda each: each.id):
        if line.product_id == product and line.pricebook_entry_id is not None:
            return PriceBookEntry(id=line.pricebook_entry_id, product_id=product, product_family=line.product_family)
    for entry in sorted(world.listed, key=lambda each: each.id):
        in_currency = commercial.currency_of(entry.currency) == currency
        if entry.product_id == product and entry.pricebook_id == opportunity.pricebook_id and in_currency:
            return entry
    return f"the price book of the deal has no active entry of Product2 {product} in {currency}"
