"""Which lines of a deal its running subscription bills at a moment, and which in later phases of a ramp.

One-time charges are in neither, nor is what was removed at Stripe and taken back on the deal.
"""

from __future__ import annotations

from collections.abc import Iterable

from sync_pipeline.core.deal import line_months, months_after
from sync_pipeline.core.rates import is_one_time
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.term import paid_from
from sync_pipeline.core.world import Deal

TAKES_BACK = "off:"
"""What the key of a line begins with that takes another one back, whose id follows."""


def taken_back(lines: Iterable[LineItem]) -> frozenset[str]:
    """The lines of a deal that Stripe does not bill any more, and those that take them back; neither is billed.

    One that somebody edited since is a line as any other again.
    """
    by_id = {line.id: line for line in lines}
    pairs = set()
    for line in by_id.values():
        of = by_id.get((line.stripe_change_key or "").removeprefix(TAKES_BACK))
        both = of is not None and None not in (line.quantity, of.quantity)
        if of is not None and both and (line.quantity, line.unit_price) == (-(of.quantity or 0), of.unit_price):
            pairs |= {line.id, of.id}
    return frozenset(pairs)


def lines_billed_now(deal: Deal, subscription: Subscription, commercial: Commercial, now: int) -> tuple[LineItem, ...]:
    """The recurring lines of the phase that runs at `now` (microseconds UTC), by id; of the last one after the term."""
    recurring = _recurring(deal, commercial)
    months = _ramp_months(deal, recurring)
    if months is None:
        return tuple(recurring)
    passed = _months_passed(subscription, months, now)
    bounds = ((line, line_months(line, months)) for line in recurring)
    return tuple(line for line, (after, until) in bounds if after <= passed < until)


def lines_billed_later(
    deal: Deal, subscription: Subscription, commercial: Commercial, now: int
) -> tuple[LineItem, ...]:
    """The recurring lines of the phases that begin after `now` (microseconds UTC), by id; some are billed now too."""
    recurring = _recurring(deal, commercial)
    months = _ramp_months(deal, recurring)
    if months is None:
        return ()
    passed = _months_passed(subscription, months, now)
    next_cut = min(cut for cut in _cuts(recurring, months) if cut > passed)
    return tuple(line for line in recurring if line_months(line, months)[1] > next_cut)


def first_month_billed_now(deal: Deal, subscription: Subscription, commercial: Commercial, now: int) -> int | None:
    """The first month of a ramp's phase that runs at `now` (microseconds UTC), counted from 1; None for no ramp."""
    recurring = _recurring(deal, commercial)
    months = _ramp_months(deal, recurring)
    if months is None:
        return None
    passed = _months_passed(subscription, months, now)
    return 1 + max(cut for cut in _cuts(recurring, months) if cut <= passed)


def _cuts(recurring: list[LineItem], months: int) -> set[int]:
    """The months after which a ramp turns, its start and end included."""
    return {0, months} | {cut for line in recurring for cut in line_months(line, months)}


def _recurring(deal: Deal, commercial: Commercial) -> list[LineItem]:
    settled = taken_back(deal.lines)
    recurring = (line for line in deal.lines if line.id not in settled and not is_one_time(line, commercial))
    return sorted(recurring, key=lambda line: line.id)


def _ramp_months(deal: Deal, recurring: list[LineItem]) -> int | None:
    """The months of the term of a deal that is a ramp."""
    term = deal.opportunity.term_months
    if not term or term <= 0 or term % 1 or not any(line.from_month or line.to_month for line in recurring):
        return None
    return int(term)


def _months_passed(subscription: Subscription, months: int, now: int) -> int:
    """Whole months of the paid term until now, less than the term has."""
    begins = paid_from(subscription) // 1_000_000
    return sum(months_after(begins, month) <= now // 1_000_000 for month in range(1, months))
