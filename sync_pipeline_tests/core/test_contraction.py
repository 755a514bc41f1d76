"""Contraction: what a customer gave up, day by day, read off the levels of recurring revenue."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.churn import churn_records
from sync_pipeline.core.commands import Command
from sync_pipeline.core.contraction import contractions
from sync_pipeline.core.facts import Fact, corrections, lifetime_value
from sync_pipeline.core.observation import Present
from sync_pipeline.core.salesforce_records import ChurnRecord
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.unrecorded import unrecorded_facts
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    OPPORTUNITY,
    ORG,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    opportunity,
    story_lines,
    subscription,
)
from sync_pipeline_tests.core.two_systems import TwoSystems

DAY = 86_400 * MICROS
MONDAY = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * MICROS
KEY = f"{SUBSCRIPTION}:contraction:2026-11-24"


def seen(seats: int, at: int, facts: tuple[Fact, ...] = (), *records: ChurnRecord, **changed: Any) -> World:
    """A subscription of so many seats at 600 pounds a year, and what is noted after the look."""
    held = subscription(**({"created_at": MONDAY} | changed))
    one = item(interval="year", unit_amount=Decimal(60_000), quantity=seats)
    world = World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=at,
        account=Present(account()),
        deals=(Deal(opportunity()),),
        churn_records=records,
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(held,), items=(one,))),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        facts=facts,
    )
    return replace(world, facts=(*facts, *unrecorded_facts(world, RULES)))


def test_seats_that_salesforce_has_the_last_word_on_are_not_given_up_meanwhile() -> None:
    """Sales adds five while the customer takes two away: 25 are billed, and nothing was lost."""
    both = TwoSystems(RULES)
    both.put(account(), opportunity(), *story_lines())
    both.settle()
    both.step()
    seats = story_lines()[1].id
    (item_id,) = [each.id for each in both.items.values() if seats in each.line_ids]
    both.now += DAY
    both.edit(seats, quantity=Decimal(25), modified_at=both.now)
    both.items[item_id] = replace(both.items[item_id], quantity=18)
    # The edit rests for its quiet period first.
    both.settle()
    both.now += 60 * MICROS
    both.settle()
    assert both.items[item_id].quantity == 25
    assert not any(isinstance(each, ChurnRecord) for each in both.records.values())


def test_a_product_that_is_removed_at_stripe_and_put_back_was_not_given_up() -> None:
    """Nor is one half of a record made and rescinded: nobody has to read of it."""
    both = TwoSystems(replace(RULES, commercial=replace(RULES.commercial, on_stripe_items="revert")))
    both.put(account(), opportunity(), *story_lines())
    both.settle()
    both.step()
    viewers = story_lines()[2].id
    (item_id,) = [each.id for each in both.items.values() if viewers in each.line_ids]
    both.now += DAY
    del both.items[item_id]
    both.settle()
    assert sorted(each.quantity or 0 for each in both.items.values()) == [1, 15, 20]
    assert not any(isinstance(each, ChurnRecord) for each in both.records.values())


def record(**changed: Any) -> ChurnRecord:
    values: dict[str, Any] = {"id": "a01", "key": KEY, "subscription_id": SUBSCRIPTION, "status": "Final"}
    return ChurnRecord(**(values | {"lost_mrr": Decimal(250), "kind": "Contraction"} | changed))


def one(world: World) -> Command:
    (command,) = contractions(world, RULES)
    return command


def test_five_seats_less_are_250_pounds_a_month_given_up() -> None:
    before = seen(25, MONDAY)
    assert list(contractions(before, RULES)) == []
    after = seen(20, MONDAY + DAY, before.facts)
    assert one(after).body == {
        "object": "Churn_Record__c",
        "external_field": "Episode_Key__c",
        "external_id": KEY,
        "fields": {
            "Kind__c": "Contraction",
            "Status__c": "Final",
            "Account__c": ACCOUNT,
            "Opportunity__c": OPPORTUNITY,
            "Stripe_Subscription_Id__c": SUBSCRIPTION,
            "Effective_Date__c": "2026-11-24",
            "Lost_MRR__c": Decimal("250.00"),
            "Reason__c": "fewer units, lower prices or a discount; the subscription goes on",
            "Voluntary__c": True,
        },
    }
    assert list(contractions(replace(after, churn_records=(record(),)), RULES)) == []


@pytest.mark.parametrize("status", ["trialing", "unpaid", "paused"])
def test_seats_that_did_not_count_are_not_given_up(status: str) -> None:
    """Nor are they later, when what is left of them is paid: revenue that never was cannot be lost."""
    trial = seen(25, MONDAY, status=status)
    fewer = seen(20, MONDAY + DAY, trial.facts, status=status)
    assert list(contractions(fewer, RULES)) == []
    assert list(contractions(seen(20, MONDAY + 2 * DAY, fewer.facts), RULES)) == []


def test_more_seats_are_no_contraction() -> None:
    assert list(contractions(seen(30, MONDAY + DAY, seen(25, MONDAY).facts), RULES)) == []


def test_a_slip_that_is_mended_the_same_day_rescinds_its_record() -> None:
    slip = seen(20, MONDAY + DAY, seen(25, MONDAY).facts)
    mended = seen(25, MONDAY + DAY + 3600 * MICROS, slip.facts, record())
    assert one(mended).body["fields"] == {"Status__c": "Rescinded", "Lost_MRR__c": Decimal("0.00")}
    assert list(contractions(replace(mended, churn_records=()), RULES)) == []
    settled = record(status="Rescinded", lost_mrr=Decimal(0))
    assert list(contractions(replace(mended, churn_records=(settled,)), RULES)) == []


def test_a_second_cut_on_the_same_day_adds_up_and_one_on_another_day_is_another_record() -> None:
    first = seen(20, MONDAY + DAY, seen(25, MONDAY).facts)
    same_day = seen(18, MONDAY + DAY + 3600 * MICROS, first.facts, record())
    assert one(same_day).body["fields"] == {"Lost_MRR__c": Decimal("350.00")}
    next_day = seen(18, MONDAY + 2 * DAY, first.facts, record())
    assert one(next_day).body["external_id"] == f"{SUBSCRIPTION}:contraction:2026-11-25"


def test_the_end_of_a_subscription_is_churn_and_no_contraction() -> None:
    ended = seen(25, MONDAY + DAY, seen(25, MONDAY).facts, status="canceled", ended_at=MONDAY + DAY)
    assert list(contractions(ended, RULES)) == []


def test_a_contraction_is_no_episode_of_a_cancellation() -> None:
    canceling = seen(20, MONDAY + DAY, seen(25, MONDAY).facts, record(), cancel_at=MONDAY + 90 * DAY)
    (opened,) = churn_records(canceling, RULES)
    assert isinstance(opened, Command)
    assert opened.body["external_id"] == f"{SUBSCRIPTION}:1"


def test_levels_are_no_cash() -> None:
    assert lifetime_value(seen(25, MONDAY).facts, "GBP").minor == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=12))
def test_what_the_records_lose_is_what_the_days_lost(looks: list[tuple[int, int]]) -> None:
    """Every day that ends lower than it began loses exactly the difference; other days lose nothing.

    A subscription is first seen with the first revenue that it has: a level of nothing is no fact.
    """
    facts: tuple[Fact, ...] = ()
    level, day, at_dawn = None, 0, 0
    lost: dict[int, int] = {}
    for seats, passed in looks:
        if passed:
            day, at_dawn = day + passed, level or 0
        facts = seen(seats, MONDAY + day * DAY, facts).facts
        at_dawn = seats if level is None else at_dawn
        level = None if level is None and not seats else seats
        lost[day] = max(at_dawn - seats, 0)
    world = seen(looks[-1][0], MONDAY + day * DAY, facts)
    told = {c.body["external_id"]: c.body["fields"]["Lost_MRR__c"] for c in contractions(world, RULES)}
    days = {number: datetime.fromtimestamp((MONDAY + number * DAY) // MICROS, UTC).date() for number in lost}
    assert told == {
        f"{SUBSCRIPTION}:contraction:{days[number]}": Decimal(seats * 50) for number, seats in lost.items() if seats
    }
    assert corrections(world.facts, unrecorded_facts(replace(world, facts=()), RULES), world.now) == []
