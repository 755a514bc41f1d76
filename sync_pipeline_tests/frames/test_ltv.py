"""Lifetime value from full listings: hand-computed cases, and agreement with the facts that events collect."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.cash import proved_cash
from sync_pipeline.core.facts import collected_by_currency
from sync_pipeline.core.records import InvoicePayment, Refund
from sync_pipeline.core.world import Billing
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.ltv import LEDGER_SUMS, account_ltv, disagreements, unassigned_cash
from sync_pipeline.frames.rows import AccountCustomer, AccountLtv
from sync_pipeline.frames.schema import violations
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, ACCOUNT_LTV, SNAPSHOTS

OWNERS = {"cus_1": "001A", "cus_2": "001A", "cus_3": "001B"}


def mapping(state: str = "matched") -> pl.DataFrame:
    common = {"evidence": "link", "state": state, "in_salesforce": True, "in_stripe": True}
    rows = [AccountCustomer(customer_id=c, account_id=a, **common) for c, a in OWNERS.items()]  # type: ignore[arg-type]
    return to_frame(rows, ACCOUNT_CUSTOMERS)


def payments_frame(payments: list[InvoicePayment]) -> pl.DataFrame:
    return to_frame(payments, SNAPSHOTS["stripe/invoice_payments"])


def ltv(payments: list[InvoicePayment], refunds: list[Refund]) -> list[AccountLtv]:
    frame = account_ltv(payments_frame(payments), to_frame(refunds, SNAPSHOTS["stripe/refunds"]), mapping())
    assert violations(frame, ACCOUNT_LTV) == []
    found: list[AccountLtv] = to_records(frame.sort("account_id", "currency"), ACCOUNT_LTV)
    return found


def payment(
    number: int, customer: str, amount: int | None, *, currency: str = "GBP", status: str = "paid", at: int | None = 1
) -> InvoicePayment:
    return InvoicePayment(
        id=f"inpay_{number}",
        invoice="in_1",
        customer=customer,
        status=status,
        currency=currency,
        amount_paid=amount,
        paid_at=at,
        payment=f"pi_{number}",
    )


def refund(
    number: int,
    customer: str,
    amount: int,
    *,
    currency: str = "GBP",
    status: str = "succeeded",
    payment: str = "pi_1",
) -> Refund:
    return Refund(
        id=f"re_{number}",
        customer=customer,
        status=status,
        currency=currency,
        amount=amount,
        created_at=1,
        payment=payment,
    )


def test_collected_less_refunded_over_all_customers_of_an_account() -> None:
    found = ltv(
        [
            payment(1, "cus_1", 4_500_000, at=50),
            payment(2, "cus_2", 100, at=70),
            payment(3, "cus_1", 999, status="open", at=None),
            payment(4, "cus_1", 999, status="canceled", at=None),
            payment(5, "cus_unknown", 999),
            payment(6, "cus_3", 1_000, currency="JPY", at=60),
        ],
        [
            refund(1, "cus_1", 50_050),
            refund(2, "cus_1", 7, status="pending"),
            refund(3, "cus_1", 7, status="failed"),
            refund(4, "cus_3", 12_345, currency="KWD", payment="pi_6"),
            refund(5, "cus_1", 7, payment="pi_of_no_invoice"),
        ],
    )
    assert found == [
        AccountLtv(
            account_id="001A",
            currency="GBP",
            collected_minor=4_500_100,
            refunded_minor=50_050,
            net_minor=4_450_050,
            net=Decimal("44500.50"),
            payments=2,
            refunds=1,
            first_payment_at=50,
            last_payment_at=70,
        ),
        AccountLtv(
            account_id="001B",
            currency="JPY",
            collected_minor=1_000,
            refunded_minor=0,
            net_minor=1_000,
            net=Decimal(1_000),
            payments=1,
            refunds=0,
            first_payment_at=60,
            last_payment_at=60,
        ),
        AccountLtv(
            account_id="001B",
            currency="KWD",
            collected_minor=0,
            refunded_minor=12_345,
            net_minor=-12_345,
            net=Decimal("-12.345"),
            payments=0,
            refunds=1,
            first_payment_at=None,
            last_payment_at=None,
        ),
    ]


def test_a_sum_beyond_64_bits_does_not_wrap() -> None:
    most = 2**63 - 1
    (found,) = ltv([payment(number, "cus_1", most) for number in range(3)], [])
    assert found.net_minor == 3 * most
    assert found.net == Decimal(3 * most).scaleb(-2)


def test_an_unknown_currency_has_minor_units_only() -> None:
    (found,) = ltv([payment(1, "cus_1", 5, currency="XXX")], [])
    assert (found.net_minor, found.net) == (5, None)


def test_cash_of_a_customer_without_an_account_is_found() -> None:
    payments = payments_frame([payment(1, "cus_1", 5), payment(2, "cus_9", 7), payment(3, "cus_9", 8)])
    assert unassigned_cash(payments, mapping()).rows() == [("GBP", 2, Decimal(15))]
    assert unassigned_cash(payments, mapping("ambiguous")).rows() == [("GBP", 3, Decimal(20))]


minor = st.integers(0, 10**12)
currencies = st.sampled_from(["GBP", "USD", "JPY"])
payments_of = st.builds(
    InvoicePayment,
    id=st.integers(0, 10**6).map(lambda number: f"inpay_{number}"),
    invoice=st.just("in_1"),
    customer=st.sampled_from(sorted(OWNERS)),
    status=st.sampled_from(["open", "paid", "canceled"]),
    currency=currencies,
    amount_paid=st.none() | minor,
    paid_at=st.none() | st.integers(1, 10**15),
).map(lambda each: replace(each, payment=f"pi_{each.customer}"))
refunds_of = st.builds(
    Refund,
    id=st.integers(0, 10**6).map(lambda number: f"re_{number}"),
    customer=st.sampled_from(sorted(OWNERS)),
    status=st.sampled_from(["pending", "requires_action", "succeeded", "failed", "canceled"]),
    currency=currencies,
    amount=minor,
    created_at=st.integers(1, 10**15),
    payment=st.sampled_from(["of its customer", "pi_of_no_invoice", None]),
).map(lambda each: replace(each, payment=f"pi_{each.customer}") if each.payment == "of its customer" else each)


@given(
    st.lists(payments_of, max_size=8, unique_by=lambda each: each.id),
    st.lists(refunds_of, max_size=5, unique_by=lambda each: each.id),
)
def test_listings_and_facts_come_to_the_same_minor_unit(payments: list[InvoicePayment], refunds: list[Refund]) -> None:
    table = account_ltv(payments_frame(payments), to_frame(refunds, SNAPSHOTS["stripe/refunds"]), mapping())
    sums = []
    for account in sorted(set(OWNERS.values())):
        own = {customer for customer, owner in OWNERS.items() if owner == account}
        billing = Billing(
            payments=tuple(each for each in payments if each.customer in own),
            refunds=tuple(each for each in refunds if each.customer in own),
        )
        facts = proved_cash(account, billing, now=1)
        sums += [(account, currency, money.minor) for currency, money in collected_by_currency(facts).items()]
    ledger = pl.DataFrame(sums, schema=LEDGER_SUMS, orient="row")
    assert disagreements(table, ledger).rows() == []


def test_a_penny_on_either_side_is_a_disagreement() -> None:
    table = account_ltv(payments_frame([payment(1, "cus_1", 5)]), to_frame([], SNAPSHOTS["stripe/refunds"]), mapping())
    ledger = pl.DataFrame(
        [("001A", "GBP", 6), ("001A", "EUR", 0), ("001B", "GBP", 1)], schema=LEDGER_SUMS, orient="row"
    )
    assert disagreements(table, ledger).rows() == [
        ("001A", "GBP", Decimal(5), Decimal(6)),
        ("001B", "GBP", Decimal(0), Decimal(1)),
    ]
