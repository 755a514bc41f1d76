"""Which lines of a deal each item of its running subscription bills.

Lines of one rate share an item: Stripe takes no two items of one price. So an item keeps its rate as long as any line
asks for it; a line whose price was edited to that of another item joins that one, and its own ends once it bills none.
A line whose price was edited away from that of the others leaves their item; what is left over is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from sync_pipeline.core import canonical
from sync_pipeline.core.amendments import is_amendment
from sync_pipeline.core.billed_lines import lines_billed_now
from sync_pipeline.core.canon import number
from sync_pipeline.core.conflict import About, Standing
from sync_pipeline.core.conflict_inbox import ruling_on
from sync_pipeline.core.crosswalk import Match, match_schedule, match_subscription, own_billing
from sync_pipeline.core.lifecycle import CHANGEABLE, has_ended
from sync_pipeline.core.money import MoneyError, minor_units
from sync_pipeline.core.proration import counts_from, sent_from
from sync_pipeline.core.rates import OUR_PRODUCT, Interval, interval_of
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_records import Subscription, SubscriptionItem
from sync_pipeline.core.world import Deal, World

RATE = "item.unit_price"
QUANTITY = "item.quantity"


@dataclass(frozen=True, slots=True)
class BilledItem:
    """One item and the lines that it bills, by id, those included that it has to be told of (`joining`).

    `leaving` are lines that it bills until now and another item has to bill from now on; `left` are ids of those that
    it still names while another item bills them already, and `gone` of those that the deal has no longer. Its
    price `waits` while a line of it asks for a rate that another item is about to have.
    """

    deal: Deal
    subscription: Subscription
    item: SubscriptionItem
    lines: tuple[LineItem, ...]
    joining: tuple[LineItem, ...] = ()
    leaving: tuple[LineItem, ...] = ()
    left: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    waits: bool = False

    @property
    def made_by_us(self) -> bool:
        return self.subscription.intent is not None

    @property
    def is_moved(self) -> bool:
        """Other items bill all its lines, or are about to while these are `leaving`."""
        return bool(self.leaving or self.left) and not (self.lines or self.gone)

    @property
    def edited_at(self) -> int:
        """When the last of the lines was edited, microseconds UTC."""
        return max(line.modified_at or 0 for line in (*self.lines, *self.leaving))

    def about(self, line: LineItem) -> About:
        """Where a term of this item is, which `line` shows."""
        return About.of(line, opportunity_id=self.deal.opportunity.id, stripe_object=self.subscription.id)

    @property
    def held(self) -> tuple[LineItem, ...]:
        """The lines of the deal that it bills until now."""
        return tuple(line for line in (*self.lines, *self.leaving) if line not in self.joining)

    @property
    def agreed_lines(self) -> list[str]:
        """The lines whose agreed values make up what both sides last agreed on."""
        return [*(line.id for line in self.held), *self.left, *self.gone]

    @property
    def names_are_stale(self) -> bool:
        """The item does not name exactly the lines that it bills."""
        unnamed = any(line.stripe_change_key and line.id not in self.item.line_ids for line in self.lines)
        leaving = any(line.id in self.item.line_ids for line in self.leaving)
        return bool(self.joining or leaving or self.left or self.gone or unnamed)


@dataclass(frozen=True, slots=True)
class RunningDeal:
    """A won deal with its running subscription. `new` are lines on no item, `unlined` items that bill no line any more
    or are about to lose all of them to others.

    `waiting` are lines that come to it on a day that is still ahead, with the moment at which they are sent. `currency`
    is that of the deal and its prices.
    """

    deal: Deal
    subscription: Subscription
    currency: str
    items: tuple[BilledItem, ...]
    new: tuple[LineItem, ...]
    unlined: tuple[BilledItem, ...]
    waiting: tuple[tuple[LineItem, int], ...] = ()

    @property
    def is_in_one_currency(self) -> bool:
        """Whether its prices can be held against what is billed."""
        return self.currency == self.subscription.currency

    @property
    def leaving(self) -> frozenset[str]:
        """The lines whose price was edited away from that of their item."""
        return frozenset(line.id for each in (*self.items, *self.unlined) for line in each.leaving)

    @property
    def all_items(self) -> tuple[SubscriptionItem, ...]:
        return tuple(each.item for each in (*self.items, *self.unlined))

    @property
    def period_ends(self) -> tuple[int | None, ...]:
        return tuple(item.period_end for item in self.all_items)


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


def why_fixed(world: World, running: RunningDeal, what: str) -> str | None:
    """Why a term of the whole subscription cannot be set now, where it cannot; `what` of it a running schedule says."""
    billing, subscription = own_billing(world), running.subscription
    schedules = billing.schedules if billing is not None else ()
    schedule = match_schedule(running.deal.opportunity, schedules, world.links, world.org_id)
    if schedule is not None and schedule.status == "active":
        return f"{schedule.id} says {what}; edit it at Stripe"
    if subscription.status not in CHANGEABLE:
        return f"{subscription.id} is {subscription.status} and cannot be changed at Stripe now"
    return None


def priced_for(world: World, commercial: Commercial, billed: BilledItem, line: LineItem) -> Interval | None:
    """The interval that the unit price of a line is for, where it can be held against what its item bills.

    None for a price in another currency, and for one of another interval than what is billed or was agreed on: the
    price of a year is none for a month. Of a subscription that was found the deal need not say an interval.
    """
    item, agreed = billed.item, agreed_rate(world, line)
    shown = (item.interval, item.interval_count)
    known = (agreed.interval, agreed.interval_count) if agreed is not None else shown
    said = interval_of(line, billed.deal.opportunity.billing_interval, commercial)
    if item.currency != commercial.currency_of(billed.deal.opportunity.currency) or said not in (known, shown, None):
        return None
    if said is None:
        return None if billed.made_by_us else known
    return said


def billed_from(world: World, line: LineItem, period_ends: Iterable[int | None], commercial: Commercial) -> int:
    """From when an item bills a line that comes to it, microseconds UTC: one that another item billed until now moves
    at its last edit, whatever its day of service."""
    if (line.id, RATE) in world.base:
        return line.modified_at or 0
    return counts_from(line, period_ends, commercial)


def minor_price(line: LineItem, currency: str) -> Decimal | None:
    """A line's unit price in minor units; None where it says nothing that could be billed."""
    if line.unit_price is None or line.unit_price < 0:
        return None
    try:
        return minor_units(line.unit_price, currency)
    except MoneyError:
        return None


def _by_id(lines: Iterable[LineItem]) -> tuple[LineItem, ...]:
    return tuple(sorted(lines, key=lambda line: line.id))


def line_names(lines: Iterable[LineItem]) -> dict[str, str]:
    """An item's metadata that names its lines."""
    return {"sf_line_id": ",".join(sorted(line.id for line in lines))}


def _matched(
    world: World, deal: Deal, subscription: Subscription, items: Sequence[SubscriptionItem], commercial: Commercial
) -> RunningDeal:
    lines = lines_billed_now(deal, subscription, commercial, world.now)
    found = {line.id: name for line in lines if (name := _item_of(world, line, items)) is not None}
    ends = [item.period_end for item in items]
    loose, waiting = [], []
    for line in (each for each in lines if each.id not in found):
        if (line.id, QUANTITY) not in world.base and (at := sent_from(line, ends, commercial)) > world.now:
            waiting.append((line, at))
        else:
            loose.append(line)
    currency = commercial.currency_of(deal.opportunity.currency)
    wholes = []
    for item in items:
        together = [line for line in lines if found.get(line.id) == item.id]
        left = tuple(sorted(each for each in item.line_ids if found.get(each, item.id) != item.id))
        gone = tuple(sorted(set(item.line_ids) - {line.id for line in deal.lines}))
        wholes.append(BilledItem(deal, subscription, item, tuple(together), left=left, gone=gone))
    asked = {line.id: rate for line in loose if (rate := _rate_of_loose(deal, line, commercial)) is not None}
    asked |= {line.id: rate for whole in wholes for line, rate in _edited_rates(world, commercial, whole)}
    by_rate = {
        rate: whole.item.id for whole in wholes if (rate := _rate_for_others(world, whole, currency)) is not None
    }
    homes = {line: by_rate[rate] for line, rate in asked.items() if rate in by_rate}
    billed: dict[str, BilledItem] = {}
    for whole in wholes:
        staying, leaving = _by_price(world, commercial, whole, homes)
        billed[whole.item.id] = replace(whole, lines=staying, leaving=leaving)
    # Whoever asks for a rate that another item is about to have waits until it has that.
    taken: dict[AgreedRate, str] = {}
    for name, each in billed.items():
        for line in each.lines:
            if line.id in asked and line.id not in homes:
                taken.setdefault(asked[line.id], name)
    for name, each in billed.items():
        waiting_here = tuple(line for line in each.leaving if asked.get(line.id) in taken)
        waits = any(
            taken.get(asked[line.id], name) != name for line in (*each.lines, *waiting_here) if line.id in asked
        )
        lines_here = _by_id((*each.lines, *waiting_here))
        leaving = tuple(line for line in each.leaving if line not in waiting_here)
        billed[name] = replace(each, lines=lines_here, leaving=leaving, waits=waits)
    leaving_lines = [line for each in billed.values() for line in each.leaving]
    ahead = {*taken, *(asked[line.id] for line in leaving_lines if line.id in asked)}
    new = [line for line in leaving_lines if line.id not in homes]
    new += [line for line in loose if line.id not in homes and asked.get(line.id) not in ahead]
    for line in (*leaving_lines, *loose):
        if line.id in homes:
            home = billed[homes[line.id]]
            billed[home.item.id] = replace(home, lines=_by_id((*home.lines, line)), joining=(*home.joining, line))
    return RunningDeal(
        deal,
        subscription,
        currency,
        tuple(each for each in billed.values() if each.lines),
        _by_id(new),
        tuple(each for each in billed.values() if not each.lines),
        tuple(waiting),
    )


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
        agreed, price = agreed_rate(world, line), minor_price(line, billed.item.currency)
        if agreed is None or price is None or price in (agreed.unit_amount, billed.item.unit_amount):
            continue
        interval = priced_for(world, commercial, billed, line)
        if interval is not None and _is_carried(world, commercial, line, billed.item):
            unit, count = interval
            yield line, replace(agreed, interval=unit, interval_count=count, unit_amount=price)


def _rate_for_others(world: World, billed: BilledItem, currency: str) -> AgreedRate | None:
    """The rate at which an item bills whatever line asks for it; None where its own lines never agreed on that."""
    rate = rate_of_item(billed.item)
    agreed = {agreed_rate(world, line) for line in billed.lines} - {None}
    return rate if billed.item.currency == currency and (rate in agreed or not agreed) else None


def _by_price(
    world: World, commercial: Commercial, billed: BilledItem, homes: Mapping[str, str]
) -> tuple[tuple[LineItem, ...], tuple[LineItem, ...]]:
    """The lines that keep the item, and those whose price a person edited away from theirs.

    Lines whose rate another item bills go there (`homes`, by line). With what is left the item goes on at its own price
    if any line asks for that, or else at the price of those that nobody edited, or else of the first. An edit that is
    not carried by itself leaves its line where it is until a person rules on it.
    """
    item = billed.item
    lines = [line for line in billed.lines if homes.get(line.id, item.id) == item.id]
    if not lines:
        return (), billed.lines
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
    return staying, tuple(line for line in billed.lines if line not in staying)


def price_standing(world: World, line: LineItem, item: SubscriptionItem) -> Standing | None:
    """What a line and the item that bills it say of its price; None where they never agreed, or say no price."""
    base, shown, price = agreed_rate(world, line), rate_of_item(item), minor_price(line, item.currency)
    if base is None or shown is None or price is None:
        return None
    wanted = replace(base, unit_amount=price)
    return Standing(rule=RATE, subject=line.id, salesforce=wanted.remembered(), stripe=shown.remembered())


def _is_carried(world: World, commercial: Commercial, line: LineItem, item: SubscriptionItem) -> bool:
    """Whether a price that was edited in Salesforce is billed: by rule, or because a person ruled it."""
    standing = price_standing(world, line, item)
    if standing is None:
        return False
    ruling = ruling_on(world, standing)
    return ruling.side == "Salesforce" if ruling is not None else commercial.changes_after_billing == "carry"


def agreed_price(world: World, line: LineItem) -> Decimal | None:
    """The price in minor units on which both sides last agreed."""
    rate = agreed_rate(world, line)
    return rate.unit_amount if rate else None


@dataclass(frozen=True, slots=True)
class AgreedRate:
    """What an item billed when both sides last agreed on its price; the unit amount is minor units."""

    product: str
    interval: str
    interval_count: int
    unit_amount: Decimal

    def remembered(self) -> str:
        parts = [self.product, self.interval, self.interval_count, number(self.unit_amount)]
        return canonical.encode(parts)


def agreed_rate(world: World, line: LineItem) -> AgreedRate | None:
    value = world.base.get((line.id, RATE)) or world.base.get((line.stripe_change_key or "", RATE))
    return remembered_rate(value) if value is not None else None


def remembered_rate(value: str) -> AgreedRate:
    """A rate from its canonical form."""
    product, interval, count, amount = canonical.decode(value)
    return AgreedRate(product, interval, count, Decimal(amount))


def rate_of_item(item: SubscriptionItem) -> AgreedRate | None:
    """None for a tiered price, which has no unit amount."""
    if item.unit_amount is None:
        return None
    return AgreedRate(item.product, item.interval, item.interval_count, item.unit_amount)
