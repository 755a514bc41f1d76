"""What stands behind a figure adds up to it, to the minor unit; what is beside it says why it does not count."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.evidence import Evidence, evidence
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.money import Money
from sync_pipeline.core.observation import Present
from sync_pipeline.core.readings import READINGS, subjects
from sync_pipeline.core.stripe_records import Dispute, Invoice
from sync_pipeline.core.world import Billing, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    RULES,
    SUBSCRIPTION,
    billed,
    item,
    packages,
    payment,
    subscription,
)

FIGURES = {"account_lifetime_value": "collected", "account_mrr": "MRR", "account_mrr_at_risk": "MRR at risk"}


def behind(name: str, of: World, kind: str = "account") -> tuple[Evidence, ...]:
    return evidence(of, RULES, name, next(each for each in subjects(of) if each.object == kind))


def value(name: str, of: World, kind: str = "account") -> Any:
    found = READINGS[name](of, RULES, next(each for each in subjects(of) if each.object == kind))
    assert isinstance(found, Present)
    return found.value


def adds_up(name: str, of: World) -> None:
    parts = [each.amount for each in behind(name, of) if each.figure == FIGURES[name] and each.amount is not None]
    assert {part.currency for part in parts} <= {"GBP"}
    assert Money(sum(part.minor for part in parts), "GBP") == value(name, of)


def movement(kind: str, number: int, currency: str, minor: int, revision: int = 0) -> Fact:
    return Fact(kind, f"x_{number}", revision, ACCOUNT, currency, minor, NOW + number)


MOVEMENTS = st.builds(
    movement,
    st.sampled_from(["payment", "refund", "settled_payment", "settled_refund", "earned_recurring_revenue"]),
    st.integers(1, 4),
    st.sampled_from(["GBP", "EUR", "JPY"]),
    st.integers(-1000, 1000),
)


@given(st.lists(MOVEMENTS, max_size=8, unique_by=lambda each: (each.kind, each.external_id)))
def test_the_movements_that_count_are_the_lifetime_value(facts: list[Fact]) -> None:
    adds_up("account_lifetime_value", billed(subscription(), facts=tuple(facts)))


def test_what_stripe_settled_counts_and_what_was_paid_says_so() -> None:
    facts = (
        movement("payment", 1, "EUR", 120_037),
        movement("settled_payment", 1, "GBP", 102_392),
        movement("refund", 2, "EUR", -10_001),
        movement("settled_refund", 2, "GBP", -8_531),
        movement("payment", 3, "JPY", 500),
    )
    of = billed(subscription(), facts=facts)
    told = [(each.what, each.amount, each.figure) for each in behind("account_lifetime_value", of)]
    assert told == [
        ("payment; what counts is what Stripe settled for it in GBP", Money(120_037, "EUR"), None),
        ("settled payment", Money(102_392, "GBP"), "collected"),
        ("refund; what counts is what Stripe settled for it in GBP", Money(-10_001, "EUR"), None),
        ("settled refund", Money(-8_531, "GBP"), "collected"),
        ("payment; it does not count, because nothing was settled in GBP for it", Money(500, "JPY"), None),
    ]
    (other,) = behind("account_other_currencies", of)
    assert (other.amount, other.figure) == (Money(500, "JPY"), "collected")


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(["GBP", "EUR"])), max_size=6))
def test_items_that_bill_parts_of_a_penny_a_month_add_up_to_the_revenue(items: list[tuple[int, str]]) -> None:
    held = tuple(
        item(
            id=f"si_{n}", subscription=f"sub_{currency}", currency=currency, interval="year", unit_amount=Decimal(price)
        )
        for n, (price, currency) in enumerate(items)
    )
    subs = (subscription(id="sub_GBP", status="past_due"), subscription(id="sub_EUR", currency="EUR"))
    of = billed(*subs, items=held)
    adds_up("account_mrr", of)
    adds_up("account_mrr_at_risk", of)


def invoice(**changed: Any) -> Invoice:
    values: dict[str, Any] = {
        "id": "in_1", "customer": CUSTOMER, "status": "paid", "currency": "GBP", "created_at": NOW, "total": 12_000,
        "amount_due": 12_000, "amount_paid": 12_000, "amount_remaining": 0, "subscription": SUBSCRIPTION,
    }  # fmt: skip
    return Invoice(**(values | changed))


def test_revenue_at_risk_names_the_invoice_that_is_disputed_and_not_what_earns_nothing() -> None:
    disputed = Dispute(
        id="dp_1", customer=CUSTOMER, charge="ch_1", status="needs_response", currency="GBP", amount=12_000,
        withdrawn=12_000, created_at=NOW, payment_intent="pi_1",
    )  # fmt: skip
    held = Billing(
        subscriptions=(subscription(), subscription(id="sub_2", status="unpaid")),
        items=(item(), item(id="si_2", subscription="sub_2")),
        invoices=(invoice(),),
        payments=(payment(),),
        disputes=(disputed,),
    )
    of = billed(billing=Present(held))
    adds_up("account_mrr_at_risk", of)
    assert [each.object_id for each in behind("account_mrr_at_risk", of)] == ["si_1", "in_1"]


def test_the_first_payment_is_the_part_that_came_first_before_and_after_the_rest() -> None:
    part, rest = (
        payment(1, amount_paid=2_000, paid_at=NOW + 1),
        payment(2, invoice="in_1", amount_paid=10_000, paid_at=NOW + 9),
    )
    held = Billing((subscription(opportunity_id=OPPORTUNITY),), invoices=(invoice(status="open"),), payments=(part,))
    of = billed(billing=Present(held))
    whole = replace(held, invoices=(invoice(paid_at=NOW + 9),), payments=(rest, replace(part, id="inpay_0")))
    for each, count in ((of, 1), (replace(of, billing=Present(whole)), 2)):
        found = behind("first_payment_at", each, "opportunity")
        assert len(found) == count
        assert (found[0].at, found[0].amount) == (value("first_payment_at", each, "opportunity"), Money(2_000, "GBP"))


def test_seats_in_packages_say_so_and_add_up() -> None:
    of = billed(subscription(), items=(packages(10, "up", quantity=95),))
    adds_up("account_mrr", of)
    (shown,) = (each for each in behind("account_mrr", of) if each.figure)
    assert shown.amount == Money(10_000, "GBP")
    assert "95 x 1000 minor units per package of 10 every month" in shown.what
