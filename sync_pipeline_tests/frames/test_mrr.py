"""Monthly recurring revenue: worked examples by hand and from Stripe's and ChartMogul's own pages, and the laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core.lifecycle import EARNING
from sync_pipeline.core.mrr import monthly_recurring_revenue, yearly
from sync_pipeline.core.mrr_definitions import CHARTMOGUL, DEFINITIONS, FINANCE, STRIPE
from sync_pipeline.core.stripe_records import Discount, InvoiceLine, Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.exact import BILLIONTHS
from sync_pipeline.frames.mrr import Recurring, account_mrr, bridge_gaps, mrr_bridge, mrr_items, mrr_subscriptions
from sync_pipeline.frames.rows import AccountMrr, MrrItem
from sync_pipeline.frames.schema import violations
from sync_pipeline.frames.tables import ACCOUNT_MRR, MRR_BRIDGE, MRR_ITEMS, MRR_SUBSCRIPTIONS
from sync_pipeline_tests.core.making import ACCOUNT, CUSTOMER, NOW, item, packages, subscription
from sync_pipeline_tests.frames.recurring import DAY, discount, line, mapped, what_recurs


def of_account(found: Recurring) -> dict[str, dict[str, int]]:
    """Minor units by definition and currency."""
    shown: dict[str, dict[str, int]] = {name: {} for name in DEFINITIONS}
    for name, definition in DEFINITIONS.items():
        frame = account_mrr(mrr_items(found, definition))
        assert violations(frame, ACCOUNT_MRR) == []
        for row in to_records(frame, ACCOUNT_MRR):
            shown[name][row.currency] = row.mrr_minor
    return shown


def amounts(found: Recurring) -> tuple[int, int, int]:
    """In pounds only: Stripe's, ChartMogul's and finance's."""
    shown = of_account(found)
    stripe, chartmogul, finance = (shown[name].get("GBP", 0) for name in ("stripe", "chartmogul", "finance"))
    return stripe, chartmogul, finance


def monthly(unit: str | int, quantity: int = 1, **changed: Any) -> SubscriptionItem:
    return item(unit_amount=Decimal(unit), quantity=quantity, **changed)


def yearly_item(unit: str | int, quantity: int = 1, **changed: Any) -> SubscriptionItem:
    return monthly(unit, quantity, interval="year", **changed)


Case = tuple[Sequence[SubscriptionItem], Mapping[str, Any], Sequence[Discount], Sequence[InvoiceLine], tuple[int, ...]]
HALF = discount(percent_off=Decimal(50))
PLAIN: Mapping[str, Any] = {}

EXAMPLES: dict[str, Case] = {
    # support.stripe.com/questions/billing-analytics: "an annual subscription for $1,200 only counts $100"
    "stripe: 1,200 a year is 100": ([yearly_item(120_000)], PLAIN, [], [], (10_000,) * 3),
    # the same page: "a 50% off coupon that has a duration of forever will halve that subscription's MRR"
    "stripe: half off for ever halves": ([monthly(10_000)], PLAIN, [HALF], [], (5_000,) * 3),
    # the same page: "a coupon with a finite duration (once or repeating): your MRR is unaffected"
    "stripe: a repeating coupon is not seen": (
        [monthly(10_000)],
        PLAIN,
        [discount("repeating", percent_off=Decimal(50), end_at=NOW + 60 * DAY)],
        [],
        (10_000, 5_000, 5_000),
    ),
    "stripe: a coupon for one invoice is not seen": (
        [monthly(10_000)],
        PLAIN,
        [],
        [line(amount=10_000, discounts=("di_9:2500",))],
        (10_000, 7_500, 7_500),
    ),
    # help.chartmogul.com 201244842: four Gold yearly plans at 500 are 166.67
    "chartmogul: four at 500 a year": ([yearly_item(50_000, 4)], PLAIN, [], [], (16_667,) * 3),
    # the same: two Silver monthly plans at 30 are 60 more
    "chartmogul: two at 30 a month more": (
        [yearly_item(50_000, 4), monthly(3_000, 2, id="si_2")],
        PLAIN,
        [],
        [],
        (22_667,) * 3,
    ),
    # dev.chartmogul.com, how MRR is calculated: 90 for three months is 30
    "chartmogul: 90 for three months is 30": ([monthly(9_000, interval_count=3)], PLAIN, [], [], (3_000,) * 3),
    # facts/stripe.md 6.2: active and past due count, unpaid, trialing, incomplete, paused and canceled do not
    "past due": ([monthly(1_000)], {"status": "past_due"}, [], [], (1_000, 1_000, 0)),
    "unpaid": ([monthly(1_000)], {"status": "unpaid"}, [], [], (0, 0, 0)),
    "in trial": ([monthly(1_000)], {"status": "trialing", "trial_end_at": NOW + DAY}, [], [], (0, 0, 0)),
    "incomplete": ([monthly(1_000)], {"status": "incomplete"}, [], [], (0, 0, 0)),
    "expired before the first payment": ([monthly(1_000)], {"status": "incomplete_expired"}, [], [], (0, 0, 0)),
    "paused": ([monthly(1_000)], {"status": "paused"}, [], [], (0, 0, 0)),
    "canceled": ([monthly(1_000)], {"status": "canceled", "ended_at": NOW}, [], [], (0, 0, 0)),
    "a status of the future": ([monthly(1_000)], {"status": "dormant"}, [], [], (0, 0, 0)),
    # facts/stripe.md 6.2: pause_collection leaves the status
    "collection paused": ([monthly(1_000)], {"collection_paused": True}, [], [], (1_000, 0, 0)),
    # facts/stripe.md 3.6: the portal sets cancel_at, the dashboard cancel_at_period_end
    "to end on a day": ([monthly(1_000)], {"cancel_at": NOW + DAY}, [], [], (1_000, 1_000, 0)),
    "to end with the period": ([monthly(1_000)], {"cancel_at_period_end": True}, [], [], (1_000, 1_000, 0)),
    # facts/stripe.md 6.2: metered and tiered items have no committed amount
    "metered": ([monthly(1_000, usage_type="metered")], PLAIN, [], [], (0, 0, 0)),
    # docs.stripe.com/products-prices/pricing-models: with transform_quantity each package is billed, not each unit
    "packages of ten": ([packages(10, "up", quantity=100)], PLAIN, [], [], (10_000,) * 3),
    "a package that is begun": ([packages(10, "up", quantity=91)], PLAIN, [], [], (10_000,) * 3),
    "a package that is not full": ([packages(10, "down", quantity=99)], PLAIN, [HALF], [], (4_500,) * 3),
    "metered packages": ([packages(10, "up", usage_type="metered", quantity=None)], PLAIN, [], [], (0, 0, 0)),
    "tiered": ([item(unit_amount=None)], PLAIN, [], [], (0, 0, 0)),
    "an interval of the future": ([monthly(1_000, interval="decade"), monthly(7, id="si_2")], PLAIN, [], [], (7,) * 3),
    "free": ([monthly(0, 10)], PLAIN, [], [], (0, 0, 0)),
    # 10 * 365/7 = 521.43 a year, 43.45 a month
    "weekly": ([monthly(1_000, interval="week")], PLAIN, [], [], (4_345,) * 3),
    "every second week": ([monthly(1_000, interval="week", interval_count=2)], PLAIN, [], [], (2_173,) * 3),
    # 1 * 365 / 12 = 30.4166...
    "daily": ([monthly(100, interval="day")], PLAIN, [], [], (3_042,) * 3),
    "every 30 days": ([monthly(3_000, interval="day", interval_count=30)], PLAIN, [], [], (3_042,) * 3),
    "two years at 2,400": ([yearly_item(240_000, interval_count=2)], PLAIN, [], [], (10_000,) * 3),
    # the golden deal: 30,000 + 20 * 600 + 15 * 200 = 45,000 a year
    "the 45,000 story": (
        [yearly_item(3_000_000), yearly_item(60_000, 20, id="si_2"), yearly_item(20_000, 15, id="si_3")],
        PLAIN,
        [],
        [],
        (375_000,) * 3,
    ),
    # rounded together: three thirds of a pound are a pound
    "thirds": ([monthly(100, interval_count=3, id=f"si_{n}") for n in range(3)], PLAIN, [], [], (100,) * 3),
    # half a penny five times is 2.5, to even 2; seven times is 3.5, to even 4
    "ties go to even, down": ([monthly("0.5", 5)], PLAIN, [], [], (2,) * 3),
    "ties go to even, up": ([monthly("0.5", 7)], PLAIN, [], [], (4,) * 3),
    "a price of a millionth of a penny": ([monthly("0.000001", 2_000_000)], PLAIN, [], [], (2,) * 3),
    # facts/stripe.md 6.2: an amount is spread in proportion and comes off every invoice: 100 + 300 less 40
    "an amount for ever": (
        [monthly(10_000), monthly(30_000, id="si_2")],
        PLAIN,
        [discount(amount_off=4_000)],
        [],
        (36_000,) * 3,
    ),
    "an amount for ever off a yearly bill": (
        [yearly_item(120_000)],
        PLAIN,
        [discount(amount_off=12_000)],
        [],
        (9_000,) * 3,
    ),
    "an amount never takes more than there is": ([monthly(1_000)], PLAIN, [discount(amount_off=4_000)], [], (0,) * 3),
    # the item's discount first (docstring order): 100 - 20 = 80, then 10% of 80 off = 72
    "an item's amount, then percent of all": (
        [monthly(10_000)],
        PLAIN,
        [discount(percent_off=Decimal(10), id="di_all"), discount(amount_off=2_000, id="di_item", item="si_1")],
        [],
        (7_200,) * 3,
    ),
    # 20% off one item of two: 100 + 0.8 * 50
    "percent of one item": (
        [monthly(10_000), monthly(5_000, id="si_2")],
        PLAIN,
        [discount(percent_off=Decimal(20), item="si_2")],
        [],
        (14_000,) * 3,
    ),
    # limited to a product: 10% of the 50 only
    "percent of one product": (
        [monthly(10_000), monthly(5_000, id="si_2", product="prod_2")],
        PLAIN,
        [discount(percent_off=Decimal(10), products=("prod_2",))],
        [],
        (14_500,) * 3,
    ),
    # two of the subscription in order: 100 less 50% less 10 = 40; the other way round it would be 45
    "percent, then an amount": (
        [monthly(10_000)],
        PLAIN,
        [
            discount(percent_off=Decimal(50), position=0),
            discount(amount_off=1_000, id="di_0", position=1),
        ],
        [],
        (4_000,) * 3,
    ),
    "an amount, then percent": (
        [monthly(10_000)],
        PLAIN,
        [
            discount(percent_off=Decimal(50), position=1),
            discount(amount_off=1_000, id="di_2", position=0),
        ],
        [],
        (4_500,) * 3,
    ),
    # 33.33% off 10.00 leaves 6.667
    "percent with decimals": ([monthly(1_000)], PLAIN, [discount(percent_off=Decimal("33.33"))], [], (667,) * 3),
    "a repeating discount that is over": (
        [monthly(1_000)],
        PLAIN,
        [discount("repeating", percent_off=Decimal(50), end_at=NOW)],
        [],
        (1_000,) * 3,
    ),
    "a discount that has not begun": (
        [monthly(1_000)],
        PLAIN,
        [discount(percent_off=Decimal(50), start_at=NOW + 1)],
        [],
        (1_000,) * 3,
    ),
    # its invoice was of the last period
    "a coupon that was spent before": (
        [monthly(1_000)],
        PLAIN,
        [],
        [line(discounts=("di_9:500",), period_start=NOW - 40 * DAY, period_end=NOW - 10 * DAY)],
        (1_000,) * 3,
    ),
    # 100 less 50% for ever is 50; the invoice also took 20 once: 30
    "for ever and once": (
        [monthly(10_000)],
        PLAIN,
        [HALF],
        [line(amount=10_000, discounts=("di_1:5000", "di_9:2000"))],
        (5_000, 3_000, 3_000),
    ),
    # 1,000 off a yearly bill of 12,000, once: 11,000 / 12 = 916.67
    "once off a yearly bill": (
        [yearly_item(1_200_000)],
        PLAIN,
        [],
        [line(amount=1_200_000, discounts=("di_9:100000",))],
        (100_000, 91_667, 91_667),
    ),
    # past due, half off for ever, a tenth off for some months: 50, 45, nothing
    "everything at once": (
        [monthly(10_000)],
        {"status": "past_due"},
        [HALF, discount("repeating", percent_off=Decimal(10), id="di_2", position=1, end_at=NOW + DAY)],
        [],
        (5_000, 4_500, 0),
    ),
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_worked_examples(example: Case) -> None:
    items, changed, discounts, lines, expected = example
    assert amounts(what_recurs(items, [subscription(**changed)], discounts, lines)) == expected


def test_currencies_are_never_added() -> None:
    euro = subscription(id="sub_e", currency="EUR")
    found = what_recurs(
        [monthly(1_000), monthly(2_000, id="si_2", subscription="sub_e", currency="EUR")], [subscription(), euro]
    )
    assert of_account(found)["stripe"] == {"GBP": 1_000, "EUR": 2_000}


def test_two_customers_of_an_account_are_one_payer_and_a_stranger_is_its_own() -> None:
    subscriptions = [subscription(), subscription(id="sub_2", customer="cus_2"), subscription(id="sub_3", customer="x")]
    items = [monthly(1_000, id=f"si_{s.id}", subscription=s.id) for s in subscriptions]
    frame = account_mrr(mrr_items(what_recurs(items, subscriptions, mapping=mapped(cus_2=ACCOUNT)), STRIPE))
    rows: list[AccountMrr] = to_records(frame.sort("payer"), ACCOUNT_MRR)
    assert [(row.payer, row.account_id, row.mrr_minor, row.subscriptions) for row in rows] == [
        (ACCOUNT, ACCOUNT, 2_000, 2),
        ("x", None, 1_000, 1),
    ]


def test_a_thousand_annual_plans_do_not_drift() -> None:
    """£100 a year is 833.33p a month: a thousand are 833,333p together, and the subscriptions show 833p each."""
    subscriptions = [subscription(id=f"sub_{n}") for n in range(1000)]
    items = [yearly_item(10_000, id=f"si_{n}", subscription=f"sub_{n}") for n in range(1000)]
    counted = mrr_items(what_recurs(items, subscriptions), STRIPE)
    assert account_mrr(counted)["mrr_minor"].to_list() == [Decimal(833_333)]
    assert mrr_subscriptions(counted)["mrr_minor"].unique().to_list() == [Decimal(833)]


@pytest.mark.parametrize(
    ("changed", "name", "why_not"),
    [
        ({}, "stripe", None),
        ({"status": "trialing"}, "stripe", "trial"),
        ({"status": "past_due"}, "finance", "past_due"),
        ({"status": "past_due", "cancel_at": NOW + DAY}, "finance", "past_due"),
        ({"collection_paused": True, "cancel_at": NOW + DAY}, "finance", "collection_paused"),
        ({"cancel_at": NOW + DAY}, "finance", "scheduled_end"),
        ({"status": "dormant"}, "stripe", "unknown_status"),
    ],
)
def test_an_item_says_why_it_does_not_count(changed: dict[str, Any], name: str, why_not: str | None) -> None:
    frame = mrr_items(what_recurs([item()], [subscription(**changed)]), DEFINITIONS[name])
    assert violations(frame, MRR_ITEMS) == []
    (row,) = to_records(frame, MRR_ITEMS)
    assert isinstance(row, MrrItem)
    assert (row.why_not, row.counts, row.mrr_minor > 0) == (why_not, why_not is None, why_not is None)


def test_the_bridge_names_every_difference() -> None:
    """100 a month past due with 10% off for some months: 100 - 10 is ChartMogul's 90; finance loses these 90 too."""
    found = what_recurs(
        [monthly(10_000)],
        [subscription(status="past_due")],
        [discount("repeating", percent_off=Decimal(10), end_at=NOW + DAY)],
    )
    assert bridge(found, "chartmogul") == [("repeating_discount", -1_000)]
    assert bridge(found, "finance") == [("past_due", -9_000), ("repeating_discount", -1_000)]
    assert bridge(found, "stripe") == []


def bridge(found: Recurring, name: str) -> list[tuple[str, int]]:
    frame = mrr_bridge(found, DEFINITIONS[name])
    assert violations(frame, MRR_BRIDGE) == []
    return [(row.reason, row.mrr_minor) for row in to_records(frame.sort("reason"), MRR_BRIDGE)]


intervals = st.sampled_from([("month", 1), ("month", 3), ("month", 5), ("year", 1), ("week", 2), ("day", 7)])
prices = st.decimals(0, 10**7, places=2) | st.integers(0, 10**7).map(Decimal) | st.decimals(0, 1, places=12)


priced = st.one_of(
    st.fixed_dictionaries({"unit_amount": st.none() | prices}),
    st.fixed_dictionaries(
        {
            "unit_amount": st.none(),
            "package_amount": prices,
            "package_size": st.integers(1, 10**4),
            "package_rounding": st.sampled_from(["up", "down"]),
        }
    ),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Subscription], list[SubscriptionItem], list[Discount], list[InvoiceLine]]:
    subscriptions = [
        subscription(
            id=f"sub_{n}",
            customer=draw(st.sampled_from([CUSTOMER, "cus_2", "cus_3"])),
            status=draw(st.sampled_from(["active", "past_due", "unpaid", "trialing", "canceled", "paused"])),
            collection_paused=draw(st.booleans()),
            cancel_at_period_end=draw(st.booleans()),
        )
        for n in range(draw(st.integers(0, 4)))
    ]
    items, discounts, lines = [], [], []
    for owner in subscriptions:
        for n in range(draw(st.integers(0, 3))):
            interval, count = draw(intervals)
            items.append(
                item(
                    id=f"si_{owner.id}_{n}",
                    subscription=owner.id,
                    interval=interval,
                    interval_count=count,
                    **draw(priced),
                    quantity=draw(st.none() | st.integers(0, 10**4)),
                    usage_type=draw(st.sampled_from(["licensed", "licensed", "metered"])),
                )
            )
            if draw(st.booleans()):
                name = f"il_{owner.id}_{n}"
                once = (f"di_spent:{draw(st.integers(0, 10**4))}",)
                lines.append(line(id=name, item=items[-1].id, subscription=owner.id, discounts=once))
        for n in range(draw(st.integers(0, 2))):
            percent = draw(st.none() | st.decimals(0, 100, places=2))
            made = discount(
                draw(st.sampled_from(["forever", "repeating", "once"])), id=f"di_{owner.id}_{n}", subscription=owner.id
            )
            discounts.append(
                replace(
                    made, percent_off=percent, amount_off=None if percent is not None else draw(st.integers(0, 10**6))
                )
            )
    return subscriptions, items, discounts, lines


def exact(frame: pl.DataFrame) -> dict[str, Fraction]:
    """The sum of the exact yearly amounts, by payer."""
    sums: dict[str, Fraction] = {}
    for payer, numerator, denominator in frame.select("payer", "yearly_numerator", "yearly_denominator").iter_rows():
        sums[payer] = sums.get(payer, Fraction(0)) + Fraction(int(numerator), int(denominator))
    return {payer: value for payer, value in sums.items() if value}


def assert_same(some: dict[str, Fraction], others: dict[str, Fraction]) -> None:
    """Equal, but for the billionths to which each amount is kept that needs more than thirty digits."""
    for payer in some.keys() | others.keys():
        difference = some.get(payer, Fraction(0)) - others.get(payer, Fraction(0))
        assert abs(difference) <= Fraction(len(some) + len(others) + 40, BILLIONTHS), (payer, difference)


@given(worlds())
@settings(max_examples=40)
def test_the_bridge_adds_up_exactly(world: tuple[Any, Any, Any, Any]) -> None:
    subscriptions, items, discounts, lines = world
    found = what_recurs(items, subscriptions, discounts, lines)
    stripe = mrr_items(found, STRIPE)
    fraction = ["payer", "yearly_numerator", "yearly_denominator"]
    for definition in (CHARTMOGUL, FINANCE):
        steps, other = mrr_bridge(found, definition), mrr_items(found, definition)
        assert_same(exact(pl.concat([stripe.select(fraction), steps.select(fraction)])), exact(other))
        assert bridge_gaps(pl.concat([stripe, other]), steps).is_empty()
        if not steps.is_empty():
            assert not bridge_gaps(pl.concat([stripe, other]), steps[1:]).is_empty()


@given(worlds())
@settings(max_examples=40)
def test_subscriptions_and_payers_are_the_exact_sums_of_their_items(world: tuple[Any, Any, Any, Any]) -> None:
    subscriptions, items, discounts, lines = world
    found = what_recurs(items, subscriptions, discounts, lines)
    for definition in DEFINITIONS.values():
        counted = mrr_items(found, definition)
        for frame, table in (
            (mrr_subscriptions(counted), MRR_SUBSCRIPTIONS),
            (account_mrr(counted), ACCOUNT_MRR),
        ):
            assert violations(frame, table) == []
            assert_same(exact(frame), exact(counted))
        for row in to_records(account_mrr(counted), ACCOUNT_MRR):
            assert row.mrr_minor == round(Fraction(row.yearly_numerator, row.yearly_denominator) / 12)


@given(worlds())
@settings(max_examples=40)
def test_it_is_what_the_planner_writes_to_the_account(world: tuple[Any, Any, Any, Any]) -> None:
    subscriptions, items, discounts, lines = world
    found = what_recurs(items, subscriptions, discounts, lines)
    shown = {row.payer: row.mrr_minor for row in to_records(account_mrr(mrr_items(found, STRIPE)), ACCOUNT_MRR)}
    for customer, payer in ((CUSTOMER, ACCOUNT), ("cus_2", "cus_2"), ("cus_3", "cus_3")):
        own = [s for s in subscriptions if s.customer == customer]
        billing = Billing(tuple(subscriptions), tuple(items), tuple(discounts))
        planned = monthly_recurring_revenue(billing, "GBP", (s for s in own if s.status in EARNING))
        assert shown.get(payer, 0) == planned.minor


def test_amounts_beyond_the_columns_arithmetic_are_exact_too() -> None:
    huge = monthly("999999999999.123456789012", 10**6)
    found = mrr_items(what_recurs([huge]), STRIPE)
    assert exact(found) == {ACCOUNT: yearly(huge)}


def test_packages_beyond_the_columns_arithmetic_are_exact_too() -> None:
    huge = packages(3, "up", package_amount=Decimal("999999999999.123456789012"), quantity=10**7)
    assert_same(exact(mrr_items(what_recurs([huge]), STRIPE)), {ACCOUNT: yearly(huge)})
    assert yearly(huge) == Fraction("999999999999.123456789012") * 3_333_334 * 12
