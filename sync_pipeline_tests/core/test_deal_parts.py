"""Deals that one subscription cannot hold: how they are split, and that nothing is billed twice by it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.commands import Review
from sync_pipeline.core.deal_parts import in_parts
from sync_pipeline.core.ensure import ensure_everything
from sync_pipeline.core.foresight import Foreseen, foresee
from sync_pipeline.core.observation import Present
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.world import Billing, Deal, World
from sync_pipeline_tests.core.making import OPPORTUNITY, PERSONAL_KEY, RULES, deal, line, world

SECOND = f"{OPPORTUNITY}:2"


def rules(large: Literal["refuse", "split"] = "split") -> Rules:
    intervals = {**RULES.commercial.intervals, "Weekly": ("week", 1)}
    return replace(RULES, commercial=replace(RULES.commercial, large_deals=large, intervals=intervals))


def product(number: int, **changed: Any) -> LineItem:
    name = f"{number:03d}"
    return line(1, **({"id": f"00kAa0000000{name}IAA", "product_id": f"01tAa0000000{name}IAA"} | changed))


def parts(of: World, large: Literal["refuse", "split"] = "split") -> dict[str, tuple[LineItem, ...]]:
    return {each.opportunity.id: each.lines for each in in_parts(of, rules(large), ()).deals}


def sizes(of: World, large: Literal["refuse", "split"] = "split") -> dict[str, int]:
    return {name: len(lines) for name, lines in parts(of, large).items()}


def foreseen(of: World) -> Foreseen:
    return foresee(in_parts(of, rules(), ()), rules(), PERSONAL_KEY, lambda _: Billing())


def sold(*lines: LineItem, **changed: Any) -> World:
    return world(deals=(deal(*lines, **changed),))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([product(n) for n in range(20)], {OPPORTUNITY: 20}),
        ([product(n) for n in range(45)], {OPPORTUNITY: 20, SECOND: 20, f"{OPPORTUNITY}:3": 5}),
        # Twenty rates on thirty lines are twenty items.
        ([product(n % 20, id=f"00kAa0000000{n:03d}IAA") for n in range(30)], {OPPORTUNITY: 30}),
        # One item remembers 26 lines.
        ([product(0, id=f"00kAa0000000{n:03d}IAA") for n in range(27)], {OPPORTUNITY: 26, SECOND: 1}),
        # Weeks and years are no multiples of each other; the deal's own interval comes first.
        ([product(0, billing_interval="Weekly"), product(1)], {OPPORTUNITY: 1, SECOND: 1}),
        # What is charged once is on the first invoice of the first.
        ([*(product(n) for n in range(21)), product(30, charge_type="One-Time")], {OPPORTUNITY: 21, SECOND: 1}),
    ],
)
def test_a_line_goes_to_the_first_part_with_room(lines: list[LineItem], expected: dict[str, int]) -> None:
    assert sizes(sold(*lines)) == expected


def test_the_first_part_has_the_interval_of_the_deal() -> None:
    split = parts(sold(product(0, billing_interval="Weekly"), product(1)))
    assert [each.billing_interval for each in split[OPPORTUNITY]] == [None]


def test_by_rule_it_is_refused_with_the_reason() -> None:
    large = sold(*(product(n) for n in range(21)))
    assert sizes(large, "refuse") == {OPPORTUNITY: 21}
    entries = ensure_everything(in_parts(large, rules("refuse"), ()), rules("refuse"))
    (review,) = (entry for entry in entries if isinstance(entry, Review))
    assert "there are 21 different rates, a Stripe subscription holds 20" in review.detail


def test_each_part_gets_a_subscription_of_its_own_and_the_opportunity_names_the_first() -> None:
    ahead = foreseen(sold(*(product(n) for n in range(21))))
    made = [c for c in ahead.commands if c.body.get("object") == "subscription"]
    assert [(c.subject, len(c.body["params"]["items"])) for c in made] == [(OPPORTUNITY, 20), (SECOND, 1)]
    assert len({c.key for c in made}) == 2
    assert ahead.is_whole
    to_opportunities = {c.body["id"] for c in ahead.commands if c.body.get("object") == "Opportunity"}
    assert to_opportunities == {OPPORTUNITY}
    assert sum(c.body.get("object") == "Contract" and c.action == "salesforce.upsert" for c in ahead.commands) == 2


def after(of: World) -> World:
    """The world when all is written and remembered, with its deals whole again as Salesforce shows them."""
    ahead = foreseen(of)
    agreed = plan(ahead.after, rules(), PERSONAL_KEY).agreements
    base = {(each.subject, each.rule): each.value for each in agreed}
    return replace(ahead.after, deals=of.deals, base={**ahead.after.base, **base})


def test_parts_stay_as_they_are_billed_whatever_the_rule_says_by_then() -> None:
    settled = after(sold(*(product(n) for n in range(21))))
    assert sizes(settled, "refuse") == {OPPORTUNITY: 20, SECOND: 1}
    assert parts(settled, "refuse") == parts(settled)


def test_a_part_whose_create_was_refused_is_still_to_come_and_no_line_of_it_moves() -> None:
    settled = after(sold(*(product(n) for n in range(21))))
    assert isinstance(settled.billing, Present)
    first = tuple(s for s in settled.billing.value.subscriptions if s.opportunity_id == OPPORTUNITY)
    items = tuple(i for i in settled.billing.value.items if i.subscription == first[0].id)
    only_first = replace(settled.billing.value, subscriptions=first, items=items)
    half = replace(
        settled,
        billing=Present(only_first),
        links=tuple(link for link in settled.links if link.subject != SECOND),
        base={key: value for key, value in settled.base.items() if key[0] != product(20).id},
    )
    assert [each.id for each in parts(half)[SECOND]] == [product(20).id]


def test_a_line_that_comes_later_joins_a_part_with_room_and_opens_none() -> None:
    full = after(sold(*(product(n) for n in range(21))))
    (whole,) = full.deals
    joined = replace(full, deals=(replace(whole, lines=(*whole.lines, product(40))),))
    assert [each.id for each in parts(joined)[SECOND]] == [product(20).id, product(40).id]
    of_one = after(sold(*(product(n) for n in range(20))))
    (single,) = of_one.deals
    assert sizes(replace(of_one, deals=(replace(single, lines=(*single.lines, product(40))),))) == {OPPORTUNITY: 21}


def test_an_amount_off_comes_off_the_first_part_only() -> None:
    off = {"discount_amount": Decimal(100), "discount_duration": "Once"}
    first, second = in_parts(sold(*(product(n) for n in range(21)), **off), rules(), ()).deals
    assert (first.opportunity.discount_amount, second.opportunity.discount_amount) == (Decimal(100), None)


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([None, "Weekly", "Monthly"]), st.sampled_from([100, 200])),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_every_line_is_in_one_part_whatever_the_order(rows: list[tuple[int, str | None, int]], random: Any) -> None:
    lines = [
        product(number, id=f"00kAa0000000{n:03d}IAA", billing_interval=interval, unit_price=Decimal(price))
        for n, (number, interval, price) in enumerate(rows)
    ]
    split = in_parts(world(deals=(Deal(deal().opportunity, tuple(lines)),)), rules(), ()).deals
    assert sorted(each.id for part in split for each in part.lines) == sorted(each.id for each in lines)
    assert {opportunity_of(part.opportunity.id) for part in split} == {OPPORTUNITY}
    random.shuffle(lines)
    again = in_parts(world(deals=(Deal(deal().opportunity, tuple(lines)),)), rules(), ()).deals
    assert [part.opportunity.id for part in again] == [part.opportunity.id for part in split]
    assert [{each.id for each in part.lines} for part in again] == [{each.id for each in part.lines} for part in split]
    for part in split if len(split) > 1 else ():
        rates = {(each.product_id, each.unit_price, each.billing_interval) for each in part.lines}
        assert len(rates) <= 20
