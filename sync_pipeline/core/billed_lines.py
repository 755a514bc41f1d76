"""Which lines of a deal its running subscription bills at a moment: not the one-time charges, nor other ramp phases."""

from __future__ import annotations

from sync_pipeline.core.deal import line_months, months_after
from sync_pipeline.core.rates import is_one_time
from sync_pipeline.core.records import LineItem, Subscription
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.world import Deal


def lines_billed_now(deal: Deal, subscription: Subscription, commercial: Commercial, now: int) -> tuple[LineItem, ...]:
    """The recurring lines of the phase that runs at `now` (microseconds UTC), by id; of the last one after the term."""
    recurring = sorted((line for line in deal.lines if not is_one_time(line, commercial)), key=lambda line: line.id)
    term = deal.opportunity.term_months
    if not term or term <= 0 or term % 1 or not any(line.from_month or line.to_month for line in recurring):
        return tuple(recurring)
    months = int(term)
    paid_from = max(subscription.start_at, subscription.trial_end_at or 0) // 1_000_000
    passed = sum(months_after(paid_from, month) <= now // 1_000_000 for month in range(1, months))
    bounds = ((line, line_months(line, months)) for line in recurring)
    return tuple(line for line, (after, until) in bounds if after <= passed < until)
