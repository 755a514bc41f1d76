"""Lifetime value from full listings: hand-computed cases, and agreement with the facts that events collect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core.cash import proved_cash
from sync_pipeline.core.facts import Fact, lifetime_value, uncounted
from sync_pipeline.core.stripe_records import Charge, CreditNote, Dispute, Invoice, InvoicePayment, Refund
from sync_pipeline.core.world import Billing
from sync_pipeline.frames.cash import SUMS, Listings, cash, disagreements, sums, unassigned_cash
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.ltv import account_ltv
from sync_pipeline.frames.rows import AccountCustomer, AccountLtv
from sync_pipeline.frames.schema import violations
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, ACCOUNT_LTV, SNAPSHOTS

OWNERS = {"cus_1": "001A", "cus_2": "001A", "cus_3": "001B"}


def mapping(state: str = "matched") -> pl.DataFrame:
    common = {"evidence": "link", "state": state, "in_salesforce": True, "in_stripe": True}
    rows = [AccountCustomer(customer_id=c, account_id=a, **common) for c, a in OWNERS.items()]  # type: ignore[arg-type]
    return to_frame(rows, ACCOUNT_CUSTOMERS)


def listings(
    payments: Sequence[InvoicePayment] = (),
    refunds: Sequence[Refund] = (),
    charges: Sequence[Charge] = (),
    disputes: Sequence[Dispute] = (),
    credit_notes: Sequence[CreditNote] = (),
    invoices: Sequence[Invoice] = (),
) -> Listings:
    return Listings(
        invoices=to_frame(invoices, SNAPSHOTS["stripe/invoices"]),
        payments=to_frame(payments, SNAPSHOTS["stripe/invoice_payments"]),
        charges=to_frame(charges, SNAPSHOTS["stripe/charges"]),
        refunds=to_frame(refunds, SNAPSHOTS["stripe/refunds"]),
        disputes=to_frame(disputes, SNAPSHOTS["stripe/disputes"]),
        credit_notes=to_frame(credit_notes, SNAPSHOTS["stripe/credit_notes"]),
    )


def ltv(found: Listings, reporting: str = "GBP") -> list[AccountLtv]:
    frame = account_ltv(cash(found), found.invoices, mapping(), reporting)
    assert violations(frame, ACCOUNT_LTV) == []
    rows: list[AccountLtv] = to_records(frame.sort("account_id", "currency"), ACCOUNT_LTV)
    return rows


def payment(number: int, customer: str, amount: int | None, **changed: Any) -> InvoicePayment:
    values: dict[str, Any] = {
        "id": f"inpay_{number}",
        "invoice": "in_1",
        "customer": customer,
        "status": "paid",
        "currency": "GBP",
        "amount_paid": amount,
        "paid_at": 1,
        "payment": f"pi_{number}",
    }
    return InvoicePayment(**(values | changed))


def refund(number: int, customer: str, amount: int, **changed: Any) -> Refund:
    values: dict[str, Any] = {
        "id": f"re_{number}",
        "customer": customer,
        "status": "succeeded",
        "currency": "GBP",
        "amount": amount,
        "created_at": 1,
        "payment": "pi_1",
    }
    return Refund(**(values | changed))


def charge(number: int, customer: str, amount: int, **changed: Any) -> Charge:
    values: dict[str, Any] = {
        "id": f"ch_{number}",
        "customer": customer,
        "status": "succeeded",
        "currency": "GBP",
        "amount": amount,
        "created_at": 1,
        "payment_intent": f"pi_{number}",
    }
    return Charge(**(values | changed))


def dispute(number: int, withdrawn: int, **changed: Any) -> Dispute:
    values: dict[str, Any] = {
        "id": f"dp_{number}",
        "customer": "cus_1",
        "charge": f"ch_{number}",
        "status": "needs_response",
        "currency": "GBP",
        "amount": withdrawn,
        "withdrawn": withdrawn,
        "created_at": 1,
    }
    return Dispute(**(values | changed))


def credit_note(number: int, out_of_band: int, **changed: Any) -> CreditNote:
    values: dict[str, Any] = {
        "id": f"cn_{number}",
        "customer": "cus_1",
        "invoice": "in_1",
        "status": "issued",
        "currency": "GBP",
        "total": out_of_band,
        "out_of_band": out_of_band,
        "created_at": 1,
    }
    return CreditNote(**(values | changed))


def invoice(number: int, status: str, total: int, **changed: Any) -> Invoice:
    values: dict[str, Any] = {
        "id": f"in_{number}",
        "customer": "cus_1",
        "status": status,
        "currency": "GBP",
        "created_at": 1,
        "total": total,
        "amount_due": total,
        "amount_paid": 0,
        "amount_remaining": total,
    }
    return Invoice(**(values | changed))


def test_collected_less_refunded_over_all_customers_of_an_account() -> None:
    found = ltv(
        listings(
            [
                payment(1, "cus_1", 4_500_000, paid_at=50),
                payment(2, "cus_2", 100, paid_at=70),
                payment(3, "cus_1", 999, status="open", paid_at=None),
                payment(4, "cus_1", 999, status="canceled", paid_at=None),
                payment(5, "cus_unknown", 999),
                payment(6, "cus_3", 1_000, currency="JPY", paid_at=60),
            ],
            [
                refund(1, "cus_1", 50_050),
                refund(2, "cus_1", 7, status="pending"),
                refund(3, "cus_1", 7, status="failed"),
                refund(4, "cus_3", 12_345, currency="KWD", payment="pi_6"),
                refund(5, "cus_1", 7, payment="pi_of_no_invoice"),
            ],
        )
    )
    nothing: dict[str, Any] = {"billed_minor": 0, "disputed_minor": 0, "credited_elsewhere_minor": 0}
    assert found == [
        AccountLtv(
            account_id="001A",
            currency="GBP",
            collected_minor=4_500_100,
            refunded_minor=50_050,
            net_minor=4_450_050,
            net=Decimal("44500.50"),
            reporting_currency="GBP",
            reporting_minor=4_450_050,
            rate_source="same currency",
            payments=2,
            refunds=1,
            first_payment_at=50,
            last_payment_at=70,
            **nothing,
        ),
        AccountLtv(
            account_id="001B",
            currency="JPY",
            collected_minor=1_000,
            refunded_minor=0,
            net_minor=1_000,
            net=Decimal(1_000),
            reporting_currency="GBP",
            reporting_minor=None,
            rate_source="not settled in it",
            payments=1,
            refunds=0,
            first_payment_at=60,
            last_payment_at=60,
            **nothing,
        ),
        AccountLtv(
            account_id="001B",
            currency="KWD",
            collected_minor=0,
            refunded_minor=12_345,
            net_minor=-12_345,
            net=Decimal("-12.345"),
            reporting_currency="GBP",
            reporting_minor=None,
            rate_source="not settled in it",
            payments=0,
            refunds=1,
            first_payment_at=None,
            last_payment_at=None,
            **nothing,
        ),
    ]


def test_disputes_and_what_was_given_back_elsewhere_are_gone_until_they_are_won_or_void() -> None:
    """1,000.00 paid, 400.00 lost in a dispute, one of 300.00 won, 50.00 given back in cash: 550.00 is left."""
    (found,) = ltv(
        listings(
            [payment(1, "cus_1", 100_000), payment(2, "cus_1", 0)],
            charges=[charge(1, "cus_1", 100_000), charge(2, "cus_1", 30_000), charge(3, "cus_1", 9)],
            disputes=[dispute(1, 40_000, status="lost"), dispute(2, 0, status="won"), dispute(3, 9)],
            credit_notes=[credit_note(1, 5_000), credit_note(2, 7_000, status="void"), credit_note(3, 0)],
        )
    )
    assert (found.collected_minor, found.disputed_minor, found.credited_elsewhere_minor) == (100_000, 40_000, 5_000)
    assert found.net_minor == 55_000


def test_billed_is_what_invoices_say_less_credit_notes_and_no_cash() -> None:
    """1,200 + 300 + 100 were billed; 200 and 50 of it were credited; drafts and void invoices were not billed."""
    (found,) = ltv(
        listings(
            invoices=[
                invoice(1, "paid", 120_000, credited_after_payment=20_000),
                invoice(2, "open", 30_000, credited_before_payment=5_000),
                invoice(3, "uncollectible", 10_000),
                invoice(4, "draft", 777),
                invoice(5, "void", 777),
            ]
        )
    )
    assert (found.billed_minor, found.collected_minor, found.net_minor, found.payments) == (135_000, 0, 0, 0)


def test_in_the_reporting_currency_it_is_what_stripe_settled() -> None:
    """EUR 100.00 settled at 85.31, of which EUR 20.00 went back for 17.30: 68.01, at no rate of ours."""
    euro: dict[str, Any] = {"currency": "EUR", "settled_currency": "GBP"}
    (found,) = ltv(
        listings(
            [payment(1, "cus_1", 10_000, currency="EUR")],
            [refund(1, "cus_1", 2_000, settled=-1_730, **euro)],
            [charge(1, "cus_1", 10_000, settled=8_531, **euro)],
        )
    )
    assert (found.currency, found.net_minor) == ("EUR", 8_000)
    assert (found.reporting_currency, found.reporting_minor, found.rate_source) == ("GBP", 6_801, "settled by Stripe")


def test_what_was_settled_for_a_part_of_a_charge_is_not_known() -> None:
    paid = payment(1, "cus_1", 4_000, currency="EUR")
    whole = charge(1, "cus_1", 10_000, currency="EUR", settled_currency="GBP", settled=8_531)
    (found,) = ltv(listings([paid], charges=[whole]))
    assert (found.net_minor, found.reporting_minor, found.rate_source) == (4_000, None, "not settled in it")


def test_a_sum_beyond_64_bits_does_not_wrap() -> None:
    most = 2**63 - 1
    (found,) = ltv(listings([payment(number, "cus_1", most) for number in range(3)]))
    assert found.net_minor == 3 * most
    assert found.net == Decimal(3 * most).scaleb(-2)


def test_an_unknown_currency_has_minor_units_only() -> None:
    (found,) = ltv(listings([payment(1, "cus_1", 5, currency="XXX")]))
    assert (found.net_minor, found.net) == (5, None)


def test_cash_of_a_customer_without_an_account_is_found() -> None:
    entries = cash(listings([payment(1, "cus_1", 5), payment(2, "cus_9", 7), payment(3, "cus_9", 8)]))
    assert unassigned_cash(entries, mapping()).rows() == [("GBP", 2, Decimal(15))]
    assert unassigned_cash(entries, mapping("ambiguous")).rows() == [("GBP", 3, Decimal(20))]


minor = st.integers(0, 10**12)
currencies = st.sampled_from(["GBP", "USD", "JPY"])
settlements = st.sampled_from([None, "GBP", "USD"])


@st.composite
def money(draw: st.DrawFn) -> Listings:
    """Some customers with everything that can happen to their payments."""
    payments: list[InvoicePayment] = []
    refunds: list[Refund] = []
    charges: list[Charge] = []
    disputes: list[Dispute] = []
    notes: list[CreditNote] = []
    for number in range(draw(st.integers(0, 6))):
        customer, currency = draw(st.sampled_from(sorted(OWNERS))), draw(currencies)
        amount, behind = draw(st.none() | minor), draw(st.sampled_from([None, f"pi_{number}", f"ch_{number}"]))
        status = draw(st.sampled_from(["open", "paid", "canceled"]))
        at = draw(st.none() | st.integers(1, 10**15))
        each = payment(number, customer, amount, currency=currency, status=status, paid_at=at, payment=behind)
        payments += [each] * draw(st.sampled_from([1, 1, 1, 0]))
        settled = draw(settlements)
        of_charge: dict[str, Any] = {
            "currency": currency,
            "payment_intent": draw(st.sampled_from([None, f"pi_{number}"])),
            "status": draw(st.sampled_from(["succeeded", "succeeded", "failed"])),
            "settled_currency": settled,
            "settled": draw(minor) if settled else None,
        }
        charges.append(charge(number, customer, draw(st.sampled_from([amount or 0, 7])), **of_charge))
        for _ in range(draw(st.integers(0, 2))):
            settled = draw(settlements)
            refunds.append(
                refund(
                    len(refunds),
                    customer,
                    draw(minor),
                    currency=currency,
                    status=draw(st.sampled_from(["pending", "succeeded", "failed", "canceled"])),
                    payment=draw(st.sampled_from([behind, "pi_of_no_invoice", None])),
                    settled_currency=settled,
                    settled=-draw(minor) if settled else None,
                )
            )
            took = draw(st.integers(0, 10**6))
            made = dispute(number, took, currency=currency, customer=customer, settled=draw(st.none() | st.just(-took)))
            disputes.append(replace(made, id=f"dp_{len(disputes)}"))
        back = draw(st.sampled_from([0, 5]))
        state = draw(st.sampled_from(["issued", "void"]))
        notes.append(credit_note(number, back, customer=customer, currency=currency, status=state))
    return listings(payments, refunds, charges, disputes, notes)


def facts_of(found: Listings) -> dict[str, list[Fact]]:
    """The facts that looking at each customer in turn would collect, by Account."""
    tables = {
        "payments": (found.payments, "stripe/invoice_payments"),
        "refunds": (found.refunds, "stripe/refunds"),
        "charges": (found.charges, "stripe/charges"),
        "disputes": (found.disputes, "stripe/disputes"),
        "credit_notes": (found.credit_notes, "stripe/credit_notes"),
    }
    facts: dict[str, list[Fact]] = defaultdict(list)
    for customer, account in OWNERS.items():
        own = {
            name: tuple(to_records(frame.filter(customer=customer), SNAPSHOTS[table]))
            for name, (frame, table) in tables.items()
        }
        facts[account] += proved_cash(account, Billing(**own), now=1)
    return facts


@given(money())
@settings(max_examples=80, deadline=None)
def test_listings_and_facts_come_to_the_same_minor_unit_kind_by_kind(found: Listings) -> None:
    facts = facts_of(found)
    folded: dict[tuple[str, str, str], int] = defaultdict(int)
    for account, each in facts.items():
        for fact in each:
            folded[account, fact.kind, fact.currency] += fact.amount_minor
    ledger = pl.DataFrame([(*slot, total) for slot, total in folded.items()], schema=SUMS, orient="row")
    entries = cash(found)
    assert disagreements(sums(entries, mapping()), ledger).rows() == []

    for reporting in ("GBP", "USD"):
        rows = ltv(found, reporting)
        for account, each in facts.items():
            shown = [row.reporting_minor for row in rows if row.account_id == account]
            known = [minor for minor in shown if minor is not None]
            if uncounted(each, reporting):
                assert len(known) < len(shown)
            else:
                assert len(known) == len(shown)
                assert sum(known) == lifetime_value(each, reporting).minor


def test_a_penny_on_either_side_is_a_disagreement() -> None:
    listed = sums(cash(listings([payment(1, "cus_1", 5)])), mapping())
    ledger = pl.DataFrame(
        [("001A", "payment", "GBP", 6), ("001A", "payment", "EUR", 0), ("001B", "refund", "GBP", 1)],
        schema=SUMS,
        orient="row",
    )
    assert disagreements(listed, ledger).rows() == [
        ("001A", "payment", "GBP", Decimal(5), Decimal(6)),
        ("001B", "refund", "GBP", Decimal(0), Decimal(1)),
    ]
