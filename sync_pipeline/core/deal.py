"""A deal's terms: what an Opportunity and its lines ask Stripe to bill, or exactly what is missing.

Lines of one rate (same product and unit price) share one subscription item, because Stripe refuses two items
with the same price; the item remembers all its lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.canon import number
from sync_pipeline.core.money import MoneyError, exponent, minor_units
from sync_pipeline.core.records import Account, LineItem
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.world import Deal

MAX_ITEMS = 20
MONTHS = {"month": 1, "year": 12}
MAX_PRICE_DECIMALS = 12
# An item remembers its lines in one metadata value, which holds 500 characters: ids of 18 with commas between.
MAX_LINES_PER_RATE = 26


@dataclass(frozen=True, slots=True)
class Rate:
    """One row of the negotiated rate card. `unit_amount` is minor units per unit and interval, exact."""

    product_id: str
    product_name: str
    unit_amount: Decimal
    currency: str
    interval: str
    interval_count: int
    quantity: int
    line_ids: tuple[str, ...]

    @property
    def stripe_product(self) -> str:
        """The Stripe product's id, chosen by us, so that it can be created once only."""
        return f"sf_{self.product_id}"

    @property
    def lookup_key(self) -> str:
        """The deterministic key of the reusable price: product, currency, interval, unit amount."""
        every = f"{self.interval_count}{self.interval}"
        return f"{self.stripe_product}:{self.currency.lower()}:{every}:{number(self.unit_amount)}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What to bill. `starts_on` is a date in the business time zone; None means at once."""

    currency: str
    rates: tuple[Rate, ...]
    starts_on: date | None


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Why the deal cannot be billed yet, one plain sentence per fault."""

    missing: tuple[str, ...]


def is_billable(deal: Deal, commercial: Commercial) -> bool:
    """A won deal since go-live; older ones are left to whoever billed them before."""
    opportunity = deal.opportunity
    if not opportunity.is_won:
        return False
    return commercial.go_live is None or (opportunity.close_date or "") >= commercial.go_live


def today(now: int, commercial: Commercial) -> date:
    """The business day of a moment (microseconds UTC)."""
    return datetime.fromtimestamp(now // 1_000_000, UTC).astimezone(ZoneInfo(commercial.time_zone)).date()


def midnight(day: date, commercial: Commercial) -> int:
    """The start of a business day, in seconds UTC."""
    return int(datetime.combine(day, time(), ZoneInfo(commercial.time_zone)).timestamp())


def terms(deal: Deal, account: Account, commercial: Commercial, now: int) -> Terms | Incomplete:
    """The deal's terms, or everything that keeps it from being billed."""
    opportunity = deal.opportunity
    currency = (opportunity.currency or commercial.default_currency).upper()
    interval = commercial.intervals.get(opportunity.billing_interval or "")
    missing: list[str] = []
    starts_on = None
    try:
        starts_on = date.fromisoformat(opportunity.service_start_date) if opportunity.service_start_date else None
    except ValueError:
        missing.append(f"the service start date {opportunity.service_start_date!r} is not a date")
    if not has_usable_name(account, commercial):
        missing.append("the Account has no usable name")
    if opportunity.amends_opportunity_id:
        missing.append("it amends another Opportunity, which has to be applied by hand")
    if not deal.lines:
        missing.append("there are no line items")
    try:
        exponent(currency)
    except MoneyError as error:
        missing.append(str(error))
    if interval is None:
        known = ", ".join(commercial.intervals)
        said = "is empty" if not opportunity.billing_interval else f"is {opportunity.billing_interval!r}"
        missing.append(f"the billing interval {said} (known: {known})")
    if opportunity.term_months is None:
        missing.append("the term in months is empty")
    elif opportunity.term_months <= 0 or opportunity.term_months % 1:
        missing.append(f"the term is {number(opportunity.term_months)} months")
    else:
        missing.extend(_term_faults(int(opportunity.term_months), interval, starts_on, today(now, commercial)))
    if starts_on is not None and starts_on > today(now, commercial):
        missing.append(f"service starts on {starts_on.isoformat()}, billing is set up on that day")
    for line in sorted(deal.lines, key=lambda each: each.id):
        missing.extend(f"line {line.product_name or line.id}: {fault}" for fault in _faults(line, currency))
    if missing or interval is None:
        return Incomplete(tuple(missing))
    rates = _rate_card(deal.lines, currency, *interval)
    if len(rates) > MAX_ITEMS:
        return Incomplete((f"there are {len(rates)} different rates, a Stripe subscription holds {MAX_ITEMS}",))
    if (most := max(len(rate.line_ids) for rate in rates)) > MAX_LINES_PER_RATE:
        why = f"more than {MAX_LINES_PER_RATE} cannot share a subscription item"
        return Incomplete((f"{most} lines have the same product and price, {why}",))
    return Terms(currency, rates, starts_on)


def _term_faults(months: int, interval: tuple[str, int] | None, starts_on: date | None, day: date) -> Iterator[str]:
    """What is wrong with a term of whole months: it does not fit the billing interval, or it is over already."""
    if interval is not None and interval[0] in MONTHS and months % (MONTHS[interval[0]] * interval[1]):
        yield f"the term of {months} months is no whole number of billing intervals"
    if starts_on is not None and starts_on + relativedelta(months=months) <= day:
        yield f"the term of {months} months from {starts_on.isoformat()} is already over"


def has_usable_name(account: Account, commercial: Commercial) -> bool:
    name = (account.name or "").strip()
    return any(character.isalnum() for character in name) and name.lower() not in commercial.unusable_names


def account_currency(account: Account, commercial: Commercial) -> str:
    """The currency of the Account's figures. Raises MoneyError when it is not known."""
    currency = (account.currency or commercial.default_currency).upper()
    exponent(currency)
    return currency


def subscription_intent(org_id: str, opportunity_id: str) -> str:
    """The name of "one subscription for this won deal", carried in the Stripe object's metadata."""
    return f"sub:{org_id[:15]}:{opportunity_id}:1"


def customer_intent(org_id: str, slot: str) -> str:
    """The name of "one customer for this slot of the Account", carried in the Stripe object's metadata.

    The first slot is the Account's id; customers.py says what further ones are.
    """
    return f"cus:{org_id[:15]}:{slot}"


def rate_of(line: LineItem, currency: str, interval: tuple[str, int]) -> Rate | Incomplete:
    """The rate that one line asks for, whatever its quantity; or why there is none."""
    faults = _faults(replace(line, quantity=Decimal(1)), currency)
    return Incomplete(tuple(faults)) if faults else _rate_card((line,), currency, *interval)[0]


def _faults(line: LineItem, currency: str) -> list[str]:
    faults = []
    if line.product_id is None:
        faults.append("it has no product")
    if line.quantity is None or line.quantity <= 0 or line.quantity % 1:
        faults.append(f"the quantity is {number(line.quantity) or 'empty'}, not a positive whole number")
    if line.unit_price is None:
        faults.append("the unit price is empty")
    elif line.unit_price < 0:
        faults.append(f"the unit price is negative ({number(line.unit_price)})")
    elif _decimals(line.unit_price, currency) > MAX_PRICE_DECIMALS:
        faults.append(f"the unit price {number(line.unit_price)} has more decimals than Stripe keeps")
    return faults


def _decimals(price: Decimal, currency: str) -> int:
    try:
        exponent_of = minor_units(price, currency).normalize().as_tuple().exponent
    except MoneyError:
        return 0
    return max(0, -exponent_of) if isinstance(exponent_of, int) else 0


def _rate_card(lines: tuple[LineItem, ...], currency: str, interval: str, count: int) -> tuple[Rate, ...]:
    grouped: dict[tuple[str, Decimal], list[LineItem]] = {}
    for line in sorted(lines, key=lambda each: each.id):
        assert line.product_id is not None
        assert line.unit_price is not None
        grouped.setdefault((line.product_id, line.unit_price.normalize()), []).append(line)
    return tuple(
        Rate(
            product_id=product_id,
            product_name=together[0].product_name or product_id,
            unit_amount=minor_units(price, currency),
            currency=currency,
            interval=interval,
            interval_count=count,
            quantity=sum(int(line.quantity or 0) for line in together),
            line_ids=tuple(line.id for line in together),
        )
        for (product_id, price), together in grouped.items()
    )
