"""What a term of a subscription bills: every invoice of it, with the discounts that are still in force by then.

A discount is in force on an invoice that is made before its end; one for a single invoice is spent on the next one and
is not counted on. A period that is longer than what is left of the term counts in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.mrr import of_a_period, periods_per_year, take_off_once
from sync_pipeline.core.stripe_records import Discount, Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing

DAYS_OF_A_MONTH = Fraction(365, 12)


def billed_in_term(billing: Billing, subscription: Subscription, begins: int, months: int) -> Money:
    """At today's seats and prices. `begins` is seconds UTC. Raises MoneyError for an interval that is not known."""
    items = [item for item in billing.items if item.subscription == subscription.id and of_a_period(item) is not None]
    lasting = [d for d in billing.discounts if d.subscription == subscription.id and d.duration != "once"]
    due: dict[Fraction, list[tuple[SubscriptionItem, Fraction]]] = {}
    for item in items:
        length = _months(item)
        passed = Fraction(0)
        while passed < months:
            share = min(length, months - passed) / length
            due.setdefault(passed, []).append((item, share))
            passed += length
    total = Fraction(0)
    for passed, billed in due.items():
        at = _moment(begins, passed) * 1_000_000
        total += _invoice(billed, (d for d in lasting if d.end_at is None or d.end_at > at))
    return Money(round_half_even(total), subscription.currency)


def _months(item: SubscriptionItem) -> Fraction:
    often = periods_per_year(item.interval, item.interval_count)
    if often is None:
        raise MoneyError(f"{item.subscription} bills every {item.interval}, which is not known")
    return 12 / often


def _moment(begins: int, passed: Fraction) -> int:
    whole, rest = divmod(passed, 1)
    day = datetime.fromtimestamp(begins, UTC) + relativedelta(months=int(whole))
    return int((day + timedelta(seconds=int(rest * DAYS_OF_A_MONTH * 86_400))).timestamp())


def _invoice(billed: Iterable[tuple[SubscriptionItem, Fraction]], discounts: Iterable[Discount]) -> Fraction:
    shares = {item.id: (item, share) for item, share in billed}
    amounts = {name: (of_a_period(item) or Fraction(0)) * share for name, (item, share) in shares.items()}
    left = take_off_once(amounts, [item for item, _ in shares.values()], discounts)
    return sum(left.values(), Fraction(0))
