"""The term of a deal: how long one lasts, and where the one that runs now ends. Free months come before the first."""

from __future__ import annotations

from datetime import date

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.deal import months_after, today
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.stripe_records import Subscription

DAY_US = 86_400 * 1_000_000
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


def terms_begun(subscription: Subscription, months: int, commercial: Commercial, now: int) -> int:
    """How many terms have begun, the first one included even before its start."""
    start, day = today(paid_from(subscription), commercial), today(now, commercial)
    terms = 1
    while start + relativedelta(months=months * terms) <= day:
        terms += 1
    return terms


def term_end(subscription: Subscription, months: int, commercial: Commercial, now: int) -> date:
    """The first end of a term that is still ahead; terms are counted from the start, so month ends do not drift."""
    terms = terms_begun(subscription, months, commercial, now)
    return today(paid_from(subscription), commercial) + relativedelta(months=months * terms)


def next_term_begins(subscription: Subscription, months: int, commercial: Commercial, now: int) -> int:
    """The moment (seconds UTC) at which Stripe begins the first period after the term that runs."""
    terms = terms_begun(subscription, months, commercial, now)
    return months_after(paid_from(subscription) // 1_000_000, months * terms)


def months_of_contract(subscription: Subscription, months: int, commercial: Commercial, now: int) -> int:
    """Whole months from the start of service to the end of the term that runs, free ones included."""
    start, paid = (today(each, commercial) for each in (subscription.start_at, paid_from(subscription)))
    free = relativedelta(paid, start)
    before = free.years * 12 + free.months + (free.days > DAYS_OF_HALF_A_MONTH)
    return before + months * terms_begun(subscription, months, commercial, now)
