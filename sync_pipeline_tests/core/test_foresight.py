"""What is foreseen is what happens: held against the small Salesforce and Stripe that plans are played against."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given, settings

from sync_pipeline.core import canonical, foreseen_stripe
from sync_pipeline.core.commands import Command
from sync_pipeline.core.foreseen_salesforce import record_changed
from sync_pipeline.core.foresight import Foreseen, foresee, shown
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.observation import Present
from sync_pipeline.core.salesforce_records import ChurnRecord, Contract, FailureTask
from sync_pipeline.core.world import NOT_READ, Billing
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    OPPORTUNITY,
    PERSONAL_KEY,
    RULES,
    SUBSCRIPTION,
    account,
    billed,
    customer,
    deal,
    item,
    line,
    payment,
    subscription,
    world,
)
from sync_pipeline_tests.core.test_convergence import at_stripe, people_at_salesforce, people_at_stripe, story
from sync_pipeline_tests.core.two_systems import TwoSystems

MADE = re.compile(r"\((?:new )?(customer|price|subscription|item)[^)]*\)|(cus|price|sub|si)_made\d+")
SHORT = {"cus": "customer", "price": "price", "sub": "subscription", "si": "item"}


def told(commands: tuple[Command, ...]) -> list[str]:
    """Commands as texts in which whatever a vendor makes has the same name, foreseen or made."""
    texts = [
        canonical.encode([c.action, c.target, c.body, [(x.field, x.old, x.new) for x in c.changes]]) for c in commands
    ]
    return sorted(MADE.sub(lambda m: f"<{m[1] or SHORT[m[2]]}>", text) for text in texts)


def foreseen(both: TwoSystems) -> Foreseen:
    return foresee(both.observe(), RULES, PERSONAL_KEY, both._billing)


@settings(max_examples=150, deadline=None)
@given(people_at_salesforce, people_at_stripe)
def test_every_round_is_foreseen_as_it_happens(edits: list[tuple[str, dict[str, Any]]], events: list[str]) -> None:
    both = story()
    if events:
        both.settle()
    for record_id, changed in edits:
        both.edit(record_id, **changed)
    for what in events:
        at_stripe(both, what)
    ahead = foreseen(both)
    happened = [planned.sent_first for planned in both.settle() if planned.commands]
    assert [told(commands) for commands in ahead.rounds] == [told(commands) for commands in happened]
    assert ahead.is_whole


def test_a_new_deal_shows_its_subscription_and_what_salesforce_will_say() -> None:
    ahead = foresee(world(), RULES, PERSONAL_KEY, lambda _: Billing())
    made = [c.body["object"] for c in ahead.commands if c.action == "stripe.create"]
    assert made == ["customer", "product", "product", "product", "price", "price", "price", "subscription"]
    shown = {x.field: x.new for c in ahead.commands for x in c.changes if ACCOUNT in c.target}
    assert shown["Stripe_Customer_Id__c"] == f"(new customer of {ACCOUNT})"
    assert shown["MRR__c"] == "3750"


def test_a_discount_that_lasts_is_taken_off_the_revenue_that_a_plan_shows() -> None:
    for duration, monthly in (("Forever", "3375"), ("Once", "3750")):
        agreed = deal(discount_percent=Decimal(10), discount_duration=duration)
        ahead = foresee(world(deals=(agreed,)), RULES, PERSONAL_KEY, lambda _: Billing())
        shown = {x.field: x.new for c in ahead.commands for x in c.changes if ACCOUNT in c.target}
        assert shown["MRR__c"] == monthly


def test_an_end_that_a_contract_asks_for_is_foreseen_with_its_churn_record() -> None:
    both = story()
    both.settle()
    (contract,) = (record for record in both.records.values() if isinstance(record, Contract))
    both.edit(contract.id, cancel_requested_on="2027-03-31")
    ahead = foreseen(both)
    assert ahead.is_whole
    first, second = ahead.rounds
    assert [c.body["object"] for c in first] == ["subscription"]
    assert {c.body["object"] for c in second} == {"Account", "Churn_Record__c", "Contract", "Opportunity"}


def mrr(ahead: Foreseen) -> tuple[int, int]:
    both = []
    for seen in (ahead.before, ahead.after):
        assert isinstance(seen.billing, Present)
        billing = seen.billing.value
        both.append(monthly_recurring_revenue(billing, "GBP").minor)
    return both[0], both[1]


def test_seats_edited_in_salesforce_show_what_they_will_bring_in() -> None:
    sold = line(1, quantity=Decimal(25), unit_price=Decimal(10), modified_at=0)
    seats = item(quantity=20, unit_amount=Decimal(1000), line_ids=(sold.id,))
    running = subscription(intent=f"sub:{OPPORTUNITY}", opportunity_id=OPPORTUNITY)
    seen = billed(
        running,
        items=(seats,),
        deals=(deal(sold),),
        base={(sold.id, "item.quantity"): '"20"'},
    )
    ahead = foresee(seen, RULES, PERSONAL_KEY, lambda _: Billing())
    assert mrr(ahead) == (20_000, 25_000)


def test_an_adopted_customer_comes_with_what_it_has_paid() -> None:
    """Its billing is read for the preview, or its lifetime value would be foreseen as nothing."""
    adopted = foresee(
        world(candidates=Present((customer(account_id=ACCOUNT),)), account=Present(account())),
        RULES,
        PERSONAL_KEY,
        {CUSTOMER: Billing(payments=(payment(),))}.__getitem__,
    )
    shown = {x.field: x.new for c in adopted.commands for x in c.changes if ACCOUNT in c.target}
    assert shown["Lifetime_Value__c"] == "45000"


def test_an_effect_that_cannot_be_imagined_is_said_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(cast(dict[str, Any], foreseen_stripe.CREATES), "price")
    ahead = foresee(world(), RULES, PERSONAL_KEY, lambda _: Billing())
    made = [c.body["object"] for c in ahead.commands if c.action == "stripe.create"]
    assert made == ["customer", "product", "product", "product", "price", "price", "price"]
    assert not ahead.is_whole


UPDATES: dict[str, tuple[dict[str, Any], bool]] = {
    "the seats that it has": ({"object": "subscription_item", "id": "si_1", "params": {"quantity": 20}}, True),
    "other seats": ({"object": "subscription_item", "id": "si_1", "params": {"quantity": 25}}, False),
    "other lines": (
        {"object": "subscription_item", "id": "si_1", "params": {"metadata": {"sf_line_id": line(2).id}}},
        False,
    ),
    "seats that were edited since, with the lines that only this gives it": (
        {
            "object": "subscription_item",
            "id": "si_1",
            "params": {"quantity": 25, "metadata": {"sf_line_id": line(1).id}},
        },
        True,
    ),
    "items of which one was edited since, with the lines that only this gives it": (
        {
            "object": "subscription",
            "id": SUBSCRIPTION,
            "params": {"items": [{"id": "si_1", "quantity": 25, "metadata": {"sf_line_id": line(1).id}}]},
        },
        True,
    ),
    "seats of an item that was taken off": (
        {"object": "subscription_item", "id": "si_gone", "params": {"quantity": 20}},
        False,
    ),
    "an item less": (
        {"object": "subscription", "id": SUBSCRIPTION, "params": {"items": [{"id": "si_1", "deleted": True}]}},
        False,
    ),
    "an item less that was taken off": (
        {"object": "subscription", "id": SUBSCRIPTION, "params": {"items": [{"id": "si_gone", "deleted": True}]}},
        True,
    ),
    "the end that it has": (
        {"object": "subscription", "id": SUBSCRIPTION, "params": {"cancel_at": 1_900_000_000}},
        True,
    ),
    "another end": ({"object": "subscription", "id": SUBSCRIPTION, "params": {"cancel_at": 1_900_000_001}}, False),
    "no end": ({"object": "subscription", "id": SUBSCRIPTION, "params": {"cancel_at": ""}}, False),
    "the name that it has": ({"object": "customer", "id": CUSTOMER, "params": {"name": "Northwind"}}, True),
    "another name": ({"object": "customer", "id": CUSTOMER, "params": {"name": "Southwind"}}, False),
    "an address that it has not": (
        {"object": "customer", "id": CUSTOMER, "params": {"address": {"line1": "1 Canary Street"}}},
        False,
    ),
    "an end of a subscription that nobody sees": (
        {"object": "subscription", "id": "sub_gone", "params": {"cancel_at": 1_900_000_000}},
        False,
    ),
    "a coupon that nobody has read": (
        {"object": "subscription", "id": SUBSCRIPTION, "params": {"discounts": [{"coupon": "ten"}]}},
        False,
    ),
    "no discount, where there is none": (
        {"object": "subscription", "id": SUBSCRIPTION, "params": {"discounts": ""}},
        True,
    ),
    "what no version of this program writes any more": ({"object": "quote", "id": "qt_1", "params": {}}, False),
    "a customer that nobody sees": ({"object": "customer", "id": "cus_gone", "params": {"name": "Northwind"}}, False),
}


@pytest.mark.parametrize("what", UPDATES)
def test_an_update_is_shown_where_it_would_change_nothing_that_is_its_own(what: str) -> None:
    body, is_shown = UPDATES[what]
    seen = billed(
        subscription(cancel_at=1_900_000_000 * 1_000_000),
        items=(item(id="si_1", quantity=20, line_ids=(line(1).id,)),),
        customer=Present(customer(name="Northwind")),
    )
    assert shown(seen, RULES, "stripe.update", body) == (body["id"] if is_shown else None)


@pytest.mark.parametrize(("quantity", "is_shown"), [(5, True), (6, False)])
def test_an_added_item_is_shown_where_one_bills_the_same(quantity: int, is_shown: bool) -> None:
    both = story()
    both.settle()
    seen = both.observe()
    assert isinstance(seen.billing, Present)
    (first, *_) = seen.billing.value.items
    there = replace(first, id="si_added", line_ids=("00kAa0000000099IAA",), quantity=5)
    billing = replace(seen.billing.value, items=(*seen.billing.value.items, there))
    entry = {"price": first.price, "quantity": quantity, "metadata": {"sf_line_id": "00kAa0000000099IAA"}}
    body = {"object": "subscription", "id": first.subscription, "params": {"items": [entry]}}
    # Once an item is there, nobody reads the catalogue for it.
    seen = replace(seen, billing=Present(billing), catalogue=NOT_READ)
    assert shown(seen, RULES, "stripe.update", body) == (first.subscription if is_shown else None)


def test_a_create_is_shown_by_what_it_was_made_for() -> None:
    seen = billed(subscription(intent="sub:ours:1"), charged=Present({line(1).id: "ii_1"}))

    def made(kind: str, **metadata: str) -> str | None:
        return shown(seen, RULES, "stripe.create", {"object": kind, "params": {"metadata": metadata}})

    assert made("subscription", sf_intent="sub:ours:1") == SUBSCRIPTION
    assert made("subscription", sf_intent="sub:ours:2") is None
    assert made("invoiceitem", sf_intent="charge:ours:1", sf_line_id=line(1).id) == "ii_1"
    assert made("invoiceitem", sf_intent="charge:ours:2", sf_line_id=line(2).id) is None
    assert (
        shown(
            replace(seen, billing=NOT_READ, charged=NOT_READ),
            RULES,
            "stripe.create",
            {"object": "subscription", "params": {"metadata": {"sf_intent": "sub:ours:1"}}},
        )
        is None
    )


def test_a_task_that_is_completed_leaves_the_others_open() -> None:
    """The others were gone from what was foreseen."""
    before = replace(
        world(), tasks=(FailureTask(id="00T1", status="Not Started"), FailureTask(id="00T2", status="Not Started"))
    )
    after = record_changed(before, RULES, {"object": "Task", "id": "00T1", "fields": {"Status": "Completed"}})
    assert after is not None
    assert [(each.id, each.status) for each in after.tasks] == [("00T1", "Completed"), ("00T2", "Not Started")]


@pytest.mark.parametrize(("key", "found"), [("x:1", "a01"), ("x:2", None)])
def test_a_record_is_found_by_the_key_that_it_was_made_with(key: str, found: str | None) -> None:
    made = ChurnRecord(id="a01", key="x:1", status="Final", lost_mrr=Decimal("250.00"))
    body = {
        "object": "Churn_Record__c",
        "external_field": "Episode_Key__c",
        "external_id": key,
        "fields": {"Status__c": "Final", "Lost_MRR__c": Decimal(250)},
    }
    assert shown(replace(world(), churn_records=(made,)), RULES, "salesforce.upsert", body) == found
