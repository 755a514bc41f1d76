"""Seats from either side: the three-way merge and what it asks for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.billed_items import QUANTITY as RULE
from sync_pipeline.core.billed_items import RATE
from sync_pipeline.core.commands import Agreement, Command, Entry, LookAgain, Review
from sync_pipeline.core.conflict import Clash
from sync_pipeline.core.line_terms import keep_line_terms
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rates import OUR_PRODUCT
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.seats import spread
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    ORG,
    RESTS,
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
    names = tuple(each.id for each in lines)
    one = item(quantity=billed, line_ids=names, interval="year", unit_amount=Decimal(60_000), **PERIOD)
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


def seats_asked(world: World, rules: Rules = RULES) -> list[Entry]:
    """What is asked for, apart from the agreement on the prices, which are equal here."""
    entries = list(keep_line_terms(world, rules))
    return [entry for entry in entries if not (isinstance(entry, Agreement) and entry.rule == RATE)]


def with_setting(**changed: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **changed))


def test_equal_quantities_become_the_base() -> None:
    assert (seats_asked(seats_world(20, billed=20, base=None))) == [Agreement(line(1).id, RULE, '"20"')]


def test_an_edit_in_salesforce_is_billed_from_the_moment_of_the_edit() -> None:
    (command,) = seats_asked(seats_world(25, billed=20, base=(20,)))
    assert isinstance(command, Command)
    assert command.body == {
        "object": "subscription_item",
        "id": "si_1",
        "subscription": SUBSCRIPTION,
        "params": {
            "quantity": 25,
            "proration_behavior": "create_prorations",
            "proration_date": (NOW - DAY) // MICROS,
        },
    }


@pytest.mark.parametrize("quantity", [Decimal("0.5"), Decimal("2.5"), None])
def test_a_new_line_whose_quantity_cannot_be_billed_is_told_and_holds_up_nothing(quantity: Decimal | None) -> None:
    world = seats_world(25, billed=20, base=(20,))
    (deal,) = world.deals
    half = line(9, quantity=quantity, unit_price=Decimal(30), modified_at=NOW - DAY)
    command, review = seats_asked(replace(world, deals=(replace(deal, lines=(*deal.lines, half)),)))
    assert isinstance(review, Review)
    assert review.detail.endswith("its quantity is no whole number")
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 25


def test_an_edit_before_the_period_is_billed_from_the_start_of_the_period() -> None:
    (command,) = seats_asked(seats_world(25, billed=20, base=(20,), edited_at=NOW - 90 * DAY))
    assert isinstance(command, Command)
    assert command.body["params"]["proration_date"] == (NOW - 30 * DAY) // MICROS


def test_a_fresh_edit_rests_for_the_quiet_period() -> None:
    edited_at = NOW - 10 * MICROS
    (entry,) = seats_asked(seats_world(25, billed=20, base=(20,), edited_at=edited_at))
    assert entry == LookAgain(edited_at + 45 * MICROS, line().id, RESTS)


def test_a_change_at_stripe_goes_to_the_line_with_its_price() -> None:
    (command,) = seats_asked(seats_world(20, billed=28, base=(20,)))
    assert isinstance(command, Command)
    assert command.body["fields"] == {"Quantity": Decimal(28), "UnitPrice": Decimal(600)}


def test_a_change_at_stripe_is_taken_by_the_last_line_of_an_item() -> None:
    more = [e for e in seats_asked(seats_world(20, 5, billed=28, base=(20, 5))) if isinstance(e, Command)]
    assert [(c.subject, c.body["fields"]["Quantity"]) for c in more] == [(line(2).id, Decimal(8))]
    fewer = [e for e in seats_asked(seats_world(20, 5, billed=22, base=(20, 5))) if isinstance(e, Command)]
    assert [(c.subject, c.body["fields"]["Quantity"]) for c in fewer] == [(line(2).id, Decimal(2))]


def test_a_write_that_took_effect_is_the_base_from_which_the_next_edit_is_judged() -> None:
    """A customer who takes two of the seats back before anybody looks again must not meet an old base."""
    (to_stripe,) = seats_asked(seats_world(25, billed=20, base=(20,)))
    assert isinstance(to_stripe, Command)
    assert to_stripe.agreements == (Agreement(line(1).id, RULE, '"25"'),)
    (to_line,) = seats_asked(seats_world(25, billed=23, base=(25,)))
    assert isinstance(to_line, Command)
    assert (to_line.target, to_line.agreements) == (
        f"salesforce/OpportunityLineItem/{line(1).id}",
        (Agreement(line(1).id, RULE, '"23"'),),
    )


def test_lines_of_one_item_that_were_written_only_in_part_are_written_on_and_not_billed() -> None:
    first, second = seats_asked(seats_world(20, 5, 5, billed=24, base=(20, 5, 5)))
    assert isinstance(first, Command)
    assert isinstance(second, Command)
    assert {(each.subject, each.value) for each in first.agreements} == {(line(1).id, '"20"'), (line(2).id, '"3"')}
    assert [(each.subject, each.value) for each in second.agreements] == [(line(3).id, '"1"')]
    (again,) = seats_asked(seats_world(20, 3, 5, billed=24, base=(20, 3, 5)))
    assert isinstance(again, Command)
    assert (again.subject, again.body["fields"]["Quantity"]) == (line(3).id, Decimal(1))


def test_a_line_that_is_gone_was_agreed_upon_too() -> None:
    """Five of 25 seats went with their line: Salesforce moved, not Stripe."""
    world = seats_world(20, 5, billed=25, base=(20, 5))
    shorter = replace(world, deals=(replace(world.deals[0], lines=world.deals[0].lines[:1]),))
    (command,) = seats_asked(shorter, with_setting(removed_lines="carry"))
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 20
    assert command.agreements == (Agreement(line(1).id, RULE, '"20"'), Agreement(line(2).id, RULE, '"0"'))


def test_both_moved_salesforce_wins_and_a_person_is_told() -> None:
    clash, command = seats_asked(seats_world(25, billed=22, base=(20,)))
    assert isinstance(clash, Clash)
    assert clash.detail == "changed on both sides: 25 in Salesforce, 22 at Stripe; Salesforce wins"
    assert (clash.words, clash.winner) == (("20", "25", "22"), "Salesforce")
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 25


def test_an_adopted_subscription_that_differs_is_never_changed_without_a_person() -> None:
    (entry,) = seats_asked(seats_world(25, billed=20, base=None, intent=None))
    assert isinstance(entry, Clash)
    assert entry.winner is None


def test_an_ended_subscription_is_left_alone() -> None:
    world = seats_world(25, billed=20, base=(20,))
    assert isinstance(world.billing, Present)
    ended = Billing(subscriptions=(subscription(status="canceled"),), items=world.billing.value.items)
    assert (seats_asked(replace(world, billing=Present(ended)))) == []


@given(st.lists(st.integers(-5, 40).filter(bool), min_size=1, max_size=6), st.integers(0, 200))
def test_a_spread_sums_up_and_leaves_no_line_without_a_seat(quantities: list[int], quantity: int) -> None:
    """Salesforce refuses a line of quantity zero; a line that takes seats back stays as it was agreed."""
    lines = tuple(line(n, quantity=Decimal(q)) for n, q in enumerate(quantities, 1))
    shares = spread(lines, quantity)
    sharing = [each for each in quantities if each > 0]
    taken = sum(each for each in quantities if each < 0)
    if shares is None:
        assert not sharing or quantity - taken < len(sharing)
    else:
        assert sum(shares.values()) + taken == quantity
        assert len(shares) == len(sharing)
        assert min(shares.values()) >= 1


def test_fewer_seats_than_lines_are_told_to_a_person() -> None:
    (review,) = seats_asked(seats_world(20, 5, 5, billed=2, base=(20, 5, 5)))
    assert isinstance(review, Review)
    assert review.detail == "2 are fewer than there are lines of it; take lines off the deal"


def test_a_quantity_that_was_changed_at_stripe_is_put_back_where_the_rule_says_so() -> None:
    (command,) = seats_asked(seats_world(20, billed=28, base=(20,)), with_setting(on_stripe_quantity="revert"))
    assert isinstance(command, Command)
    assert (command.body["params"], command.changes[0].put_back) == (
        {"quantity": 20, "proration_behavior": "create_prorations"},
        "si_1",
    )


def test_a_quantity_that_was_changed_at_stripe_waits_for_a_person_where_the_rule_says_so() -> None:
    (clash,) = seats_asked(seats_world(20, billed=28, base=(20,)), with_setting(on_stripe_quantity="review"))
    assert isinstance(clash, Clash)
    assert (clash.detail, clash.winner) == (
        "changed at Stripe: 20 in Salesforce, 28 at Stripe; make them equal",
        None,
    )


@pytest.mark.parametrize(("hours_ago", "stops"), [((1, 2, 3), True), ((1, 2), False), ((1, 2, 25), False)])
def test_what_is_put_back_three_times_in_a_day_is_fought_over_and_left_alone(
    hours_ago: tuple[int, ...], stops: bool
) -> None:
    hour = 3600 * MICROS
    fought = replace(
        seats_world(20, billed=28, base=(20,)), reverts={("si_1", RULE): tuple(NOW - hour * h for h in hours_ago)}
    )
    entries = seats_asked(fought, with_setting(on_stripe_quantity="revert"))
    if stops:
        review, again = entries
        assert isinstance(review, Review)
        assert review.detail == "item.quantity was put back 3 times in 24 hours and changed again; find what changes it"
        assert again == LookAgain(NOW - 3 * hour + 24 * hour, priority=Priority.BULK)
    else:
        assert [type(entry) for entry in entries] == [Command]


def test_seats_taken_back_by_a_line_of_their_own_reduce_what_is_billed() -> None:
    (command,) = seats_asked(seats_world(20, -5, billed=20, base=(20,)))
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 15


def test_a_line_that_joins_an_item_is_added_to_what_both_sides_have() -> None:
    """A customer's 20 more seats were written to the line, and the answer was lost: both sides have 46 of it."""
    world = seats_world(46, 18, billed=46, base=(26,))
    assert isinstance(world.billing, Present)
    (deal,) = world.deals
    more = replace(deal.lines[1], product_id=deal.lines[0].product_id)
    one = replace(world.billing.value.items[0], line_ids=(line(1).id,), product=f"{OUR_PRODUCT}{more.product_id}")
    world = replace(
        world,
        billing=Present(replace(world.billing.value, items=(one,))),
        deals=(replace(deal, lines=(deal.lines[0], more)),),
    )
    (command,) = seats_asked(world)
    assert isinstance(command, Command)
    assert command.body["params"]["quantity"] == 64
    rate = f'["{OUR_PRODUCT}{more.product_id}","year",1,"60000"]'
    assert command.agreements == (
        Agreement(line(2).id, "item.unit_price", rate),
        Agreement(line(1).id, RULE, '"46"'),
        Agreement(line(2).id, RULE, '"18"'),
    )
