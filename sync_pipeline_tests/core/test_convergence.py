"""From one story, disturbed on both sides: the loop comes to rest in four rounds at most and stays there."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core import canonical
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import Contract
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CONTRACT,
    NOW,
    OPPORTUNITY,
    PERSONAL_KEY,
    RULES,
    account,
    customer,
    deal,
    line,
    refund,
    story_lines,
)
from sync_pipeline_tests.core.two_systems import TwoSystems

DAY = 86400 * MICROS
some = settings(max_examples=100)

people_at_salesforce = st.lists(
    st.one_of(
        st.tuples(
            st.just(ACCOUNT),
            st.fixed_dictionaries(
                {},
                optional={
                    "name": st.sampled_from(["Renamed Ltd", "  Spaced Ltd ", None]),
                    "billing_city": st.sampled_from(["Leeds", None, " "]),
                    "billing_street": st.sampled_from(["1 High St\r\nYard", None]),
                    "billing_country": st.sampled_from(["France", "Atlantis", None]),
                    "stripe_customer_id": st.sampled_from([None, "cus_typo"]),
                    "mrr": st.sampled_from([None, Decimal("1.00")]),
                    "lifetime_value": st.sampled_from([None, Decimal("999999.99")]),
                    "billing_status": st.sampled_from([None, "Paused"]),
                    "seats": st.sampled_from([None, Decimal(1)]),
                },
            ),
        ),
        st.tuples(
            st.just(OPPORTUNITY),
            st.fixed_dictionaries(
                {},
                optional={
                    "stripe_subscription_id": st.sampled_from([None, "sub_typo"]),
                    "billing_status": st.sampled_from([None, "Canceled"]),
                    "activation_status": st.sampled_from([None, "Pending", "Activated"]),
                    "first_payment_at": st.sampled_from([None, NOW - DAY, NOW + 9 * DAY]),
                    "term_months": st.sampled_from([None, Decimal(24)]),
                    "billing_interval": st.sampled_from([None, "Monthly"]),
                },
            ),
        ),
        st.tuples(
            st.just("00kAa0000000002IAA"),
            st.fixed_dictionaries({}, optional={"stripe_item_id": st.sampled_from([None, "si_typo"])}),
        ),
    ),
    max_size=3,
)
people_at_stripe = st.lists(
    st.sampled_from(["pay", "refund", "cancel", "rename", "move", "past_due", "schedule", "unlabel", "delete"]),
    max_size=4,
    unique=True,
)


def story(**changed: Any) -> TwoSystems:
    both = TwoSystems(RULES)
    both.put(
        account(**changed),
        replace(deal().opportunity, contract_id=CONTRACT),
        *story_lines(),
        Contract(id=CONTRACT, account_id=ACCOUNT),
    )
    return both


def at_stripe(both: TwoSystems, what: str) -> None:
    """A person, or time, does something at Stripe."""
    for key, held in both.subscriptions.items():
        if what in ("past_due", "cancel", "schedule"):
            fields: dict[str, dict[str, Any]] = {
                "past_due": {"status": "past_due"},
                "cancel": {"status": "canceled", "ended_at": both.now},
                "schedule": {"cancel_at": both.now + 30 * DAY},
            }
            both.subscriptions[key] = replace(held, **fields[what])
    for key, found in both.customers.items():
        edits: dict[str, dict[str, Any]] = {
            "rename": {"name": "Edited at Stripe"},
            "move": {"city": "Elsewhere", "line1": None},
            "unlabel": {"account_id": None},
        }
        if what in edits:
            both.customers[key] = replace(found, **edits[what])
        if what == "delete":
            both.customers[key] = replace(customer(id=key, name=None), deleted=True)
        if what == "refund":
            both.refunds["re_1"] = refund(customer=key)
    if what == "pay":
        for invoice in [each.id for each in both.invoices.values() if each.status == "open"]:
            both.pay(invoice)


def shown(both: TwoSystems) -> str:
    held = [both.records, both.customers, both.subscriptions, both.items, both.prices, sorted(both.products)]
    return canonical.encode(held)


@some
@given(people_at_salesforce, people_at_stripe, st.booleans(), st.booleans())
def test_any_disturbance_comes_to_rest_and_stays_there(
    edits: list[tuple[str, dict[str, Any]]], events: list[str], at_rest_first: bool, rest_between: bool
) -> None:
    """L7, L8."""
    both = story()
    if at_rest_first:
        both.settle()
        both.step()
    for record_id, changed in edits:
        both.edit(record_id, **changed)
    if rest_between:
        both.settle()
    both.now += DAY
    for what in events:
        at_stripe(both, what)
    both.settle()
    sent = len(both.requests)
    assert both.step().commands == ()
    assert len(both.requests) == sent
    assert len(both.customers) <= 1
    assert len(both.subscriptions) <= 1


@some
@given(people_at_stripe)
def test_salesforce_tells_what_stripe_holds(events: list[str]) -> None:
    both = story()
    both.settle()
    for what in events:
        at_stripe(both, what)
    both.settle()
    bill, sold = both.records[ACCOUNT], both.records[OPPORTUNITY]
    (held,) = both.subscriptions.values()
    if "delete" in events:
        return
    paid = "pay" in events
    assert sold.activation_status == ("Activated" if paid else "Pending")
    assert sold.first_payment_at == (NOW if paid else None)
    assert bill.lifetime_value == (45_000 if paid else 0) - (5_000 if paid and "refund" in events else 0)
    assert bill.mrr == (0 if held.status == "canceled" else 3750)
    (kept,) = both.customers.values()
    assert (kept.name, kept.city, kept.account_id) == ("Northwind Analytics Ltd", "London", ACCOUNT)


@some
@given(people_at_salesforce, people_at_stripe, st.randoms(use_true_random=False))
def test_the_order_of_salesforce_writes_does_not_matter(
    edits: list[tuple[str, dict[str, Any]]], events: list[str], chance: Any
) -> None:
    """L3."""
    one, other = story(), story()
    for both in (one, other):
        both.settle()
        for record_id, changed in edits:
            both.edit(record_id, **changed)
        for what in events:
            at_stripe(both, what)
    one.step()
    commands = list(plan(other.observe(), RULES, PERSONAL_KEY).sent_first)
    chance.shuffle(commands)
    for command in sorted(commands, key=lambda each: not each.action.startswith("stripe")):
        other.apply(command)
    assert shown(one) == shown(other)


@some
@given(st.sampled_from(["link", "id", "metadata", "strict"]), people_at_stripe)
def test_an_existing_customer_is_adopted_by_any_evidence_and_never_doubled(evidence: str, events: list[str]) -> None:
    both = story(stripe_customer_id="cus_old" if evidence == "id" else None)
    both.customers["cus_old"] = customer(
        id="cus_old",
        account_id=ACCOUNT if evidence == "metadata" else None,
        tax_ids=("gb_vat:GB123456789",) if evidence == "strict" else (),
    )
    if evidence == "link":
        from sync_pipeline.core.world import Link

        both.links.append(Link("customer", ACCOUNT, "cus_old"))
    both.settle()
    for what in events:
        at_stripe(both, what)
    both.settle()
    assert list(both.customers) == ["cus_old"]
    assert both.records[ACCOUNT].stripe_customer_id == "cus_old"
    assert len(both.subscriptions) == 1


def test_two_deals_share_a_customer_a_product_and_a_price() -> None:
    both = story()
    both.put(
        replace(deal(id="006Second").opportunity),
        line(2, id="00mSecond", opportunity_id="006Second", quantity=Decimal(5), unit_price=Decimal(600)),
    )
    both.settle()
    assert (len(both.customers), len(both.products), len(both.prices), len(both.subscriptions)) == (1, 3, 3, 2)
    assert both.records[ACCOUNT].mrr == Decimal("4000.00")


def test_an_incomplete_deal_is_picked_up_by_itself_once_it_is_mended() -> None:
    both = story()
    both.edit(OPPORTUNITY, term_months=None)
    both.settle()
    assert both.customers == {}
    assert both.records[OPPORTUNITY].billing_status == "Needs Attention"
    assert both.records[OPPORTUNITY].billing_message == "Not billed: the term in months is empty"
    both.edit(OPPORTUNITY, term_months=Decimal(12))
    both.settle()
    assert len(both.subscriptions) == 1
    assert both.records[OPPORTUNITY].billing_status == "Active"
    assert both.records[OPPORTUNITY].billing_message is None


def test_a_base_that_agrees_makes_an_echo_no_work() -> None:
    both = story()
    both.settle()
    both.step()
    assert [isinstance(seen, Present) for seen in both.observe().customers.values()] == [True]
    assert plan(both.observe(), RULES, PERSONAL_KEY).commands == ()
