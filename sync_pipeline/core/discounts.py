"""A discount on a whole deal: what its Opportunity agrees to, and the coupon that says it at Stripe."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sync_pipeline.core.canon import number, text
from sync_pipeline.core.money import minor_units
from sync_pipeline.core.salesforce_records import Opportunity

DURATIONS: dict[str, Literal["once", "repeating", "forever"]] = {
    "Once": "once",
    "Months": "repeating",
    "Forever": "forever",
}


@dataclass(frozen=True, slots=True)
class AgreedDiscount:
    """A discount on the whole deal. One of `percent` and `amount` (minor units of `currency`) is set."""

    percent: Decimal | None
    amount: int | None
    currency: str
    duration: Literal["once", "repeating", "forever"]
    months: int | None

    @property
    def coupon(self) -> str:
        """The deterministic id of the coupon, so that each discount exists once."""
        off = f"{number(self.percent)}pct" if self.percent is not None else f"{self.amount}{self.currency.lower()}"
        lasts = f"{self.months}months" if self.duration == "repeating" else self.duration
        return f"sf-{off.replace('.', '_')}-{lasts}"


def agreed_discount(opportunity: Opportunity, currency: str, missing: list[str]) -> AgreedDiscount | None:
    """The deal's discount; None where it has none, or what is wrong with it is said in `missing`."""
    before = len(missing)
    percent, amount = opportunity.discount_percent or None, opportunity.discount_amount or None
    if percent is None and amount is None:
        return None
    said = text(opportunity.discount_duration)
    months = whole_number(opportunity.discount_months, "months of the discount", missing, at_most=600)
    minor = minor_units(amount, currency) if amount is not None else None
    if percent is not None and minor is not None:
        missing.append("there are a discount in percent and one as an amount; a deal has one of them")
    if percent is not None and not 0 < percent <= 100:
        missing.append(f"the discount is {number(percent)} percent")
    if minor is not None and (minor < 0 or minor % 1):
        missing.append(f"the discount of {number(amount)} is no amount of {currency}")
    if said not in DURATIONS:
        told = "is empty" if said is None else f"is {said!r}"
        missing.append(f"the duration of the discount {told} (known: {', '.join(DURATIONS)})")
    elif said == "Forever" and minor is not None:
        # docs.stripe.com/changelog/basil/2025-03-31/restrict-coupon-duration
        missing.append("Stripe takes an amount off for some months at most; give it months, or a discount in percent")
    elif said == "Months" and not months:
        missing.append("the months of the discount are empty")
    if len(missing) > before or said is None:
        return None
    duration = DURATIONS[said]
    return AgreedDiscount(
        percent, int(minor) if minor is not None else None, currency, duration, months if said == "Months" else None
    )


def whole_number(value: Decimal | None, what: str, missing: list[str], at_most: int) -> int | None:
    """A number from 0 to `at_most`; what is none is said in `missing`."""
    if value is None:
        return None
    if value < 0 or value % 1 or value > at_most:
        missing.append(f"the {what} are {number(value)}, not a whole number from 0 to {at_most}")
        return None
    return int(value)
