"""Guards: what is about to be done, counted, and held against how much may be done unasked.

A wrong import or a wrong rule changes thousands of records at once, each of them correctly. Nobody would approve of
the sum, so the sum is what is guarded: customers and subscriptions made, subscriptions changed and ended at Stripe,
monthly recurring revenue moved, and the share of Accounts that a comparison would write to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from sync_pipeline.core.commands import Command
from sync_pipeline.core.money import Money, MoneyError, minor_units
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Guards
from sync_pipeline.core.world import Billing, World

MADE = ("customer", "subscription", "subscription_schedule")
CHANGED = ("subscription", "subscription_item", "subscription_schedule")
ENDING = ("cancel_at", "cancel_at_period_end")
MRR = "mrr."
"""Before a currency: its minor units moved up or down."""


def counted(commands: Iterable[Command], before: World, after: World) -> Counter[str]:
    """What one account's commands, which lead from one world to the other, count for each guard.

    A subscription is changed once, however many of its items are.
    """
    found: Counter[str] = Counter()
    to_stripe = [command for command in commands if command.system == "stripe"]
    updates = [each for each in to_stripe if each.action == "stripe.update" and each.body["object"] in CHANGED]
    found["creates"] = sum(each.action == "stripe.create" and each.body["object"] in MADE for each in to_stripe)
    found["changes"] = len({each.body.get("subscription") or each.body["id"] for each in updates})
    found["cancels"] = sum(any(each.body["params"].get(name) for name in ENDING) for each in updates)
    if to_stripe:
        for currency, was, will_be in recurring(before, after):
            found[MRR + currency] += abs(will_be - was)
    return +found


def breaches(counts: Counter[str], guards: Guards) -> list[str]:
    """Each limit that these counts go beyond, in words."""
    within = "an hour" if guards.hours == 1 else f"{guards.hours} hours"
    told = [
        f"{counts[name]} {what} at Stripe within {within}, at most {most} are allowed (guards.{name})"
        for name, what, most in (
            ("creates", "customers and subscriptions made", guards.creates),
            ("changes", "subscriptions changed", guards.changes),
            ("cancels", "subscriptions ended", guards.cancels),
        )
        if most is not None and counts[name] > most
    ]
    for name, moved in sorted(counts.items()):
        currency = name.removeprefix(MRR)
        most_moved = guards.mrr.get(currency)
        if most_moved is not None and moved > minor_units(most_moved, currency):
            shown = f"{currency} {Money(moved, currency).decimal():,} of MRR moved within {within}"
            told.append(f"{shown}, at most {most_moved:,} is allowed (guards.mrr)")
    return told


def share_breaches(written: int, accounts: int, guards: Guards) -> list[str]:
    """Whether a full comparison would write to more of its accounts than it may."""
    if guards.share is None or written <= guards.share_from or written * 100 <= accounts * guards.share:
        return []
    return [f"{written} of {accounts} accounts written to, at most {guards.share} % are allowed (guards.share)"]


def recurring(before: World, after: World) -> Iterator[tuple[str, int, int]]:
    """By currency the MRR of two worlds, minor units; a currency in which it is not known is left out."""
    old, new = (w.billing.value if isinstance(w.billing, Present) else Billing() for w in (before, after))
    for currency in sorted({item.currency for item in (*old.items, *new.items)}):
        try:
            was, will_be = (monthly_recurring_revenue(each, currency) for each in (old, new))
        except MoneyError:
            continue
        yield currency, was.minor, will_be.minor
