"""What the next term bills, invoice by invoice, against sums worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.money import Money
from sync_pipeline.core.next_term import billed_in_term
from sync_pipeline.core.stripe_records import Discount, SubscriptionItem
from sync_pipeline.core.term import months_of_contract, running_term
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import RULES, SUBSCRIPTION, item, packages, subscription


def at(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


BEGINS = at("2027-11-23T12:00")
MONTHLY = item(unit_amount=Decimal(1_000))
YEARLY = item(id="si_2", interval="year", unit_amount=Decimal(24_000))


def off(duration: str = "repeating", end: str | None = None, **given: Any) -> Discount:
    ends = None if end is None else at(end) * MICROS
    return Discount(
        id="di_1", subscription=SUBSCRIPTION, duration=duration, start_at=0, end_at=ends, **({"position": 0} | given)
    )


@pytest.mark.parametrize(
    ("items", "discounts", "expected"),
    [
        ([MONTHLY], [], 12_000),
        ([YEARLY], [], 24_000),
        ([MONTHLY, YEARLY], [off("forever", percent_off=Decimal(10))], 32_400),
        # Three of the twelve invoices are made before the end; the one at the very end is not discounted.
        ([MONTHLY], [off(end="2028-02-23T12:00", percent_off=Decimal(20))], 12_000 - 3 * 200),
        ([MONTHLY], [off(end="2028-02-23T12:00:01", percent_off=Decimal(20))], 12_000 - 4 * 200),
        # A year that is billed at its beginning has the whole discount, however soon that ends.
        ([YEARLY], [off(end="2027-12-23T12:00", percent_off=Decimal(50))], 12_000),
        # It ends with the term that runs: the next one is in full.
        ([YEARLY], [off(end="2027-11-23T12:00", percent_off=Decimal(50))], 24_000),
        # An amount comes off each invoice once, whatever is on it: 12 invoices, the first of them with both items.
        ([MONTHLY, YEARLY], [off("forever", amount_off=500)], 36_000 - 12 * 500),
        ([MONTHLY], [off("forever", amount_off=5_000)], 0),
        ([MONTHLY], [off("once", percent_off=Decimal(50))], 12_000),
        # Half of a period of two years lies in a term of one.
        ([item(interval="year", interval_count=2, unit_amount=Decimal(9_000))], [], 4_500),
        ([item(usage_type="metered", quantity=None)], [], 0),
        # Three packages of ten, as the third is begun.
        ([packages(10, "up", quantity=21)], [], 12 * 3_000),
        ([packages(10, "up", quantity=21)], [off("forever", percent_off=Decimal(10))], 12 * 2_700),
    ],
)
def test_twelve_months(items: list[SubscriptionItem], discounts: list[Discount], expected: int) -> None:
    billing = Billing(items=tuple(items), discounts=tuple(discounts))
    assert billed_in_term(billing, subscription(), BEGINS, 12) == Money(expected, "GBP")


def test_a_year_has_as_many_weeks_as_its_recurring_revenue_says() -> None:
    weekly = item(interval="week", unit_amount=Decimal(7_000))
    assert billed_in_term(Billing(items=(weekly,)), subscription(), BEGINS, 12) == Money(365_000, "GBP")


def test_free_months_come_before_the_first_term_and_are_part_of_the_contract() -> None:
    noon = {"start_at": at("2026-11-23T12:00") * MICROS, "trial_start_at": at("2026-11-23T12:00") * MICROS}
    free = subscription(**noon, trial_end_at=at("2027-01-23T00:00") * MICROS)
    now = at("2027-06-01T00:00") * MICROS
    term = running_term(free, 12, RULES.commercial, now)
    assert (term.day.isoformat(), term.ends_at) == ("2028-01-23", at("2028-01-23T00:00") * MICROS)
    assert months_of_contract(free, 12, RULES.commercial, now) == 14


def test_a_trial_that_was_given_later_moves_no_term() -> None:
    start = at("2026-11-23T12:00") * MICROS
    thanked = subscription(
        start_at=start, trial_start_at=at("2027-03-01T00:00") * MICROS, trial_end_at=at("2027-04-01T00:00") * MICROS
    )
    now = at("2027-06-01T00:00") * MICROS
    assert running_term(thanked, 12, RULES.commercial, now).day.isoformat() == "2027-11-23"
    assert months_of_contract(thanked, 12, RULES.commercial, now) == 12
