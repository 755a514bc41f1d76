"""Lines of one rate that share an item, when somebody edits the price of one of them: it is billed apart, whole."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.conflict import Side
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import LineItem, SyncConflict
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.disturbances import ANALYST, DAY, MINUTE, MORE_ANALYSTS, at_rest
from sync_pipeline_tests.core.making import PERSONAL_KEY, line
from sync_pipeline_tests.core.two_systems import TwoSystems

TOGETHER = (ANALYST, MORE_ANALYSTS)


def analysts(both: TwoSystems) -> list[tuple[int | None, int, tuple[str, ...]]]:
    """Quantity, unit amount and lines of the items that bill analysts."""
    found = [each for each in both.items.values() if set(each.line_ids) & set(TOGETHER)]
    return [(each.quantity, int(each.unit_amount or 0), each.line_ids) for each in found]


def edited(both: TwoSystems, line_id: str = MORE_ANALYSTS, **changed: Any) -> None:
    both.edit(line_id, **changed, modified_at=both.now)
    both.now += MINUTE


@pytest.mark.parametrize("reaction", ["review", "revert", "accept"])
def test_a_line_whose_price_is_edited_is_billed_by_an_item_of_its_own(reaction: str) -> None:
    """Twenty at 600.00 stay, five are billed at 590.00, from the same second; whatever the rule for Stripe's edits."""
    both = at_rest(on_stripe_items=reaction)
    at = both.now
    edited(both, unit_price=Decimal(590))
    begun = len(both.requests)
    both.settle()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]
    sent = [fields for system, kind, _, fields in both.requests[begun:] if system == "stripe" and kind != "price"]
    assert [fields["proration_date"] for fields in sent] == [at // 1_000_000]
    # 30,000 and 20 x 600 and 5 x 590 and 15 x 200 pounds a year.
    assert both.records["001Aa0000000001IAA"].mrr == Decimal("3995.83")
    assert [both.step().commands for _ in range(3)] == [(), (), ()]


def test_the_item_bills_on_until_the_other_price_can_be_billed() -> None:
    """Never a moment at which the five are billed nowhere: first the price, then both items in one request."""
    both = at_rest()
    edited(both, unit_price=Decimal(590))
    both.step()
    assert analysts(both) == [(25, 60_000, TOGETHER)]
    both.step()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]


def test_a_price_that_cannot_be_billed_leaves_the_line_where_it_is() -> None:
    both = at_rest()
    edited(both, unit_price=Decimal(-1))
    (told,) = both.settle()[-1].reviews
    assert "the unit price is -1" in told.detail
    assert analysts(both) == [(25, 60_000, TOGETHER)]


def test_a_line_whose_item_was_half_changed_is_billed_in_the_end() -> None:
    """The item was told that it has lost a line, and the answer to the other request never came."""
    both = at_rest(on_stripe_items="accept")
    edited(both, unit_price=Decimal(590))
    both.step()
    half = deepcopy(both)
    both.step()
    shared = next(each for each in both.items.values() if each.line_ids == (ANALYST,))
    half.items[shared.id] = shared
    half.settle()
    assert analysts(half) == [(20, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]


@pytest.mark.parametrize("name", ["si_0", "si_z"])
def test_an_item_that_was_not_told_yet_that_it_has_lost_a_line_keeps_no_seats_of_it(name: str) -> None:
    """The other item bills the five already, and 25 are no edit: whichever of the two comes first by id. It was billed
    by both, where the id of the shared item came first, and people were asked why. Found by seed 37800."""
    both = at_rest(on_stripe_items="accept")
    edited(both, unit_price=Decimal(590))
    both.step()
    shared = deepcopy(next(each for each in both.items.values() if each.line_ids == TOGETHER))
    both.step()
    both.items[shared.id] = shared
    new = both.items.pop(next(name for name, each in both.items.items() if each.line_ids == (MORE_ANALYSTS,)))
    both.items[name] = replace(new, id=name)
    both.settle()
    assert sorted(analysts(both)) == [(5, 59_000, (MORE_ANALYSTS,)), (20, 60_000, (ANALYST,))]
    assert both.conflicts == {}


def test_where_prices_are_asked_about_the_line_stays_until_it_is_ruled() -> None:
    both = at_rest(changes_after_billing="review")
    edited(both, unit_price=Decimal(590))
    (told,) = both.settle()[-1].reviews
    assert told.detail == "line Analyst Seat says 590, Stripe bills GBP 600 per year; make them equal"
    assert analysts(both) == [(25, 60_000, TOGETHER)]
    (conflict,) = both.conflicts.values()
    both.edit(conflict.key, ruling="Salesforce", modified_at=both.now)
    both.settle()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]
    (conflict,) = both.conflicts.values()
    assert (conflict.status, conflict.winner) == ("Decided", "Salesforce")


def bought(both: TwoSystems, quantity: int, line_id: str = ANALYST) -> None:
    """The customer has so many seats from now on, at Stripe."""
    (item,) = [each for each in both.items.values() if line_id in each.line_ids]
    both.items[item.id] = replace(item, quantity=quantity)


def test_seats_that_are_bought_meanwhile_are_kept() -> None:
    """Two more at Stripe come to the last line, and that leaves with them: only Stripe has edited seats. It was told
    as a conflict between five and twenty-seven, and they were taken back. Found by seed 42754."""
    both = at_rest()
    bought(both, 27)
    edited(both, unit_price=Decimal(590))
    both.settle()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (7, 59_000, (MORE_ANALYSTS,))]
    assert both.records[MORE_ANALYSTS].quantity == 7
    assert both.conflicts == {}


def test_a_line_does_not_leave_while_a_person_is_asked_about_the_seats() -> None:
    both = at_rest(on_stripe_quantity="review")
    bought(both, 27)
    edited(both, unit_price=Decimal(590))
    both.settle()
    assert analysts(both) == [(27, 60_000, TOGETHER)]
    (conflict,) = both.conflicts.values()
    assert (conflict.base, conflict.salesforce, conflict.stripe, conflict.status) == ('"25"', '"25"', '"27"', "Open")
    both.edit(conflict.key, ruling="Salesforce", modified_at=both.now)
    both.settle()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]


def test_seats_edited_on_both_sides_are_a_conflict_about_all_lines_that_were_billed() -> None:
    """Also about those of a line that leaves. The conflict told only of what stays. Found by seed 47340."""
    both = at_rest()
    bought(both, 27)
    edited(both, unit_price=Decimal(590), quantity=Decimal(6))
    both.settle()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (6, 59_000, (MORE_ANALYSTS,))]
    (conflict,) = both.conflicts.values()
    assert (conflict.base, conflict.salesforce, conflict.stripe) == ('"25"', '"26"', '"27"')
    assert (conflict.status, conflict.winner) == ("Decided", "Salesforce")


def apart(**settings: Any) -> TwoSystems:
    """The lines of analysts at rest at 600.00 and 590.00, each on an item of its own."""
    both = at_rest(**settings)
    edited(both, unit_price=Decimal(590))
    both.settle()
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]
    return both


def moments(both: TwoSystems, begun: int) -> set[int | None]:
    """From when each request that changes what an item bills is prorated, seconds UTC."""
    sent = [fields for system, _, _, fields in both.requests[begun:] if system == "stripe"]
    return {each.get("proration_date") for each in sent if {"items", "quantity"} & each.keys()}


@pytest.mark.parametrize("reaction", ["review", "revert", "accept"])
def test_a_line_whose_price_becomes_that_of_another_item_joins_it_and_its_own_ends(reaction: str) -> None:
    """Stripe takes no two items of one price: the update of its item was refused and parked. Found by seed 30368."""
    both = apart(on_stripe_items=reaction)
    at, begun = both.now, len(both.requests)
    edited(both, unit_price=Decimal(600))
    both.settle()
    assert analysts(both) == [(25, 60_000, TOGETHER)]
    assert moments(both, begun) == {at // MICROS}
    assert both.conflicts == {}
    assert [both.step().commands for _ in range(3)] == [(), (), ()]


@pytest.mark.parametrize(("reaction", "after"), [("accept", 27), ("revert", 25), ("review", None)])
def test_seats_that_are_bought_meanwhile_move_along_with_the_only_line(reaction: str, after: int | None) -> None:
    """They ended with its item, and nobody was told."""
    both = apart(on_stripe_quantity=reaction)
    bought(both, 7, MORE_ANALYSTS)
    edited(both, unit_price=Decimal(600))
    both.settle()
    told = [(each.base, each.salesforce, each.stripe, each.status) for each in both.conflicts.values()]
    if after is not None:
        assert (analysts(both), told) == ([(after, 60_000, TOGETHER)], [])
        return
    assert analysts(both) == [(20, 60_000, (ANALYST,)), (7, 59_000, (MORE_ANALYSTS,))]
    assert told == [('"5"', '"5"', '"7"', "Open")]


def test_an_item_whose_line_moves_away_does_not_become_a_line() -> None:
    """Somebody cleared its names at Stripe: it looked like a product that was added there, and was billed twice."""
    both = apart(on_stripe_items="accept")
    (own,) = [each for each in both.items.values() if each.line_ids == (MORE_ANALYSTS,)]
    both.items[own.id] = replace(own, line_ids=())
    edited(both, unit_price=Decimal(600))
    both.settle()
    assert own.id not in both.items
    assert analysts(both) == [(25, 60_000, TOGETHER)]
    assert sum(isinstance(record, LineItem) for record in both.records.values()) == 4


def test_what_was_agreed_on_is_not_remembered_of_a_move_that_was_not_made() -> None:
    """It would look as if somebody had lowered the price at Stripe."""
    both = apart()
    edited(both, unit_price=Decimal(600))
    planned = plan(both.observe(), both.rules, PERSONAL_KEY)
    both.base |= {(agreed.subject, agreed.rule): agreed.value for agreed in planned.agreements}
    both.now += MINUTE
    both.settle()
    assert analysts(both) == [(25, 60_000, TOGETHER)]
    assert both.conflicts == {}


def test_lines_that_exchange_their_prices_exchange_their_items() -> None:
    """Neither item can take the price of the other."""
    both = apart()
    edited(both, MORE_ANALYSTS, unit_price=Decimal(600))
    edited(both, ANALYST, unit_price=Decimal(590))
    both.settle()
    assert sorted(analysts(both)) == [(5, 60_000, (MORE_ANALYSTS,)), (20, 59_000, (ANALYST,))]
    assert both.conflicts == {}
    assert [both.step().commands for _ in range(3)] == [(), (), ()]


@pytest.mark.parametrize("more", [610, 620])
def test_lines_of_two_items_whose_prices_become_one_end_on_one_item(more: int) -> None:
    """Both items would have to take one price at the same time; and a third line comes that asks for it."""
    both = apart()
    edited(both, MORE_ANALYSTS, unit_price=Decimal(610))
    edited(both, ANALYST, unit_price=Decimal(610))
    third = replace(both.records[ANALYST], id=line(6).id, unit_price=Decimal(more), stripe_item_id=None)
    both.put(third)
    both.settle()
    billed = {lines: (quantity, price) for quantity, price, lines in analysts(both)}
    if more == 610:
        assert billed == {(*TOGETHER, third.id): (45, 61_000)}
    else:
        assert billed == {TOGETHER: (25, 61_000)}
    assert both.conflicts == {}


def test_an_item_keeps_its_rate_for_a_line_that_comes_to_it_while_its_own_leave() -> None:
    """One goes from 590 to 600 while the other goes from 600 to 610: no item ever has a price that another one has."""
    both = apart()
    begun, at = len(both.requests), both.now
    edited(both, MORE_ANALYSTS, unit_price=Decimal(600))
    both.now = at
    edited(both, ANALYST, unit_price=Decimal(610))
    both.settle()
    assert sorted(analysts(both)) == [(5, 60_000, (MORE_ANALYSTS,)), (20, 61_000, (ANALYST,))]
    assert moments(both, begun) == {at // MICROS}


def test_an_item_ends_only_once_the_other_bills_its_line() -> None:
    """The other one's seats are asked about: until a person has ruled, nothing is billed twice or nowhere."""
    both = apart(on_stripe_quantity="review")
    (shared,) = [each for each in both.items.values() if each.line_ids == (ANALYST,)]
    both.items[shared.id] = replace(shared, quantity=22)
    both.settle()
    edited(both, unit_price=Decimal(600))
    both.settle()
    assert analysts(both) == [(22, 60_000, (ANALYST,)), (5, 59_000, (MORE_ANALYSTS,))]
    (conflict,) = both.conflicts.values()
    both.edit(conflict.key, ruling="Salesforce", modified_at=both.now)
    both.settle()
    assert analysts(both) == [(25, 60_000, TOGETHER)]


@pytest.mark.parametrize("price", [590, 600])
def test_a_line_that_was_billed_before_moves_at_its_edit_whatever_its_day_of_service(price: int) -> None:
    """Its other item stops at the edit: from the day of service on, both would bill it."""
    both = apart() if price == 600 else at_rest()
    both.edit(MORE_ANALYSTS, service_date="2026-11-25")
    both.now += 10 * DAY
    both.settle()
    begun, at = len(both.requests), both.now
    edited(both, unit_price=Decimal(price))
    both.settle()
    assert moments(both, begun) == {at // MICROS}


@pytest.mark.parametrize(
    ("rule", "side", "left"),
    [
        ("carry", None, (20, (ANALYST,))),
        ("review", None, (25, TOGETHER)),
        ("review", "Salesforce", (20, (ANALYST,))),
        ("review", "Stripe", (25, (ANALYST,))),
    ],
)
def test_a_line_that_is_taken_off_a_shared_item_follows_the_rule_of_removed_lines(
    rule: str, side: Side | None, left: tuple[int, tuple[str, ...]]
) -> None:
    """A simulated seed (60174) found it: only a line with an item of its own was asked about."""
    both = at_rest(removed_lines=rule)
    del both.records[MORE_ANALYSTS]
    both.now += MINUTE
    both.settle()
    told = [each.detail for each in both.step().reviews]
    asked = "20 in Salesforce, 25 at Stripe, since lines of it were taken off the deal; make them equal"
    assert told == ([asked] if rule == "review" else [])
    if side is not None:
        both.now += MINUTE
        (conflict,) = [each for each in both.records.values() if isinstance(each, SyncConflict)]
        both.edit(conflict.id, ruling=side, modified_at=both.now)
        both.settle()
    assert [(quantity, lines) for quantity, _, lines in analysts(both)] == [left]
    assert [both.step().commands for _ in range(3)] == [(), (), ()]


def test_a_line_that_a_person_is_asked_about_is_not_forgotten_when_the_price_of_another_is_edited() -> None:
    """Its seats looked as if they had been bought at Stripe, and came back to the deal on the other line."""
    both = at_rest(removed_lines="review", on_stripe_quantity="accept")
    del both.records[MORE_ANALYSTS]
    edited(both, ANALYST, unit_price=Decimal(650))
    both.settle()
    assert analysts(both) == [(25, 65_000, TOGETHER)]
    (conflict,) = both.conflicts.values()
    assert (conflict.status, conflict.salesforce, conflict.stripe) == ("Open", '"20"', '"25"')
    both.now += MINUTE
    both.edit(conflict.key, ruling="Salesforce", modified_at=both.now)
    both.settle()
    assert analysts(both) == [(20, 65_000, (ANALYST,))]


@pytest.mark.parametrize("seats", [5, 9])
def test_a_line_that_stands_for_one_that_is_gone_is_no_line_that_was_taken_off(seats: int) -> None:
    """Quotes are synced by deleting lines and making them again."""
    both = at_rest()
    gone = both.records.pop(MORE_ANALYSTS)
    assert isinstance(gone, LineItem)
    again = replace(gone, id="00kAa0000000009IAA", quantity=Decimal(seats), modified_at=both.now)
    both.put(replace(again, stripe_item_id=None))
    both.now += MINUTE
    begun = len(both.requests)
    both.settle()
    assert [(quantity, lines) for quantity, _, lines in analysts(both)] == [(20 + seats, (ANALYST, again.id))]
    asked = [fields for system, _, _, fields in both.requests[begun:] if system == "stripe"]
    assert [fields["quantity"] for fields in asked if "quantity" in fields] == ([] if seats == 5 else [29])


def test_a_line_that_comes_to_a_deal_without_any_is_billed_within_the_running_period() -> None:
    """A simulated seed (31) found it: the period was read off the items that bill lines, of which there were none, and
    Stripe refused a proration from the period before."""
    both = at_rest()
    for each in [key for key, record in both.records.items() if isinstance(record, LineItem)]:
        del both.records[each]
    added = both.now
    both.put(line(4, product_name="Training", unit_price=Decimal(80), quantity=Decimal(3), modified_at=added))
    both.now += MINUTE
    begins = both.now - MINUTE // 2
    both.items = {key: replace(each, period_start=begins) for key, each in both.items.items()}
    begun = len(both.requests)
    both.settle()
    dates = [fields["proration_date"] for _, _, _, fields in both.requests[begun:] if "proration_date" in fields]
    assert dates == [begins // MICROS]


def test_a_line_that_comes_to_an_item_with_half_a_seat_is_told() -> None:
    both = at_rest()
    both.put(
        replace(both.records[MORE_ANALYSTS], id="00kAa0000000009IAA", quantity=Decimal("1.5"), stripe_item_id=None)
    )
    (told,) = both.settle()[-1].reviews
    assert "not a positive whole number" in told.detail
    assert analysts(both) == [(25, 60_000, TOGETHER)]
