"""What recurred in the past: from invoices, from what was seen, and what was believed when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core.mrr_definitions import DEFINITIONS
from sync_pipeline.core.stripe_records import Charge, Discount, InvoiceLine, Price, Subscription, SubscriptionItem
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.history import believed_at, billed, history
from sync_pipeline.frames.movements import KINDS, does_not_add_up, exchange_rates, movements, rollforward
from sync_pipeline.frames.mrr import account_mrr, mrr_items, recurring
from sync_pipeline.frames.rows import MrrMovement
from sync_pipeline.frames.schema import empty, violations
from sync_pipeline.frames.tables import EXCHANGE_RATES, MRR_HISTORY, MRR_MOVEMENTS, MRR_ROLLFORWARD, SNAPSHOTS
from sync_pipeline_tests.core.making import item, packages, subscription
from sync_pipeline_tests.frames.recurring import discount, line, mapped

ZONE = "Europe/London"


def at(day: str, hour: int = 12) -> int:
    return int(datetime.fromisoformat(f"{day}T{hour:02}:00:00+00:00").timestamp()) * 1_000_000


def period(start: str, end: str, **changed: Any) -> InvoiceLine:
    return line(period_start=at(start), period_end=at(end), id=f"il_{start}_{changed.get('item', 'si_1')}", **changed)


PLAIN_PRICE = Price(id="price_1", product="prod_1", currency="GBP", interval="month", interval_count=1)


def look(
    day: str,
    items: Sequence[SubscriptionItem],
    lines: Sequence[InvoiceLine],
    subscriptions: Sequence[Subscription] | None = None,
    discounts: Sequence[Discount] = (),
    known: pl.DataFrame | None = None,
    before: str | None = None,
    price: Price = PLAIN_PRICE,
) -> pl.DataFrame:
    """The history in all definitions after a look at noon of a day; `before` is the day of the look before it."""
    tables = {
        "stripe/subscription_items": items,
        "stripe/subscriptions": [running()] if subscriptions is None else subscriptions,
        "stripe/discounts": discounts,
        "stripe/invoice_lines": lines,
        "stripe/prices": [price],
    }
    all_items, subs, offs, billed_lines, prices = (to_frame(rows, SNAPSHOTS[name]) for name, rows in tables.items())
    found = recurring(all_items, subs, offs, billed_lines, mapped(), at(day))
    said = billed(billed_lines, all_items, prices, offs)
    was = empty(MRR_HISTORY) if known is None else known
    looked = None if before is None else at(before)
    after = pl.concat(
        history(said, mrr_items(found, each), subs, each, was, at(day), looked) for each in DEFINITIONS.values()
    )
    assert violations(after, MRR_HISTORY) == []
    return after


def running(**changed: Any) -> Subscription:
    start = at("2026-01-01")
    return subscription(**({"created_at": start, "start_at": start} | changed))


def told(table: pl.DataFrame, definition: str = "stripe", known_at: int | None = None) -> list[tuple[str, int]]:
    """Days on which an item's amount changed, and the amount from then on, as it is believed."""
    rows = to_records(believed_at(table, known_at).filter(definition=definition).sort("true_from_at"), MRR_HISTORY)
    return [(datetime.fromtimestamp(r.true_from_at // 1_000_000, UTC).date().isoformat(), r.mrr_minor) for r in rows]


def moved(table: pl.DataFrame, definition: str = "stripe") -> list[tuple[str, str, int]]:
    found = movements(table, mapped(), ZONE)
    assert violations(found, MRR_MOVEMENTS) == []
    rows: list[MrrMovement] = to_records(found.filter(definition=definition).sort("day_date"), MRR_MOVEMENTS)
    return [(row.day_date, row.kind, row.movement_minor) for row in rows]


MONTHS = [("2026-01-01", "2026-02-01"), ("2026-02-01", "2026-03-01"), ("2026-03-01", "2026-04-01")]
SAME = [period(start, end) for start, end in MONTHS]


def test_months_at_the_same_rate_are_one_step_and_one_movement() -> None:
    table = look("2026-03-10", [item()], SAME)
    assert told(table) == [("2026-01-01", 1_000)]
    assert moved(table) == [("2026-01-01", "new", 1_000)]


def test_a_month_that_nothing_bills_is_no_revenue() -> None:
    table = look("2026-03-10", [item()], [SAME[0], SAME[2]])
    assert moved(table) == [
        ("2026-01-01", "new", 1_000),
        ("2026-02-01", "churn", -1_000),
        ("2026-03-01", "reactivation", 1_000),
    ]


def test_months_that_say_the_same_are_kept_as_one_row() -> None:
    items = to_frame([item()], SNAPSHOTS["stripe/subscription_items"])
    lines = [*SAME, period("2026-04-01", "2026-05-01", quantity=2, amount=2_000), period("2026-06-01", "2026-07-01")]
    said = billed(
        to_frame(lines, SNAPSHOTS["stripe/invoice_lines"]),
        items,
        empty(SNAPSHOTS["stripe/prices"]),
        empty(SNAPSHOTS["stripe/discounts"]),
    )
    shown = [(f"{start:%m-%d}", f"{end:%m-%d}") for start, end in said.select("start", "end").iter_rows()]
    assert shown == [("01-01", "04-01"), ("04-01", "05-01"), ("06-01", "07-01")]


def test_a_second_look_that_sees_the_same_changes_nothing() -> None:
    first = look("2026-03-10", [item()], SAME)
    second = look("2026-03-11", [item()], SAME, known=first, before="2026-03-10")
    assert second.sort("definition").equals(first.sort("definition"))


def test_more_seats_within_a_month_count_from_their_day() -> None:
    # One seat of 10.00; on the 11th of February a credit for the rest of it and a debit for three.
    credit = period("2026-02-11", "2026-03-01", amount=-643, is_proration=True, unit_amount=Decimal(1000))
    debit = line(
        id="il_debit", amount=1929, quantity=3, is_proration=True,
        period_start=at("2026-02-11"), period_end=at("2026-03-01"),
    )  # fmt: skip
    march = period("2026-03-01", "2026-04-01", amount=3000, quantity=3)
    table = look("2026-03-10", [item(quantity=3)], [*SAME[:2], credit, debit, march])
    assert told(table) == [("2026-01-01", 1_000), ("2026-02-11", 3_000)]
    assert moved(table) == [("2026-01-01", "new", 1_000), ("2026-02-11", "expansion", 2_000)]


@pytest.mark.parametrize("gone", [False, True])
def test_packages_are_what_an_invoice_bills(gone: bool) -> None:
    """25 and then 100 seats, in packages of ten at 10.00: 3 and 10 of them. Of an item that is gone the price tells."""
    lines = [
        period(*MONTHS[0], amount=3_000, quantity=25),
        *(period(*each, amount=10_000, quantity=100) for each in MONTHS[1:]),
    ]
    of_packages: dict[str, Any] = {"package_amount": Decimal(1000), "package_size": 10, "package_rounding": "up"}
    items = [] if gone else [packages(10, "up", quantity=100)]
    table = look("2026-03-10", items, lines, price=replace(PLAIN_PRICE, **of_packages))
    assert told(table)[:2] == [("2026-01-01", 3_000), ("2026-02-01", 10_000)]


def test_an_item_that_was_taken_out_ends_with_its_credit() -> None:
    credit = period("2026-02-11", "2026-03-01", amount=-643, is_proration=True, item="si_2")
    second = [period(start, end, item="si_2", amount=500, unit_amount=Decimal(500)) for start, end in MONTHS[:2]]
    table = look("2026-03-10", [item()], [*SAME, *second, credit])
    assert moved(table) == [("2026-01-01", "new", 1_500), ("2026-02-11", "contraction", -500)]


def test_a_subscription_that_ended_is_churn_and_a_later_one_a_reactivation() -> None:
    ended = running(status="canceled", ended_at=at("2026-02-10"), canceled_at=at("2026-02-03"))
    again = running(id="sub_2", start_at=at("2026-03-01"))
    lines = [*SAME[:2], period("2026-03-01", "2026-04-01", subscription="sub_2", item="si_2")]
    table = look("2026-03-10", [item(), item(id="si_2", subscription="sub_2")], lines, [ended, again])
    assert moved(table) == [
        ("2026-01-01", "new", 1_000),
        ("2026-02-10", "churn", -1_000),
        ("2026-03-01", "reactivation", 1_000),
    ]
    # Finance lets it go on the day on which the end was asked for.
    assert moved(table, "finance")[1] == ("2026-02-03", "churn", -1_000)


def test_a_trial_counts_from_its_first_paid_period() -> None:
    trial = period("2026-01-01", "2026-02-01", amount=0)
    table = look("2026-03-10", [item()], [trial, *SAME[1:]])
    assert moved(table) == [("2026-02-01", "new", 1_000)]


def test_a_trial_that_still_runs_counts_for_nothing() -> None:
    trial = period("2026-01-01", "2026-02-01", amount=0)
    table = look("2026-01-10", [item()], [trial], [running(status="trialing", trial_end_at=at("2026-02-01"))])
    assert moved(table) == []


def test_a_yearly_plan_counts_a_twelfth_all_year() -> None:
    whole = period("2026-01-01", "2027-01-01", amount=120_000, unit_amount=Decimal(120_000), price=None)
    table = look("2026-03-10", [item(interval="year", unit_amount=Decimal(120_000))], [whole])
    assert moved(table) == [("2026-01-01", "new", 10_000)]


def test_a_discount_for_two_months_is_seen_by_chartmogul_only() -> None:
    lines = [period(*MONTHS[0], discounts=("di_9:250",)), period(*MONTHS[1], discounts=("di_9:250",)), SAME[2]]
    table = look("2026-03-10", [item()], lines)
    assert moved(table) == [("2026-01-01", "new", 1_000)]
    assert moved(table, "chartmogul") == [("2026-01-01", "new", 750), ("2026-03-01", "expansion", 250)]


def test_whole_pennies_of_a_discount_are_no_movement() -> None:
    # A third off 10.00 is 3.33 on the invoice and 3.333... a month.
    third = discount(percent_off=Decimal("33.33"), start_at=at("2026-01-01"))
    lines = [period(*each, discounts=("di_1:333",)) for each in MONTHS]
    table = look("2026-03-10", [item()], lines, discounts=[third])
    assert moved(table) == [("2026-01-01", "new", 667)]


def test_a_new_seat_in_a_discounted_month_has_the_discount_of_the_month() -> None:
    half = discount(percent_off=Decimal(50), start_at=at("2026-01-01"))
    first = period("2026-02-01", "2026-03-01", discounts=("di_1:500",))
    debit = line(
        id="il_debit", amount=1929, quantity=3, is_proration=True,
        period_start=at("2026-02-11"), period_end=at("2026-03-01"),
    )  # fmt: skip
    table = look("2026-02-20", [item(quantity=3)], [first, debit], discounts=[half])
    assert moved(table) == [("2026-02-01", "new", 500), ("2026-02-11", "expansion", 1_000)]


def test_what_no_invoice_tells_counts_from_the_first_look_that_saw_it() -> None:
    first = look("2026-03-10", [item()], SAME)
    late = running(status="past_due")
    second = look("2026-03-12", [item()], SAME, [late], known=first, before="2026-03-10")
    assert moved(second) == [("2026-01-01", "new", 1_000)]
    assert moved(second, "finance") == [("2026-01-01", "new", 1_000), ("2026-03-12", "churn", -1_000)]
    april = [*SAME, period("2026-04-01", "2026-05-01")]
    # The next period is billed although it is still past due: no reactivation.
    third = look("2026-04-02", [item()], april, [late], known=second, before="2026-03-12")
    assert moved(third, "finance") == moved(second, "finance")
    paid = look("2026-04-05", [item()], april, known=third, before="2026-04-02")
    assert moved(paid, "finance")[-1] == ("2026-04-05", "reactivation", 1_000)
    later = look("2026-04-06", [item()], april, known=paid, before="2026-04-05")
    assert later.sort(MRR_HISTORY.key).equals(paid.sort(MRR_HISTORY.key))


def test_a_later_invoice_dates_a_change_back_and_what_was_believed_stays() -> None:
    first = look("2026-02-10", [item()], SAME[:2])
    # Three seats since the 11th; the proration waits for the next invoice.
    second = look("2026-02-12", [item(quantity=3)], SAME[:2], known=first, before="2026-02-10")
    assert told(second) == [("2026-01-01", 1_000), ("2026-02-12", 3_000)]
    debit = line(
        id="il_debit", amount=1929, quantity=3, is_proration=True,
        period_start=at("2026-02-11"), period_end=at("2026-03-01"),
    )  # fmt: skip
    lines = [*SAME[:2], debit, period("2026-03-01", "2026-04-01", quantity=3, amount=3000)]
    third = look("2026-03-02", [item(quantity=3)], lines, known=second, before="2026-02-12")
    assert told(third) == [("2026-01-01", 1_000), ("2026-02-11", 3_000)]
    assert told(third, known_at=at("2026-02-20")) == [("2026-01-01", 1_000), ("2026-02-12", 3_000)]
    assert told(third, known_at=at("2026-02-11")) == [("2026-01-01", 1_000)]
    assert told(third, known_at=at("2026-01-20")) == []


def test_a_day_is_the_companys() -> None:
    # 23:30 UTC on 30 June is half past midnight on 1 July in London.
    start = at("2026-06-30", 23) + 30 * 60 * 1_000_000
    lines = [line(period_start=start, period_end=at("2026-07-31"))]
    table = look("2026-07-10", [item()], lines, [running(start_at=start)])
    assert moved(table) == [("2026-07-01", "new", 1_000)]


def rolled(table: pl.DataFrame, rates: pl.DataFrame, last: date, period: str = "month") -> list[tuple[int, ...]]:
    found = rollforward(movements(table, mapped(), ZONE), rates, "GBP", last)
    assert violations(found, MRR_ROLLFORWARD) == []
    assert does_not_add_up(found).is_empty()
    rows = found.filter(definition="stripe", period=period, in_currency="GBP").sort("from_date")
    parts = ["start_minor", *(f"{kind}_minor" for kind in KINDS), "fx_minor", "end_minor"]
    return [tuple(map(int, row)) for row in rows.select(parts).iter_rows()]


def test_start_and_every_movement_is_the_end_month_by_month() -> None:
    ended = running(status="canceled", ended_at=at("2026-03-10"))
    up = [period(*MONTHS[0]), period(*MONTHS[1], quantity=3, amount=3000), period(*MONTHS[2], quantity=2, amount=2000)]
    table = look("2026-04-10", [item(quantity=2)], up, [ended])
    # start, new, expansion, contraction, churn, reactivation, fx, end
    assert rolled(table, empty(EXCHANGE_RATES), date(2026, 4, 10)) == [
        (0, 1_000, 0, 0, 0, 0, 0, 1_000),
        (1_000, 0, 2_000, 0, 0, 0, 0, 3_000),
        (3_000, 0, 0, -1_000, -2_000, 0, 0, 0),
        (0,) * 8,
    ]


def euro_charge(day: str, amount: int, settled: int, number: int) -> Charge:
    return Charge(
        id=f"ch_{number}", customer="cus_northwind", status="succeeded", currency="EUR", amount=amount,
        created_at=at(day), settled_currency="GBP", settled=settled,
    )  # fmt: skip


def test_the_change_of_a_rate_stands_by_itself() -> None:
    # 100 euro a month; 0.80 pounds from January, 0.90 from 10 February; a second hundred on the 10th itself is
    # valued at the rate of the day before: 100 * 0.8 + 100 * 0.8 = 160, 200 * 0.9 = 180, so 20 by the rate.
    charges = [euro_charge("2026-01-01", 10_000, 8_000, 1), euro_charge("2026-02-10", 10_000, 9_000, 2)]
    rates = exchange_rates(to_frame(charges, SNAPSHOTS["stripe/charges"]), "GBP", ZONE)
    assert violations(rates, EXCHANGE_RATES) == []
    euro: dict[str, Any] = {"currency": "EUR", "unit_amount": Decimal(10_000)}
    lines = [period(*each, amount=10_000, **euro) for each in MONTHS[:2]]
    more = line(
        id="il_more", item="si_2", amount=6_786, is_proration=True, **euro,
        period_start=at("2026-02-10"), period_end=at("2026-03-01"),
    )  # fmt: skip
    items = [item(**euro), item(id="si_2", **euro)]
    table = look("2026-02-20", items, [*lines, more], [running(currency="EUR")])
    assert rolled(table, rates, date(2026, 2, 20)) == [
        (0, 8_000, 0, 0, 0, 0, 0, 8_000),
        (8_000, 0, 8_000, 0, 0, 0, 2_000, 18_000),
    ]


def test_before_the_first_rate_there_is_no_movement_by_a_rate() -> None:
    rates = exchange_rates(
        to_frame([euro_charge("2026-02-10", 10_000, 8_500, 1)], SNAPSHOTS["stripe/charges"]), "GBP", ZONE
    )
    lines = [period(*each, amount=10_000, currency="EUR", unit_amount=Decimal(10_000)) for each in MONTHS[:2]]
    table = look("2026-02-20", [item(currency="EUR", unit_amount=Decimal(10_000))], lines, [running(currency="EUR")])
    assert [row[-2:] for row in rolled(table, rates, date(2026, 2, 20))] == [(0, 8_500), (0, 8_500)]


@st.composite
def _looks(draw: st.DrawFn) -> list[tuple[list[SubscriptionItem], list[InvoiceLine], Subscription]]:
    """Some nights of one subscription: quantities, rates and discounts change, with and without invoices."""
    nights, lines = [], []
    for start, end in [*MONTHS, ("2026-04-01", "2026-05-01")][: draw(st.integers(1, 4))]:
        items = []
        for n in range(draw(st.integers(0, 2))):
            unit, quantity = draw(st.sampled_from(["1000", "0.5", "333"])), draw(st.integers(1, 9))
            interval = draw(st.sampled_from(["month", "year", "week"]))
            items.append(item(id=f"si_{n}", unit_amount=Decimal(unit), quantity=quantity, interval=interval))
            if draw(st.booleans()):
                amount = round(Decimal(unit) * quantity)
                off = draw(st.integers(0, amount // 2))
                lines.append(
                    period(start, end, item=f"si_{n}", price=None, unit_amount=Decimal(unit), quantity=quantity,
                           amount=amount, discounts=(f"di_9:{off}",) if off else ())
                )  # fmt: skip
        status = draw(st.sampled_from(["active", "past_due", "unpaid", "canceled"]))
        sub = running(status=status, ended_at=at(start, 20) if status == "canceled" else None)
        nights.append((items, list(lines), sub))
    return nights


@settings(max_examples=25, deadline=None)
@given(_looks())
def test_the_end_of_the_roll_forward_is_what_recurs_now(
    nights: list[tuple[list[SubscriptionItem], list[InvoiceLine], Subscription]],
) -> None:
    table = empty(MRR_HISTORY)
    for n, (items, lines, sub) in enumerate(nights, 1):
        day = f"2026-{n:02}-15"
        last_look = f"2026-{n - 1:02}-15" if n > 1 else None
        table = look(day, items, lines, [sub], known=table, before=last_look)
        found = recurring(
            to_frame(items, SNAPSHOTS["stripe/subscription_items"]),
            to_frame([sub], SNAPSHOTS["stripe/subscriptions"]),
            empty(SNAPSHOTS["stripe/discounts"]),
            to_frame(lines, SNAPSHOTS["stripe/invoice_lines"]),
            mapped(),
            at(day),
        )
        now = movements(table, mapped(), ZONE)
        forward = rollforward(now, empty(EXCHANGE_RATES), "GBP", date(2026, n, 15))
        assert does_not_add_up(forward).is_empty()
        for name, definition in DEFINITIONS.items():
            recurs = sum(account_mrr(mrr_items(found, definition))["mrr_minor"].to_list())
            last = forward.filter(definition=name, period="day").sort("from_date")["end_minor"].to_list()
            assert (last[-1] if last else 0) == recurs, name


@pytest.mark.parametrize("period_", ["day", "month"])
def test_a_penny_that_is_missing_is_found(period_: str) -> None:
    table = look("2026-03-10", [item()], SAME)
    good = rollforward(movements(table, mapped(), ZONE), empty(EXCHANGE_RATES), "GBP", date(2026, 3, 10))
    wrong = good.with_columns(
        pl.when(pl.col("period") == period_).then(pl.col("new_minor") + 1).otherwise("new_minor").alias("new_minor")
    )
    assert set(does_not_add_up(wrong)["period"]) == {period_}
