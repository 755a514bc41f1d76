"""Deal terms: the rate card of a complete deal, and every sentence about an incomplete one."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.deal import Incomplete, Terms, is_billable, midnight, terms, today
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Deal
from sync_pipeline_tests.core.making import NOW, account, deal, line, opportunity

LONDON = Commercial(time_zone="Europe/London")
DISCOUNTED = "it has a discount of 12.5 percent, which is not billed: put the negotiated price into UnitPrice"


def missing(of: Deal, **changed_account: Any) -> tuple[str, ...]:
    found = terms(of, account(**changed_account), LONDON, NOW, is_new=True)
    assert isinstance(found, Incomplete)
    return found.missing


def agreed(of: Deal) -> Terms:
    found = terms(of, account(), LONDON, NOW, is_new=True)
    assert isinstance(found, Terms), found
    return found


def test_the_story_is_complete() -> None:
    found = agreed(deal())
    assert (found.currency, found.starts_on) == ("GBP", date(2026, 11, 23))
    assert [(r.unit_amount, r.quantity, r.interval) for r in found.rates] == [
        (Decimal(3_000_000), 1, ("year", 1)),
        (Decimal(60_000), 20, ("year", 1)),
        (Decimal(20_000), 15, ("year", 1)),
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"currency": "XXX"}, "currency 'XXX' is not known"),
        ({"term_months": None}, "the term in months is empty"),
        ({"term_months": Decimal(0)}, "the term is 0 months"),
        ({"term_months": Decimal(-12)}, "the term is -12 months"),
        ({"term_months": Decimal("1.5")}, "the term is 1.5 months"),
        ({"term_months": Decimal(7)}, "the term of 7 months is no whole number of billing intervals"),
        (
            {"service_start_date": "2016-11-23"},
            "the term of 12 months from 2016-11-23 is already over",
        ),
        (
            {"service_start_date": "2025-11-23"},
            "the term of 12 months from 2025-11-23 is already over",
        ),
        ({"billing_interval": None}, "the billing interval is empty (known: Monthly, Quarterly, Annual)"),
        ({"billing_interval": "Weekly"}, "the billing interval is 'Weekly' (known: Monthly, Quarterly, Annual)"),
        ({"service_start_date": "soon"}, "the service start date 'soon' is not a date"),
    ],
)
def test_what_is_wrong_with_the_opportunity(changed: dict[str, Any], message: str) -> None:
    assert missing(deal(**changed)) == (message,)


@pytest.mark.parametrize(
    "changed",
    [
        {"service_start_date": "2025-11-24"},
        {"term_months": Decimal(36), "service_start_date": "2024-01-01"},
        {"billing_interval": "Quarterly", "term_months": Decimal(9)},
        {"billing_interval": "Monthly", "term_months": Decimal(7)},
    ],
)
def test_a_term_that_runs_today_can_be_billed(changed: dict[str, Any]) -> None:
    assert isinstance(terms(deal(**changed), account(), LONDON, NOW), Terms)


@pytest.mark.parametrize("name", [None, "", "   ", "-", "Unknown", " TBD ", "n/a", "...", "test"])
def test_an_account_without_a_usable_name(name: str | None) -> None:
    assert missing(deal(), name=name) == ("the Account has no usable name",)


@pytest.mark.parametrize("name", ["Test Valley Council", "株式会社", "3", "Unknown Pleasures Ltd"])
def test_unusual_names_are_names(name: str) -> None:
    assert isinstance(terms(deal(), account(name=name), LONDON, NOW), Terms)


def test_no_line_items() -> None:
    assert missing(Deal(opportunity())) == ("there are no line items",)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"unit_price": Decimal("-0.01")}, "line Product 1: the unit price is negative (-0.01)"),
        ({"unit_price": None}, "line Product 1: the unit price is empty"),
        ({"quantity": None}, "line Product 1: the quantity is empty, not a positive whole number"),
        ({"quantity": Decimal(0)}, "line Product 1: the quantity is 0, not a positive whole number"),
        ({"quantity": Decimal("2.5")}, "line Product 1: the quantity is 2.5, not a positive whole number"),
        ({"quantity": Decimal(-3)}, "line Product 1: the quantity is -3, not a positive whole number"),
        ({"product_id": None}, "line Product 1: it has no product"),
        (
            {"unit_price": Decimal("1.123456789012345")},
            "line Product 1: the unit price 1.123456789012345 has more decimals than Stripe keeps",
        ),
        ({"discount": Decimal("12.50")}, f"line Product 1: {DISCOUNTED}"),
        ({"product_name": None, "unit_price": None}, "line 00kAa0000000001IAA: the unit price is empty"),
    ],
)
def test_what_is_wrong_with_a_line(changed: dict[str, Any], message: str) -> None:
    assert missing(deal(line(1, **changed), line(2))) == (message,)


def begins(day: str, billed_from: str) -> str:
    return (
        f"line Product 2: it begins on {day}, but would be billed from {billed_from}; "
        "give it From_Month__c, give the deal its Service_Start_Date__c, or add the line as an amendment"
    )


@pytest.mark.parametrize(
    ("dated", "of_deal", "billed_from"),
    [
        ({"service_date": "2026-11-24"}, {}, "2026-11-23"),
        ({"service_date": "2026-12-01"}, {"service_start_date": None}, "2026-11-23"),
        ({"service_date": "2026-10-02"}, {"service_start_date": "2026-10-01"}, "2026-10-01"),
        ({"service_date": "2027-01-24"}, {"free_months": Decimal(2)}, "2027-01-23"),
        ({"service_date": "2027-06-01", "from_month": Decimal(7)}, {"billing_interval": "Monthly"}, "2027-05-23"),
    ],
)
def test_a_line_that_begins_after_it_would_be_billed_is_refused(
    dated: dict[str, Any], of_deal: dict[str, Any], billed_from: str
) -> None:
    """From 23 November 2026, today, where the deal says no other day."""
    assert missing(deal(line(1), line(2, **dated), **of_deal)) == (begins(dated["service_date"], billed_from),)


@pytest.mark.parametrize(
    ("dated", "of_deal"),
    [
        ({"service_date": "2026-11-23"}, {}),
        ({"service_date": "2026-11-01"}, {}),
        ({"service_date": "2027-02-01"}, {"service_start_date": "2027-02-01"}),
        ({"service_date": "2027-01-23"}, {"free_months": Decimal(2)}),
        ({"service_date": "2027-05-23", "from_month": Decimal(7)}, {"billing_interval": "Monthly"}),
        # What is charged once is on the first invoice, whenever it is delivered.
        ({"service_date": "2027-03-10", "charge_type": "One-Time"}, {}),
    ],
)
def test_a_line_may_say_the_day_from_which_it_is_billed_or_one_before(
    dated: dict[str, Any], of_deal: dict[str, Any]
) -> None:
    agreed(deal(line(1), line(2, **dated), **of_deal))


def test_a_line_that_came_to_a_deal_that_runs_counts_from_its_day() -> None:
    """What is billed of a ramp is said again as a whole, with lines that came to it from a day that is past."""
    ramp = [line(1, to_month=Decimal(12)), line(3, from_month=Decimal(13))]
    begun = {"service_start_date": "2026-06-23", "term_months": Decimal(24)}
    come = deal(*ramp, line(2, service_date="2026-09-01"), **begun)
    assert isinstance(terms(come, account(), LONDON, NOW), Terms)
    assert missing(come) == (begins("2026-09-01", "2026-06-23"),)
    ahead = deal(*ramp, line(2, service_date="2026-12-01"), **begun)
    assert terms(ahead, account(), LONDON, NOW) == Incomplete((begins("2026-12-01", "2026-11-23"),))
    brought = deal(*ramp, line(2, service_date="2026-12-01", amends_line_id="00kOther"), **begun)
    assert isinstance(terms(brought, account(), LONDON, NOW), Terms)


def test_everything_that_is_missing_is_said_at_once() -> None:
    broken = deal(line(1, quantity=None, unit_price=None), term_months=None, billing_interval=None, currency="ZZZ")
    assert len(missing(broken, name="-")) == 6


def test_a_discount_of_nothing_is_none() -> None:
    assert agreed(deal(line(1, discount=Decimal(0)))).rates[0].unit_amount == 10_000


def test_a_price_of_zero_is_a_price() -> None:
    assert agreed(deal(line(1, unit_price=Decimal(0)))).rates[0].unit_amount == 0


def test_more_rates_than_a_subscription_holds() -> None:
    lines = [line(1, id=f"00k{n:015}", unit_price=Decimal(n + 1)) for n in range(21)]
    assert missing(deal(*lines)) == ("there are 21 different rates, a Stripe subscription holds 20",)
    assert len(agreed(deal(*lines[:20])).rates) == 20


def test_lines_of_one_rate_share_an_item_and_are_all_remembered() -> None:
    same = [
        line(1, id=f"00k{n:015}", quantity=Decimal(n + 1), unit_price=Decimal(price))
        for n, price in enumerate(["600", "600.00", "6E+2"])
    ]
    (rate,) = agreed(deal(*reversed(same))).rates
    assert (rate.quantity, rate.line_ids) == (6, tuple(each.id for each in same))


def test_more_lines_of_one_rate_than_their_ids_can_be_remembered() -> None:
    """Stripe keeps 500 characters of metadata per key, which is 26 ids of 18 characters with commas."""
    lines = [line(1, id=f"00k{n:015}") for n in range(27)]
    assert missing(deal(*lines)) == (
        "27 lines have the same product and price, more than 26 cannot share a subscription item",
    )
    assert len(agreed(deal(*lines[:26])).rates[0].line_ids) == 26


@pytest.mark.parametrize(
    ("currency", "price", "unit_amount"),
    [
        ("GBP", "600", "60000"),
        ("JPY", "600", "600"),
        ("KWD", "1.23", "1230"),
        ("GBP", "0.0125", "1.25"),
        ("gbp", "1", "100"),
    ],
)
def test_the_lookup_key_says_product_currency_interval_and_amount(currency: str, price: str, unit_amount: str) -> None:
    (rate,) = agreed(deal(line(1, unit_price=Decimal(price)), currency=currency)).rates
    assert rate.unit_amount == Decimal(unit_amount)
    assert rate.lookup_key == f"sf_01tAa0000000001IAA:{currency.lower()}:1year:{unit_amount}"
    assert len(rate.lookup_key) <= 200


@given(st.permutations([line(n, unit_price=Decimal(n // 3)) for n in range(1, 9)]))
def test_terms_do_not_depend_on_the_order_of_lines(lines: list[LineItem]) -> None:
    assert terms(deal(*lines), account(), LONDON, NOW) == terms(deal(*sorted(lines, key=str)), account(), LONDON, NOW)


@pytest.mark.parametrize(
    ("changed", "go_live", "billable"),
    [
        ({}, None, True),
        ({"is_won": False}, None, False),
        ({"close_date": "2026-01-01"}, "2026-01-01", True),
        ({"close_date": "2025-12-31"}, "2026-01-01", False),
        ({"close_date": None}, "2026-01-01", False),
    ],
)
def test_won_deals_since_go_live_are_billed(changed: dict[str, Any], go_live: str | None, billable: bool) -> None:
    assert is_billable(Deal(replace(opportunity(), **changed)), Commercial(go_live=go_live)) is billable


@pytest.mark.parametrize(
    ("record_type", "of_deals", "of_amendments", "billable"),
    [
        ("Partner_Programme", frozenset(), frozenset(), True),
        (None, frozenset(), frozenset(), True),
        ("New_Business", frozenset({"New_Business"}), frozenset(), True),
        ("new_business", frozenset({"New_Business"}), frozenset(), False),
        ("Partner_Programme", frozenset({"New_Business"}), frozenset(), False),
        ("Add_On", frozenset({"New_Business"}), frozenset({"Add_On"}), True),
        ("Partner_Programme", frozenset(), frozenset({"Add_On"}), True),
        (None, frozenset({"New_Business"}), frozenset(), False),
        (None, frozenset({"New_Business", "Master"}), frozenset(), True),
    ],
)
def test_opportunities_of_the_record_types_of_deals_are_billed(
    record_type: str | None, of_deals: frozenset[str], of_amendments: frozenset[str], billable: bool
) -> None:
    settings = Commercial(deal_record_types=of_deals, amendment_record_types=of_amendments)
    assert is_billable(Deal(opportunity(record_type=record_type)), settings) is billable


def test_the_business_day_is_the_time_zones() -> None:
    summer_night = 1_782_860_400 * MICROS  # 2026-06-30T23:00Z, already July in London
    assert today(summer_night, LONDON) == date(2026, 7, 1)
    assert today(summer_night, Commercial(time_zone="America/New_York")) == date(2026, 6, 30)
    assert midnight(date(2026, 7, 1), LONDON) == 1_782_860_400
