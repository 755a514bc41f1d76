"""One resting pair of systems, edited twice on both sides: what is quiet, what is lost, and how little is written.

The laws L1, L3, L5, L6, L7 and L12 of sync-theory 1.2 over the fields that people edit. What is expected of a field
follows from who edited it and from whose word counts, never from the planner.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from sync_pipeline.core import canonical
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import Contract
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CONTRACT,
    OPPORTUNITY,
    PERSONAL_KEY,
    RULES,
    account,
    line,
    opportunity,
    story_lines,
)
from sync_pipeline_tests.core.two_systems import TwoSystems

some = settings(max_examples=40)
MINUTE = 60 * MICROS
NAME = "Northwind Analytics Ltd"
SEATS = line(2).id

# What people do to one field: here, or there. None is no edit. A value that is only written differently is none either.
names_in_salesforce = st.sampled_from([None, "Renamed Ltd", "Other plc", f"  {NAME} "])
names_at_stripe = st.sampled_from([None, "Edited at Stripe"])
cities_in_salesforce = st.sampled_from([None, "Leeds", "York", "London "])
cities_at_stripe = st.sampled_from([None, "Elsewhere"])
seats_in_salesforce = st.sampled_from([None, 25, 31, 20])
seats_at_stripe = st.sampled_from([None, 23, 31, 40])
prices_in_salesforce = st.sampled_from([None, Decimal(650), Decimal("599.99"), Decimal("600.00")])
figures_in_salesforce = st.sampled_from([None, "mrr", "lifetime_value", "billing_status", "seats"])


@dataclass(frozen=True)
class Edits:
    """What happened on both sides since all was at rest. None is no edit."""

    name_here: str | None = None
    name_there: str | None = None
    city_here: str | None = None
    city_there: str | None = None
    seats_here: int | None = None
    seats_there: int | None = None
    price_here: Decimal | None = None
    figure: str | None = None


every_edit = st.builds(
    Edits,
    name_here=names_in_salesforce,
    name_there=names_at_stripe,
    city_here=cities_in_salesforce,
    city_there=cities_at_stripe,
    seats_here=seats_in_salesforce,
    seats_there=seats_at_stripe,
    price_here=prices_in_salesforce,
    figure=figures_in_salesforce,
)


def at_rest() -> TwoSystems:
    both = TwoSystems(RULES)
    both.put(account(), opportunity(contract_id=CONTRACT), *story_lines(), Contract(id=CONTRACT, account_id=ACCOUNT))
    both.settle()
    both.step()
    return both


def seat_item(both: TwoSystems) -> SubscriptionItem:
    return next(item for item in both.items.values() if SEATS in item.line_ids)


def seats_in_line(both: TwoSystems) -> int:
    quantity: Decimal = both.records[SEATS].quantity
    return int(quantity)


def make(both: TwoSystems, edits: Edits) -> None:
    """The edits, and a minute in which they come to rest."""
    account_edits: dict[str, Any] = {"name": edits.name_here, "billing_city": edits.city_here}
    both.edit(ACCOUNT, **{name: value for name, value in account_edits.items() if value is not None})
    if edits.figure is not None:
        wrong = "Paused" if edits.figure == "billing_status" else Decimal("1.00")
        both.edit(ACCOUNT, **{edits.figure: wrong})
    line_edits: dict[str, Any] = {"quantity": edits.seats_here, "unit_price": edits.price_here}
    entered = {name: Decimal(value) for name, value in line_edits.items() if value is not None}
    if entered:
        both.edit(SEATS, **entered, modified_at=both.now)
    ((key, customer),) = both.customers.items()
    customer_edits: dict[str, Any] = {"name": edits.name_there, "city": edits.city_there}
    changed = {name: value for name, value in customer_edits.items() if value is not None}
    both.customers[key] = replace(customer, **changed)
    if edits.seats_there is not None:
        item = seat_item(both)
        both.items[item.id] = replace(item, quantity=edits.seats_there)
    both.now += MINUTE


def agreed(both: TwoSystems, edits: Edits) -> tuple[str, str, int]:
    """The name, the city and the seats that both sides must come to, from what they were and who edited them.

    Salesforce owns the name and the city. Seats follow the side that moved, and Salesforce where both did.
    """
    ((_, customer),) = both.customers.items()
    before = seats_in_line(both)
    moved_here = edits.seats_here not in (None, before)
    seats = edits.seats_here if moved_here else edits.seats_there
    name, city = edits.name_here or customer.name, edits.city_here or customer.city
    assert name is not None
    assert city is not None
    return name.strip(), city.strip(), before if seats is None else seats


def disturbs(both: TwoSystems, edits: Edits) -> bool:
    """Whether the two sides now differ in a field that the sync keeps equal."""
    (customer,) = both.customers.values()
    bill = both.records[ACCOUNT]
    item = seat_item(both)
    billed_in_pence = (Decimal(each.quantity or 0) * (each.unit_amount or 0) for each in both.items.values())
    revenue = sum(billed_in_pence, Decimal(0)) / 1200
    figures = (bill.mrr, bill.seats, bill.lifetime_value, bill.billing_status)
    billed = (in_pence(revenue), sum(each.quantity or 0 for each in both.items.values() if "Seat" in _name(both, each)))
    return (
        bill.name.strip() != customer.name
        or bill.billing_city.strip() != customer.city
        or seats_in_line(both) != item.quantity
        or both.records[SEATS].unit_price * 100 != item.unit_amount
        or figures != (*billed, 0, "Active")
    )


def in_pence(pounds: Decimal) -> Decimal:
    return pounds.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def _name(both: TwoSystems, item: SubscriptionItem) -> str:
    name: str = both.records[item.line_ids[0]].product_name
    return name


def shown(both: TwoSystems) -> str:
    return canonical.encode([both.records, both.customers, both.subscriptions, both.items, both.prices])


@some
@given(every_edit, every_edit)
def test_no_edit_is_lost_and_both_sides_come_to_agree(first: Edits, second: Edits) -> None:
    """L2, L5, L7, L8: twice, so that the second time is judged by what the first has left behind."""
    both = at_rest()
    for edits in (first, second):
        name, city, seats = agreed(both, edits)
        price = edits.price_here or both.records[SEATS].unit_price
        make(both, edits)
        both.settle()
        (customer,) = both.customers.values()
        bill = both.records[ACCOUNT]
        assert (customer.name, customer.city) == (name, city)
        assert (bill.name.strip(), bill.billing_city.strip()) == (name, city)
        assert (seats_in_line(both), seat_item(both).quantity) == (seats, seats)
        assert (both.records[SEATS].unit_price, seat_item(both).unit_amount) == (price, price * 100)
        assert bill.mrr == in_pence((30_000 + seats * price + 15 * 200) / 12)
        assert both.step().commands == ()


@some
@given(every_edit, every_edit)
def test_a_plan_is_empty_exactly_when_the_two_sides_agree(first: Edits, second: Edits) -> None:
    """L1, L12: what only echoes what both sides have agreed on asks for nothing, and anything else for something."""
    both = at_rest()
    for edits in (first, second):
        make(both, edits)
        expected = disturbs(both, edits)
        event(f"disturbed: {expected}")
        assert bool(plan(both.observe(), RULES, PERSONAL_KEY).commands) == expected
        both.settle()
        assert not disturbs(both, Edits())


@some
@given(every_edit)
def test_what_differs_is_written_once_and_nothing_else_is(edits: Edits) -> None:
    """L6: in a round, a field is written at most once, and only if that makes another value of it.

    A line's price goes with its quantity, because Salesforce would compute it anew; an item's quantity goes with its
    price, because Stripe would begin at one.
    """
    both = at_rest()
    make(both, edits)
    while True:
        before = {**both.records, **both.customers, **both.items}
        begun = len(both.requests)
        if not both.step().commands:
            break
        after = {**both.records, **both.customers, **both.items}
        updates = [request for request in both.requests[begun:] if request[2] is not None]
        written = Counter(field for request in updates for field in fields_of(request))
        assert set(written.values()) <= {1}
        same = {(key, name) for key, name in written if getattr(before[key], name) == getattr(after[key], name)}
        assert same <= {(SEATS, "unit_price"), (seat_item(both).id, "quantity")}


def fields_of(request: tuple[str, str, str, dict[str, Any]]) -> list[tuple[str, str]]:
    """The fields of records that a request writes, by our names. An address is told by its one part that is edited."""
    system, kind, key, fields = request
    if system == "salesforce":
        own = {api: name for name, api in next(n for n in RULES.salesforce.values() if n.object == kind).fields.items()}
        return [(key, own[api]) for api in fields]
    return [(key, {"address": "city"}.get(name, name)) for name in fields if not name.startswith("proration")]


@some
@given(every_edit, st.sampled_from([None, "Pending", "Activated"]), st.integers(0, 2**32))
def test_the_commands_of_a_plan_may_be_applied_in_any_order(edits: Edits, stage: str | None, seed: int) -> None:
    """L3: a plan holds only what can be done now, so that its commands, of both systems, wait for no other of them."""
    one, other = at_rest(), at_rest()
    for both in (one, other):
        make(both, edits)
        both.edit(OPPORTUNITY, activation_status=stage)
    one.step()
    planned = plan(other.observe(), RULES, PERSONAL_KEY)
    other.conflicts |= {conflict.key: conflict for conflict in planned.conflicts}
    commands = list(planned.sent_first)
    Random(seed).shuffle(commands)
    for command in commands:
        other.apply(command)
    assert shown(one) == shown(other)
    one.settle()
    other.settle()
    assert shown(one) == shown(other)
