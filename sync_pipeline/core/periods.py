"""The ends of the periods that a subscription pays for, those that are still ahead included.

Stripe counts whole intervals from the billing cycle anchor, in UTC: on the anchor's day, or the last day of a month
that is too short for it (docs.stripe.com/billing/subscriptions/billing-cycle). An end is not one interval after the end
before it: after the 28th of February a monthly period of the 31st of January ends on the 31st of March.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import count

from sync_pipeline.core.deal import today
from sync_pipeline.core.foreseen_stripe import LENGTHS
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.stripe_records import Subscription, SubscriptionItem
from sync_pipeline.core.units import MICROS


def period_end_on(
    day: date, subscription: Subscription, items: Iterable[SubscriptionItem], commercial: Commercial
) -> int | None:
    """The end, microseconds UTC, of a paid period that falls on a business day: the running one or a later one.

    None where none does. An end at any other moment of that day cuts the period short, or leaves a rest of a day to
    bill: Stripe prorates to the second. With several intervals the ends of all of them count, for they have one anchor.
    """
    falling = (_end_on(day, subscription, item, commercial) for item in items if item.subscription == subscription.id)
    return max((end for end in falling if end is not None), default=None)


def _end_on(day: date, subscription: Subscription, item: SubscriptionItem, commercial: Commercial) -> int | None:
    for end in _ends_from(item.period_end, subscription, item) if item.period_end is not None else ():
        if (ends_on := today(end, commercial)) >= day:
            return end if ends_on == day else None
    return None


def _ends_from(running: int, subscription: Subscription, item: SubscriptionItem) -> Iterator[int]:
    """The end of the running period, then those of all later ones, where the interval is one that is known."""
    yield running
    if item.interval not in LENGTHS:
        return
    anchor = running if subscription.anchor_at is None else subscription.anchor_at
    begin = datetime.fromtimestamp(anchor // MICROS, UTC)
    length = LENGTHS[item.interval] * item.interval_count
    ends = (int((begin + length * passed).timestamp()) * MICROS for passed in count())
    yield from (end for end in ends if end > running)
