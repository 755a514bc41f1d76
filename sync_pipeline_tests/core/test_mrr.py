"""Monthly recurring revenue, against amounts worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.mrr import monthly_recurring_revenue, yearly
from sync_pipeline.core.stripe_records import Discount, SubscriptionItem
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import NOW, SUBSCRIPTION, item, packages, subscription


def mrr(*items: SubscriptionItem, status: str = "active", currency: str = "GBP") -> Money:
    billing = Billing(subscriptions=(subscription(status=status, currency=currency),), items=items)
    return monthly_recurring_revenue(billing, currency)


@pytest.mark.parametrize(
    ("interval", "count", "unit", "quantity", "expected"),
    [
        ("year", 1, "4500000", 1, 375_000),  # £45,000 a year
        ("month", 1, "1250", 2, 2_500),
        ("month", 3, "30000", 1, 10_000),  # £300 a quarter
        ("month", 6, "60000", 1, 10_000),
        ("year", 2, "240000", 1, 10_000),
        ("week", 1, "1000", 1, 4_345),  # 1000 * 365 / 7 / 12 = 4345.238...
        ("week", 2, "1000", 1, 2_173),  # 2172.619...
        ("day", 1, "100", 1, 3_042),  # 100 * 365 / 12 = 3041.666...
        ("month", 1, "0.5", 5, 2),  # half a penny each: 2.5, to even
        ("month", 1, "1.25", 1000, 1_250),
        ("year", 1, "10000", 1, 833),  # £100 a year: 833.33...
        ("month", 1, "0", 10, 0),
    ],
)
def test_every_interval_by_hand(interval: str, count: int, unit: str, quantity: int, expected: int) -> None:
    priced = item(interval=interval, interval_count=count, unit_amount=Decimal(unit), quantity=quantity)
    assert mrr(priced) == Money(expected, "GBP")


def test_a_thousand_annual_plans_do_not_drift() -> None:
    """£100 a year is 833.33p a month; a thousand of them are 833,333.33p, not a thousand times 833p."""
    subscriptions = tuple(subscription(id=f"sub_{n}") for n in range(1000))
    items = tuple(
        item(id=f"si_{n}", subscription=f"sub_{n}", interval="year", unit_amount=Decimal(10_000)) for n in range(1000)
    )
    assert monthly_recurring_revenue(Billing(subscriptions, items), "GBP") == Money(833_333, "GBP")


def test_items_of_one_subscription_are_rounded_together() -> None:
    thirds = [item(id=f"si_{n}", interval="month", interval_count=3, unit_amount=Decimal(100)) for n in range(3)]
    assert mrr(*thirds) == Money(100, "GBP")


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("active", True),
        ("past_due", True),
        ("trialing", False),
        ("canceled", False),
        ("unpaid", False),
        ("paused", False),
        ("incomplete", False),
        ("incomplete_expired", False),
        ("something_new", False),
    ],
)
def test_active_and_past_due_earn(status: str, counts: bool) -> None:
    assert mrr(item(), status=status) == Money(1000 if counts else 0, "GBP")


@pytest.mark.parametrize(
    ("quantity", "rounding", "expected"),
    [
        (100, "up", 10_000),  # ten packages of ten at £10.00
        (91, "up", 10_000),
        (90, "up", 9_000),
        (99, "down", 9_000),
        (100, "down", 10_000),
        (9, "down", 0),
        (1, "up", 1_000),
        (0, "up", 0),
    ],
)
def test_packages_are_billed_whole(quantity: int, rounding: str, expected: int) -> None:
    assert mrr(packages(10, rounding, quantity=quantity)) == Money(expected, "GBP")


@pytest.mark.parametrize(
    "what", [{"usage_type": "metered", "quantity": None}, {"unit_amount": None}, {"quantity": None}]
)
def test_what_is_not_committed_counts_nothing(what: dict[str, object]) -> None:
    assert yearly(item(**what)) == 0


def test_another_currency_is_not_in_the_figure() -> None:
    euros = Billing((subscription(currency="EUR"),), (item(currency="EUR"),))
    assert monthly_recurring_revenue(euros, "GBP") == Money(0, "GBP")
    assert monthly_recurring_revenue(euros, "EUR") == Money(1000, "EUR")


def test_an_interval_of_the_future_is_a_money_error_not_a_crash() -> None:
    with pytest.raises(MoneyError, match="fortnight"):
        yearly(item(interval="fortnight"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([("year", 1), ("month", 1), ("month", 3), ("week", 1), ("day", 1)]),
            st.integers(0, 10**9),
            st.integers(0, 500),
        )
    )
)
def test_one_rounding_of_the_exact_sum(rows: list[tuple[tuple[str, int], int, int]]) -> None:
    per_year = {"year": Fraction(1), "month": Fraction(12), "week": Fraction(365, 7), "day": Fraction(365)}
    items = [
        item(id=f"si_{n}", interval=every, interval_count=count, unit_amount=Decimal(unit), quantity=quantity)
        for n, ((every, count), unit, quantity) in enumerate(rows)
    ]
    exact = (
        sum((unit * quantity * per_year[every] / count for (every, count), unit, quantity in rows), Fraction(0)) / 12
    )
    assert abs(mrr(*items).minor - exact) <= Fraction(1, 2)
    assert mrr(*items) == mrr(*reversed(items))


def taken(duration: str, **off: Any) -> Discount:
    values: dict[str, Any] = {"id": "di_1", "subscription": SUBSCRIPTION, "duration": duration, "start_at": NOW}
    return Discount(**(values | off))


@pytest.mark.parametrize(
    ("discounts", "expected"),
    [
        # Two items: 10.00 and 30.00 a month.
        ((taken("forever", percent_off=Decimal(25)),), 3_000),
        ((taken("forever", amount_off=1_000),), 3_000),
        ((taken("forever", amount_off=9_000),), 0),
        ((taken("forever", item="si_2", percent_off=Decimal(50)),), 2_500),
        ((taken("forever", products=("prod_2",), amount_off=500),), 3_500),
        ((taken("once", percent_off=Decimal(50)),), 4_000),
        ((taken("repeating", percent_off=Decimal(50), end_at=NOW + 1),), 4_000),
        ((taken("forever", subscription="sub_other", percent_off=Decimal(50)),), 4_000),
    ],
)
def test_only_discounts_that_last_for_ever_are_taken_off(discounts: tuple[Discount, ...], expected: int) -> None:
    items = (item(id="si_1"), item(id="si_2", product="prod_2", unit_amount=Decimal(3_000)))
    billing = Billing((subscription(),), items, discounts)
    assert monthly_recurring_revenue(billing, "GBP") == Money(expected, "GBP")
