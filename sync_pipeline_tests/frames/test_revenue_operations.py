"""Revenue at risk, churn, renewals, deals on their way to cash, and cohorts: worked by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core import churn
from sync_pipeline.core.at_risk import subscriptions_at_risk
from sync_pipeline.core.commands import Command
from sync_pipeline.core.contraction import recurring_revenue
from sync_pipeline.core.lifecycle import STATUS_WORDS
from sync_pipeline.core.money import Money
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.observation import Present
from sync_pipeline.core.readings import Subject, account_mrr_at_risk
from sync_pipeline.core.renewals import renewal_key
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.salesforce_records import ChurnRecord, Opportunity
from sync_pipeline.core.stripe_records import Customer, Dispute, Invoice, InvoicePayment, Refund, Subscription
from sync_pipeline.core.term import running_term
from sync_pipeline.core.world import Billing
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.deals import cohorts, deal_to_cash
from sync_pipeline.frames.ends import churn_records, renewal_pipeline
from sync_pipeline.frames.risk import CAUSES, mrr_at_risk
from sync_pipeline.frames.rows import DealSubscription, MovementKind, MrrMovement
from sync_pipeline.frames.schema import violations
from sync_pipeline.frames.tables import (
    CHURN_RECORDS,
    COHORTS,
    DEAL_SUBSCRIPTIONS,
    DEAL_TO_CASH,
    MRR_AT_RISK,
    MRR_MOVEMENTS,
    RENEWAL_PIPELINE,
    SNAPSHOTS,
)
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    RULES,
    SUBSCRIPTION,
    account,
    billed,
    item,
    subscription,
)
from sync_pipeline_tests.frames.recurring import DAY, mapped, what_recurs
from sync_pipeline_tests.frames.test_history import MONTHS, SAME, ZONE, at, look, period, running


def snapshot(name: str, *rows: Any) -> pl.DataFrame:
    return to_frame(rows, SNAPSHOTS[name])


def fitting(frame: pl.DataFrame, table: Table) -> list[Any]:
    assert violations(frame, table) == []
    return to_records(frame, table)


def invoice(number: int = 1, **changed: Any) -> Invoice:
    values: dict[str, Any] = {
        "id": f"in_{number}",
        "customer": CUSTOMER,
        "status": "open",
        "currency": "GBP",
        "created_at": NOW - 40 * DAY,
        "total": 12_000,
        "amount_due": 12_000,
        "amount_paid": 0,
        "amount_remaining": 12_000,
        "subscription": SUBSCRIPTION,
        "collection_method": "send_invoice",
        "due_at": NOW - 10 * DAY,
    }
    return Invoice(**(values | changed))


def paid(number: int = 1, **changed: Any) -> InvoicePayment:
    values: dict[str, Any] = {
        "id": f"inpay_{number}",
        "invoice": f"in_{number}",
        "customer": CUSTOMER,
        "status": "paid",
        "currency": "GBP",
        "amount_paid": 12_000,
        "paid_at": NOW - 5 * DAY,
        "payment": f"pi_{number}",
    }
    return InvoicePayment(**(values | changed))


def dispute(**changed: Any) -> Dispute:
    values: dict[str, Any] = {
        "id": "dp_1",
        "customer": CUSTOMER,
        "charge": "ch_1",
        "status": "needs_response",
        "currency": "GBP",
        "amount": 12_000,
        "withdrawn": 12_000,
        "created_at": NOW,
        "payment_intent": "pi_1",
    }
    return Dispute(**(values | changed))


def at_risk(
    subs: list[Subscription],
    invoices: list[Invoice] | None = None,
    payments: list[InvoicePayment] | None = None,
    disputes: list[Dispute] | None = None,
    card: str | None = None,
) -> list[tuple[str, str, int]]:
    """Subscription, cause and amount; each subscription has one item of 10.00 a month."""
    items = [item(id=f"si_{each.id}", subscription=each.id) for each in subs]
    frame = mrr_at_risk(
        what_recurs(items, subs),
        snapshot("stripe/subscriptions", *subs),
        snapshot("stripe/customers", Customer(id=CUSTOMER, payment_method=card)),
        snapshot("stripe/invoices", *(invoices or [])),
        snapshot("stripe/invoice_payments", *(payments or [])),
        snapshot("stripe/disputes", *(disputes or [])),
        NOW,
    )
    return sorted((row.subscription, row.cause, row.mrr_minor) for row in fitting(frame, MRR_AT_RISK))


def test_each_cause_by_itself() -> None:
    subs = [
        subscription(id="sub_failing", collection_method="charge_automatically", status="past_due"),
        subscription(id="sub_tried", collection_method="charge_automatically"),
        subscription(id="sub_overdue"),
        subscription(id="sub_disputed"),
        subscription(id="sub_leaving", cancel_at=NOW + DAY),
        subscription(id="sub_leaving_too", cancel_at_period_end=True),
        subscription(id="sub_trial", status="trialing", trial_end_at=NOW + DAY),
        subscription(id="sub_trial_card", status="trialing", trial_end_at=NOW + DAY, payment_method="pm_1"),
        subscription(id="sub_well"),
        subscription(id="sub_gone", status="canceled", ended_at=NOW),
    ]
    invoices = [
        invoice(1, subscription="sub_tried", collection_method="charge_automatically", due_at=None, attempt_count=1),
        invoice(2, subscription="sub_overdue"),
        invoice(3, subscription="sub_disputed", status="paid", amount_remaining=0),
        # Not due yet, and not yet tried: no risk.
        invoice(4, subscription="sub_well", due_at=NOW + DAY),
        invoice(5, subscription="sub_gone"),
    ]
    assert at_risk(subs, invoices, [paid(3, payment="pi_1")], [dispute()]) == [
        ("sub_disputed", "dispute", 1_000),
        ("sub_failing", "failing_payment", 1_000),
        ("sub_leaving", "scheduled_cancel", 1_000),
        ("sub_leaving_too", "scheduled_cancel", 1_000),
        ("sub_overdue", "overdue_invoice", 1_000),
        ("sub_trial", "trial_without_payment_method", 0),
        ("sub_tried", "failing_payment", 1_000),
    ]


def test_a_customers_own_card_pays_after_the_trial() -> None:
    trial = subscription(status="trialing", trial_end_at=NOW + DAY)
    assert at_risk([trial], card="pm_1") == []


def test_a_closed_dispute_is_no_risk() -> None:
    settled = invoice(1, status="paid", amount_remaining=0)
    assert at_risk([subscription()], [settled], [paid()], [dispute(status="won")]) == []


def test_with_every_cause_at_once_it_counts_once() -> None:
    sub = subscription(status="past_due", cancel_at_period_end=True)
    invoices = [invoice(1), invoice(2, status="paid", amount_remaining=0)]
    assert at_risk([sub], invoices, [paid(2, payment="pi_1")], [dispute()]) == [
        (SUBSCRIPTION, "overdue_invoice", 1_000)
    ]


@given(
    st.sampled_from([*STATUS_WORDS, "of_the_future"]),
    st.sampled_from(["send_invoice", "charge_automatically"]),
    st.sampled_from(["open", "paid", "draft", "void"]),
    st.integers(0, 2),
    st.sampled_from([None, NOW - DAY, NOW + DAY]),
    st.sampled_from(["needs_response", "won", "lost", None]),
)
def test_the_first_three_causes_are_those_of_the_planner(
    status: str, method: str, open_or_not: str, attempts: int, due: int | None, disputed: str | None
) -> None:
    sub = subscription(status=status, collection_method=method, payment_method="pm_1")
    bill = invoice(1, status=open_or_not, collection_method=method, attempt_count=attempts, due_at=due)
    other = invoice(2, status="paid", amount_remaining=0)
    payments = [paid(2, payment="pi_1")]
    disputes = [dispute(status=disputed)] if disputed else []
    billing = Billing(
        subscriptions=(sub,),
        items=(item(),),
        invoices=(bill, other),
        payments=tuple(payments),
        disputes=tuple(disputes),
    )
    found = {n: minor for n, cause, minor in at_risk([sub], [bill, other], payments, disputes) if cause in CAUSES[:3]}
    assert found.keys() == subscriptions_at_risk(billing, NOW)
    shown = account_mrr_at_risk(billed(billing=Present(billing)), RULES, Subject("account", ACCOUNT, account()))
    assert shown == Present(Money(sum(found.values()), "GBP"))
    assert sum(found.values()) <= monthly_recurring_revenue(billing, "GBP").minor


def test_churn_is_what_counted_just_before_the_end() -> None:
    ended = running(
        status="canceled", ended_at=at("2026-03-10"), canceled_at=at("2026-03-01"),
        cancellation_reason="cancellation_requested", cancellation_feedback="too_expensive",
    )  # fmt: skip
    lines = [*SAME[:2], period(*MONTHS[2], quantity=4, amount=4_000)]
    items = [item(quantity=4)]
    history = look("2026-04-10", items, lines, [ended])
    record = ChurnRecord(
        id="a01", key=f"{SUBSCRIPTION}:2", subscription_id=SUBSCRIPTION, status="Final",
        effective_date="2026-03-10", lost_mrr=Decimal("40.00"),
    )  # fmt: skip
    older = ChurnRecord(id="a00", key=f"{SUBSCRIPTION}:1", subscription_id=SUBSCRIPTION, status="Rescinded")
    smaller = ChurnRecord(
        id="a02", key=f"{SUBSCRIPTION}:contraction:2026-03-01", subscription_id=SUBSCRIPTION, kind="Contraction"
    )
    frame = churn_records(
        snapshot("stripe/subscriptions", ended),
        snapshot("stripe/subscription_items", *items),
        history,
        snapshot("salesforce/churn_records", record, older, smaller),
        mapped(),
        ZONE,
    )
    (row,) = fitting(frame, CHURN_RECORDS)
    assert (row.account_id, row.state, row.effective_date, row.lost_mrr_minor) == (
        ACCOUNT,
        "Final",
        "2026-03-10",
        4_000,
    )
    assert (row.is_voluntary, row.feedback) == (True, "too_expensive")
    assert (row.churn_record_id, row.episode, row.salesforce_lost_mrr_minor) == ("a01", 2, 4_000)


PAID = SAME
FREE = [period(start, end, amount=0) for start, end in MONTHS]


@pytest.mark.parametrize(
    ("status", "seen", "more", "lost"),
    [
        ("active", True, 0, 1_000),
        ("past_due", True, 0, 1_000),
        ("unpaid", True, 0, 0),
        ("unpaid", True, 12, 0),
        ("paused", True, 0, 0),
        ("trialing", True, 0, 0),
        ("active", False, 0, 1_000),
        ("past_due", False, 0, 1_000),
        ("trialing", False, 0, 0),
    ],
)
def test_what_an_end_loses_is_the_same_in_salesforce_and_in_the_table(
    status: str, seen: bool, more: int, lost: int
) -> None:
    """`more` seats were added while it was unpaid; the last look before the end was on 5 March, or there was none."""
    in_trial = status in ("trialing", "paused")
    trial = {"trial_end_at": at("2026-03-04" if status == "paused" else "2026-04-01")} if in_trial else {}
    before, ended = running(status=status, **trial), running(status="canceled", ended_at=at("2026-03-10"), **trial)
    items, lines = [item(quantity=1 + more)], FREE if in_trial else SAME
    known = look("2026-03-05", items, lines, [before]) if seen else None
    history = look("2026-03-20", items, lines, [ended], known=known, before="2026-03-05" if seen else None)
    frame = churn_records(
        snapshot("stripe/subscriptions", ended),
        snapshot("stripe/subscription_items", *items),
        history,
        snapshot("salesforce/churn_records"),
        mapped(),
        ZONE,
    )
    (row,) = fitting(frame, CHURN_RECORDS)
    billing = Billing(subscriptions=(before,), items=tuple(items))
    facts = tuple(recurring_revenue(ACCOUNT, billing, at("2026-03-19"))) if seen else ()
    world = billed(billing=Present(replace(billing, subscriptions=(ended,))), now=at("2026-03-20"), facts=facts)
    (record,) = churn.churn_records(world, RULES)
    assert isinstance(record, Command)
    assert (row.lost_mrr_minor, record.body["fields"]["Lost_MRR__c"] * 100) == (lost, lost)


def test_an_end_that_is_ahead_is_open_and_one_that_was_never_paid_is_none() -> None:
    leaving = running(cancel_at_period_end=True)
    never = running(id="sub_never", status="incomplete_expired", ended_at=at("2026-01-02"))
    items = [item(period_end=at("2026-04-01"))]
    history = look("2026-03-10", items, SAME, [leaving, never])
    frame = churn_records(
        snapshot("stripe/subscriptions", leaving, never),
        snapshot("stripe/subscription_items", *items),
        history,
        snapshot("salesforce/churn_records"),
        mapped(),
        ZONE,
    )
    (row,) = fitting(frame, CHURN_RECORDS)
    assert (row.subscription, row.state, row.effective_date) == (SUBSCRIPTION, "Open", "2026-04-01")
    assert (row.lost_mrr_minor, row.churn_record_id) == (1_000, None)


def deal(**changed: Any) -> DealSubscription:
    values: dict[str, Any] = {
        "deal_id": OPPORTUNITY,
        "opportunity_id": OPPORTUNITY,
        "subscription_id": SUBSCRIPTION,
        "account_id": ACCOUNT,
    }
    return DealSubscription(**(values | {"evidence": "link", "state": "matched"} | changed))


def won(**changed: Any) -> Opportunity:
    values: dict[str, Any] = {
        "id": OPPORTUNITY,
        "account_id": ACCOUNT,
        "is_won": True,
        "is_closed": True,
        "currency": "GBP",
    }
    return Opportunity(**(values | changed))


def renewals(day: str, sub: Subscription, *opportunities: Opportunity, hour: int = 12, zone: str = ZONE) -> list[Any]:
    items = [item(quantity=3, unit_amount=Decimal(12_000), interval="year")]
    found, subscriptions = what_recurs(items, [sub]), snapshot("stripe/subscriptions", sub)
    at_risk = mrr_at_risk(
        found,
        subscriptions,
        snapshot("stripe/customers"),
        snapshot("stripe/invoices"),
        snapshot("stripe/invoice_payments"),
        snapshot("stripe/disputes"),
        at(day, hour),
    )
    frame = renewal_pipeline(
        found,
        snapshot("salesforce/opportunities", *opportunities),
        subscriptions,
        to_frame([deal()], DEAL_SUBSCRIPTIONS),
        zone,
        90,
        at(day, hour),
        at_risk,
    )
    return fitting(frame, RENEWAL_PIPELINE)


def test_a_renewal_whose_payment_is_late_or_whose_end_is_scheduled_shows_its_risk() -> None:
    term = won(term_months=Decimal(12))
    start = at("2025-05-15")
    (calm,) = renewals("2026-04-15", running(start_at=start), term)
    (late,) = renewals("2026-04-15", running(start_at=start, status="past_due"), term)
    (ending,) = renewals("2026-04-15", running(start_at=start, cancel_at_period_end=True), term)
    assert (calm.risk, calm.is_ending) == (None, False)
    assert late.risk in ("failing_payment", "overdue_invoice")
    assert (ending.risk, ending.is_ending) == ("scheduled_cancel", True)


def test_a_renewal_is_due_ninety_days_before_the_end_of_its_term() -> None:
    sub = running(start_at=at("2025-01-15"))
    # 18 months from 15 January 2025 end on 15 July 2026; three seats at 120 a year are 540 in 18 months.
    two_years = won(term_months=Decimal(18))
    (early,) = renewals("2026-04-15", sub, two_years)
    assert (early.term_end_date, early.days_left, early.is_due) == ("2026-07-15", 91, False)
    assert (early.months, early.next_term_minor, early.renewal_opportunity_id) == (18, 54_000, None)
    opened = Opportunity(
        id="006R", renewal_key=f"{SUBSCRIPTION}:2026-07-15", stage="Renewal", amount=Decimal("540.00"), currency="GBP"
    )
    (due,) = renewals("2026-04-16", sub, two_years, opened)
    assert (due.days_left, due.is_due) == (90, True)
    assert (due.renewal_opportunity_id, due.renewal_stage, due.renewal_amount_minor) == ("006R", "Renewal", 54_000)


def test_no_term_and_nothing_running_renews_nothing() -> None:
    assert renewals("2026-04-15", running(), won()) == []
    assert renewals("2026-04-15", running(), won(term_months=Decimal("1.5"))) == []
    assert renewals("2026-04-15", running(status="canceled"), won(term_months=Decimal(12))) == []


ZONES = st.sampled_from(["Europe/London", "Europe/Berlin", "Asia/Kolkata", "America/Los_Angeles"])
HOURS = st.integers(0, 23)


@given(
    st.dates(date(2023, 1, 1), date(2026, 1, 1)),
    HOURS,
    st.integers(1, 36),
    st.dates(date(2026, 1, 2), date(2027, 1, 1)),
    HOURS,
    ZONES,
)
def test_terms_end_where_the_planner_ends_them(
    start: date, began: int, months: int, day: date, hour: int, zone: str
) -> None:
    """And each finds the renewal that the planner opens for it, by its key."""
    sub = running(start_at=at(start.isoformat(), began))
    term = running_term(sub, months, Commercial(time_zone=zone), at(day.isoformat(), hour))
    opened = Opportunity(id="006R", renewal_key=renewal_key(sub, term), stage="Renewal", currency="GBP")
    (row,) = renewals(day.isoformat(), sub, won(term_months=Decimal(months)), opened, hour=hour, zone=zone)
    assert (row.term_end_date, row.renewal_opportunity_id) == (term.day.isoformat(), "006R")


def to_cash(
    invoices: list[Invoice], payments: list[InvoicePayment], refunds: list[Refund], *, matched: bool = True
) -> Any:
    frame = deal_to_cash(
        snapshot(
            "salesforce/opportunities",
            won(close_date="2026-10-01", amount=Decimal("120.00")),
            # What it sold is in the deal, and is billed with it.
            won(id="006Amendment", amends_opportunity_id=won().id, amount=Decimal("20.00")),
        ),
        to_frame([deal()] if matched else [], DEAL_SUBSCRIPTIONS),
        snapshot("stripe/subscriptions", subscription()),
        snapshot("stripe/invoices", *invoices),
        snapshot("stripe/invoice_payments", *payments),
        snapshot("stripe/refunds", *refunds),
        ZONE,
    )
    (row,) = fitting(frame, DEAL_TO_CASH)
    return row


def test_a_deal_on_its_way_to_cash() -> None:
    # Won on 1 October; invoiced on 14 October (40 days before 23 November), paid on 18 November.
    assert to_cash([], [], [], matched=False).stage == "not billed"
    assert to_cash([], [], []).stage == "subscribed"
    billed = to_cash([invoice()], [], [])
    assert (billed.stage, billed.won_minor, billed.billed_minor, billed.days_to_invoice) == (
        "billed",
        12_000,
        12_000,
        13,
    )
    part = to_cash([invoice()], [paid(amount_paid=5_000)], [])
    assert (part.stage, part.collected_minor) == ("partly collected", 5_000)
    refund = Refund(
        id="re_1", customer=CUSTOMER, status="succeeded", currency="GBP", amount=2_000, created_at=NOW, payment="pi_1"
    )
    whole = to_cash([invoice(credited_after_payment=2_000)], [paid()], [refund])
    assert (whole.stage, whole.billed_minor, whole.collected_minor, whole.refunded_minor) == (
        "collected", 10_000, 12_000, 2_000,
    )  # fmt: skip
    assert (whole.first_payment_date, whole.days_to_cash) == ("2026-11-18", 48)


def test_a_split_deal_has_the_cash_of_all_its_parts() -> None:
    second = "sub_2"
    frame = deal_to_cash(
        snapshot("salesforce/opportunities", won(close_date="2026-10-01", amount=Decimal("168.00"))),
        to_frame([deal(deal_id=f"{OPPORTUNITY}:2", subscription_id=second), deal()], DEAL_SUBSCRIPTIONS),
        snapshot("stripe/subscriptions", subscription(), subscription(id=second)),
        snapshot("stripe/invoices", invoice(), invoice(2, subscription=second, total=4_800, created_at=NOW - 41 * DAY)),
        snapshot("stripe/invoice_payments", paid(), paid(2, amount_paid=4_000, paid_at=NOW - 2 * DAY)),
        snapshot("stripe/refunds"),
        ZONE,
    )
    (row,) = fitting(frame, DEAL_TO_CASH)
    assert (row.subscription_id, row.stage) == (SUBSCRIPTION, "partly collected")
    assert (row.won_minor, row.billed_minor, row.collected_minor) == (16_800, 16_800, 16_000)
    assert (row.first_invoice_date, row.first_payment_date, row.last_payment_date) == (
        "2026-10-13",
        "2026-11-18",
        "2026-11-21",
    )


def test_every_part_of_a_split_deal_has_a_renewal_of_its_own() -> None:
    second = running(id="sub_2", start_at=at("2025-01-15"))
    items = [item(quantity=3, unit_amount=Decimal(12_000), interval="year", subscription="sub_2", id="si_2")]
    frame = renewal_pipeline(
        what_recurs(items, [second]),
        snapshot("salesforce/opportunities", won(term_months=Decimal(12))),
        snapshot("stripe/subscriptions", second),
        to_frame([deal(deal_id=f"{OPPORTUNITY}:2", subscription_id="sub_2")], DEAL_SUBSCRIPTIONS),
        ZONE,
        90,
        at("2025-12-01"),
        to_frame([], MRR_AT_RISK),
    )
    (row,) = fitting(frame, RENEWAL_PIPELINE)
    assert (row.deal_id, row.opportunity_id) == (f"{OPPORTUNITY}:2", OPPORTUNITY)
    assert (row.term_end_date, row.next_term_minor) == ("2026-01-15", 36_000)


def movement(day: str, payer: str, kind: MovementKind, start: int, end: int) -> MrrMovement:
    return MrrMovement(
        definition="stripe", day_date=day, payer=payer, currency="GBP", account_id=None,
        kind=kind, start_minor=start, movement_minor=end - start, end_minor=end,
    )  # fmt: skip


def test_who_comes_back_stays_in_the_first_cohort() -> None:
    moved = [
        movement("2026-01-05", "a", "new", 0, 1_000),
        movement("2026-01-20", "b", "new", 0, 500),
        movement("2026-02-03", "b", "churn", 500, 0),
        movement("2026-02-10", "c", "new", 0, 700),
        movement("2026-03-02", "b", "reactivation", 0, 400),
        movement("2026-03-09", "a", "expansion", 1_000, 1_500),
    ]
    frame = cohorts(to_frame(moved, MRR_MOVEMENTS), date(2026, 3, 15))
    rows = sorted(
        (r.cohort_date[:7], r.age_months, r.payers, r.active_payers, r.mrr_minor, r.first_month_minor)
        for r in fitting(frame, COHORTS)
    )
    assert rows == [
        ("2026-01", 0, 2, 2, 1_500, 1_500),
        ("2026-01", 1, 2, 1, 1_000, 1_500),
        ("2026-01", 2, 2, 2, 1_900, 1_500),
        ("2026-02", 0, 1, 1, 700, 700),
        ("2026-02", 1, 1, 1, 700, 700),
    ]
