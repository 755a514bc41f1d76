"""The certificate of agreement: every class of difference by hand, parts that add up, the age of a difference."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.differences import class_of_figure
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import Account, Opportunity
from sync_pipeline.core.stripe_records import InvoiceLine, SubscriptionSchedule
from sync_pipeline.frames.cash import Listings, cash
from sync_pipeline.frames.certificate import (
    BASE,
    Money,
    account_figures,
    does_not_add_up,
    period_invoices,
    repaired,
    since_when,
    unlike_the_planner,
    with_history,
)
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.rows import DealSubscription
from sync_pipeline.frames.schema import empty, violations
from sync_pipeline.frames.tables import (
    CERTIFICATE_ACCOUNTS,
    CERTIFICATE_HISTORY,
    DEAL_SUBSCRIPTIONS,
    MRR_AT_RISK,
)
from sync_pipeline.frames.unbilled import unbilled_deals
from sync_pipeline_tests.core.making import ACCOUNT, NOW, OPPORTUNITY, item, packages, subscription
from sync_pipeline_tests.frames.recurring import DAY, line, mapped, what_recurs
from sync_pipeline_tests.frames.test_revenue_operations import deal, invoice, paid, snapshot, won

MONEY = ("invoices", "invoice_payments", "charges", "refunds", "disputes", "credit_notes")


def figures(
    mrr: str | None = "10.00",
    agreed: str | None = None,
    *,
    items: list[Any] | None = None,
    subscriptions: list[Any] | None = None,
    payments: list[Any] | None = None,
    ltv: str | None = None,
    currency: str = "GBP",
) -> dict[tuple[str, str], tuple[int, int, int, str]]:
    """measure, currency -> Salesforce, Stripe, difference, class; 10.00 a month recur unless a test says otherwise."""
    listings = {name: snapshot(f"stripe/{name}") for name in MONEY}
    listings["invoice_payments"] = snapshot("stripe/invoice_payments", *(payments or []))
    found = what_recurs([item()] if items is None else items, subscriptions)
    account = Account(
        id=ACCOUNT,
        currency=currency,
        mrr=None if mrr is None else Decimal(mrr),
        mrr_at_risk=Decimal(0),
        lifetime_value=None if ltv is None else Decimal(ltv),
    )
    base = [] if agreed is None else [(ACCOUNT, "mrr", f'"{agreed}"')]
    rows = account_figures(
        Money(found, empty(MRR_AT_RISK), cash(Listings(*listings.values()))),
        snapshot("salesforce/accounts", account),
        mapped(),
        pl.DataFrame(base, schema=BASE, orient="row"),
        "GBP",
        NOW,
    )
    assert violations(rows, CERTIFICATE_ACCOUNTS) == []
    assert does_not_add_up(rows).is_empty()
    return {
        (row.measure, row.currency): (
            row.salesforce_minor, row.stripe_minor, row.difference_minor, row.difference_class,
        )
        for row in to_records(rows, CERTIFICATE_ACCOUNTS)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "agreed", "expected"),
    [
        ("10.00", None, (1_000, 1_000, 0, "none")),
        ("10", "10", (1_000, 1_000, 0, "none")),
        (None, None, (0, 1_000, -1_000, "missing")),
        # Both agreed on 8; Stripe now has 10.
        ("8.00", "8", (800, 1_000, -200, "timing")),
        # Both agreed on 10; somebody has typed 12.34.
        ("12.34", "10", (1_234, 1_000, 234, "human_edit")),
        # Both agreed on 7, and neither has it now.
        ("12.00", "7", (1_200, 1_000, 200, "real")),
        ("12.00", None, (1_200, 1_000, 200, "real")),
    ],
)
def test_what_lies_between_the_two(shown: str | None, agreed: str | None, expected: tuple[int, int, int, str]) -> None:
    assert figures(shown, agreed)["mrr", "GBP"] == expected
    # The same of one Account at a time.
    minor = [None if each is None else int(Decimal(each) * 100) for each in (shown, agreed)]
    assert class_of_figure(minor[0], 1_000, minor[1], has_customer=True) == expected[3]


def test_an_empty_field_and_nothing_in_stripe_are_the_same() -> None:
    assert figures(None, items=[], ltv=None)["mrr", "GBP"] == (0, 0, 0, "none")


def test_what_is_past_due_recurs_and_what_is_unpaid_does_not() -> None:
    subs = [subscription(status="past_due"), subscription(id="sub_2", status="unpaid")]
    items = [item(), item(id="si_2", subscription="sub_2")]
    assert figures("10.00", items=items, subscriptions=subs)["mrr", "GBP"][3] == "none"


def test_another_currency_stands_by_itself() -> None:
    subs = [subscription(), subscription(id="sub_e", currency="EUR")]
    items = [item(), item(id="si_e", subscription="sub_e", currency="EUR", unit_amount=Decimal(700))]
    found = figures("10.00", items=items, subscriptions=subs)
    assert found["mrr", "GBP"][3] == "none"
    assert found["mrr", "EUR"] == (0, 700, -700, "fx")


def test_collected_cash_is_held_against_the_field() -> None:
    found = figures(payments=[paid(amount_paid=4_500)], ltv="45.00")
    assert found["lifetime_value", "GBP"] == (4_500, 4_500, 0, "none")
    assert figures(payments=[paid(amount_paid=4_501)], ltv="45.00")["lifetime_value", "GBP"] == (
        4_500, 4_501, -1, "real",
    )  # fmt: skip


def test_yen_has_no_pennies() -> None:
    yen = {"currency": "JPY"}
    found = figures(
        "1000", items=[item(unit_amount=Decimal(1000), **yen)], subscriptions=[subscription(**yen)], currency="JPY"
    )
    assert found["mrr", "JPY"] == (1_000, 1_000, 0, "none")


def billed(amount: str, lines: list[InvoiceLine], items: list[Any], **changed: Any) -> dict[str, int]:
    """Class -> part of the deal's amount less the invoice's total."""
    bill = invoice(billing_reason="subscription_cycle", **changed)
    rows = period_invoices(
        snapshot("salesforce/opportunities", won(amount=Decimal(amount))),
        to_frame([deal()], DEAL_SUBSCRIPTIONS),
        snapshot("stripe/subscription_items", *items),
        snapshot("stripe/invoices", bill, invoice(9, billing_reason="manual", created_at=NOW)),
        snapshot("stripe/invoice_lines", *lines),
        NOW,
    )
    assert violations(rows, CERTIFICATE_ACCOUNTS) == []
    assert does_not_add_up(rows).is_empty()
    shown: list[Any] = to_records(rows, CERTIFICATE_ACCOUNTS)
    assert {(row.subject, row.stripe_minor) for row in shown} == {(OPPORTUNITY, bill.total)}
    return {row.difference_class: row.difference_minor for row in shown}


def test_an_invoice_as_agreed() -> None:
    assert billed("120.00", [line(amount=12_000)], [item(unit_amount=Decimal(12_000))]) == {"none": 0}


def test_discount_tax_and_proration_each_have_their_part() -> None:
    # 120.00 agreed; 20.00 off, 30.00 for a part of a period, 20% of the 130.00 as tax: 156.00 billed.
    lines = [
        line(amount=12_000, discounts=("di_1:1500", "di_2:500")),
        line(id="il_2", amount=4_000, is_proration=True),
        line(id="il_3", amount=-1_000, is_proration=True),
    ]
    assert billed("120.00", lines, [item(unit_amount=Decimal(12_000))], total=15_600, tax=2_600) == {
        "discount": 2_000,
        "proration": -3_000,
        "tax": -2_600,
    }


def test_seats_that_the_next_invoice_bills_are_a_matter_of_time() -> None:
    # The deal and the subscription say 3 seats of 60.00, the last invoice billed 2.
    assert billed("180.00", [line(amount=12_000)], [item(unit_amount=Decimal(6_000), quantity=3)]) == {"timing": 6_000}


def test_seats_in_packages_that_the_next_invoice_bills_are_a_matter_of_time() -> None:
    """18 packages of ten at 10.00, the last of them begun."""
    assert billed("180.00", [line(amount=12_000)], [packages(10, "up", quantity=171)]) == {"timing": 6_000}


def test_what_nothing_explains_is_real() -> None:
    assert billed("125.00", [line(amount=12_000)], [item(unit_amount=Decimal(12_000))]) == {"real": 500}


def test_a_split_deal_is_held_against_the_invoices_of_all_its_parts() -> None:
    # 168.00 agreed: 120.00 a year in the first part; 48.00 in the second, of which 4.00 were off.
    second = "sub_2"
    bills = [
        invoice(1, billing_reason="subscription_create"),
        invoice(2, billing_reason="subscription_create", subscription=second, total=4_400),
    ]
    lines = [line(amount=12_000), line(id="il_2", invoice="in_2", amount=4_800, discounts=("di_1:400",))]
    items = [
        item(unit_amount=Decimal(12_000)),
        item(id="si_2", subscription=second, unit_amount=Decimal(4_800)),
    ]
    rows = period_invoices(
        snapshot("salesforce/opportunities", won(amount=Decimal("168.00"))),
        to_frame([deal(), deal(deal_id=f"{OPPORTUNITY}:2", subscription_id=second)], DEAL_SUBSCRIPTIONS),
        snapshot("stripe/subscription_items", *items),
        snapshot("stripe/invoices", *bills),
        snapshot("stripe/invoice_lines", *lines),
        NOW,
    )
    (row,) = to_records(rows, CERTIFICATE_ACCOUNTS)
    assert (row.subject, row.salesforce_minor, row.stripe_minor) == (OPPORTUNITY, 16_800, 16_400)
    assert (row.difference_class, row.difference_minor) == ("discount", 400)


def test_a_deal_that_is_billed_in_another_currency_stands_in_both() -> None:
    """45,000 yen were sold, 120.00 pounds are billed: neither is the other's amount, and both are on record."""
    rows = period_invoices(
        snapshot("salesforce/opportunities", won(amount=Decimal(45_000), currency="JPY")),
        to_frame([deal()], DEAL_SUBSCRIPTIONS),
        snapshot("stripe/subscription_items", item(unit_amount=Decimal(12_000))),
        snapshot("stripe/invoices", invoice(billing_reason="subscription_cycle", total=12_000)),
        snapshot("stripe/invoice_lines", line(amount=12_000)),
        NOW,
    )
    assert violations(rows, CERTIFICATE_ACCOUNTS) == []
    assert does_not_add_up(rows).is_empty()
    found: list[Any] = to_records(repaired(rows, [ACCOUNT]), CERTIFICATE_ACCOUNTS)
    told = {each.currency: (each.salesforce_minor, each.stripe_minor, each.difference_minor) for each in found}
    assert told == {"JPY": (45_000, 0, 45_000), "GBP": (0, 12_000, -12_000)}
    assert {(each.subject, each.difference_class) for each in found} == {(OPPORTUNITY, "fx")}
    assert all("two currencies" in each.repair for each in found)


@given(
    st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-(10**6), 10**6),
    st.integers(0, 10**6),
)  # fmt: skip
def test_the_parts_always_add_up(amount: int, full: int, off: int, prorated: int, tax: int) -> None:
    lines = [line(amount=full, discounts=(f"di_1:{off}",)), line(id="il_2", amount=prorated, is_proration=True)]
    total = full - off + prorated + tax
    found = billed(str(Decimal(amount).scaleb(-2)), lines, [item()], total=total, tax=tax)
    assert sum(found.values()) == amount - total


CUSTOMERLESS = "001000000000009AAA"


def test_what_is_shown_without_a_customer_is_missing_at_stripe() -> None:
    listings = {name: snapshot(f"stripe/{name}") for name in MONEY}
    accounts = [
        Account(id=ACCOUNT, currency="GBP", mrr=Decimal("10.00")),
        # Somebody typed 55.00 of revenue; its lifetime value is 0.00 and agrees with nothing at Stripe.
        Account(id=CUSTOMERLESS, currency="GBP", mrr=Decimal("55.00"), lifetime_value=Decimal(0)),
        Account(id="001000000000008AAA", currency="GBP", mrr=Decimal(0)),
    ]
    rows = account_figures(
        Money(what_recurs([item()]), empty(MRR_AT_RISK), cash(Listings(*listings.values()))),
        snapshot("salesforce/accounts", *accounts),
        mapped(),
        pl.DataFrame(schema=BASE),
        "GBP",
        NOW,
    )
    assert violations(rows, CERTIFICATE_ACCOUNTS) == []
    assert does_not_add_up(rows).is_empty()
    alone = rows.filter(account_id=CUSTOMERLESS)
    found: list[Any] = to_records(alone, CERTIFICATE_ACCOUNTS)
    assert [(each.measure, each.salesforce_minor, each.stripe_minor, each.difference_class) for each in found] == [
        ("mrr", 5_500, 0, "missing")
    ]
    assert rows["account_id"].unique().sort().to_list() == sorted([ACCOUNT, CUSTOMERLESS])
    # 10.00 and 55.00 in Salesforce, 10.00 at Stripe: the column's sums are the company's.
    mrr = rows.filter(measure="mrr").sum()
    assert mrr.select("salesforce_minor", "stripe_minor", "difference_minor").row(0) == (6_500, 1_000, 5_500)
    (done,) = to_records(repaired(alone, [CUSTOMERLESS]), CERTIFICATE_ACCOUNTS)
    assert (done.left_minor, done.repair.startswith("none: the Account has no customer")) == (5_500, True)
    # The planner knows nothing of such an Account, and is not contradicted.
    assert unlike_the_planner(rows, [CUSTOMERLESS]).is_empty()


def never_billed(
    *deals: Opportunity,
    matched: list[DealSubscription] | None = None,
    schedules: list[SubscriptionSchedule] | None = None,
    invoices: list[Any] | None = None,
    subscriptions: list[Any] | None = None,
    **rules: Any,
) -> dict[str, tuple[int, str, str]]:
    """Opportunity -> what is missing, its currency, its class."""
    rows = unbilled_deals(
        snapshot("salesforce/opportunities", *deals),
        to_frame(matched or [], DEAL_SUBSCRIPTIONS),
        snapshot("stripe/subscriptions", *(subscriptions or [])),
        snapshot("stripe/subscription_schedules", *(schedules or [])),
        snapshot("stripe/invoices", *(invoices or [])),
        Commercial(**rules),
        NOW,
    )
    assert violations(rows, CERTIFICATE_ACCOUNTS) == []
    assert does_not_add_up(rows).is_empty()
    shown: list[Any] = to_records(rows, CERTIFICATE_ACCOUNTS)
    assert {(row.measure, row.stripe_minor) for row in shown} <= {("period_invoice", 0)}
    return {row.subject: (row.difference_minor, row.currency, row.difference_class) for row in shown}


def test_a_won_deal_without_a_subscription_is_missing_at_stripe() -> None:
    yen = won(id="006_yen", amount=Decimal(900), currency="JPY")
    assert never_billed(won(amount=Decimal("120.50"), currency="GBP"), yen) == {
        OPPORTUNITY: (12_050, "GBP", "missing"),
        "006_yen": (900, "JPY", "missing"),
    }


def test_a_deal_that_is_not_to_be_billed_by_itself_is_not_missing() -> None:
    sold: dict[str, Any] = {"amount": Decimal(120), "currency": "GBP", "close_date": "2026-03-01"}
    others = [
        won(id="006_amends", **sold, amends_opportunity_id=OPPORTUNITY),
        won(id="006_typed", **sold, type="Amendment"),
        won(id="006_renews", **sold, renewal_key="sub_northwind:2026-12-01"),
        won(id="006_open", **sold, is_won=False),
        won(id="006_old", **sold | {"close_date": "2025-12-31"}),
        won(id="006_nothing", amount=Decimal(0)),
    ]
    assert never_billed(*others, go_live="2026-01-01") == {}
    of_types = [won(id=f"006_{name}", record_type=name, **sold) for name in ("Deal", "Change", "Donation")]
    rules: dict[str, Any] = {"deal_record_types": frozenset({"Deal"}), "amendment_record_types": frozenset({"Change"})}
    assert list(never_billed(*of_types, won(id="006_master", **sold), **rules)) == ["006_Deal"]


def test_a_deal_waits_for_its_first_invoice_or_never_gets_one() -> None:
    waiting = SubscriptionSchedule(
        id="sub_sched_1", customer="cus_1", status="not_started", starts_at=NOW + DAY, opportunity_id=OPPORTUNITY
    )
    canceled = replace(waiting, status="canceled")
    ended = subscription(status="canceled", ended_at=NOW)
    first = invoice(billing_reason="subscription_create")
    this = won(amount=Decimal(120), currency="GBP")

    def found(**there: Any) -> str | None:
        return never_billed(this, **there).get(OPPORTUNITY, (0, "", None))[2]

    assert found(schedules=[waiting]) == "timing"
    assert found(schedules=[canceled]) == "real"
    assert found(matched=[deal()], subscriptions=[subscription()]) == "timing"
    assert found(matched=[deal()], subscriptions=[ended]) == "real"
    # What has an invoice is compared with it, and what is ambiguous with nothing.
    assert found(matched=[deal()], subscriptions=[subscription()], invoices=[first]) is None
    assert found(matched=[deal()], subscriptions=[subscription()], invoices=[replace(first, status="void")]) == "timing"
    assert found(matched=[replace(deal(), state="ambiguous")], subscriptions=[subscription()]) is None


def test_a_missing_deal_is_billed_by_the_run_or_left() -> None:
    rows = rows_of("missing", "timing").with_columns(pl.lit("period_invoice").alias("measure"))
    for left, expected in (([ACCOUNT], (10, "not yet")), ([], (0, "billed by this run"))):
        missing, later = to_records(repaired(rows, left), CERTIFICATE_ACCOUNTS)
        assert (missing.left_minor, missing.repair.startswith(expected[1])) == (expected[0], True)
        assert (later.left_minor, later.repair) == (0, "none needed: it is as it should be")


def rows_of(*causes: str, at: int = NOW) -> pl.DataFrame:
    base = {"account_id": ACCOUNT, "measure": "mrr", "currency": "GBP", "salesforce_minor": 100, "stripe_minor": 90}
    made = [
        CERTIFICATE_ACCOUNTS.row(
            **base, subject=f"{ACCOUNT}{n}", difference_class=cause, difference_minor=0 if cause == "none" else 10,
            repair=None, left_minor=0, since_at=None if cause == "none" else at,
        )
        for n, cause in enumerate(causes)
    ]  # fmt: skip
    return to_frame(made, CERTIFICATE_ACCOUNTS)


def test_a_difference_is_as_old_as_the_certificate_that_first_saw_it() -> None:
    later = since_when(rows_of("real", "timing", "real", at=NOW + DAY), rows_of("real", "real", "none"))
    found = {row.subject[-1]: row.since_at for row in to_records(later, CERTIFICATE_ACCOUNTS)}
    assert found == {"0": NOW, "1": NOW + DAY, "2": NOW + DAY}


def test_history_keeps_every_certificate_once() -> None:
    first = with_history(rows_of("none", "none", "real"), empty(CERTIFICATE_HISTORY), NOW)
    assert violations(first, CERTIFICATE_HISTORY) == []
    again = with_history(rows_of("none", "none", "real"), first, NOW)
    assert again.height == first.height == 2
    both: list[Any] = to_records(with_history(rows_of("real", at=NOW + DAY), again, NOW + DAY), CERTIFICATE_HISTORY)
    assert sorted(
        (row.certified_at - NOW, row.difference_class, row.figures, row.difference_minor) for row in both
    ) == [
        (0, "none", 2, 0),
        (0, "real", 1, 10),
        (DAY, "real", 1, 10),
    ]


def test_only_an_accounts_own_figures_can_be_left() -> None:
    waiting = repaired(rows_of("real", "none", "fx"), [ACCOUNT])
    found = {row.difference_class: (row.left_minor, row.repair) for row in to_records(waiting, CERTIFICATE_ACCOUNTS)}
    assert found["real"] == (10, "not yet: see what the plan has left for this Account")
    assert found["none"] == (0, None)
    assert found["fx"][0] == 0
    done = repaired(rows_of("real"), [])
    assert [(row.left_minor, row.repair) for row in to_records(done, CERTIFICATE_ACCOUNTS)] == [
        (0, "written to the Account")
    ]


def test_the_tables_contradict_the_planner_only_where_it_finds_nothing_to_write() -> None:
    rows = rows_of("real", "none", "fx")
    assert unlike_the_planner(rows, ["001Other"]).is_empty()
    assert unlike_the_planner(rows, [ACCOUNT])["difference_class"].to_list() == ["real"]
    deals = rows.with_columns(pl.lit("period_invoice").alias("measure"))
    assert unlike_the_planner(deals, [ACCOUNT]).is_empty()


def test_a_figure_that_does_not_add_up_is_found() -> None:
    good = rows_of("real")
    assert does_not_add_up(good).is_empty()
    wrong = good.with_columns((pl.col("difference_minor") + 1).alias("difference_minor"))
    assert does_not_add_up(wrong).height == 1
