"""Monthly recurring revenue, exactly: yearly amounts as fractions of minor units, one rounding at the end.

Stripe's definition: the monthly-normalised amounts of active and past-due subscriptions, without trials and
one-time amounts. A year has 12 months, 365/7 weeks and 365 days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from sync_pipeline.core.lifecycle import EARNING
from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.records import Discount, Subscription, SubscriptionItem

PERIODS_PER_YEAR = {"month": Fraction(12), "year": Fraction(1), "week": Fraction(365, 7), "day": Fraction(365)}


def periods_per_year(interval: str, count: int) -> Fraction | None:
    """How often something that bills every `count` intervals bills in a year; None for an unknown interval."""
    return PERIODS_PER_YEAR[interval] / count if interval in PERIODS_PER_YEAR else None


def yearly(item: SubscriptionItem) -> Fraction:
    """What the item bills in a year, in minor units. Metered and tiered items have no committed amount: 0.

    Raises MoneyError for an interval that Stripe did not have when this was written.
    """
    if item.usage_type != "licensed" or item.unit_amount is None or item.quantity is None:
        return Fraction(0)
    often = periods_per_year(item.interval, item.interval_count)
    if often is None:
        raise MoneyError(f"{item.subscription} bills every {item.interval}, which is not known")
    return Fraction(item.unit_amount) * item.quantity * often


def take_off(
    yearly_amounts: Mapping[str, Fraction], items: Sequence[SubscriptionItem], discounts: Iterable[Discount]
) -> dict[str, Fraction]:
    """The yearly amounts of one subscription's items (minor units, by item) less discounts that are in force.

    As Stripe takes them off an invoice: those of an item first, then the subscription's, each from what the one
    before left; an amount is spread in proportion and never takes more than there is. It comes off every invoice, so
    where items bill at different intervals it counts as often as the most frequent one.
    """
    left = dict(yearly_amounts)
    for discount in sorted(discounts, key=lambda each: (each.item is None, each.position, each.id)):
        eligible = [
            item
            for item in items
            if discount.item in (None, item.id) and (not discount.products or item.product in discount.products)
        ]
        if discount.percent_off is not None:
            for item in eligible:
                left[item.id] *= 1 - Fraction(discount.percent_off) / 100
        elif discount.amount_off is not None:
            total = sum((left[item.id] for item in eligible), Fraction(0))
            often = max((periods_per_year(i.interval, i.interval_count) or Fraction(0) for i in eligible), default=0)
            kept = 1 - min(discount.amount_off * often, total) / total if total else Fraction(1)
            for item in eligible:
                left[item.id] *= kept
    return left


def monthly_recurring_revenue(
    subscriptions: Iterable[Subscription],
    items: Iterable[SubscriptionItem],
    currency: str,
    statuses: frozenset[str] = EARNING,
) -> Money:
    """MRR of what bills `currency`, over the subscriptions in one of the statuses; other currencies are not in it."""
    counting = {s.id for s in subscriptions if s.status in statuses}
    counted = [item for item in items if item.subscription in counting and item.currency == currency]
    return Money(round_half_even(sum(map(yearly, counted), Fraction(0)) / 12), currency)
