"""Money facts: cash in, cash back, corrections appended, never counted twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.facts import Fact, corrections, lifetime_value, observed_facts
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.records import InvoicePayment, Refund
from sync_pipeline_tests.core.making import ACCOUNT, NOW, payment, refund

LATER = NOW + 3_600_000_000


def after(known: list[Fact], payments: list[InvoicePayment], refunds: list[Refund], now: int = NOW) -> list[Fact]:
    return known + corrections(known, observed_facts(ACCOUNT, payments, refunds, now), now)


def test_a_payment_is_cash_and_a_refund_takes_it_back() -> None:
    facts = after([], [payment()], [refund()])
    assert lifetime_value(facts, "GBP") == Money(4_000_000, "GBP")
    assert [(f.kind, f.external_id, f.revision, f.amount_minor, f.occurred_at) for f in facts] == [
        ("payment", "inpay_1", 0, 4_500_000, NOW),
        ("refund", "re_1", 0, -500_000, NOW),
    ]


@pytest.mark.parametrize("status", ["open", "canceled"])
def test_an_allocation_that_is_not_paid_is_no_cash(status: str) -> None:
    assert after([], [payment(status=status, amount_paid=None, paid_at=None)], []) == []


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_a_refund_that_has_not_gone_out_changes_nothing(status: str) -> None:
    assert after([], [], [refund(status=status)]) == []


def test_a_refund_that_fails_later_is_corrected_by_an_appended_row() -> None:
    before = after([], [payment()], [refund()])
    now = after(before, [payment()], [refund(status="failed")], LATER)
    assert now[:2] == before
    assert [(f.kind, f.external_id, f.revision, f.amount_minor, f.occurred_at) for f in now[2:]] == [
        ("refund", "re_1", 1, 500_000, LATER)
    ]
    assert lifetime_value(now, "GBP") == Money(4_500_000, "GBP")


def test_a_refund_that_failed_before_it_was_ever_seen_is_nothing() -> None:
    assert after([], [], [refund(status="failed")]) == []


def test_a_refund_of_a_charge_that_no_invoice_collected_is_not_counted_as_the_charge_is_not() -> None:
    assert after([], [], [refund()]) == []
    (collected,) = after([], [payment()], [refund(payment="pi_one_off")])
    assert collected.kind == "payment"


def test_looking_again_appends_nothing() -> None:
    facts = after([], [payment()], [refund()])
    assert after(facts, [payment()], [refund()], LATER) == facts


def test_one_object_listed_twice_is_counted_once() -> None:
    """A list that is read while it grows can show the same object on two pages."""
    facts = after([], [payment(), payment()], [refund(), refund()])
    assert lifetime_value(facts, "GBP") == Money(4_000_000, "GBP")
    assert len({(f.kind, f.external_id, f.revision) for f in facts}) == len(facts)


def test_an_object_that_is_not_shown_is_not_taken_back() -> None:
    facts = after([], [payment()], [])
    assert after(facts, [], []) == facts


def test_cash_in_another_currency_is_an_error_that_names_it() -> None:
    facts = after([], [payment(), payment(2, currency="USD")], [])
    with pytest.raises(MoneyError, match="cash was collected in USD, but the Account is in GBP"):
        lifetime_value(facts, "GBP")


def test_nothing_collected_is_zero_in_the_accounts_currency() -> None:
    assert lifetime_value([], "JPY") == Money(0, "JPY")


refunds = st.lists(
    st.builds(
        refund,
        st.integers(1, 3),
        status=st.sampled_from(["pending", "requires_action", "succeeded", "failed", "canceled"]),
        amount=st.integers(1, 10**7),
    ),
    unique_by=lambda r: r.id,
)
payments = st.lists(
    st.builds(
        payment,
        st.integers(1, 3),
        status=st.sampled_from(["open", "paid", "canceled"]),
        amount_paid=st.integers(0, 10**7),
    ),
    unique_by=lambda p: p.id,
)


@given(st.lists(st.tuples(payments, refunds), max_size=4))
def test_the_sum_per_object_is_always_what_was_last_proved(
    looks: list[tuple[list[InvoicePayment], list[Refund]]],
) -> None:
    known: list[Fact] = []
    proved: dict[tuple[str, str], int] = {}
    for shown_payments, shown_refunds in looks:
        observed = observed_facts(ACCOUNT, shown_payments, shown_refunds, NOW)
        proved |= {(f.kind, f.external_id): f.amount_minor for f in observed}
        appended = corrections(known, observed, NOW)
        assert all(fact.amount_minor != 0 for fact in appended)
        known += appended
        assert corrections(known, observed, LATER) == []
    keys = [(f.kind, f.external_id, f.revision) for f in known]
    assert len(set(keys)) == len(keys)
    assert lifetime_value(known, "GBP").minor == sum(proved.values())


def test_order_of_facts_does_not_matter() -> None:
    facts = after([], [payment(), payment(2)], [refund()])
    assert lifetime_value(reversed(facts), "GBP") == lifetime_value(facts, "GBP")
    assert replace(facts[0]) == facts[0]
