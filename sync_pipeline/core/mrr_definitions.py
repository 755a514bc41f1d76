"""What counts as monthly recurring revenue: definitions by name, because every tool has its own.

All of them normalise a year to 12 months, 365/7 weeks and 365 days, leave out tax, trials, one-time amounts and what
has no committed amount (metered and tiered items), and count a subscription until it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sync_pipeline.core.lifecycle import EARNING

Duration = Literal["forever", "repeating", "once"]
DURATIONS: tuple[Duration, ...] = ("forever", "repeating", "once")
"""Of discounts, longest first. A definition that takes off one kind takes off those before it."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition. `discounts` are the durations whose discounts are taken off while they are in force."""

    name: str
    statuses: frozenset[str]
    discounts: tuple[Duration, ...]
    paused_collection_counts: bool
    scheduled_end_counts: bool
    description: str


STRIPE = Definition(
    name="stripe",
    statuses=EARNING,
    discounts=("forever",),
    paused_collection_counts=True,
    scheduled_end_counts=True,
    description=(
        "Stripe's dashboard by default: active and past-due subscriptions; only discounts that last for ever are"
        " taken off (support.stripe.com/questions/billing-analytics)."
    ),
)
CHARTMOGUL = Definition(
    name="chartmogul",
    statuses=EARNING,
    discounts=DURATIONS,
    paused_collection_counts=False,
    scheduled_end_counts=True,
    description=(
        "ChartMogul: what invoices bill per month after all discounts and without tax; a subscription whose invoices"
        " are not collected has none, and one that is to end counts until its end"
        " (dev.chartmogul.com/docs/how-mrr-is-calculated-from-prorated-invoices)."
    ),
)
FINANCE = Definition(
    name="finance",
    statuses=frozenset({"active"}),
    discounts=DURATIONS,
    paused_collection_counts=False,
    scheduled_end_counts=False,
    description=(
        "Prudent, of this house: after all discounts, and without what is past due, not collected, or asked to end."
    ),
)
DEFINITIONS: Mapping[str, Definition] = {each.name: each for each in (STRIPE, CHARTMOGUL, FINANCE)}
