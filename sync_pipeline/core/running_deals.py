"""Every won deal whose subscription runs, with what each of its items bills.

Lines of one rate share an item: Stripe takes no two items of one price. So an item keeps its rate as long as any line
asks for it; a line whose price was edited to that of another item joins that one, and its own ends once it bills none.
A line whose price was edited away from that of the others leaves their item; what is left over is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sync_pipeline.core.amendments import is_amendment
from sync_pipeline.core.billed_items import (
    QUANTITY,
    AgreedRate,
    BilledItem,
    RunningDeal,
    agreed_price,
    agreed_rate,
    ends_of_periods,
    minor_price,
    price_standing,
    priced_for,
    rate_of_item,
    wanted_rate,
)
from sync_pipeline.core.billed_lines import lines_billed_now
from sync_pipeline.core.conflict_inbox import ruling_on
from sync_pipeline.core.crosswalk import Match, match_subscription, own_billing
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.proration import sent_from
from sync_pipeline.core.rates import OUR_PRODUCT, interval_of
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_records import Subscription, SubscriptionItem
from sync_pipeline.core.world import Deal, World


def running_deals(world: World, commercial: Commercial) -> Iterator[RunningDeal]:
    """Every won deal whose subscription runs, by id."""
    billing = own_billing(world)
    if billing is None:
        return
    running = {s.id: s for s in billing.subscriptions if not has_ended(s)}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if is_amendment(world, deal, commercial) or not deal.opportunity.is_won:
            continue
        if isinstance(found, Match) and found.id in running:
            items = [item for item in billing.items if item.subscription == found.id]
            yield _matched(world, deal, running[found.id], sorted(items, key=lambda item: item.id), commercial)


def _matched(
    world: World, deal: Deal, subscription: Subscription, items: Sequence[SubscriptionItem], commercial: Commercial
) -> RunningDeal:
    lines = lines_billed_now(deal, subscription, commercial, world.now)
    found = {line.id: name for line in lines if (name := _item_of(world, line, items)) is not None}
    loose, waiting = [], []
    for line in (each for each in lines if each.id not in found):
        interval = interval_of(line, deal.opportunity.billing_interval, commercial)
        ends = ends_of_periods(items, interval) if interval is not None else ()
        if (line.id, QUANTITY) not in world.base and (at := sent_from(line, ends, commercial)) > world.now:
            waiting.append((line, at))
        else:
            loose.append(line)
    currency = commercial.currency_of(deal.opportunity.currency)
    wholes = [_found_on(deal, subscription, item, lines, found) for item in items]
    asked = {line.id: rate for line in loose if (rate := _rate_of_loose(deal, line, commercial)) is not None}
    asked |= {line.id: rate for whole in wholes for line, rate in _edited_rates(world, commercial, whole)}
    by_rate = {rate: each.item.id for each in wholes if (rate := _rate_for_others(world, each, currency)) is not None}
    homes = {line: by_rate[rate] for line, rate in asked.items() if rate in by_rate}
    unbilled = {line: rate for line, rate in asked.items() if line not in homes}
    parted = _in_turn([_by_price(world, commercial, whole, homes) for whole in wholes], unbilled)
    leaving = [line for each in parted for line in each.leaving]
    coming = [line for line in (*leaving, *loose) if line.id in homes]
    ahead = {unbilled[line.id] for each in parted for line in (*each.lines, *each.leaving) if line.id in unbilled}
    new = [line for line in leaving if line.id not in homes]
    new += [line for line in loose if line.id not in homes and unbilled.get(line.id) not in ahead]
    billed = [_joined(each, [line for line in coming if homes[line.id] == each.item.id]) for each in parted]
    return RunningDeal(
        deal,
        subscription,
        currency,
        tuple(each for each in billed if each.lines),
        _by_id(new),
        tuple(each for each in billed if not each.lines),
        tuple(waiting),
    )


def _found_on(
    deal: Deal,
    subscription: Subscription,
    item: SubscriptionItem,
    lines: Iterable[LineItem],
    found: Mapping[str, str],
) -> BilledItem:
    """An item with the lines that were found on it, by id."""
    together = tuple(line for line in lines if found.get(line.id) == item.id)
    left = tuple(sorted(each for each in item.line_ids if found.get(each, item.id) != item.id))
    gone = tuple(sorted(set(item.line_ids) - {line.id for line in deal.lines}))
    return BilledItem(deal, subscription, item, together, left=left, gone=gone)


def _in_turn(parted: Sequence[BilledItem], unbilled: Mapping[str, AgreedRate]) -> list[BilledItem]:
    """Whoever asks for a rate that another item is about to have waits until it has that. `unbilled` are the rates, by
    line, that no item has yet."""
    taken: dict[AgreedRate, str] = {}
    for each in parted:
        for line in each.lines:
            if line.id in unbilled:
                taken.setdefault(unbilled[line.id], each.item.id)
    return [_waiting(each, unbilled, taken) for each in parted]


def _waiting(billed: BilledItem, unbilled: Mapping[str, AgreedRate], taken: Mapping[AgreedRate, str]) -> BilledItem:
    back = [line for line in billed.leaving if unbilled.get(line.id) in taken]
    lines = _by_id((*billed.lines, *back))
    others = {taken[unbilled[line.id]] for line in lines if line.id in unbilled} - {billed.item.id}
    leaving = tuple(line for line in billed.leaving if line not in back)
    return replace(billed, lines=lines, leaving=leaving, waits=bool(others))


def _joined(billed: BilledItem, joining: Sequence[LineItem]) -> BilledItem:
    return replace(billed, lines=_by_id((*billed.lines, *joining)), joining=_by_id(joining))


def _item_of(world: World, line: LineItem, items: Sequence[SubscriptionItem]) -> str | None:
    """The item that bills a line: that which names it, or else which the line names.

    A line that moves is named by two items while only one of both writes has been made: then it is the one at the rate
    that was agreed on last. And by none while only the other has been made: then its own field is out of date, where
    that names an item of other lines at another rate.
    """
    agreed = agreed_rate(world, line)
    naming = [item for item in items if line.id in item.line_ids]
    if naming:
        return next((item.id for item in naming if rate_of_item(item) == agreed), naming[0].id)
    return next(
        (
            item.id
            for item in items
            if item.id == line.stripe_item_id and (not item.line_ids or agreed in (None, rate_of_item(item)))
        ),
        None,
    )


def _rate_of_loose(deal: Deal, line: LineItem, commercial: Commercial) -> AgreedRate | None:
    """The rate that a line on no item asks for."""
    interval = interval_of(line, deal.opportunity.billing_interval, commercial)
    price = minor_price(line, commercial.currency_of(deal.opportunity.currency))
    if interval is None or price is None:
        return None
    return AgreedRate(f"{OUR_PRODUCT}{line.product_id}", *interval, price)


def _edited_rates(world: World, commercial: Commercial, billed: BilledItem) -> Iterator[tuple[LineItem, AgreedRate]]:
    """The lines whose price a person edited to another than that of their item, where that is to be billed."""
    for line in billed.lines:
        agreed, interval = agreed_rate(world, line), priced_for(world, commercial, billed, line)
        if agreed is None or interval is None:
            continue
        wanted = wanted_rate(line, agreed, interval, billed.item.currency)
        if wanted is None or wanted.unit_amount in (agreed.unit_amount, billed.item.unit_amount):
            continue
        if _is_carried(world, commercial, line, billed.item):
            yield line, wanted


def _rate_for_others(world: World, billed: BilledItem, currency: str) -> AgreedRate | None:
    """The rate at which an item bills whatever line asks for it; None where its own lines never agreed on that."""
    rate = rate_of_item(billed.item)
    agreed = {agreed_rate(world, line) for line in billed.lines} - {None}
    return rate if billed.item.currency == currency and (rate in agreed or not agreed) else None


def _by_price(world: World, commercial: Commercial, billed: BilledItem, homes: Mapping[str, str]) -> BilledItem:
    """The item with the lines that keep it; those leave whose price a person edited away from theirs.

    Lines whose rate another item bills go there (`homes`, by line). With what is left the item goes on at its own price
    if any line asks for that, or else at the price of those that nobody edited, or else of the first. An edit that is
    not carried by itself leaves its line where it is until a person rules on it.
    """
    item = billed.item
    lines = [line for line in billed.lines if homes.get(line.id, item.id) == item.id]
    if not lines:
        return replace(billed, lines=(), leaving=billed.lines)
    prices = {line.id: minor_price(line, item.currency) for line in lines}
    apart = {line.id for line in lines if priced_for(world, commercial, billed, line) is None}
    unmoved = [line.id for line in lines if agreed_price(world, line) == prices[line.id] or line.id in apart]
    first = unmoved[0] if unmoved else lines[0].id
    keeps = item.unit_amount in prices.values() or item.id in homes.values()
    kept = item.unit_amount if keeps else prices[first]
    staying = tuple(
        line
        for line in lines
        if prices[line.id] == kept or line.id in unmoved or not _is_carried(world, commercial, line, item)
    )
    return replace(billed, lines=staying, leaving=tuple(line for line in billed.lines if line not in staying))


def _is_carried(world: World, commercial: Commercial, line: LineItem, item: SubscriptionItem) -> bool:
    """Whether a price that was edited in Salesforce is billed: by rule, or because a person ruled it."""
    standing = price_standing(world, line, item)
    if standing is None:
        return False
    ruling = ruling_on(world, standing)
    return ruling.side == "Salesforce" if ruling is not None else commercial.changes_after_billing == "carry"


def _by_id(lines: Iterable[LineItem]) -> tuple[LineItem, ...]:
    return tuple(sorted(lines, key=lambda line: line.id))
