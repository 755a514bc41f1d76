"""A deal's terms: what an Opportunity and its lines ask Stripe to bill, or exactly what is missing.

What is sold stands in `rates.py`; here is when and how it is billed. Free months come before the term: the term is
what is paid for, and it is counted from their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import number, text
from sync_pipeline.core.discounts import (
    USE_OTHERS,
    AgreedDiscount,
    agreed_discount,
    months_faults,
    whole_number,
)
from sync_pipeline.core.money import MoneyError, exponent
from sync_pipeline.core.rates import (
    MAX_CHARGES,
    Interval,
    Rate,
    interval_of,
    is_one_time,
    is_whole_number,
    item_faults,
    line_faults,
    rate_card,
)
from sync_pipeline.core.rules import MASTER, Commercial
from sync_pipeline.core.salesforce_records import Account, LineItem, Opportunity
from sync_pipeline.core.world import Deal

COLLECTION_METHODS: dict[str, Literal["send_invoice", "charge_automatically"]] = {
    "Send Invoice": "send_invoice",
    "Charge Automatically": "charge_automatically",
}
MAX_FREE_MONTHS = 24


@dataclass(frozen=True, slots=True)
class Phase:
    """What is billed in some months of the term: from the end of month `after` to the end of month `until`."""

    after: int
    until: int
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What to bill, when and how. `starts_on` is a date in the business time zone; None means at once.

    Several phases are a ramp. `charges` are billed once, with the first invoice. `net_days` goes with send_invoice.
    """

    currency: str
    phases: tuple[Phase, ...]
    charges: tuple[Rate, ...]
    discount: AgreedDiscount | None
    starts_on: date | None
    free_months: int
    months: int
    collection: Literal["send_invoice", "charge_automatically"]
    net_days: int | None

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Everything that needs a price."""
        return (*(rate for phase in self.phases for rate in phase.rates), *self.charges)

    @property
    def digest(self) -> str:
        """Tells whether a schedule that has not begun still says what the deal says."""
        return canonical.sha256(self)[:16]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Why the deal cannot be billed yet, one plain sentence per fault."""

    missing: tuple[str, ...]


def is_billable(deal: Deal, commercial: Commercial) -> bool:
    """A won deal since go-live, of a record type that deals have.

    Older ones are left to whoever billed them before, and Opportunities of other record types to people.
    """
    opportunity = deal.opportunity
    if not opportunity.is_won or not _is_of_a_deal(opportunity.record_type or MASTER, commercial):
        return False
    return commercial.go_live is None or (opportunity.close_date or "") >= commercial.go_live


def _is_of_a_deal(record_type: str, commercial: Commercial) -> bool:
    of_deals = commercial.deal_record_types
    return not of_deals or record_type in of_deals | commercial.amendment_record_types


def today(now: int, commercial: Commercial) -> date:
    """The business day of a moment (microseconds UTC)."""
    return datetime.fromtimestamp(now // 1_000_000, UTC).astimezone(ZoneInfo(commercial.time_zone)).date()


def midnight(day: date, commercial: Commercial) -> int:
    """The start of a business day, in seconds UTC."""
    return int(datetime.combine(day, time(), ZoneInfo(commercial.time_zone)).timestamp())


def months_after(moment: int, months: int) -> int:
    """Seconds UTC some months later, as Stripe counts periods: same day and time in UTC, or the month's last day."""
    return int((datetime.fromtimestamp(moment, UTC) + relativedelta(months=months)).timestamp())


def terms(
    deal: Deal, account: Account, commercial: Commercial, now: int, *, is_new: bool = False
) -> Terms | Incomplete:
    """The deal's terms, or everything that keeps it from being billed.

    `is_new`: its billing has not begun, so that every line is billed from the start, and none counts from now.
    """
    opportunity = deal.opportunity
    missing: list[str] = []
    if not has_usable_name(account, commercial):
        missing.append("the Account has no usable name")
    if not deal.lines:
        missing.append("there are no line items")
    currency = commercial.currency_of(opportunity.currency)
    try:
        exponent(currency)
    except MoneyError as error:
        missing.append(str(error))
    starts_on = _start(opportunity, missing)
    free = whole_number(opportunity.free_months, "free months", missing, at_most=MAX_FREE_MONTHS) or 0
    day = today(now, commercial)
    months = _term(opportunity, commercial, starts_on, free, day, missing)
    paid_from = (starts_on or day) + relativedelta(months=free)
    missing.extend(_interval_faults(deal, commercial, months))
    for line in sorted(deal.lines, key=lambda each: each.id):
        name = line.called
        takes_back = line.amends_line_id or line.stripe_change_key
        sold = replace(line, quantity=abs(line.quantity)) if takes_back and line.quantity else line
        of_line = [*line_faults(sold, currency, commercial), *_month_faults(line, months)]
        if months is not None and not of_line and not takes_back and not is_one_time(line, commercial):
            of_line += _day_faults(line, months, paid_from, paid_from if is_new else day)
        missing.extend(f"line {name}: {fault}" for fault in of_line)
    method, net_days = collection(opportunity, commercial, missing)
    discount = agreed_discount(opportunity, currency, missing) if not missing else None
    if missing or months is None:
        return Incomplete(tuple(missing))
    agreed = Terms(
        currency=currency,
        phases=phases_of(deal, commercial, currency, months),
        charges=rate_card([(line, None) for line in deal.lines if is_one_time(line, commercial)], currency),
        discount=discount,
        starts_on=starts_on,
        free_months=free,
        months=months,
        collection=method,
        net_days=net_days,
    )
    faults = tuple(dict.fromkeys(_faults_together(agreed, day)))
    return Incomplete(faults) if faults else agreed


def _start(opportunity: Opportunity, missing: list[str]) -> date | None:
    try:
        return date.fromisoformat(opportunity.service_start_date) if opportunity.service_start_date else None
    except ValueError:
        missing.append(f"the service start date {opportunity.service_start_date!r} is not a date")
        return None


def _term(
    opportunity: Opportunity, commercial: Commercial, starts_on: date | None, free: int, day: date, missing: list[str]
) -> int | None:
    """The term in whole months, when there is one that is not over yet."""
    term = opportunity.term_months
    if term is None:
        missing.append("the term in months is empty")
        return None
    if term <= 0 or term % 1:
        missing.append(f"the term is {number(term)} months")
        return None
    months = int(term)
    if starts_on is not None and starts_on + relativedelta(months=months + free) <= day:
        missing.append(f"the term of {months} months from {starts_on.isoformat()} is already over")
    return months


def _interval_faults(deal: Deal, commercial: Commercial, months: int | None) -> Iterator[str]:
    """The deal's interval is needed where a line has none of its own; the term is whole intervals of each line."""
    said = text(deal.opportunity.billing_interval)
    recurring = [line for line in deal.lines if not is_one_time(line, commercial)]
    known = ", ".join(commercial.intervals)
    if said is None and (not deal.lines or any(not text(line.billing_interval) for line in recurring)):
        yield f"the billing interval is empty (known: {known})"
    elif said is not None and said not in commercial.intervals:
        yield f"the billing interval is {said!r} (known: {known})"
    if deal.lines and not recurring:
        yield "all its lines are one-time charges; a subscription needs a recurring one"
    intervals = {interval_of(line, said, commercial) for line in recurring or deal.lines}
    if months is not None and any(each is not None and not is_whole_number(months, each) for each in intervals):
        yield f"the term of {months} months is no whole number of billing intervals"


def _month_faults(line: LineItem, months: int | None) -> Iterator[str]:
    """What is wrong with the months of the term in which a line is billed (a ramp)."""
    first, last = line.from_month, line.to_month
    for name, value in (("first", first), ("last", last)):
        if value is not None and (value < 1 or value % 1 or (months is not None and value > months)):
            yield f"its {name} month is {number(value)}, not a month of the term"
    if first is not None and last is not None and first > last:
        yield f"its first month is {number(first)}, its last is {number(last)}"


def _day_faults(line: LineItem, months: int, paid_from: date, added: date) -> Iterator[str]:
    """What is wrong with the day of a recurring line: it is billed from its first month, not before it was `added`.

    Many orgs give every line the day on which service starts: one that has begun by then says nothing of its own.
    """
    billed_from = max(paid_from + relativedelta(months=line_months(line, months)[0]), added).isoformat()
    if line.service_date and line.service_date > billed_from:
        yield (
            f"it begins on {line.service_date}, but would be billed from {billed_from}; "
            "give it From_Month__c, give the deal its Service_Start_Date__c, or add the line as an amendment"
        )


def collection(
    opportunity: Opportunity, commercial: Commercial, missing: list[str]
) -> tuple[Literal["send_invoice", "charge_automatically"], int | None]:
    """How the deal is collected, and after how many days an invoice is due: as the Opportunity says, else as the rules
    do."""
    said = text(opportunity.collection_method)
    if said is not None and said not in COLLECTION_METHODS:
        missing.append(f"the collection method is {said!r} (known: {', '.join(COLLECTION_METHODS)})")
    method = COLLECTION_METHODS.get(said or "", commercial.collection_method)
    days = whole_number(opportunity.net_days, "days until payment is due", missing, at_most=365)
    if method == "charge_automatically":
        return method, None
    return method, commercial.days_until_due if days is None else days


def phases_of(deal: Deal, commercial: Commercial, currency: str, months: int) -> tuple[Phase, ...]:
    """The months of the term, cut where a line begins or ends."""
    recurring = [line for line in deal.lines if not is_one_time(line, commercial)]
    cuts = {0, months} | {after for line in recurring for after in line_months(line, months)}
    return tuple(
        Phase(
            after,
            until,
            rate_card(
                [
                    (line, interval_of(line, deal.opportunity.billing_interval, commercial))
                    for line in recurring
                    if line_months(line, months)[0] <= after and until <= line_months(line, months)[1]
                ],
                currency,
            ),
        )
        for after, until in zip(sorted(cuts), sorted(cuts)[1:], strict=False)
    )


def line_months(line: LineItem, months: int) -> tuple[int, int]:
    """The part of a term of `months` in which a line is billed, in whole months after the term's start."""
    return int(line.from_month or 1) - 1, int(line.to_month or months)


def _faults_together(agreed: Terms, day: date) -> Iterator[str]:
    """What is wrong only with all lines together."""
    intervals = {rate.interval for phase in agreed.phases for rate in phase.rates}
    for phase in agreed.phases:
        if not phase.rates:
            yield f"nothing is billed in months {phase.after + 1} to {phase.until}"
        if any(each is not None and not is_whole_number(phase.after, each) for each in intervals):
            yield f"month {phase.after + 1}, in which the ramp turns, begins within a billing interval"
        yield from item_faults(phase.rates)
        for rate in phase.rates:
            if rate.quantity < 0:
                months = f"in months {phase.after + 1} to {phase.until}"
                yield f"{-rate.quantity} more of {rate.product_name} are taken back than are sold {months}"
    if len(agreed.charges) > MAX_CHARGES:
        yield f"there are {len(agreed.charges)} one-time charges, a first invoice takes {MAX_CHARGES}"
    if agreed.discount is not None:
        yield from _discount_faults(agreed, agreed.discount, intervals, day)


def _discount_faults(
    agreed: Terms, discount: AgreedDiscount, intervals: set[Interval | None], day: date
) -> Iterator[str]:
    """Why Stripe would take the discount off other invoices than those that it is agreed for."""
    is_free = agreed.free_months > 0
    yield from months_faults(discount, intervals, is_free=is_free)
    if discount.duration == "once" and is_free:
        yield f"a discount on one invoice would be spent on that of the free months; {USE_OTHERS}"
    if discount.duration == "repeating" and len(agreed.phases) > 1:
        yield "a discount for some months cannot go over the phases of a ramp; use negotiated prices"
    if discount.duration == "repeating" and agreed.starts_on is not None and agreed.starts_on < day:
        start = agreed.starts_on.isoformat()
        yield f"a discount for some months would count from today, not from {start}; {USE_OTHERS}"


def has_usable_name(account: Account, commercial: Commercial) -> bool:
    name = (account.name or "").strip()
    return any(character.isalnum() for character in name) and name.lower() not in commercial.unusable_names


def account_currency(account: Account, commercial: Commercial) -> str:
    """The currency of the Account's figures. Raises MoneyError when it is not known."""
    currency = commercial.currency_of(account.currency)
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


def rate_of(line: LineItem, currency: str, interval: Interval | None, commercial: Commercial) -> Rate | Incomplete:
    """The rate of one of what the line sells, whatever its quantity; or why there is none.

    No interval: a one-time charge.
    """
    one = replace(line, quantity=Decimal(1))
    faults = tuple(line_faults(one, currency, commercial))
    return Incomplete(faults) if faults else rate_card([(one, interval)], currency)[0]
