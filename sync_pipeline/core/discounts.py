"""A discount on a whole deal: what its Opportunity agrees to, and the coupon that says it at Stripe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sync_pipeline.core.canon import number, text
from sync_pipeline.core.money import minor_units
from sync_pipeline.core.rates import Interval, is_whole_number
from sync_pipeline.core.salesforce_records import Opportunity

DURATIONS: dict[str, Literal["once", "repeating", "forever"]] = {
    "Once": "once",
    "Months": "repeating",
    "Forever": "forever",
}
USE_OTHERS = "use negotiated prices or a ramp"


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


def months_faults(discount: AgreedDiscount, intervals: Iterable[Interval | None], *, is_free: bool) -> Iterator[str]:
    """Why a discount for some months would be taken off other invoices than those of that many paid months.

    Stripe takes it off every invoice that is made within them, in full, and counts them from the moment at which it is
    given (docs.stripe.com/billing/subscriptions/coupons). `is_free`: nothing is paid for from that moment on.
    """
    if discount.months is None:
        return
    if is_free:
        yield f"a discount for some months would count the free months too; {USE_OTHERS}"
    if any(each is not None and not is_whole_number(discount.months, each) for each in intervals):
        yield f"a discount for {discount.months} months is no whole number of billing intervals; {USE_OTHERS}"


def whole_number(value: Decimal | None, what: str, missing: list[str], at_most: int) -> int | None:
    """A number from 0 to `at_most`; what is none is said in `missing`."""
    if value is None:
        return None
    if value < 0 or value % 1 or value > at_most:
        missing.append(f"the {what} are {number(value)}, not a whole number from 0 to {at_most}")
        return None
    return int(value)
