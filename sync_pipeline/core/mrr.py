"""Monthly recurring revenue, exactly: yearly amounts as fractions of minor units, one rounding at the end.

Stripe's definition: the monthly-normalised amounts of active and past-due subscriptions after the discounts that last
for ever, without trials and one-time amounts. A year has 12 months, 365/7 weeks and 365 days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from sync_pipeline.core.lifecycle import EARNING
from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.mrr_definitions import STRIPE
from sync_pipeline.core.stripe_records import Discount, Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing

PERIODS_PER_YEAR = {"month": Fraction(12), "year": Fraction(1), "week": Fraction(365, 7), "day": Fraction(365)}


def periods_per_year(interval: str, count: int) -> Fraction | None:
    """How often something that bills every `count` intervals bills in a year; None for an unknown interval."""
    return PERIODS_PER_YEAR[interval] / count if interval in PERIODS_PER_YEAR else None


def of_a_period(item: SubscriptionItem) -> Fraction | None:
    """What the item bills in one of its periods before discounts, in minor units. None where nothing is committed:
    metered and tiered items.

    Packages are billed whole, by the price's rounding (docs.stripe.com/api/prices/object, `transform_quantity`).
    """
    if item.usage_type != "licensed" or item.quantity is None:
        return None
    if item.package_amount is not None and item.package_size is not None:
        begun = item.package_size - 1 if item.package_rounding == "up" else 0
        return Fraction(item.package_amount) * ((item.quantity + begun) // item.package_size)
    return None if item.unit_amount is None else Fraction(item.unit_amount) * item.quantity


def yearly(item: SubscriptionItem) -> Fraction:
    """What the item bills in a year, in minor units; 0 where nothing is committed.

    Raises MoneyError for an interval that Stripe did not have when this was written.
    """
    amount = of_a_period(item)
    if amount is None:
        return Fraction(0)
    often = periods_per_year(item.interval, item.interval_count)
    if often is None:
        raise MoneyError(f"{item.subscription} bills every {item.interval}, which is not known")
    return amount * often


def take_off(
    yearly_amounts: Mapping[str, Fraction], items: Sequence[SubscriptionItem], discounts: Iterable[Discount]
) -> dict[str, Fraction]:
    """The yearly amounts of one subscription's items (minor units, by item) less discounts that are in force.

    An amount comes off every invoice, so where items bill at different intervals it counts as often as the most
    frequent one.
    """

    def often(eligible: Sequence[SubscriptionItem]) -> Fraction:
        return max(
            (periods_per_year(i.interval, i.interval_count) or Fraction(0) for i in eligible), default=Fraction(0)
        )

    return _less(yearly_amounts, items, discounts, often)


def take_off_once(
    amounts: Mapping[str, Fraction], items: Sequence[SubscriptionItem], discounts: Iterable[Discount]
) -> dict[str, Fraction]:
    """The amounts of one invoice's items (minor units, by item) less discounts that are in force."""
    return _less(amounts, items, discounts, lambda eligible: Fraction(1))


def _less(
    amounts: Mapping[str, Fraction],
    items: Sequence[SubscriptionItem],
    discounts: Iterable[Discount],
    often: Callable[[Sequence[SubscriptionItem]], Fraction],
) -> dict[str, Fraction]:
    """As Stripe takes discounts off an invoice: those of an item first, then the subscription's, each from what the one
    before left; an amount is spread in proportion and never takes more than there is."""
    left = dict(amounts)
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
            kept = 1 - min(discount.amount_off * often(eligible), total) / total if total else Fraction(1)
            for item in eligible:
                left[item.id] *= kept
    return left


def recurring_items(
    billing: Billing, subscriptions: Iterable[Subscription]
) -> Iterator[tuple[SubscriptionItem, Fraction]]:
    """The items of some subscriptions, each with what it bills in a year after the discounts that count.

    Raises MoneyError, always for the same one.
    """
    for subscription in sorted(subscriptions, key=lambda each: each.id):
        items = sorted((i for i in billing.items if i.subscription == subscription.id), key=lambda each: each.id)
        counting = (
            each
            for each in billing.discounts
            if each.subscription == subscription.id and each.duration in STRIPE.discounts
        )
        left = take_off({item.id: yearly(item) for item in items}, items, counting)
        yield from ((item, left[item.id]) for item in items)


def monthly_recurring_revenue(
    billing: Billing, currency: str, subscriptions: Iterable[Subscription] | None = None
) -> Money:
    """MRR of what bills `currency`: of some subscriptions whatever their status, or else of all that earn.

    Raises MoneyError.
    """
    if subscriptions is None:
        subscriptions = (s for s in billing.subscriptions if s.status in EARNING)
    own = (s for s in subscriptions if s.currency == currency)
    return Money(round_half_even(sum((each for _, each in recurring_items(billing, own)), Fraction(0)) / 12), currency)
