"""Where a subscription stands: one total function from Stripe's fields to the words that Salesforce shows.

Stripe says "scheduled to cancel" in two ways (`cancel_at` and `cancel_at_period_end`; the customer portal uses
the first), and adds statuses over time: an unknown one is shown as unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable

from sync_pipeline.core.stripe_records import Subscription, SubscriptionItem

STATUS_WORDS = {
    "incomplete": "Incomplete",
    "incomplete_expired": "Canceled",
    "trialing": "Trialing",
    "active": "Active",
    "past_due": "Past Due",
    "unpaid": "Unpaid",
    "paused": "Paused",
    "canceled": "Canceled",
}
MOST_URGENT_FIRST = (
    "Unpaid",
    "Past Due",
    "Incomplete",
    "Paused",
    "Cancel Scheduled",
    "Trialing",
    "Active",
    "Canceled",
)
EARNING = frozenset({"active", "past_due"})
AT_RISK = frozenset({"past_due", "unpaid"})
CHANGEABLE = frozenset({"active", "past_due", "trialing", "unpaid"})
"""The statuses in which Stripe takes other items and quantities."""


def billing_status(subscription: Subscription) -> str | None:
    """The picklist value for one subscription; None for a status that this version does not know."""
    word = STATUS_WORDS.get(subscription.status)
    return "Cancel Scheduled" if is_ending(subscription) and word in ("Active", "Trialing") else word


def is_ending(subscription: Subscription) -> bool:
    """Its end is scheduled; it still runs."""
    scheduled = subscription.cancel_at is not None or subscription.cancel_at_period_end
    return scheduled and not has_ended(subscription)


def most_urgent(statuses: Iterable[str]) -> str | None:
    """The one status that an Account with several subscriptions shows; None when there are none."""
    return min(statuses, key=MOST_URGENT_FIRST.index, default=None)


def ends_at(subscription: Subscription, items: Iterable[SubscriptionItem]) -> int | None:
    """When the scheduled end comes (microseconds UTC); None where none is scheduled or it has come."""
    if not is_ending(subscription):
        return None
    periods = (item.period_end for item in items if item.subscription == subscription.id)
    return subscription.cancel_at or max((end for end in periods if end is not None), default=None)


def has_ended(subscription: Subscription) -> bool:
    return subscription.status == "canceled" or never_began(subscription)


def never_began(subscription: Subscription) -> bool:
    """Its first payment did not come in time."""
    return subscription.status == "incomplete_expired"
