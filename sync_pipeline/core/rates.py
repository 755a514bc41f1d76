"""What a deal sells, rate by rate: its lines as prices of Stripe with quantities, and what is wrong with them.

Lines of one rate (same product, unit price and interval) share one subscription item, because Stripe refuses two
items with the same price; the item remembers all its lines. A line with a one-time charge, told by the line itself or
by its product's family, is on the first invoice only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from sync_pipeline.core.canon import number, text
from sync_pipeline.core.money import MoneyError, minor_units
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem

Interval = tuple[str, int]
"""Unit and count, as Stripe says it: ("month", 3)."""

MAX_ITEMS = 20
MAX_CHARGES = 20
MONTHS = {"month": 1, "year": 12}
DAYS = {"day": 1, "week": 7}
MAX_PRICE_DECIMALS = 12
# An item remembers its lines in one metadata value, which holds 500 characters: ids of 18 with commas between.
MAX_LINES_PER_RATE = 26
ONE_TIME, RECURRING = "One-Time", "Recurring"
OUR_PRODUCT = "sf_"
"""What the ids of the Stripe products that the sync makes begin with; that of the Salesforce product follows."""


@dataclass(frozen=True, slots=True)
class Rate:
    """One row of the negotiated rate card. `unit_amount` is minor units per unit and interval, exact.

    No interval: a one-time charge.
    """

    product_id: str
    product_name: str
    unit_amount: Decimal
    currency: str
    interval: Interval | None
    quantity: int
    line_ids: tuple[str, ...]

    @property
    def stripe_product(self) -> str:
        """The Stripe product's id, chosen by us, so that it can be created once only."""
        return f"{OUR_PRODUCT}{self.product_id}"

    @property
    def lookup_key(self) -> str:
        """The deterministic key of the reusable price: product, currency, interval, unit amount."""
        every = "once" if self.interval is None else f"{self.interval[1]}{self.interval[0]}"
        return f"{self.stripe_product}:{self.currency.lower()}:{every}:{number(self.unit_amount)}"


def is_one_time(line: LineItem, commercial: Commercial) -> bool:
    """The line's own word counts, then its product's family."""
    if charge_type := text(line.charge_type):
        return charge_type == ONE_TIME
    return line.product_family in commercial.one_time_families


def interval_of(line: LineItem, deal_interval: str | None, commercial: Commercial) -> Interval | None:
    """How often a recurring line is billed: by its own interval where it has one, else by the deal's."""
    return commercial.intervals.get(text(line.billing_interval) or deal_interval or "")


def line_faults(line: LineItem, currency: str, commercial: Commercial) -> Iterator[str]:
    """What is wrong with a line by itself."""
    if line.product_id is None:
        yield "it has no product"
    if text(line.charge_type) not in (None, ONE_TIME, RECURRING):
        yield f"the charge type is {line.charge_type!r} (known: {RECURRING}, {ONE_TIME})"
    if text(line.billing_interval) and line.billing_interval not in commercial.intervals:
        yield f"the billing interval is {line.billing_interval!r} (known: {', '.join(commercial.intervals)})"
    if line.quantity is None or line.quantity <= 0 or line.quantity % 1:
        yield f"the quantity is {number(line.quantity) or 'empty'}, not a positive whole number"
    if line.unit_price is None:
        yield "the unit price is empty"
    elif line.unit_price < 0:
        yield f"the unit price is negative ({number(line.unit_price)})"
    elif _decimals(line.unit_price, currency) > MAX_PRICE_DECIMALS:
        yield f"the unit price {number(line.unit_price)} has more decimals than Stripe keeps"
    if (fault := discount_fault(line)) is not None:
        yield fault


def discount_fault(line: LineItem) -> str | None:
    """Salesforce takes a line's own discount off its total, and so off the Amount of its deal (OpportunityLineItem in
    the Object Reference); what is billed is the unit price."""
    if not line.discount:
        return None
    said = f"it has a discount of {number(line.discount)} percent"
    return f"{said}, which is not billed: put the negotiated price into UnitPrice"


def rate_card(lines: Iterable[tuple[LineItem, Interval | None]], currency: str) -> tuple[Rate, ...]:
    """Lines without faults as rates; the interval is None for those that are charged once.

    What amendments have taken back is subtracted, and a rate of which nothing is left is none.
    """
    grouped: dict[tuple[str, Decimal, Interval | None], list[LineItem]] = {}
    for line, interval in sorted(lines, key=lambda pair: pair[0].id):
        assert line.product_id is not None
        assert line.unit_price is not None
        grouped.setdefault((line.product_id, line.unit_price.normalize(), interval), []).append(line)
    rates = (
        Rate(
            product_id=product_id,
            product_name=together[0].product_name or product_id,
            unit_amount=minor_units(price, currency),
            currency=currency,
            interval=interval,
            quantity=sum(int(line.quantity or 0) for line in together),
            line_ids=tuple(line.id for line in together),
        )
        for (product_id, price, interval), together in grouped.items()
    )
    return tuple(rate for rate in rates if rate.quantity)


def item_faults(rates: tuple[Rate, ...]) -> Iterator[str]:
    """What keeps recurring rates from being the items of one subscription."""
    if len(rates) > MAX_ITEMS:
        yield f"there are {len(rates)} different rates, a Stripe subscription holds {MAX_ITEMS}"
    if (most := max((len(rate.line_ids) for rate in rates), default=0)) > MAX_LINES_PER_RATE:
        why = f"more than {MAX_LINES_PER_RATE} cannot share a subscription item"
        yield f"{most} lines have the same product and price, {why}"
    intervals = sorted({rate.interval for rate in rates if rate.interval is not None}, key=_length)
    if intervals and not all(_fits(intervals[0], other) for other in intervals):
        told = ", ".join(f"{count} {unit}{'s' if count > 1 else ''}" for unit, count in intervals)
        yield f"a Stripe subscription cannot hold intervals of {told}: each must be a multiple of the shortest"


def is_whole_number(months: int, interval: Interval) -> bool:
    """Whether some months are whole billing intervals; days and weeks have no months."""
    unit, count = interval
    return unit not in MONTHS or months % (MONTHS[unit] * count) == 0


def _length(interval: Interval) -> int:
    """Roughly in days, to find the shortest."""
    unit, count = interval
    return count * (MONTHS[unit] * 28 if unit in MONTHS else DAYS[unit])


def _fits(shortest: Interval, other: Interval) -> bool:
    """Whether Stripe's flexible billing holds both (docs.stripe.com/billing/subscriptions/mixed-interval)."""
    for units in (MONTHS, DAYS):
        if shortest[0] in units and other[0] in units:
            return (units[other[0]] * other[1]) % (units[shortest[0]] * shortest[1]) == 0
    return False


def _decimals(price: Decimal, currency: str) -> int:
    try:
        exponent_of = minor_units(price, currency).normalize().as_tuple().exponent
    except MoneyError:
        return 0
    return max(0, -exponent_of) if isinstance(exponent_of, int) else 0
