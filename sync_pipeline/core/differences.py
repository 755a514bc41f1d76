"""The sorts of difference that money of both systems can have, and which one a figure of an Account has.

Over whole tables, and for the invoices of deals, that is decided in frames.certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

DifferenceClass = Literal["none", "timing", "proration", "tax", "discount", "fx", "missing", "human_edit", "real"]
CLASSES: Mapping[DifferenceClass, str] = {
    "none": "Both say the same.",
    "timing": "Stripe has moved since both last agreed, or the next invoice will bill it.",
    "proration": "A change within a period is billed for part of it.",
    "tax": "Stripe adds tax; the deal is without.",
    "discount": "Stripe takes a discount off the deal's price.",
    "fx": "It is in another currency than the Account's, or the deal's, without an exact amount in that.",
    "missing": "One side has nothing: Salesforce an empty field, Stripe no subscription or no customer.",
    "human_edit": "Somebody has changed what Salesforce showed.",
    "real": "None of these: both sides say something else.",
}


def class_of_figure(shown: int | None, billed: int, agreed: int | None, *, has_customer: bool) -> DifferenceClass:
    """What lies between the figure that an Account shows and what follows from Stripe's records, where both last agreed
    on `agreed`; minor units of the Account's currency."""
    if (shown or 0) == billed:
        return "none"
    if shown is None or not has_customer:
        return "missing"
    if agreed == billed:
        return "human_edit"
    return "timing" if agreed == shown else "real"
