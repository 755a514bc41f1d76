"""Items of two intervals on one subscription: each has its own period, and what is sent is judged by the right one.

The platform is billed monthly, the seats annually, or the other way round; periods are counted from one anchor, so
that a year ends where a month does (docs.stripe.com/billing/subscriptions/mixed-interval). Ids of items are random:
whichever comes first must not decide what a customer pays.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.disturbances import ANALYST, MINUTE, PLATFORM, VIEWER, just_won
from sync_pipeline_tests.core.making import line
from sync_pipeline_tests.core.two_systems import TwoSystems


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * MICROS


PERIODS: dict[str, dict[str, Any]] = {
    "month": {"period_start": at("2027-02-23T12:00:00"), "period_end": at("2027-03-23T12:00:00")},
    "year": {"period_start": at("2026-11-23T12:00:00"), "period_end": at("2027-11-23T12:00:00")},
}
MONTHLY: dict[str, Any] = {"billing_interval": "Monthly", "unit_price": Decimal(20)}
ANNUAL: dict[str, Any] = {}
EITHER_FIRST = pytest.mark.parametrize("first", ["month", "year"])


def mixed(first: str, *monthly: str) -> TwoSystems:
    """At rest on 1 March; items that bill every `first` come first by id."""
    both = just_won()
    for each in monthly:
        both.edit(each, **MONTHLY)
    both.settle()
    both.now = at("2027-03-01T09:00:00")
    found = sorted(both.items.values(), key=lambda item: item.interval != first)
    both.items = {f"si_{n}": replace(item, id=f"si_{n}", **PERIODS[item.interval]) for n, item in enumerate(found)}
    both.settle()
    return both


def sold(both: TwoSystems, *lines: tuple[int, str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is sent of products that sales adds: number, day of service and interval."""
    for number, day, interval in lines:
        priced = {"unit_price": Decimal(7300), **interval}
        both.put(line(number, product_name=f"Add-on {number}", service_date=day, modified_at=both.now, **priced))
    both.now += MINUTE
    begun = len(both.requests)
    both.settle()
    wanted = ("items", "quantity")
    return [params for _, _, _, params in both.requests[begun:] if any(key in params for key in wanted)]


def proration(params: dict[str, Any]) -> str | int:
    """The moment of it, or that there is none."""
    return int(params["proration_date"]) * MICROS if "proration_date" in params else str(params["proration_behavior"])


@EITHER_FIRST
def test_an_annual_product_is_billed_from_the_day_on_which_a_month_ends(first: str) -> None:
    """It was sent unprorated where a monthly item came first, and not billed until the year was over."""
    both = mixed(first, PLATFORM)
    both.now = at("2027-03-23T11:30:00")
    (asked,) = sold(both, (4, "2027-03-23", ANNUAL))
    assert proration(asked) == at("2027-03-23T00:00:00")


@EITHER_FIRST
def test_a_monthly_product_from_the_end_of_its_month_is_one_of_the_renewal(first: str) -> None:
    both = mixed(first, PLATFORM)
    both.now = at("2027-03-23T11:30:00")
    (asked,) = sold(both, (4, "2027-03-23", MONTHLY))
    assert proration(asked) == "none"


@EITHER_FIRST
def test_a_monthly_product_from_the_end_of_the_year_is_one_of_the_renewal_too(first: str) -> None:
    """No item bills monthly yet, and a month ends where a year does."""
    both = mixed(first)
    both.now = at("2027-11-23T11:30:00")
    (asked,) = sold(both, (4, "2027-11-23", MONTHLY))
    assert proration(asked) == "none"


def test_an_annual_product_on_monthly_items_is_billed_from_its_day() -> None:
    """A month that ends says nothing of the year in which it does."""
    both = mixed("month", PLATFORM, ANALYST, VIEWER, line(5).id)
    both.now = at("2027-03-23T11:30:00")
    (asked,) = sold(both, (4, "2027-03-23", ANNUAL))
    assert proration(asked) == at("2027-03-23T00:00:00")


@EITHER_FIRST
@pytest.mark.parametrize("interval", [MONTHLY, ANNUAL], ids=["monthly", "annual"])
def test_what_was_sold_for_an_earlier_month_is_billed_from_the_start_of_this_one(
    first: str, interval: dict[str, Any]
) -> None:
    """Stripe takes moments of the period that all items are in, and refused for ever one of a year that had begun
    before."""
    both = mixed(first, VIEWER)
    (asked,) = sold(both, (4, "2027-02-03", interval))
    assert proration(asked) == PERIODS["month"]["period_start"]


@EITHER_FIRST
def test_seats_that_were_edited_in_an_earlier_month_are_billed_from_the_start_of_this_one(first: str) -> None:
    both = mixed(first, VIEWER)
    both.edit(PLATFORM, quantity=Decimal(2), modified_at=at("2027-02-20T09:00:00"))
    (asked,) = sold(both)
    assert proration(asked) == PERIODS["month"]["period_start"]


@EITHER_FIRST
def test_products_of_one_moment_are_sent_apart_where_only_one_of_them_is_of_the_renewal(first: str) -> None:
    """A month that ends at midnight: the monthly product is on the renewal's invoice, the annual one prorated."""
    both = mixed(first, PLATFORM)
    ends = at("2027-03-23T00:00:00")
    both.items = {
        name: replace(item, period_end=ends if item.interval == "month" else item.period_end)
        for name, item in both.items.items()
    }
    both.now = ends
    asked = sold(both, (4, "2027-03-23", ANNUAL), (6, "2027-03-23", MONTHLY))
    assert sorted(map(proration, asked), key=str) == [ends, "none"]


@EITHER_FIRST
def test_an_annual_item_that_is_taken_back_is_credited_from_the_day_on_which_a_month_ends(first: str) -> None:
    """Sent before the month has ended, from the start of the day, however many days of it are left of the month."""
    both = mixed(first, PLATFORM)
    both.now = at("2027-03-23T11:30:00")
    taken = {"quantity": Decimal(-15), "service_date": "2027-03-23", "modified_at": both.now}
    both.put(replace(both.records[VIEWER], id="00kAa0000000008IAA", stripe_item_id=None, **taken))
    (asked,) = sold(both)
    assert proration(asked) == at("2027-03-23T00:00:00")
