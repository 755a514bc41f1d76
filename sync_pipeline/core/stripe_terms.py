"""How agreed terms are said to Stripe: as a subscription that begins now, or as a schedule that runs one.

A schedule is used where a subscription cannot say it: for a start in the future (a trial until then would show a
customer that is served free of charge, an anchor in the future serves at once) and for the phases of a ramp. It
releases its subscription a month into its last phase, when there is nothing left to say, so that later changes and the
end of the term are the subscription's own. Everything else is one plain subscription, dated back where the service
began in the past, with a trial for free months. Moments are seconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.canon import number
from sync_pipeline.core.deal import Phase, Terms, midnight, months_after, today
from sync_pipeline.core.discounts import AgreedDiscount
from sync_pipeline.core.rates import Rate
from sync_pipeline.core.rules import Commercial

Prices = Mapping[str, str]
"""Stripe's id of a price by its lookup key."""


@dataclass(frozen=True, slots=True)
class _Timing:
    """`begins` is when the subscription starts, None for now; the term is counted from `paid_from`."""

    begins: int | None
    trial_end: int | None
    paid_from: int


def is_scheduled(agreed: Terms, commercial: Commercial, now: int) -> bool:
    """Whether the terms need a schedule. `now` is microseconds UTC."""
    return len(agreed.phases) > 1 or (agreed.starts_on is not None and agreed.starts_on > today(now, commercial))


def bills_at_once(agreed: Terms, commercial: Commercial, now: int) -> bool:
    """Whether money is due as soon as it is made: not before a start in the future, nor for free months."""
    if agreed.starts_on is not None and agreed.starts_on > today(now, commercial):
        return False
    return bool(agreed.charges) or _timing(agreed, commercial, now).trial_end is None


def subscription_params(
    agreed: Terms, prices: Prices, customer: str, metadata: Mapping[str, str], commercial: Commercial, now: int
) -> dict[str, Any]:
    """The body of the create of a subscription that begins now, or began before."""
    (phase,) = agreed.phases
    timing = _timing(agreed, commercial, now)
    params: dict[str, Any] = {
        "customer": customer,
        "billing_mode": {"type": "flexible"},
        "collection_method": agreed.collection,
        "items": _items(phase, prices),
        "metadata": dict(metadata),
    }
    if agreed.net_days is not None:
        params["days_until_due"] = agreed.net_days
    if agreed.charges:
        params["add_invoice_items"] = _charges(agreed, prices)
    if agreed.discount is not None:
        params["discounts"] = [{"coupon": agreed.discount.coupon}]
    if timing.trial_end is not None:
        params["trial_end"] = timing.trial_end
    elif timing.begins is not None:
        params["backdate_start_date"] = timing.begins
    return params


def schedule_params(
    agreed: Terms, prices: Prices, customer: str, metadata: Mapping[str, str], commercial: Commercial, now: int
) -> dict[str, Any]:
    """The body of the create of a schedule."""
    return {
        "customer": customer,
        "billing_mode": {"type": "flexible"},
        "start_date": _phase_starts(agreed, commercial, now)[0],
        **_scheduled_terms(agreed, prices, metadata, commercial, now),
    }


def reschedule_params(
    agreed: Terms, prices: Prices, metadata: Mapping[str, str], commercial: Commercial, now: int
) -> dict[str, Any]:
    """The body of the update of a schedule that has not begun: its terms, and when it begins."""
    params = _scheduled_terms(agreed, prices, metadata, commercial, now)
    start = _phase_starts(agreed, commercial, now)[0]
    params["phases"][0]["start_date"] = start if start > now // 1_000_000 else "now"
    return params


@dataclass(frozen=True, slots=True)
class RunningPhase:
    """The phase of a schedule that runs, as it has to be said again. Moments are seconds UTC; `discounts` are ids."""

    began: int
    paid_from: int
    trial_end: int | None
    discounts: tuple[str, ...]


def phase_at(agreed: Terms, begins: int, now: int) -> Phase:
    """The phase of a term that began at `begins` in which a moment lies."""
    begun = [phase for phase in agreed.phases if phase.after == 0 or months_after(begins, phase.after) <= now]
    return begun[-1]


def running_schedule_params(
    agreed: Terms,
    prices: Prices,
    metadata: Mapping[str, str],
    running: RunningPhase,
    commercial: Commercial,
    now: int,
) -> dict[str, Any]:
    """The body of the update of a schedule that runs: the phase that runs and those to come.

    What was charged once is not said again; a change of the running phase is prorated from now (seconds UTC), on the
    invoice that the rules say.
    """
    current = phase_at(agreed, running.paid_from, now)
    phases = []
    for phase in agreed.phases[agreed.phases.index(current) :]:
        said: dict[str, Any] = {
            "items": _items(phase, prices),
            "end_date": _phase_end(agreed, phase, running.paid_from, now),
            "metadata": dict(metadata),
        }
        if phase is current:
            said["start_date"] = running.began
            said["discounts"] = [{"discount": each} for each in running.discounts]
            if running.trial_end is not None:
                said["trial_end"] = running.trial_end
        elif agreed.discount is not None and agreed.discount.duration == "forever":
            said["discounts"] = [{"coupon": agreed.discount.coupon}]
        phases.append(said)
    return {
        "end_behavior": "release",
        "phases": phases,
        "metadata": {**metadata, "sf_terms": agreed.digest},
        "proration_behavior": commercial.proration,
    }


def _scheduled_terms(
    agreed: Terms, prices: Prices, metadata: Mapping[str, str], commercial: Commercial, now: int
) -> dict[str, Any]:
    """What a schedule says, as its create and its update take it: phases in full, each with its start and end."""
    timing = _timing(agreed, commercial, now)
    starts = _phase_starts(agreed, commercial, now)
    collection: dict[str, Any] = {"collection_method": agreed.collection}
    if agreed.net_days is not None:
        collection["invoice_settings"] = {"days_until_due": agreed.net_days}
    phases = []
    for number_of_phase, (phase, start) in enumerate(zip(agreed.phases, starts, strict=True)):
        first = number_of_phase == 0
        said: dict[str, Any] = {
            "items": _items(phase, prices),
            "end_date": _phase_end(agreed, phase, timing.paid_from, now // 1_000_000),
            "metadata": dict(metadata),
        }
        if first and agreed.charges:
            said["add_invoice_items"] = _charges(agreed, prices)
        if agreed.discount is not None and (first or agreed.discount.duration == "forever"):
            said["discounts"] = [{"coupon": agreed.discount.coupon}]
        if first and timing.trial_end is not None and timing.trial_end > start:
            said["trial_end"] = timing.trial_end
        phases.append(said)
    return {
        "end_behavior": "release",
        "default_settings": collection,
        "phases": phases,
        "metadata": {**metadata, "sf_terms": agreed.digest},
    }


def coupon_params(discount: AgreedDiscount) -> dict[str, Any]:
    """The body of the create of a coupon."""
    params: dict[str, Any] = {"id": discount.coupon, "duration": discount.duration}
    if discount.percent is not None:
        params |= {"percent_off": number(discount.percent), "name": f"{number(discount.percent)}% off"}
    else:
        params |= {"amount_off": discount.amount, "currency": discount.currency.lower(), "name": "Discount"}
    if discount.months is not None:
        params["duration_in_months"] = discount.months
    return params


def _timing(agreed: Terms, commercial: Commercial, now: int) -> _Timing:
    """Free months that lie ahead are a trial; those that are over need nothing, the paid service began after them."""
    day = today(now, commercial)
    starts_on = agreed.starts_on or day
    # Days are counted where the business is: a month from the first of May ends with May, on any clock.
    paid_from = midnight(starts_on + relativedelta(months=agreed.free_months), commercial)
    free = agreed.free_months > 0
    if free and paid_from > now // 1_000_000:
        return _Timing(None, paid_from, paid_from)
    return _Timing(paid_from if free or starts_on < day else None, None, paid_from)


def _phase_starts(agreed: Terms, commercial: Commercial, now: int) -> list[int]:
    """When each phase begins; a first one with free months left begins with them, but not in the past."""
    timing = _timing(agreed, commercial, now)
    first = timing.paid_from
    if timing.trial_end is not None:
        day = today(now, commercial)
        first = midnight(max(agreed.starts_on or day, day), commercial)
    return [first, *(months_after(timing.paid_from, phase.after) for phase in agreed.phases[1:])]


def _phase_end(agreed: Terms, phase: Phase, paid_from: int, now: int) -> int:
    """The last phase is released after a month of it, or with the month that runs."""
    if phase is not agreed.phases[-1]:
        return months_after(paid_from, phase.until)
    ends = [months_after(paid_from, month) for month in range(phase.after + 1, phase.until + 1)]
    return next((end for end in ends if end > now), ends[-1])


def _items(phase: Phase, prices: Prices) -> list[dict[str, Any]]:
    return [
        {
            "price": prices[rate.lookup_key],
            "quantity": rate.quantity,
            "metadata": {"sf_line_id": ",".join(rate.line_ids)},
        }
        for rate in phase.rates
    ]


def _charges(agreed: Terms, prices: Prices) -> list[dict[str, Any]]:
    return [_charge(rate, prices) for rate in agreed.charges]


def _charge(rate: Rate, prices: Prices) -> dict[str, Any]:
    metadata = {"sf_line_id": ",".join(rate.line_ids)}
    return {"price": prices[rate.lookup_key], "quantity": rate.quantity, "metadata": metadata}
