"""The lines that an item of a running subscription bills, and the rates on which both sides agreed for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import number
from sync_pipeline.core.conflict import About, Standing
from sync_pipeline.core.crosswalk import match_schedule, own_billing
from sync_pipeline.core.lifecycle import CHANGEABLE
from sync_pipeline.core.money import MoneyError, minor_units
from sync_pipeline.core.mrr import periods_per_year
from sync_pipeline.core.proration import counts_from
from sync_pipeline.core.rates import Interval, interval_of
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
    def loses_all(self) -> bool:
        """All its lines are about to be billed by others."""
        return bool(self.leaving) and self.is_moved

    @property
    def edited_at(self) -> int:
        """When the last of the lines was edited, microseconds UTC."""
        return max(line.modified_at or 0 for line in (*self.lines, *self.leaving))

    def about(self, line: LineItem) -> About:
        """Where a term of this item is, which `line` shows."""
        return About.of(line, opportunity_id=self.deal.opportunity.id, stripe_object=self.subscription.id)

    @property
    def held(self) -> tuple[LineItem, ...]:
        """The lines of the deal that it bills until now, by id."""
        held = (line for line in (*self.lines, *self.leaving) if line not in self.joining)
        return tuple(sorted(held, key=lambda line: line.id))

    @property
    def before(self) -> BilledItem:
        """As it is until any line joins or leaves. Lines that join where others are gone stand for those."""
        return self if self.gone else replace(self, lines=self.held, joining=(), leaving=())

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

    @property
    def all_in_period_since(self) -> int:
        """When the youngest of the running periods began, microseconds UTC: Stripe prorates from no moment before it
        (docs.stripe.com/changelog/basil/2025-07-30/support-mixed-intervals: the current period of a subscription is the
        smallest of its items)."""
        return max((item.period_start or 0 for item in self.all_items), default=0)


def ends_of_periods(items: Iterable[SubscriptionItem], interval: Interval) -> list[int]:
    """When periods of an interval end, as far as the items of the subscription tell; microseconds UTC.

    All periods are counted from one anchor, so one of them ends wherever a multiple of it does: a month with a year,
    but no year with a month (docs.stripe.com/billing/subscriptions/mixed-interval).
    """
    often = periods_per_year(*interval)
    found = []
    for item in items:
        longer = periods_per_year(item.interval, item.interval_count)
        if item.period_end is not None and often and longer and (often / longer).denominator == 1:
            found.append(item.period_end)
    return found


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
    if line.unit_price is None or line.unit_price < 0 or line.discount:
        return None
    try:
        return minor_units(line.unit_price, currency)
    except MoneyError:
        return None


def wanted_rate(line: LineItem, agreed: AgreedRate, interval: Interval, currency: str) -> AgreedRate | None:
    """What a line says: its own price and interval, for the product that was agreed on; None where it says no price."""
    price, (unit, count) = minor_price(line, currency), interval
    if price is None:
        return None
    return replace(agreed, interval=unit, interval_count=count, unit_amount=price)


def line_names(lines: Iterable[LineItem]) -> dict[str, str]:
    """An item's metadata that names its lines."""
    return {"sf_line_id": ",".join(sorted(line.id for line in lines))}


def price_standing(world: World, line: LineItem, item: SubscriptionItem) -> Standing | None:
    """What a line and the item that bills it say of its price; None where they never agreed, or say no price."""
    base, shown, price = agreed_rate(world, line), rate_of_item(item), minor_price(line, item.currency)
    if base is None or shown is None or price is None:
        return None
    wanted = replace(base, unit_amount=price)
    return Standing(rule=RATE, subject=line.id, salesforce=wanted.remembered(), stripe=shown.remembered())


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
    """None for a price of tiers or packages, which has no unit amount."""
    if item.unit_amount is None:
        return None
    return AgreedRate(item.product, item.interval, item.interval_count, item.unit_amount)
