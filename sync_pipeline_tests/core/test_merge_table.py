"""The decision table of the three-way merge (sync-theory 1.4), every row over every value, on the seats of a line.

Seats have every row: a line or an item can be gone, fought over, unknown or waiting for an answer. A cancel date has no
such thing as being gone; its rows are in test_cancel_dates.py, those of prices in test_shared_items.py and the laws.
What is expected follows from who moved and from the table, never from the planner.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from sync_pipeline.core.billed_items import QUANTITY, RATE
from sync_pipeline.core.commands import Plan
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.prices import changed_rates
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.stripe_lines import ITEMS
from sync_pipeline.core.stripe_records import Price
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Catalogue, Deal, World
from sync_pipeline_tests.core.making import (
    NOW,
    OPPORTUNITY,
    PERSONAL_KEY,
    RULES,
    billed,
    item,
    line,
    opportunity,
    subscription,
)

HOUR, DAY = 3600 * MICROS, 86_400 * MICROS
BASE, MOVED, OTHER = 20, 25, 28
GONE = None
VALUES = (BASE, MOVED, OTHER, GONE)
PLATFORM, SEATS = line(1, unit_price=Decimal(30_000), pricebook_entry_id="01u1"), line(2).id
RATES = {n: f'["sf_{line(n).product_id}","year",1,"{price}"]' for n, price in ((1, 3_000_000), (2, 60_000))}


def seen(here: int | None, there: int | None, base: int | None, *, ours: bool = True) -> World:
    """A running subscription of a platform that is at rest and of seats: what the line says, what the item bills, and
    what both last agreed on. None is a line or an item that is gone, or no agreement."""
    sold = {
        "unit_price": Decimal(600),
        "pricebook_entry_id": "01u2",
        "modified_at": NOW - DAY,
        "stripe_item_id": "si_2",
    }
    seats = [line(2, quantity=Decimal(here), **sold)] if here is not None else []
    platform = item(product=f"sf_{PLATFORM.product_id}", unit_amount=Decimal(3_000_000), line_ids=(PLATFORM.id,))
    seat = item(id="si_2", product=f"sf_{line(2).product_id}", unit_amount=Decimal(60_000), line_ids=(SEATS,))
    year: dict[str, Any] = {"interval": "year", "period_start": NOW - 30 * DAY, "period_end": NOW + 335 * DAY}
    held = (platform, *([replace(seat, quantity=there)] if there is not None else []))
    agreed = {(PLATFORM.id, QUANTITY): '"1"', (PLATFORM.id, RATE): RATES[1]}
    if base is not None:
        agreed |= {(SEATS, QUANTITY): f'"{base}"', (SEATS, RATE): RATES[2]}
    return billed(
        subscription(intent="sub:ours:1" if ours else None, opportunity_id=OPPORTUNITY),
        items=tuple(replace(each, **year) for each in held),
        deals=(Deal(opportunity(), (PLATFORM, *seats)),),
        base=agreed,
    )


def with_rules(**changed: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **changed))


def planned(of: World, rules: Rules = RULES) -> Plan:
    """The plan, with every price there that it asks for."""
    prices = {
        rate.lookup_key: Price(
            id=f"price_of_{rate.lookup_key}",
            product=rate.stripe_product,
            currency=rate.currency,
            lookup_key=rate.lookup_key,
            unit_amount=rate.unit_amount,
            interval="year",
            interval_count=1,
        )
        for rate in changed_rates(of, rules)
    }
    return plan(replace(of, catalogue=Present(Catalogue(prices=prices))), rules, PERSONAL_KEY)


def written(found: Plan) -> set[tuple[str, str | int]]:
    """Where the seats are written, and as what: their number, or that they are taken off."""
    sides: set[tuple[str, str | int]] = set()
    for command in found.commands:
        fields, params = command.body.get("fields", {}), command.body.get("params", {})
        if any(change.rule == QUANTITY for change in command.changes):
            side = "Salesforce" if command.action == "salesforce.update" else "Stripe"
            sides.add((side, int(fields.get("Quantity", params.get("quantity", 0)))))
        if any(change.rule == ITEMS for change in command.changes):
            for entry in params.get("items", ()):
                sides.add(("Stripe", "off" if entry.get("deleted") else int(entry["quantity"])))
            if command.action == "salesforce.upsert":
                sides.add(("Salesforce", "off"))
    return sides


def told(found: Plan) -> list[str | None]:
    """What a person is told: who wins a conflict; None where they have to decide."""
    asked = (QUANTITY, "edit_war", "line_not_billed", "item_on_no_line")
    decided: list[str | None] = [conflict.winner for conflict in found.conflicts if conflict.winner is not None]
    return decided + [None for review in found.reviews if review.rule in asked]


@pytest.mark.parametrize(("here", "there"), [pair for pair in product(VALUES, VALUES) if GONE not in pair])
def test_a_number_on_both_sides_goes_where_the_base_says(here: int, there: int) -> None:
    found = planned(seen(here, there, BASE))
    if here == there:
        assert (written(found), told(found)) == (set(), [])
        assert (SEATS, QUANTITY, f'"{here}"') in {(a.subject, a.rule, a.value) for a in found.agreements}
    elif here == BASE:
        assert (written(found), told(found)) == ({("Salesforce", there)}, [])
    elif there == BASE:
        assert (written(found), told(found)) == ({("Stripe", here)}, [])
    else:
        assert (written(found), told(found)) == ({("Stripe", here)}, ["Salesforce"])


@pytest.mark.parametrize(("here", "there"), [pair for pair in product(VALUES, VALUES) if GONE not in pair])
@pytest.mark.parametrize("ours", [True, False])
def test_at_first_contact_the_deal_counts_unless_a_person_made_the_subscription(
    here: int, there: int, ours: bool
) -> None:
    """A ledger that was lost, or a subscription that was found: what loses is on record."""
    found = planned(seen(here, there, None, ours=ours))
    if here == there:
        assert (written(found), told(found)) == (set(), [])
    elif ours:
        assert (written(found), told(found)) == ({("Stripe", here)}, ["Salesforce"])
    else:
        assert (written(found), told(found)) == (set(), [None])


@pytest.mark.parametrize(("here", "there"), list(product(VALUES, VALUES)))
def test_what_is_unknown_on_one_side_moves_nothing(here: int | None, there: int | None) -> None:
    for part in ("billing", "account"):
        unknown: dict[str, Any] = {part: Unknown("timeout")}
        found = planned(replace(seen(here, there, BASE), **unknown))
        assert (written(found), told(found), found.conflicts) == (set(), [], ())


@pytest.mark.parametrize(("here", "there"), list(product(VALUES, VALUES)))
@pytest.mark.parametrize("reaction", ["accept", "revert"])
def test_an_object_whose_last_write_has_no_answer_yet_is_left_alone(
    here: int | None, there: int | None, reaction: str
) -> None:
    rules = with_rules(on_stripe_items=reaction, removed_lines="carry")
    of = seen(here, there, BASE)
    waiting = frozenset(command.target for command in planned(of, rules).commands)
    assert written(planned(replace(of, blocked=waiting), rules)) == set()


@pytest.mark.parametrize("there", [BASE, MOVED])
@pytest.mark.parametrize("removed_lines", ["review", "carry"])
def test_a_line_that_is_gone_ends_its_billing_by_rule_and_never_where_stripe_was_edited(
    there: int, removed_lines: str
) -> None:
    """Deleted and unchanged: a person is asked, or the rules trust it. Deleted and edited: the edit stays, and a person
    is asked whatever the rules trust."""
    found = planned(seen(GONE, there, BASE), with_rules(removed_lines=removed_lines))
    if removed_lines == "carry" and there == BASE:
        assert (written(found), told(found)) == ({("Stripe", "off")}, [])
    else:
        assert (written(found), told(found)) == (set(), [None])


@pytest.mark.parametrize("here", [BASE, MOVED])
@pytest.mark.parametrize("reaction", ["review", "revert", "accept"])
def test_an_item_that_is_gone_is_followed_by_rule_and_never_where_the_line_was_edited(here: int, reaction: str) -> None:
    """Deleted and unchanged: as the rules say. Deleted and edited: the edit is billed where Salesforce has the last
    word (and both are on record), and else a person is asked."""
    found = planned(seen(here, GONE, BASE), with_rules(on_stripe_items=reaction))
    expected: dict[tuple[str, bool], Any] = {
        ("review", False): (set(), [None]),
        ("review", True): (set(), [None]),
        ("revert", False): ({("Stripe", BASE)}, []),
        ("revert", True): ({("Stripe", MOVED)}, ["Salesforce"]),
        ("accept", False): ({("Salesforce", "off")}, []),
        ("accept", True): (set(), [None]),
    }
    assert (written(found), told(found)) == expected[reaction, here != BASE]


def test_what_is_gone_on_both_sides_is_no_matter() -> None:
    for reaction, removed in product(("review", "revert", "accept"), ("review", "carry")):
        found = planned(seen(GONE, GONE, BASE), with_rules(on_stripe_items=reaction, removed_lines=removed))
        assert (written(found), told(found)) == (set(), [])


@pytest.mark.parametrize(("here", "there"), [pair for pair in product(VALUES, VALUES) if pair[0] is not GONE])
def test_what_is_fought_over_is_left_alone_and_told_once(here: int, there: int | None) -> None:
    """Three times put back in a day. What Salesforce itself has edited is no part of that war, and goes to Stripe."""
    rules = with_rules(on_stripe_quantity="revert", on_stripe_items="revert")
    fought = {
        (subject, rule): tuple(NOW - n * HOUR for n in (1, 2, 3))
        for subject, rule in (("si_2", QUANTITY), (SEATS, ITEMS))
    }
    found = planned(replace(seen(here, there, BASE), reverts=fought), rules)
    wars = [review for review in found.reviews if review.rule == "edit_war"]
    if there is GONE or (here == BASE and there != BASE):
        assert (written(found), len(wars)) == (set(), 1)
        assert found.look_again_at == NOW + 21 * HOUR
    else:
        assert written(found) == ({("Stripe", here)} if here != there else set())
        assert wars == []
