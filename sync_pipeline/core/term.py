"""The term of a deal: how long one lasts, and where the one that runs now ends."""

from __future__ import annotations

from datetime import date

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.deal import today
from sync_pipeline.core.records import Opportunity, Subscription
from sync_pipeline.core.rules import Commercial


def whole_months(opportunity: Opportunity) -> int | None:
    """The length of a term; None where the deal names none that could be counted."""
    months = opportunity.term_months
    return int(months) if months is not None and months > 0 and not months % 1 else None


def terms_begun(subscription: Subscription, months: int, commercial: Commercial, now: int) -> int:
    """How many terms have begun, the first one included even before its start."""
    start, day = today(subscription.start_at, commercial), today(now, commercial)
    terms = 1
    while start + relativedelta(months=months * terms) <= day:
        terms += 1
    return terms


def term_end(subscription: Subscription, months: int, commercial: Commercial, now: int) -> date:
    """The first end of a term that is still ahead; terms are counted from the start, so month ends do not drift."""
    terms = terms_begun(subscription, months, commercial, now)
    return today(subscription.start_at, commercial) + relativedelta(months=months * terms)
