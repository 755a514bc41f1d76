"""Guards: what a run is about to do, counted, and held against how much it may do unasked.

A wrong import or a wrong rule changes thousands of records at once, each of them correctly. Nobody would approve of
the sum, so the sum is what is guarded: customers and subscriptions made, subscriptions changed and ended at Stripe,
monthly recurring revenue moved, and the share of Accounts that a comparison would write to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sync_pipeline.core.commands import Command
from sync_pipeline.core.money import Money, MoneyError, minor_units
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Guards
from sync_pipeline.core.world import Billing, World

MADE = ("customer", "subscription", "subscription_schedule")
CHANGED = ("subscription", "subscription_item", "subscription_schedule")
ENDING = ("cancel_at", "cancel_at_period_end")


@dataclass(slots=True)
class Tally:
    """What a run has been allowed to do so far. `mrr` is by currency, minor units moved up or down."""

    accounts: int = 0
    written: int = 0
    creates: int = 0
    changes: int = 0
    cancels: int = 0
    mrr: dict[str, int] = field(default_factory=dict)

    def add(self, commands: Iterable[Command], before: World, after: World) -> None:
        """Counts one account's commands, which lead from one world to the other."""
        commands = list(commands)
        self.accounts += 1
        self.written += bool(commands)
        to_stripe = [c for c in commands if c.action.startswith("stripe.")]
        self.creates += sum(c.action == "stripe.create" and c.body["object"] in MADE for c in to_stripe)
        updates = [c for c in to_stripe if c.action == "stripe.update" and c.body["object"] in CHANGED]
        self.changes += len({c.target for c in updates})
        self.cancels += sum(any(c.body["params"].get(name) for name in ENDING) for c in updates)
        if to_stripe:
            for currency, was, will_be in recurring(before, after):
                self.mrr[currency] = self.mrr.get(currency, 0) + abs(will_be - was)

    def breaches(self, guards: Guards) -> list[str]:
        """Each limit that these counts go beyond, in words."""
        told = [
            f"{count} {what}, at most {most} are allowed (guards.{name})"
            for name, what, count, most in (
                ("creates", "customers and subscriptions made at Stripe", self.creates, guards.creates),
                ("changes", "subscriptions changed at Stripe", self.changes, guards.changes),
                ("cancels", "subscriptions ended at Stripe", self.cancels, guards.cancels),
            )
            if most is not None and count > most
        ]
        for currency, moved in sorted(self.mrr.items()):
            most_moved = guards.mrr.get(currency)
            if most_moved is not None and moved > minor_units(most_moved, currency):
                shown = Money(moved, currency).decimal()
                told.append(f"{currency} {shown:,} of MRR moved, at most {most_moved:,} is allowed (guards.mrr)")
        return told

    def share_breaches(self, guards: Guards) -> list[str]:
        """Whether a full comparison would write to more of its accounts than it may."""
        if guards.share is None or self.written <= guards.share_from:
            return []
        if self.written * 100 <= self.accounts * guards.share:
            return []
        most = f"at most {guards.share} % are allowed (guards.share)"
        return [f"{self.written} of {self.accounts} accounts written to, {most}"]


def recurring(before: World, after: World) -> Iterator[tuple[str, int, int]]:
    """By currency the MRR of two worlds, minor units; a currency in which it is not known is left out."""
    old, new = (w.billing.value if isinstance(w.billing, Present) else Billing() for w in (before, after))
    for currency in sorted({item.currency for item in (*old.items, *new.items)}):
        try:
            was, will_be = (monthly_recurring_revenue(each, currency) for each in (old, new))
        except MoneyError:
            continue
        yield currency, was.minor, will_be.minor
