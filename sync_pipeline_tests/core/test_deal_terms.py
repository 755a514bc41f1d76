"""How a deal is collected and when it begins, edited after its billing began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.commands import Agreement, Command, LookAgain, Review
from sync_pipeline.core.conflict import Clash, Side, Standing
from sync_pipeline.core.conflict_inbox import with_conflicts
from sync_pipeline.core.deal_terms import BEGINS, COLLECTED, agreed_deal_terms, keep_deal_terms
from sync_pipeline.core.foresight import imagine
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.stripe_records import SubscriptionSchedule
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, World
from sync_pipeline_tests.core.making import (
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    RESTS,
    RULES,
    SUBSCRIPTION,
    billed,
    customer,
    deal,
    item,
    opportunity,
    subscription,
)

NET_30 = {"net_days": Decimal(30)}
SAID_30 = {
    (each.subject, each.rule): each.value for each in agreed_deal_terms(opportunity(**NET_30), "send_invoice", 30)
}
AGREED = {(each.subject, each.rule): each.value for each in agreed_deal_terms(opportunity(), "send_invoice", 30)}


def running(
    base: Mapping[tuple[str, str], str] = AGREED, *, has: Mapping[str, Any] | None = None, **says: Any
) -> World:
    """A deal that was agreed on as 30 days net from its day, and says this now; its subscription has that."""
    made = subscription(intent="sub:1", opportunity_id=OPPORTUNITY, **(has or {}))
    return billed(made, items=(item(),), deals=(deal(**says),), base=dict(base))


def rules(**changed: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **changed))


def of(world: World, by: Rules = RULES) -> list[Any]:
    return [entry for entry in keep_deal_terms(world, by) if not isinstance(entry, Agreement | Standing)]


def test_nothing_is_written_where_the_deal_says_what_it_said() -> None:
    assert of(running()) == []
    assert list(keep_deal_terms(running({}), RULES)) == list(agreed_deal_terms(opportunity(), "send_invoice", 30))


@pytest.mark.parametrize(
    ("says", "params"),
    [
        ({"net_days": Decimal(60)}, {"collection_method": "send_invoice", "days_until_due": 60}),
        ({"net_days": Decimal(0)}, {"collection_method": "send_invoice", "days_until_due": 0}),
        ({"collection_method": "Charge Automatically"}, {"collection_method": "charge_automatically"}),
    ],
)
def test_an_edit_is_carried_and_agreed_on(says: dict[str, Any], params: dict[str, Any]) -> None:
    paying = {CUSTOMER: Present(customer(payment_method="pm_1"))}
    world = replace(running(**says), customers=paying)
    (command,) = of(world)
    assert isinstance(command, Command)
    assert command.body == {"object": "subscription", "id": SUBSCRIPTION, "params": params}
    after, is_whole = imagine(world, [command], RULES, lambda _: Billing())
    assert is_whole
    assert of(after) == []


def test_it_is_taken_back_where_the_field_is_emptied_again() -> None:
    (agreed, _) = agreed_deal_terms(opportunity(net_days=Decimal(60)), "send_invoice", 60)
    world = running({**AGREED, (OPPORTUNITY, COLLECTED): agreed.value}, has={"days_until_due": 60})
    (command,) = of(world)
    assert command.body["params"] == {"collection_method": "send_invoice", "days_until_due": 30}


def test_other_rules_for_new_deals_change_no_deal_that_is_billed() -> None:
    assert of(running(), rules(days_until_due=14)) == []
    assert of(running(), rules(collection_method="charge_automatically")) == []


def test_an_edit_rests_before_it_is_carried() -> None:
    (wait,) = of(running(net_days=Decimal(60), modified_at=NOW - MICROS))
    assert wait == LookAgain(NOW + 44 * MICROS, OPPORTUNITY, RESTS)


def test_who_has_nothing_to_charge_is_told_of() -> None:
    (told,) = of(running(collection_method="Charge Automatically"))
    assert isinstance(told, Review)
    assert told.detail == f"{CUSTOMER} has no default payment method to charge; add one at Stripe"


def test_what_no_one_can_read_is_told_and_nothing_is_written() -> None:
    (told,) = of(running(net_days=Decimal("7.5")))
    assert isinstance(told, Review)
    assert told.detail.startswith(f"{SUBSCRIPTION} is collected as before: ")


def test_what_was_changed_at_stripe_is_for_a_person() -> None:
    (clash,) = of(running(SAID_30, has={"days_until_due": 45}, **NET_30))
    assert isinstance(clash, Clash)
    assert clash.detail == (
        f"changed at Stripe: the deal says invoices due after 30 days, {SUBSCRIPTION} invoices due after 45 days; "
        "make them equal"
    )


def test_where_the_deal_says_nothing_stripes_word_stands() -> None:
    """A customer who enters a card and pays by it from now on contradicts nobody."""
    now_has = {"collection_method": "charge_automatically", "days_until_due": None}
    (agreed, _) = keep_deal_terms(running(has=now_has), RULES)
    assert agreed == agreed_deal_terms(opportunity(), "charge_automatically", None)[0]


@pytest.mark.parametrize(("side", "days"), [("Salesforce", [30]), ("Stripe", [])])
def test_a_ruling_is_carried_out(side: Side, days: list[int]) -> None:
    world = ruled(running(SAID_30, has={"days_until_due": 45}, **NET_30), side)
    assert [each.body["params"]["days_until_due"] for each in of(world) if isinstance(each, Command)] == days
    assert not [each for each in of(world) if isinstance(each, Clash)]


def test_where_both_sides_moved_the_deal_counts_and_a_person_is_told() -> None:
    told, command = of(running(net_days=Decimal(60), has={"days_until_due": 45}))
    assert isinstance(told, Clash)
    assert told.winner == "Salesforce"
    assert command.body["params"]["days_until_due"] == 60


def test_it_is_asked_where_the_rules_say_that_changes_are_asked() -> None:
    (clash,) = of(running(net_days=Decimal(60)), rules(changes_after_billing="review"))
    assert isinstance(clash, Clash)
    assert clash.winner is None


def test_a_running_schedule_says_it_itself() -> None:
    world = running(net_days=Decimal(60))
    assert isinstance(world.billing, Present)
    schedule = SubscriptionSchedule(
        id="sub_sched_1", customer=CUSTOMER, status="active", opportunity_id=OPPORTUNITY, starts_at=NOW
    )
    world = replace(world, billing=Present(replace(world.billing.value, schedules=(schedule,))))
    (told,) = of(world)
    assert isinstance(told, Review)
    assert "edit it at Stripe" in told.detail


def test_a_subscription_that_somebody_else_made_is_collected_as_it_is() -> None:
    found = billed(subscription(days_until_due=7), items=(item(),), deals=(deal(net_days=Decimal(60)),))
    assert list(keep_deal_terms(found, RULES)) == []


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"service_start_date": "2026-12-01"}, "the deal says from 2026-12-01, it was billed from 2026-11-23"),
        (
            {"free_months": Decimal(2)},
            "the deal says from 2026-11-23 with 2 free months, it was billed from 2026-11-23",
        ),
    ],
)
def test_a_beginning_that_is_billed_already_is_for_a_person(says: dict[str, Any], words: str) -> None:
    (clash,) = of(running(**says))
    assert isinstance(clash, Clash)
    assert clash.detail.startswith(words)
    assert of(ruled(running(**says), "Stripe")) == []
    (told,) = [each for each in of(ruled(running(**says), "Salesforce")) if isinstance(each, Review)]
    assert told.detail.startswith("what was billed cannot begin on another day: ")


def test_a_ruling_that_cannot_be_carried_out_is_over_when_the_deal_is_put_back() -> None:
    edited = ruled(running(service_start_date="2026-12-01"), "Salesforce")
    back = replace(edited, deals=running().deals)
    (asked,) = [each for each in edited.conflicts if each.rule == BEGINS]
    (over,) = [each for each in plan(back, RULES, b"").conflicts if each.rule == BEGINS]
    assert (over.key, over.status, over.winner) == (asked.key, "Overtaken", None)


@pytest.mark.parametrize("said", ["2026-11-23", None])
def test_a_day_that_is_filled_in_or_emptied_is_no_other_day(said: str | None) -> None:
    """A deal without a day began on the day on which it was billed, and says the same with it."""
    unsaid = agreed_deal_terms(opportunity(service_start_date=None), "send_invoice", 30)
    base = {(each.subject, each.rule): each.value for each in unsaid}
    assert of(running(base, service_start_date=said)) == []
    assert of(running(service_start_date=said)) == []


def test_all_parts_of_a_deal_begin_together() -> None:
    world = running(service_start_date="2026-12-01")
    (first,) = world.deals
    second = replace(first, opportunity=replace(first.opportunity, id=f"{OPPORTUNITY}:2"))
    made = subscription(id="sub_2", intent="sub:2", opportunity_id=second.opportunity.id)
    assert isinstance(world.billing, Present)
    both = replace(world.billing.value, subscriptions=(*world.billing.value.subscriptions, made))
    base = {**world.base, (second.opportunity.id, BEGINS): world.base[OPPORTUNITY, BEGINS]}
    world = replace(world, deals=(first, second), billing=Present(both), base=base)
    assert [each.standing.subject for each in of(world) if isinstance(each, Clash)] == [OPPORTUNITY]


@pytest.mark.parametrize(
    ("has", "says"),
    [
        # The customer pays by card since, which the deal did not speak of, and does not now.
        ({"collection_method": "charge_automatically", "days_until_due": None}, NET_30),
        # Finance gave it 45 days, which the deal did not speak of, and does not now.
        ({"days_until_due": 45}, {"collection_method": "Send Invoice"}),
    ],
)
def test_saying_one_half_overwrites_nothing_of_the_other(has: dict[str, Any], says: dict[str, Any]) -> None:
    """An attack found it: the half that the deal does not say was taken from the rules."""
    (followed, _) = agreed_deal_terms(
        opportunity(), has.get("collection_method", "send_invoice"), has["days_until_due"]
    )
    base = {**AGREED, (OPPORTUNITY, COLLECTED): followed.value}
    for by in (RULES, rules(days_until_due=14, collection_method="charge_automatically")):
        assert of(running(base, has=has, **says), by) == []


def test_days_are_carried_whatever_the_rules_say_of_the_method_by_now() -> None:
    (command,) = of(running(net_days=Decimal(45)), rules(collection_method="charge_automatically"))
    assert command.body["params"] == {"collection_method": "send_invoice", "days_until_due": 45}


def test_what_was_never_agreed_on_is_for_a_person() -> None:
    """After an upgrade nobody knows whether the deal or Stripe was edited: nothing is overwritten."""
    (clash,) = of(running({}, has={"days_until_due": 45}, net_days=Decimal(60)))
    assert isinstance(clash, Clash)
    assert clash.winner is None


def test_no_free_months_are_none() -> None:
    assert of(running(free_months=Decimal(0))) == []


def test_a_plan_tells_it_once() -> None:
    world = running(service_start_date="2026-12-01")
    (conflict,) = [each for each in plan(world, RULES, b"").conflicts if each.rule == BEGINS]
    again = plan(with_conflicts(world, [conflict]), RULES, b"")
    assert [each for each in again.conflicts if each.rule == BEGINS] == []


def ruled(world: World, side: Side) -> World:
    conflicts = [replace(each, ruling=side, ruled_at=NOW) for each in plan(world, RULES, b"").conflicts]
    return with_conflicts(world, conflicts)
