"""The inbox of conflicts: recorded once, ruled by a person, and a ruling holds until the field is edited again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core.conflict import Side
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import SyncConflict
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import OPPORTUNITY, PERSONAL_KEY, RULES, account, deal, story_lines
from sync_pipeline_tests.core.two_systems import TwoSystems

SEATS, SEATS_PRICE = "00kAa0000000002IAA", 60_000
DAY = 86_400 * MICROS


def billed(**commercial: Any) -> TwoSystems:
    """The story's deal, billed: 20 Analyst Seats at 600."""
    rules = replace(RULES, commercial=replace(RULES.commercial, contracts="leave", **commercial))
    systems = TwoSystems(rules)
    systems.put(account(), deal().opportunity, *story_lines())
    systems.settle()
    return systems


def seat_item(systems: TwoSystems) -> Any:
    return next(item for item in systems.items.values() if SEATS in item.line_ids)


def at_stripe(systems: TwoSystems, **changed: Any) -> None:
    item = seat_item(systems)
    systems.items[item.id] = replace(item, **changed)


def seats(systems: TwoSystems) -> tuple[int, int]:
    """In Salesforce and at Stripe."""
    return int(systems.records[SEATS].quantity), seat_item(systems).quantity


def both_move(systems: TwoSystems, salesforce: int = 25, stripe: int = 22) -> None:
    systems.now += DAY
    at_stripe(systems, quantity=stripe)
    systems.edit(SEATS, quantity=Decimal(salesforce))
    systems.settle()


def shown(systems: TwoSystems) -> list[SyncConflict]:
    return [record for record in systems.records.values() if isinstance(record, SyncConflict)]


def only_conflict(systems: TwoSystems) -> SyncConflict:
    (record,) = shown(systems)
    return record


def rules_in_salesforce(systems: TwoSystems, side: Side | None, record: SyncConflict | None = None) -> None:
    """A person fills the field Ruling."""
    systems.now += DAY
    chosen = record or only_conflict(systems)
    systems.edit(chosen.id, ruling=side, modified_by_id="005CASEY", modified_at=systems.now)
    systems.settle()


def is_at_rest(systems: TwoSystems) -> None:
    wrote = len(systems.requests)
    for _ in range(3):
        systems.now += DAY
        assert systems.step().conflicts == ()
    assert len(systems.requests) == wrote


def test_what_both_sides_changed_is_recorded_once_with_both_values_and_the_winner() -> None:
    systems = billed()
    systems.edit(SEATS, modified_by_id="005SALES", modified_at=systems.now)
    both_move(systems)
    assert seats(systems) == (25, 25)
    found = only_conflict(systems)
    assert (found.base_value, found.salesforce_value, found.stripe_value) == ("20", "25", "22")
    assert (found.winner, found.status, found.decided_by) == ("Salesforce", "Decided", "the rule of the field")
    assert (found.record_id, found.field) == (SEATS, "item.quantity")
    assert found.salesforce_edited_by_id == "005SALES"
    assert found.reason == "changed on both sides: 25 in Salesforce, 22 at Stripe; Salesforce wins"
    is_at_rest(systems)


def test_a_person_overrules_what_the_rule_decided_and_both_systems_follow() -> None:
    systems = billed()
    both_move(systems)
    rules_in_salesforce(systems, "Stripe")
    assert seats(systems) == (22, 22)
    found = only_conflict(systems)
    assert (found.winner, found.status) == ("Stripe", "Decided")
    assert found.decided_by == "a ruling in Salesforce by 005CASEY"
    is_at_rest(systems)
    rules_in_salesforce(systems, "Salesforce")
    assert seats(systems) == (25, 25)
    is_at_rest(systems)


def test_a_ruling_is_billed_from_when_it_was_made_and_not_from_the_edit_that_it_confirms() -> None:
    systems = billed(on_stripe_quantity="review")
    systems.edit(SEATS, modified_at=systems.now)
    systems.now += DAY
    at_stripe(systems, quantity=22)
    systems.settle()
    rules_in_salesforce(systems, "Salesforce")
    (sent,) = [params for system, kind, _, params in systems.requests if kind == "subscription_item"]
    assert sent == {
        "quantity": 20,
        "proration_behavior": "create_prorations",
        "proration_date": systems.now // MICROS,
    }


@pytest.mark.parametrize(("side", "expected"), [("Salesforce", (20, 20)), ("Stripe", (22, 22))])
def test_what_the_rule_leaves_to_a_person_waits_until_it_is_ruled(side: Side, expected: tuple[int, int]) -> None:
    systems = billed(on_stripe_quantity="review")
    systems.now += DAY
    at_stripe(systems, quantity=22)
    (*_, last) = systems.settle()
    assert [review.rule for review in last.reviews] == ["item.quantity"]
    found = only_conflict(systems)
    assert (found.winner, found.status) == (None, "Open")
    is_at_rest(systems)
    rules_in_salesforce(systems, side)
    assert seats(systems) == expected
    assert (only_conflict(systems).winner, only_conflict(systems).status) == (side, "Decided")
    assert systems.step().reviews == ()
    is_at_rest(systems)


def test_values_made_equal_by_hand_decide_a_conflict_too() -> None:
    systems = billed(on_stripe_quantity="review")
    at_stripe(systems, quantity=22)
    systems.settle()
    systems.edit(SEATS, quantity=Decimal(22))
    systems.settle()
    found = only_conflict(systems)
    assert (found.winner, found.status, found.decided_by) == ("Stripe", "Decided", "a later edit")


def test_a_third_value_is_another_question_and_a_late_ruling_on_the_first_changes_nothing() -> None:
    systems = billed()
    both_move(systems)
    systems.edit(SEATS, quantity=Decimal(40))
    systems.settle()
    rules_in_salesforce(systems, "Stripe")
    assert seats(systems) == (40, 40)
    assert only_conflict(systems).status == "Overtaken"
    is_at_rest(systems)


def test_a_late_ruling_for_what_a_ruling_for_the_other_side_has_removed_changes_nothing() -> None:
    """Nothing at Stripe can be kept as it was: the item that somebody had added there is gone."""
    systems = billed()
    extra = replace(seat_item(systems), id="si_added", product="prod_extra", line_ids=())
    systems.items[extra.id] = extra
    systems.settle()
    rules_in_salesforce(systems, "Salesforce")
    assert extra.id not in systems.items
    assert (only_conflict(systems).status, only_conflict(systems).winner) == ("Decided", "Salesforce")
    systems.edit(only_conflict(systems).id, ruling="Stripe", modified_by_id="005CASEY", modified_at=systems.now)
    (conflict,) = systems.step().conflicts
    assert (conflict.status, conflict.winner, conflict.decided_by) == ("Overtaken", "Salesforce", "a later edit")
    systems.settle()
    assert only_conflict(systems).status == "Overtaken"
    assert extra.id not in systems.items
    is_at_rest(systems)


def test_an_edit_between_the_two_writes_of_a_ruling_is_not_lost() -> None:
    systems = billed()
    both_move(systems)
    systems.edit(only_conflict(systems).id, ruling="Stripe")
    systems.step()
    assert seats(systems) == (22, 25)
    systems.edit(SEATS, quantity=Decimal(31))
    systems.settle()
    assert seats(systems) == (31, 31)
    is_at_rest(systems)
    assert len(shown(systems)) == 1  # Stripe moved on one side only: what was ruled was never agreed on


def test_the_same_values_again_are_another_conflict() -> None:
    systems = billed()
    both_move(systems)
    systems.edit(SEATS, quantity=Decimal(20))
    systems.settle()
    both_move(systems)
    first, second = sorted(shown(systems), key=lambda record: str(record.key))
    assert (str(first.key)[:-1], str(first.key)[-1], str(second.key)[-1]) == (str(second.key)[:-1], "1", "2")
    rules_in_salesforce(systems, "Stripe", first)
    assert seats(systems) == (25, 25), "only the newest conflict of a field can be ruled on"
    rules_in_salesforce(systems, "Stripe", second)
    assert seats(systems) == (22, 22)
    is_at_rest(systems)


def test_a_record_that_somebody_deletes_stays_away() -> None:
    systems = billed()
    both_move(systems)
    del systems.records[only_conflict(systems).id]
    is_at_rest(systems)
    assert shown(systems) == []


def test_what_somebody_edits_in_a_record_beside_the_ruling_is_put_back() -> None:
    systems = billed()
    both_move(systems)
    systems.edit(only_conflict(systems).id, winner="Stripe", status="Open")
    systems.settle()
    assert (only_conflict(systems).winner, only_conflict(systems).status) == ("Salesforce", "Decided")


def test_a_ruling_from_the_command_line_is_shown_in_salesforce_and_carried_out() -> None:
    systems = billed()
    both_move(systems)
    rules_in_salesforce(systems, "Stripe")
    (conflict,) = systems.conflicts.values()
    systems.now += DAY
    said = replace(conflict, ruling="Salesforce", ruled_by="Robin", ruled_at=systems.now)
    systems.conflicts[conflict.key] = said
    systems.settle()
    assert seats(systems) == (25, 25)
    found = only_conflict(systems)
    assert (found.ruling, found.winner, found.decided_by) == (
        "Salesforce",
        "Salesforce",
        "Robin with sync-pipeline resolve",
    )
    assert systems.conflicts[conflict.key].ruling is None
    is_at_rest(systems)


def test_half_a_look_overtakes_no_conflict() -> None:
    systems = billed(on_stripe_quantity="review")
    at_stripe(systems, quantity=22)
    systems.settle()
    blind = replace(systems.observe(), billing=Unknown("timeout"))
    assert plan(blind, systems.rules, PERSONAL_KEY).conflicts == ()


def test_a_price_that_was_changed_at_stripe_is_ruled_either_way() -> None:
    systems = billed()
    at_stripe(systems, unit_amount=Decimal(55_000))
    systems.settle()
    assert (only_conflict(systems).salesforce_value, only_conflict(systems).stripe_value) == (
        "GBP 600 per year",
        "GBP 550 per year",
    )
    rules_in_salesforce(systems, "Stripe")
    assert systems.records[SEATS].unit_price == Decimal(550)
    is_at_rest(systems)
    rules_in_salesforce(systems, "Salesforce")
    assert (systems.records[SEATS].unit_price, seat_item(systems).unit_amount) == (Decimal(600), Decimal(60_000))
    is_at_rest(systems)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("salesforce"), st.sampled_from([20, 22, 25, 31])),
            st.tuples(st.just("stripe"), st.sampled_from([20, 22, 25, 31])),
            st.tuples(st.just("rule"), st.sampled_from(["Salesforce", "Stripe", None])),
            st.tuples(st.just("look"), st.none()),
        ),
        max_size=8,
    ),
    st.sampled_from(["accept", "review", "revert"]),
)
def test_whatever_people_edit_and_rule_the_systems_come_to_rest(steps: list[tuple[str, Any]], reaction: str) -> None:
    """At rest nothing is written, and what still differs is an open conflict that waits for a person."""
    systems = billed(on_stripe_quantity=reaction, reverts_before_review=99)
    for kind, value in steps:
        systems.now += DAY
        if kind == "salesforce":
            systems.edit(SEATS, quantity=Decimal(value))
        elif kind == "stripe":
            at_stripe(systems, quantity=value)
        elif kind == "rule" and shown(systems):
            newest = max(systems.conflicts.values(), key=lambda c: (c.opened_at, c.key))
            record = next((each for each in shown(systems) if each.key == newest.key), None)
            if record is not None:
                systems.edit(record.id, ruling=value)
        else:
            systems.step()
    systems.settle(most=6)
    is_at_rest(systems)
    open_ones = [each for each in systems.conflicts.values() if each.status == "Open"]
    in_salesforce, at_stripe_now = seats(systems)
    assert (in_salesforce == at_stripe_now) == (not open_ones)
    keys = {each.key: each for each in shown(systems)}
    assert {key: each.status for key, each in systems.conflicts.items()} == {k: r.status for k, r in keys.items()}


def with_subscription_id_cleared() -> TwoSystems:
    """Somebody clears the id of the deal's subscription, which the rule of the field leaves to a person."""
    systems = billed()
    systems.edit(OPPORTUNITY, stripe_subscription_id=None)
    systems.settle()
    return systems


def test_a_field_that_was_edited_by_hand_waits_for_a_person_and_is_put_back_by_the_ruling() -> None:
    systems = with_subscription_id_cleared()
    found = only_conflict(systems)
    assert (found.salesforce_value, found.stripe_value, found.winner) == ("nothing", "sub_made0", None)
    is_at_rest(systems)
    rules_in_salesforce(systems, "Stripe")
    assert systems.records[OPPORTUNITY].stripe_subscription_id == "sub_made0"
    assert (only_conflict(systems).status, only_conflict(systems).winner) == ("Decided", "Stripe")
    is_at_rest(systems)


def test_what_a_person_rules_to_stay_as_it_was_edited_stays_until_it_is_edited_again() -> None:
    systems = with_subscription_id_cleared()
    rules_in_salesforce(systems, "Salesforce")
    assert systems.records[OPPORTUNITY].stripe_subscription_id is None
    assert (only_conflict(systems).status, only_conflict(systems).winner) == ("Decided", "Salesforce")
    assert systems.step().reviews == ()
    is_at_rest(systems)
    systems.edit(OPPORTUNITY, stripe_subscription_id="sub_made0")
    systems.settle()
    assert only_conflict(systems).status == "Overtaken"
    systems.edit(OPPORTUNITY, stripe_subscription_id=None)
    systems.settle()
    assert sorted(record.status or "" for record in shown(systems)) == ["Open", "Overtaken"]


def test_personal_values_are_in_no_conflict() -> None:
    rows = tuple(replace(r, on_foreign_edit="review") if r.target == "customer.name" else r for r in RULES.fields)
    systems = billed()
    systems.rules = replace(systems.rules, fields=rows)
    (customer,) = systems.customers.values()
    systems.customers[customer.id] = replace(customer, name="Zanzibar Ltd")
    systems.settle()
    assert (only_conflict(systems).salesforce_value, only_conflict(systems).stripe_value) == (
        "(personal)",
        "(personal)",
    )
    assert "Zanzibar" not in repr([systems.conflicts, only_conflict(systems)])
    rules_in_salesforce(systems, "Salesforce")
    assert [each.name for each in systems.customers.values()] == ["Northwind Analytics Ltd"]
    is_at_rest(systems)
