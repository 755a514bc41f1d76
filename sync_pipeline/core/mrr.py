"""Monthly recurring revenue, exactly: yearly amounts as fractions of minor units, one rounding at the end.

Stripe's definition: the monthly-normalised amounts of active and past-due subscriptions, without trials and
one-time amounts. A year has 12 months, 365/7 weeks and 365 days.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from sync_pipeline.core.lifecycle import EARNING
from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.records import Subscription, SubscriptionItem

PERIODS_PER_YEAR = {"month": Fraction(12), "year": Fraction(1), "week": Fraction(365, 7), "day": Fraction(365)}


def yearly(item: SubscriptionItem) -> Fraction:
    """What the item bills in a year, in minor units. Metered and tiered items have no committed amount: 0.

    Raises MoneyError for an interval that Stripe did not have when this was written.
    """
    if item.usage_type != "licensed" or item.unit_amount is None or item.quantity is None:
        return Fraction(0)
    if item.interval not in PERIODS_PER_YEAR:
        raise MoneyError(f"{item.subscription} bills every {item.interval}, which is not known")
    return Fraction(item.unit_amount) * item.quantity * PERIODS_PER_YEAR[item.interval] / item.interval_count


def monthly_recurring_revenue(
    subscriptions: Iterable[Subscription],
    items: Iterable[SubscriptionItem],
    currency: str,
    statuses: frozenset[str] = EARNING,
) -> Money:
    """MRR in `currency` over the subscriptions in one of the statuses.

    Raises MoneyError when one of them bills another currency.
    """
    counting = {s.id for s in subscriptions if s.status in statuses}
    counted = [item for item in items if item.subscription in counting]
    for item in counted:
        if item.currency != currency:
            raise MoneyError(f"{item.subscription} bills {item.currency}, but the Account is in {currency}")
    return Money(round_half_even(sum(map(yearly, counted), Fraction(0)) / 12), currency)
