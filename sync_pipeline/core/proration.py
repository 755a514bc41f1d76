"""From when a change of a running subscription is billed, and when it is sent.

What is billed from is frozen, so that a retry bills the same pennies. A change that counts from the day on which the
paid period ends is one of the renewal: it is sent a little before, unprorated, so that the renewal's invoice has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from sync_pipeline.core.deal import midnight, today
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.units import MICROS


def moment_of(day: date, period_ends: Iterable[int | None], commercial: Commercial) -> int:
    """The end of the paid period that ends on that day, else the start of the day; microseconds UTC."""
    return max(_ends_on(day, period_ends, commercial), default=midnight(day, commercial) * MICROS)


def counts_from(line: LineItem, period_ends: Iterable[int | None], commercial: Commercial) -> int:
    """From when a line that was added counts: its day of service, or else the moment of its last edit."""
    day = _day_of(line)
    return line.modified_at or 0 if day is None else moment_of(day, period_ends, commercial)


def sent_from(line: LineItem, period_ends: Iterable[int | None], commercial: Commercial) -> int:
    """From when a line that was added may be sent to Stripe; 0 for one without a day of service."""
    day, ends = _day_of(line), list(period_ends)
    if day is None:
        return 0
    lead = commercial.renewal_lead_minutes * 60 * MICROS
    return moment_of(day, ends, commercial) - (lead if _ends_on(day, ends, commercial) else 0)


def within(start: int | None, end: int | None, moment: int) -> dict[str, Any]:
    """Stripe takes only moments of the running period; a change from its end on is not prorated at all."""
    starts, ends = (start or 0) // MICROS, (end or 0) // MICROS
    if moment >= ends > 0:
        return {"proration_behavior": "none"}
    return {"proration_date": max(moment, starts)}


def _ends_on(day: date, period_ends: Iterable[int | None], commercial: Commercial) -> list[int]:
    return [end for end in period_ends if end is not None and today(end, commercial) == day]


def _day_of(line: LineItem) -> date | None:
    try:
        return date.fromisoformat(line.service_date or "")
    except ValueError:
        return None
