"""Deals that follow the products that are changed at Stripe, where the rules accept it (core/stripe_lines.py)."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from sync_pipeline.core.foresight import foresee
from sync_pipeline.core.part_ids import part_id
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import LineItem, PriceBookEntry
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Deal
from sync_pipeline_tests.core.making import OPPORTUNITY, PERSONAL_KEY, RULES, account, opportunity, story_lines
from sync_pipeline_tests.core.test_foresight import told
from sync_pipeline_tests.core.two_systems import TwoSystems

BOOK = "01sStandard"
SUPPORT = "01tAa0000000009IAA"
PLATFORM, ANALYST, VIEWER = (line.id for line in story_lines())
MINUTE = 60 * MICROS
IMAGINED = re.compile(r"\(new OpportunityLineItem ([^)]*)\)")


@cache
def _at_rest(settings: tuple[tuple[str, Any], ...]) -> TwoSystems:
    both = TwoSystems(replace(RULES, commercial=replace(RULES.commercial, on_stripe_items="accept", **dict(settings))))
    lines = [replace(each, pricebook_entry_id=f"01u{each.product_name}") for each in story_lines()]
    both.put(account(), opportunity(pricebook_id=BOOK), *lines)
    both.listed = [
        PriceBookEntry(id="01uSupport", pricebook_id=BOOK, product_id=SUPPORT, product_name="Support"),
        PriceBookEntry(id="01uElsewhere", pricebook_id="01sOther", product_id="01tAa0000000008IAA"),
        PriceBookEntry(id="01uDollars", pricebook_id=BOOK, product_id="01tAa0000000007IAA", currency="USD"),
    ]
    both.settle()
    both.step()
    return both


def running(**settings: Any) -> TwoSystems:
    """The £45,000 deal, billed and at rest."""
    return deepcopy(_at_rest(tuple(settings.items())))


def item_of(both: TwoSystems, line_id: str) -> SubscriptionItem:
    (found,) = [item for item in both.items.values() if line_id in item.line_ids]
    return found


def added(both: TwoSystems, product: str = SUPPORT, **changed: Any) -> SubscriptionItem:
    """Somebody adds an item at Stripe: two of a product at 2,400 pounds a year."""
    pattern = item_of(both, PLATFORM)
    values = {"quantity": 2, "unit_amount": Decimal(240_000), "line_ids": (), **changed}
    made = replace(pattern, id="si_added", price="price_added", product=f"sf_{product}", **values)
    both.items[made.id] = made
    return made


def exchanged(both: TwoSystems, line_id: str, **changed: Any) -> None:
    item = item_of(both, line_id)
    both.items[item.id] = replace(item, price="price_of_somebody", **changed)


def lines(both: TwoSystems) -> list[tuple[str | None, int, int]]:
    """Product, quantity and price of the deal's lines beside the three that were sold."""
    found = [each for each in both.records.values() if isinstance(each, LineItem)]
    extra = [each for each in found if each.id not in (PLATFORM, ANALYST, VIEWER)]
    return [(each.product_name, int(each.quantity or 0), int(each.unit_price or 0)) for each in extra]


def rest(both: TwoSystems) -> list[str]:
    """Rounds until nothing is left to do, the quiet period included; what is left for a person."""
    both.settle()
    both.now += MINUTE
    return [review.detail for review in both.settle()[-1].reviews]


def test_what_is_added_becomes_one_line_and_is_a_line_as_any_other_from_then_on() -> None:
    both = running()
    item = added(both)
    assert rest(both) == []
    assert lines(both) == [("Support", 2, 2400)]
    (brought,) = [each for each in both.records.values() if getattr(each, "stripe_change_key", None)]
    assert (brought.stripe_item_id, both.items[item.id].line_ids) == (item.id, (brought.id,))
    assert [both.step().commands for _ in range(3)] == [(), (), ()]
    both.edit(brought.id, quantity=Decimal(3), modified_at=both.now)
    assert rest(both) == []
    assert both.items[item.id].quantity == 3


def test_a_quantity_that_changes_again_before_the_next_look_is_followed_too() -> None:
    """What was agreed on is known as soon as the line is made."""
    both = running()
    item = added(both)
    both.step()
    both.items[item.id] = replace(both.items[item.id], quantity=7)
    assert rest(both) == []
    assert lines(both) == [("Support", 7, 2400)]


def test_what_sales_takes_off_the_deal_again_does_not_come_back() -> None:
    for rounds in (1, 4):
        both = running()
        added(both)
        for _ in range(rounds):
            both.step()
        (brought,) = [each for each in both.records.values() if getattr(each, "stripe_change_key", None)]
        del both.records[brought.id]
        (asked,) = rest(both)
        assert "is on no line of the deal" in asked
        assert lines(both) == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"product": "extra"}, "is no product of Salesforce"),
        ({"product": "01tAa0000000006IAA"}, "no active entry"),
        ({"product": "01tAa0000000008IAA"}, "no active entry"),
        ({"product": "01tAa0000000007IAA"}, "no active entry of Product2 01tAa0000000007IAA in GBP"),
        ({"unit_amount": None}, "cannot say its quantity and price"),
        ({"unit_amount": Decimal("33.3")}, "cannot say its quantity and price"),
        ({"quantity": 0}, "cannot say its quantity and price"),
        ({"interval": "week"}, "no word for 1 week"),
    ],
)
def test_what_cannot_be_a_line_is_told_and_left(changed: dict[str, Any], why: str) -> None:
    both = running()
    before = added(both, **changed)
    (asked,) = rest(both)
    assert why in asked
    assert lines(both) == []
    assert both.items[before.id] == before


def test_what_is_removed_is_taken_back_and_billed_again_only_by_what_is_sold_more() -> None:
    both = running()
    del both.items[item_of(both, VIEWER).id]
    assert rest(both) == []
    assert lines(both) == [("Viewer Seat", -15, 200)]
    assert [both.step().commands for _ in range(3)] == [(), (), ()]
    both.edit(VIEWER, quantity=Decimal(20), modified_at=both.now)
    assert rest(both) == []
    assert item_of(both, VIEWER).quantity == 5


def test_an_exchange_takes_back_first_and_then_brings_what_is_billed() -> None:
    both = running()
    exchanged(both, VIEWER, product=f"sf_{SUPPORT}", unit_amount=Decimal(90_000), quantity=4)
    both.step()
    assert lines(both) == [("Viewer Seat", -15, 200)]
    assert rest(both) == []
    assert lines(both) == [("Viewer Seat", -15, 200), ("Support", 4, 900)]
    assert len(both.items) == 3


def test_an_item_that_is_exchanged_to_and_fro_is_taken_back_and_brought_each_time() -> None:
    both = running()
    kept = item_of(both, VIEWER)
    support = {"product": f"sf_{SUPPORT}", "unit_amount": Decimal(90_000)}
    viewer = {"product": kept.product, "unit_amount": kept.unit_amount}
    expected: list[tuple[str, int, int]] = []
    before: tuple[str, int] = ("Viewer Seat", 200)
    for values, now in ((support, ("Support", 900)), (viewer, ("Viewer Seat", 200)), (support, ("Support", 900))):
        both.items[kept.id] = replace(both.items[kept.id], **values)
        assert rest(both) == []
        expected += [(before[0], -15, before[1]), (now[0], 15, now[1])]
        before = now
        assert lines(both) == expected


def test_another_interval_of_the_same_product_is_an_exchange() -> None:
    both = running()
    exchanged(both, PLATFORM, interval="month", unit_amount=Decimal(260_000))
    assert rest(both) == []
    assert lines(both) == [("Analytics Platform", -1, 30_000), ("Analytics Platform", 1, 2600)]
    assert [each.billing_interval for each in both.records.values() if isinstance(each, LineItem)][3:] == [
        None,
        "Monthly",
    ]


def test_seats_that_sales_edits_meanwhile_are_billed_before_the_exchange_is_followed() -> None:
    both = running()
    both.edit(VIEWER, quantity=Decimal(18), modified_at=both.now)
    exchanged(both, VIEWER, product=f"sf_{SUPPORT}", unit_amount=Decimal(90_000))
    assert rest(both) == []
    assert lines(both) == [("Viewer Seat", -18, 200), ("Support", 18, 900)]


def test_an_exchange_for_what_cannot_be_a_line_takes_nothing_back() -> None:
    both = running()
    exchanged(both, VIEWER, product="prod_extra", unit_amount=Decimal(90_000))
    (asked,) = rest(both)
    assert "prod_extra at GBP 900 per year instead; the deal does not follow: prod_extra is no product" in asked
    assert lines(both) == []


def test_a_ramp_is_left_to_a_person() -> None:
    both = running()
    both.edit(ANALYST, from_month=Decimal(1), to_month=Decimal(12))
    both.settle()
    added(both)
    (asked,) = rest(both)
    assert "the deal is a ramp" in asked
    assert lines(both) == []


def _add(both: TwoSystems) -> None:
    added(both)


def _remove(both: TwoSystems) -> None:
    del both.items[item_of(both, VIEWER).id]


def _exchange(both: TwoSystems) -> None:
    exchanged(both, VIEWER, product=f"sf_{SUPPORT}", unit_amount=Decimal(90_000))


@pytest.mark.parametrize("change", [_add, _remove, _exchange])
def test_a_subscription_that_the_sync_did_not_make_is_left_to_a_person_whatever_changes(change: Any) -> None:
    both = running()
    both.subscriptions = {name: replace(each, intent=None) for name, each in both.subscriptions.items()}
    change(both)
    (asked,) = rest(both)
    assert "was not made by the sync" in asked
    assert lines(both) == []


@pytest.mark.parametrize("change", [_add, _remove, _exchange])
def test_a_deal_in_parts_is_left_to_a_person_its_first_part_too(change: Any) -> None:
    """A line that comes of the change could be counted to another part than that whose item was changed."""
    both = running()
    change(both)
    seen = both.observe()
    (first,) = seen.deals
    second = Deal(replace(first.opportunity, id=part_id(OPPORTUNITY, 2), stripe_subscription_id=None))
    found = plan(replace(seen, deals=(first, second)), both.rules, PERSONAL_KEY)
    assert [each for each in found.commands if each.body.get("object") == "OpportunityLineItem"] == []
    assert [each.detail for each in found.reviews if "the deal is billed in parts" in each.detail] != []


def test_what_will_be_brought_and_taken_back_is_foreseen() -> None:
    both = running()
    added(both)
    exchanged(both, PLATFORM, interval="month", unit_amount=Decimal(260_000))
    del both.items[item_of(both, VIEWER).id]
    ahead = foresee(both.observe(), both.rules, PERSONAL_KEY, both._billing)
    happened = [planned.sent_first for planned in both.settle() if planned.commands]
    imagined = [[IMAGINED.sub(r"\1", text) for text in told(commands)] for commands in ahead.rounds]
    assert imagined == [told(commands) for commands in happened]
    assert ahead.is_whole
    assert {each.opportunity_id for each in both.records.values() if isinstance(each, LineItem)} == {OPPORTUNITY}
