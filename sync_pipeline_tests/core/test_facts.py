"""Money facts: cash in, cash back, corrections appended, never counted twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.cash import proved_cash
from sync_pipeline.core.facts import Fact, corrections, lifetime_value, uncounted
from sync_pipeline.core.money import Money
from sync_pipeline.core.stripe_records import Charge, CreditNote, Dispute, InvoicePayment, Refund
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import ACCOUNT, CUSTOMER, NOW, payment, refund

LATER = NOW + 3_600_000_000


def after(known: list[Fact], payments: list[InvoicePayment], refunds: list[Refund], now: int = NOW) -> list[Fact]:
    return seen(known, Billing(payments=tuple(payments), refunds=tuple(refunds)), now)


def seen(known: list[Fact], billing: Billing, now: int = NOW) -> list[Fact]:
    return known + corrections(known, proved_cash(ACCOUNT, billing, now), now)


def test_more_than_the_ledger_can_hold_is_no_fact() -> None:
    """The largest number is one; what two of them add up to was found out where all accounts' facts are stored."""
    largest = 2**63 - 1
    (paid,) = after([], [payment(amount_paid=largest)], [])
    assert paid.amount_minor == largest
    with pytest.raises(OverflowError):
        replace(paid, amount_minor=largest + 1)
    with pytest.raises(OverflowError):
        after([paid], [payment(amount_paid=-2)], [])


def charge(**changed: Any) -> Charge:
    values: dict[str, Any] = {
        "id": "ch_1",
        "customer": CUSTOMER,
        "status": "succeeded",
        "currency": "GBP",
        "amount": 4_500_000,
        "created_at": NOW,
        "payment_intent": "pi_1",
    }
    return Charge(**(values | changed))


def dispute(number: int = 1, **changed: Any) -> Dispute:
    values: dict[str, Any] = {
        "id": f"dp_{number}",
        "customer": CUSTOMER,
        "charge": "ch_1",
        "status": "needs_response",
        "currency": "GBP",
        "amount": 4_500_000,
        "withdrawn": 4_500_000,
        "created_at": NOW,
    }
    return Dispute(**(values | changed))


def note(**changed: Any) -> CreditNote:
    values: dict[str, Any] = {
        "id": "cn_1",
        "customer": CUSTOMER,
        "invoice": "in_1",
        "status": "issued",
        "currency": "GBP",
        "total": 300_000,
        "out_of_band": 0,
        "created_at": NOW,
    }
    return CreditNote(**(values | changed))


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


def test_cash_in_another_currency_is_not_in_the_figure_and_not_lost() -> None:
    facts = after([], [payment(), payment(2, currency="USD", amount_paid=700)], [])
    assert lifetime_value(facts, "GBP") == Money(4_500_000, "GBP")
    assert uncounted(facts, "GBP") == {"USD": Money(700, "USD")}


def test_a_disputed_payment_is_gone_and_comes_back_when_it_is_won() -> None:
    paid = seen([], Billing(payments=(payment(),), charges=(charge(),)))
    taken = seen(paid, Billing(payments=(payment(),), charges=(charge(disputed=True),), disputes=(dispute(),)))
    assert lifetime_value(taken, "GBP") == Money(0, "GBP")
    lost = seen(
        taken, Billing(payments=(payment(),), charges=(charge(disputed=True),), disputes=(dispute(status="lost"),))
    )
    assert lost == taken
    won = Billing(payments=(payment(),), charges=(charge(),))
    back = seen(taken, won, LATER)
    assert lifetime_value(back, "GBP") == Money(4_500_000, "GBP")
    assert [(f.kind, f.external_id, f.revision, f.amount_minor) for f in back if f.kind == "dispute"] == [
        ("dispute", "ch_1", 0, -4_500_000),
        ("dispute", "ch_1", 1, 4_500_000),
    ]


def test_an_inquiry_that_took_no_money_changes_nothing() -> None:
    asked = dispute(status="warning_needs_response", withdrawn=0)
    facts = seen([], Billing(payments=(payment(),), charges=(charge(disputed=True),), disputes=(asked,)))
    assert [fact.kind for fact in facts] == ["payment"]


def test_a_credit_after_payment_counts_once_whichever_way_it_goes() -> None:
    """By refund it is the refund's fact, to the balance it is no cash, outside of Stripe it is the note's own."""
    billing = Billing(payments=(payment(),), refunds=(refund(amount=100_000),), credit_notes=(note(),))
    assert lifetime_value(seen([], billing), "GBP") == Money(4_400_000, "GBP")
    elsewhere = replace(billing, credit_notes=(note(out_of_band=50_000),))
    assert lifetime_value(seen([], elsewhere), "GBP") == Money(4_350_000, "GBP")
    voided = replace(billing, credit_notes=(note(out_of_band=50_000, status="void"),))
    assert lifetime_value(seen(seen([], elsewhere), voided), "GBP") == Money(4_400_000, "GBP")


def test_cash_in_another_currency_counts_as_what_stripe_settled_for_it() -> None:
    """1,000 dollars were settled as 791.23 pounds, 400 of them went back for 318.40: fees are not in it."""
    dollars = payment(2, currency="USD", amount_paid=100_000)
    behind = charge(
        id="ch_2", payment_intent="pi_2", currency="USD", amount=100_000, settled_currency="GBP", settled=79_123
    )
    back = refund(2, payment="pi_2", currency="USD", amount=40_000, settled_currency="GBP", settled=-31_840)
    facts = seen([], Billing(payments=(payment(), dollars), charges=(charge(), behind), refunds=(back,)))
    assert lifetime_value(facts, "GBP") == Money(4_500_000 + 79_123 - 31_840, "GBP")
    failed = replace(back, status="failed")
    facts = seen(facts, Billing(payments=(payment(), dollars), charges=(charge(), behind), refunds=(failed,)))
    assert lifetime_value(facts, "GBP") == Money(4_500_000 + 79_123, "GBP")


def test_what_was_settled_for_more_than_one_payment_is_not_split_by_guess() -> None:
    part = payment(2, currency="USD", amount_paid=60_000)
    behind = charge(id="ch_2", payment_intent="pi_2", currency="USD", amount=100_000, settled_currency="GBP", settled=1)
    facts = seen([], Billing(payments=(part,), charges=(behind,)))
    assert lifetime_value(facts, "GBP") == Money(0, "GBP")
    assert uncounted(facts, "GBP") == {"USD": Money(60_000, "USD")}


def test_cash_that_is_settled_later_is_counted_from_then_on() -> None:
    dollars = payment(2, currency="USD", amount_paid=100_000)
    pending = charge(id="ch_2", payment_intent="pi_2", currency="USD", amount=100_000)
    facts = seen([], Billing(payments=(dollars,), charges=(pending,)))
    settled = replace(pending, settled_currency="GBP", settled=79_123)
    facts = seen(facts, Billing(payments=(dollars,), charges=(settled,)), LATER)
    assert lifetime_value(facts, "GBP") == Money(79_123, "GBP")
    assert lifetime_value(facts, "USD") == Money(100_000, "USD")


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
        observed = proved_cash(ACCOUNT, Billing(payments=tuple(shown_payments), refunds=tuple(shown_refunds)), NOW)
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
