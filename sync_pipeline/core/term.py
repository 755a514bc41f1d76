"""The term of a deal: how long one lasts, and where the one that runs now ends. Free months come before the first.

A term ends when the last of its periods does, so it is counted as Stripe counts periods: months in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import count

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.deal import months_after, today
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.units import DAY_US, MICROS

DAYS_OF_HALF_A_MONTH = 15


def whole_months(opportunity: Opportunity) -> int | None:
    """The length of a term; None where the deal names none that could be counted."""
    months = opportunity.term_months
    return int(months) if months is not None and months > 0 and not months % 1 else None


def paid_from(subscription: Subscription) -> int:
    """When what is paid for begins (microseconds UTC): after the trial, where it began with one. A trial that was given
    to a subscription later moves nothing."""
    trial, start = subscription.trial_start_at, subscription.start_at
    began_with_it = trial is not None and trial <= start + DAY_US
    return max(start, subscription.trial_end_at or start) if began_with_it else start


@dataclass(frozen=True, slots=True)
class Term:
    """A term by its end: the `months` of paid service until then, the moment (microseconds UTC) and its business day.

    Stripe counts the months in UTC. Where service begins at midnight east of it, that is the day before, and some
    months later the day on which Stripe ends the term is not the one to which a calendar on the wall comes. That one is
    the term's `name`: records are keyed by it, and people enter it.
    """

    months: int
    ends_at: int
    day: date
    name: date


def running_term(subscription: Subscription, months: int, commercial: Commercial, now: int) -> Term:
    """The term that has not ended yet; the first one also before its start."""
    return next(term for term in _terms(subscription, months, commercial) if term.ends_at > now)


def term_of_day(subscription: Subscription, months: int, commercial: Commercial, day: date) -> Term:
    """The term at whose end counts what is agreed on for that day at the earliest. A day on which a term ends is the
    end of that term, not the start of the next one."""
    return next(term for term in _terms(subscription, months, commercial) if term.day >= day or term.name == day)


def term_of_name(subscription: Subscription, name: date, commercial: Commercial) -> Term:
    """The term of a name that it was given, whatever the length of a term is by now."""
    start = today(paid_from(subscription), commercial)
    return _until(subscription, (name.year - start.year) * 12 + name.month - start.month, commercial)


def _terms(subscription: Subscription, months: int, commercial: Commercial) -> Iterator[Term]:
    """All terms from the first one on; each is counted from the start, so month ends do not drift."""
    return (_until(subscription, months * number, commercial) for number in count(1))


def _until(subscription: Subscription, months: int, commercial: Commercial) -> Term:
    start = paid_from(subscription)
    ends_at = months_after(start // MICROS, months) * MICROS
    name = today(start, commercial) + relativedelta(months=months)
    return Term(months, ends_at, today(ends_at, commercial), name)


def months_of_contract(subscription: Subscription, months: int, commercial: Commercial, now: int) -> int:
    """Whole months from the start of service to the end of the term that runs, free ones included."""
    start, paid = (today(each, commercial) for each in (subscription.start_at, paid_from(subscription)))
    free = relativedelta(paid, start)
    before = free.years * 12 + free.months + (free.days > DAYS_OF_HALF_A_MONTH)
    return before + running_term(subscription, months, commercial, now).months
