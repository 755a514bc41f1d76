"""What Stripe is asked for, for each kind of deal; moments are worked out by hand, in London time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_pipeline.core.deal import Incomplete, Terms, months_after, terms
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_terms import (
    bills_at_once,
    coupon_params,
    is_scheduled,
    schedule_params,
    subscription_params,
)
from sync_pipeline.core.world import Deal
from sync_pipeline_tests.core.making import CUSTOMER, NOW, account, deal, line

LONDON = Commercial(time_zone="Europe/London")
METADATA = {"sf_intent": "sub:x"}
TERM = {"service_start_date": "2026-11-23"}


def midnight(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def found(of: Deal) -> Terms | Incomplete:
    return terms(of, account(), LONDON, NOW)


def agreed(of: Deal) -> Terms:
    is_agreed = found(of)
    assert isinstance(is_agreed, Terms), is_agreed
    return is_agreed


def faults(of: Deal) -> tuple[str, ...]:
    is_agreed = found(of)
    assert isinstance(is_agreed, Incomplete), is_agreed
    return is_agreed.missing


def said(of: Deal) -> dict[str, Any]:
    """The body of the create, with lookup keys in place of Stripe's price ids."""
    it = agreed(of)
    prices = {rate.lookup_key: rate.lookup_key for rate in it.rates}
    body = schedule_params if is_scheduled(it, LONDON, NOW) else subscription_params
    return body(it, prices, CUSTOMER, METADATA, LONDON, NOW)


def ramp() -> Deal:
    """Year 1: 10 seats; year 2: 20; year 3: 30, over a base line that stays."""
    seats = [
        line(2 + n, product_id="01tSeat", quantity=Decimal(10 * (n + 1)), from_month=Decimal(12 * n + 1), to_month=to)
        for n, to in enumerate((Decimal(12), Decimal(24), None))
    ]
    return deal(line(1, unit_price=Decimal(5000)), *seats, term_months=Decimal(36))


def test_net_terms_of_the_deal_or_of_the_rules_or_none_where_the_card_is_charged() -> None:
    assert (said(deal())["collection_method"], said(deal())["days_until_due"]) == ("send_invoice", 30)
    assert said(deal(net_days=Decimal(60)))["days_until_due"] == 60
    charged = said(deal(collection_method="Charge Automatically", net_days=Decimal(60)))
    assert (charged["collection_method"], "days_until_due" in charged) == ("charge_automatically", False)


@pytest.mark.parametrize(("interval", "every"), [("Monthly", "1month"), ("Quarterly", "3month"), ("Annual", "1year")])
@pytest.mark.parametrize("months", [12, 36])
def test_terms_of_one_and_of_several_years_are_billed_by_their_interval(interval: str, every: str, months: int) -> None:
    one = said(deal(line(1), billing_interval=interval, term_months=Decimal(months)))
    assert [item["price"] for item in one["items"]] == [f"sf_01tAa0000000001IAA:gbp:{every}:10000"]
    assert one["billing_mode"] == {"type": "flexible"}


def test_a_set_up_fee_is_on_the_first_invoice_only_whoever_says_that_it_is_one() -> None:
    fees = line(2, charge_type="One-Time", unit_price=Decimal(250)), line(3, product_family="One-Time")
    one = said(deal(line(1), *fees))
    assert [item["metadata"]["sf_line_id"] for item in one["items"]] == [line(1).id]
    assert [(item["price"], item["quantity"]) for item in one["add_invoice_items"]] == [
        ("sf_01tAa0000000002IAA:gbp:once:25000", 1),
        ("sf_01tAa0000000003IAA:gbp:once:10000", 1),
    ]
    assert faults(deal(*fees)) == ("all its lines are one-time charges; a subscription needs a recurring one",)


@pytest.mark.parametrize(
    ("fields", "coupon"),
    [
        (
            {"discount_percent": Decimal("12.5"), "discount_duration": "Forever"},
            {"id": "sf-12_5pct-forever", "duration": "forever", "percent_off": "12.5", "name": "12.5% off"},
        ),
        (
            {"discount_amount": Decimal("99.95"), "discount_duration": "Once"},
            {"id": "sf-9995gbp-once", "duration": "once", "amount_off": 9995, "currency": "gbp", "name": "Discount"},
        ),
        (
            {
                "discount_percent": Decimal(20),
                "discount_duration": "Months",
                "discount_months": Decimal(6),
                "billing_interval": "Quarterly",
            },
            {
                "id": "sf-20pct-6months",
                "duration": "repeating",
                "duration_in_months": 6,
                "percent_off": "20",
                "name": "20% off",
            },
        ),
    ],
)
def test_a_discount_on_the_deal_is_a_coupon_that_lasts_as_long(fields: dict[str, Any], coupon: dict[str, Any]) -> None:
    discount = agreed(deal(**fields)).discount
    assert discount is not None
    assert coupon_params(discount) == coupon
    assert said(deal(**fields))["discounts"] == [{"coupon": coupon["id"]}]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"discount_amount": Decimal(10), "discount_duration": "Forever"},
            "Stripe takes an amount off for some months at most; give it months, or a discount in percent",
        ),
        ({"discount_percent": Decimal(10)}, "the duration of the discount is empty (known: Once, Months, Forever)"),
        ({"discount_percent": Decimal(10), "discount_duration": "Months"}, "the months of the discount are empty"),
        ({"discount_percent": Decimal(101), "discount_duration": "Once"}, "the discount is 101 percent"),
        (
            {"discount_amount": Decimal("1.005"), "discount_duration": "Once"},
            "the discount of 1.005 is no amount of GBP",
        ),
        (
            {"discount_amount": Decimal(1), "discount_percent": Decimal(1), "discount_duration": "Once"},
            "there are a discount in percent and one as an amount; a deal has one of them",
        ),
        (
            {"collection_method": "Barter"},
            "the collection method is 'Barter' (known: Send Invoice, Charge Automatically)",
        ),
        (
            {"free_months": Decimal("0.5")},
            "the free months are 0.5, not a whole number from 0 to 24",
        ),
    ],
)
def test_terms_that_cannot_be_meant_are_told(fields: dict[str, Any], fault: str) -> None:
    assert faults(deal(**fields)) == (fault,)


HALF = {"discount_percent": Decimal(50), "discount_duration": "Months", "discount_months": Decimal(3)}
FREE = "a discount for some months would count the free months too; use negotiated prices or a ramp"
WHOLE = "a discount for 3 months is no whole number of billing intervals; use negotiated prices or a ramp"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({**HALF, "billing_interval": "Monthly"}, None),
        ({**HALF, "billing_interval": "Quarterly"}, None),
        ({**HALF, "billing_interval": "Monthly", "service_start_date": None}, None),
        ({**HALF, "billing_interval": "Monthly", "service_start_date": "2026-11-24"}, None),
        ({**HALF, "discount_months": Decimal(12)}, None),
        (HALF, WHOLE),
        ({**HALF, "billing_interval": "Quarterly", "discount_months": Decimal(4)}, WHOLE.replace("3", "4")),
        ({**HALF, "billing_interval": "Monthly", "free_months": Decimal(6)}, FREE),
        (
            {**HALF, "billing_interval": "Monthly", "service_start_date": "2026-11-22"},
            "a discount for some months would count from today, not from 2026-11-22; use negotiated prices or a ramp",
        ),
        (
            {"discount_amount": Decimal(5000), "discount_duration": "Once", "free_months": Decimal(1)},
            "a discount on one invoice would be spent on that of the free months; use negotiated prices or a ramp",
        ),
        ({"discount_amount": Decimal(5000), "discount_duration": "Once", "service_start_date": "2026-06-01"}, None),
        ({"discount_percent": Decimal(5), "discount_duration": "Forever", "free_months": Decimal(1)}, None),
    ],
)
def test_a_discount_that_stripe_would_take_off_other_invoices_than_agreed_is_refused(
    fields: dict[str, Any], fault: str | None
) -> None:
    """A coupon for some months is taken off every invoice that is made within them, from the moment it is given."""
    if fault is None:
        assert agreed(deal(**fields)).discount is not None
    else:
        assert faults(deal(**fields)) == (fault,)


def test_a_discount_for_some_months_needs_whole_intervals_of_every_line() -> None:
    mixed = (line(1), line(2, billing_interval="Annual"))
    assert faults(deal(*mixed, billing_interval="Monthly", **HALF)) == (WHOLE,)


def test_a_start_in_the_past_is_backdated_and_one_today_or_at_once_is_not() -> None:
    assert said(deal(service_start_date="2026-11-01"))["backdate_start_date"] == midnight(2026, 11, 1)
    assert "backdate_start_date" not in said(deal(service_start_date="2026-11-23"))
    assert "backdate_start_date" not in said(deal(service_start_date=None))


def test_a_start_in_the_future_is_a_schedule_that_lets_go_of_its_subscription() -> None:
    one = said(deal(service_start_date="2027-01-15", net_days=Decimal(14)))
    (phase,) = one["phases"]
    assert (one["start_date"], phase["end_date"]) == (midnight(2027, 1, 15), midnight(2027, 2, 15))
    assert (one["end_behavior"], phase["metadata"]) == ("release", METADATA)
    assert one["default_settings"] == {
        "collection_method": "send_invoice",
        "invoice_settings": {"days_until_due": 14},
    }


def test_free_months_ahead_are_a_trial_and_those_that_are_over_move_the_start() -> None:
    ahead = said(deal(free_months=Decimal(2)))
    assert (ahead["trial_end"], "backdate_start_date" in ahead) == (midnight(2027, 1, 23), False)
    over = said(deal(service_start_date="2026-08-01", free_months=Decimal(2)))
    assert (over["backdate_start_date"], "trial_end" in over) == (midnight(2026, 9, 30) + 23 * 3600, False)


def test_a_ramp_is_a_schedule_with_a_phase_for_each_price_or_quantity() -> None:
    one = said(ramp())
    assert [[item["quantity"] for item in phase["items"]] for phase in one["phases"]] == [[1, 10], [1, 20], [1, 30]]
    ends = [midnight(2027, 11, 23), midnight(2028, 11, 23), midnight(2028, 12, 23)]
    assert (one["start_date"], [phase["end_date"] for phase in one["phases"]]) == (midnight(2026, 11, 23), ends)


def test_a_ramp_turns_where_a_billing_interval_begins_and_bills_something_always() -> None:
    turns = deal(line(1, to_month=Decimal(6)), line(2, from_month=Decimal(7)))
    assert faults(turns) == ("month 7, in which the ramp turns, begins within a billing interval",)
    gap = deal(line(1, from_month=Decimal(13)), term_months=Decimal(24))
    assert faults(gap) == ("nothing is billed in months 1 to 12",)
    backwards = deal(line(1, from_month=Decimal(3), to_month=Decimal(2)))
    assert faults(backwards)[0] == "line Product 1: its first month is 3, its last is 2"


def test_what_stripe_cannot_hold_together_is_refused_with_its_reason() -> None:
    many = [line(1, id=f"00kAa0000000{n:03}IAA", product_id=f"01t{n}") for n in range(21)]
    assert faults(deal(*many)) == ("there are 21 different rates, a Stripe subscription holds 20",)
    mixed = said(deal(line(1), line(2, billing_interval="Quarterly")))
    assert [item["price"].split(":")[2] for item in mixed["items"]] == ["1year", "3month"]


@given(st.integers(0, 24), st.integers(1, 36), st.dates(date(2026, 1, 1), date(2028, 1, 1)))
@example(1, 1, date(2027, 5, 1))
def test_whatever_starts_when_nobody_is_billed_before_the_free_months_are_over(free: int, term: int, day: Any) -> None:
    of = deal(
        line(1),
        billing_interval="Monthly",
        term_months=Decimal(term),
        free_months=Decimal(free),
        service_start_date=day.isoformat(),
    )
    if isinstance(found(of), Incomplete):
        assert any("already over" in fault for fault in faults(of))
        return
    one, paid_from = said(of), months_after(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()), free)
    phase = one.get("phases", [one])[0]
    start = one.get("start_date") or one.get("backdate_start_date") or NOW // 1_000_000
    first_paid = phase.get("trial_end") or start
    assert abs(first_paid - paid_from) <= 24 * 3600


@pytest.mark.parametrize(
    ("fields", "lines", "at_once"),
    [
        ({}, [line(1)], True),
        ({"service_start_date": "2026-06-01"}, [line(1)], True),
        ({"service_start_date": "2027-01-01"}, [line(1)], False),
        ({"free_months": Decimal(2)}, [line(1)], False),
        # The first invoice of a trial has what is charged once.
        ({"free_months": Decimal(2)}, [line(1), line(2, charge_type="One-Time")], True),
        ({"free_months": Decimal(1), "service_start_date": "2026-06-01"}, [line(1)], True),
    ],
)
def test_a_way_to_pay_is_needed_where_money_is_due_at_once(
    fields: dict[str, Any], lines: list[LineItem], at_once: bool
) -> None:
    assert bills_at_once(agreed(deal(*lines, **fields)), LONDON, NOW) is at_once
