"""Seats from either side: the three-way merge and what it asks for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from sync_pipeline.core.commands import Agreement, Command, LookAgain, Review
from sync_pipeline.core.kinds import merge3
from sync_pipeline.core.observation import Present
from sync_pipeline.core.seats import RULE, keep_seats
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    MICROS,
    NOW,
    OPPORTUNITY,
    ORG,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    line,
    opportunity,
    subscription,
)

DAY = 86_400 * MICROS
PERIOD = {"period_start": NOW - 30 * DAY, "period_end": NOW + 335 * DAY}


def seats_world(
    *quantities: int,
    billed: int,
    base: tuple[int, ...] | None,
    edited_at: int = NOW - DAY,
    intent: str | None = "sub:ours:1",
) -> World:
    """A running subscription whose one item bills as many lines as there are quantities."""
    lines = tuple(
        line(n, quantity=Decimal(q), unit_price=Decimal(600), modified_at=edited_at)
        for n, q in enumerate(quantities, 1)
    )
    one = item(quantity=billed, line_ids=tuple(each.id for each in lines), **PERIOD)
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW,
        account=Present(account()),
        deals=(Deal(opportunity(), lines),),
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(subscription(intent=intent),), items=(one,))),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        base={(line(n).id, RULE): f'"{q}"' for n, q in enumerate(base or (), 1)},
    )


@pytest.mark.parametrize(
    ("left", "right", "base", "decision"),
    [
        ("1", "1", None, "agree"),
        ("1", "1", "1", "agree"),
        ("1", "1", "2", "agree"),
        ("1", "2", "1", "write_left"),
        ("2", "1", "1", "write_right"),
        ("2", "3", "1", "conflict"),
        ("2", "3", None, "conflict"),
    ],
)
def test_merge_table(left: str, right: str, base: str | None, decision: str) -> None:
    assert merge3(left, right, base) == decision


def test_equal_quantities_become_the_base() -> None:
    assert list(keep_seats(seats_world(20, billed=20, base=None), RULES)) == [Agreement(line(1).id, RULE, '"20"')]


def test_an_edit_in_salesforce_is_billed_from_the_moment_of_the_edit() -> None:
    (command,) = keep_seats(seats_world(25, billed=20, base=(20,)), RULES)
    assert isinstance(command, Command)
    assert command.body == {
        "object": "subscription_item",
        "id": "si_1",
        "params": {
            "quantity": 25,
            "proration_behavior": "create_prorations",
            "proration_date": (NOW - DAY) // MICROS,
        },
    }


def test_an_edit_before_the_period_is_billed_from_the_start_of_the_period() -> None:
    (command,) = keep_seats(seats_world(25, billed=20, base=(20,), edited_at=NOW - 90 * DAY), RULES)
    assert isinstance(command, Command)
    assert command.body["params"]["proration_date"] == (NOW - 30 * DAY) // MICROS


def test_a_fresh_edit_rests_for_the_quiet_period() -> None:
    edited_at = NOW - 10 * MICROS
    (entry,) = keep_seats(seats_world(25, billed=20, base=(20,), edited_at=edited_at), RULES)
    assert entry == LookAgain(edited_at + 45 * MICROS)


def test_a_change_at_stripe_goes_to_the_line_with_its_price() -> None:
    (command,) = keep_seats(seats_world(20, billed=28, base=(20,)), RULES)
    assert isinstance(command, Command)
    assert command.body["fields"] == {"Quantity": Decimal(28), "UnitPrice": Decimal(600)}


def test_a_change_at_stripe_is_taken_by_the_last_line_of_an_item() -> None:
    more = [e for e in keep_seats(seats_world(20, 5, billed=28, base=(20, 5)), RULES) if isinstance(e, Command)]
    assert [(c.subject, c.body["fields"]["Quantity"]) for c in more] == [(line(2).id, Decimal(8))]
    fewer = [e for e in keep_seats(seats_world(20, 5, billed=22, base=(20, 5)), RULES) if isinstance(e, Command)]
    assert [(c.subject, c.body["fields"]["Quantity"]) for c in fewer] == [(line(2).id, Decimal(2))]


def test_a_write_that_took_effect_is_the_base_from_which_the_next_edit_is_judged() -> None:
    """A customer who takes two of the seats back before anybody looks again must not meet an old base."""
    (to_stripe,) = keep_seats(seats_world(25, billed=20, base=(20,)), RULES)
    assert isinstance(to_stripe, Command)
    assert to_stripe.agreements == (Agreement(line(1).id, RULE, '"25"'),)
    (to_line,) = keep_seats(seats_world(25, billed=23, base=(25,)), RULES)
    assert isinstance(to_line, Command)
    assert (to_line.target, to_line.agreements) == (
        f"salesforce/OpportunityLineItem/{line(1).id}",
        (Agreement(line(1).id, RULE, '"23"'),),
    )


def test_lines_of_one_item_that_were_written_only_in_part_are_written_on_and_not_billed() -> None:
    first, second = keep_seats(seats_world(20, 5, 5, billed=24, base=(20, 5, 5)), RULES)
    assert isinstance(first, Command)
    assert isinstance(second, Command)
    assert {(each.subject, each.value) for each in first.agreements} == {(line(1).id, '"20"'), (line(2).id, '"4"')}
    assert [(each.subject, each.value) for each in second.agreements] == [(line(3).id, '"0"')]
    (again,) = keep_seats(seats_world(20, 4, 5, billed=24, base=(20, 4, 5)), RULES)
    assert isinstance(again, Command)
    assert (again.subject, again.body["fields"]["Quantity"]) == (line(3).id, Decimal(0))


def test_a_line_that_is_gone_was_agreed_upon_too() -> None:
    """Five of 25 seats went with their line: Salesforce moved, not Stripe."""
    world = seats_world(20, 5, billed=25, base=(20, 5))
    shorter = replace(world, deals=(replace(world.deals[0], lines=world.deals[0].lines[:1]),))
    (command,) = keep_seats(shorter, RULES)
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 20
    assert command.agreements == (Agreement(line(1).id, RULE, '"20"'), Agreement(line(2).id, RULE, '"0"'))


def test_both_moved_salesforce_wins_and_a_person_is_told() -> None:
    review, command = keep_seats(seats_world(25, billed=22, base=(20,)), RULES)
    assert isinstance(review, Review)
    assert review.detail == "changed on both sides: 25 in Salesforce, 22 at Stripe; Salesforce wins"
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 25


def test_an_adopted_subscription_that_differs_is_never_changed_without_a_person() -> None:
    (entry,) = keep_seats(seats_world(25, billed=20, base=None, intent=None), RULES)
    assert isinstance(entry, Review)


def test_an_ended_subscription_is_left_alone() -> None:
    world = seats_world(25, billed=20, base=(20,))
    assert isinstance(world.billing, Present)
    ended = Billing(subscriptions=(subscription(status="canceled"),), items=world.billing.value.items)
    assert list(keep_seats(replace(world, billing=Present(ended)), RULES)) == []
