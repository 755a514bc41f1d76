"""One-time charges that come after the first invoice (core/late_charges.py): each is made once, whatever is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.billed_items import QUANTITY
from sync_pipeline.core.charged import CHARGED
from sync_pipeline.core.commands import Agreement, Command, LookAgain, Review
from sync_pipeline.core.late_charges import customers_to_look_at, late_charges
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.stripe_records import Price
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Catalogue, Deal, Link, World
from sync_pipeline_tests.core.making import (
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    RULES,
    SUBSCRIPTION,
    billed,
    deal,
    item,
    line,
    story_lines,
    subscription,
)

TRAINING = line(4, product_name="Training", charge_type="One-Time", quantity=Decimal(2), unit_price=Decimal(1200))
FEE = Price(
    id="price_training",
    product=f"sf_{TRAINING.product_id}",
    currency="GBP",
    lookup_key=f"sf_{TRAINING.product_id}:gbp:once:120000",
    unit_amount=Decimal(120_000),
)


def sold(charged: Mapping[str, str] | None = MappingProxyType({}), **changed: Any) -> World:
    """The deal, billed, and two days of training that came after its first invoice."""
    training = replace(TRAINING, **changed.pop("training", {}))
    one = subscription(intent="sub:ours:1", **changed.pop("subscription", {}))
    items = tuple(
        item(id=f"si_{each.id}", interval="year", quantity=int(each.quantity or 0), line_ids=(each.id,))
        for each in story_lines()
    )
    values: dict[str, Any] = {
        "deals": (deal(*story_lines(), training, **changed.pop("deal", {})),),
        "links": (
            Link("customer", deal().opportunity.account_id or "", CUSTOMER),
            Link("subscription", OPPORTUNITY, SUBSCRIPTION),
        ),
        "billing": Present(Billing(subscriptions=(one,), items=items)),
        "catalogue": Present(Catalogue(frozenset({FEE.product}), {FEE.lookup_key or "": FEE})),
        "base": {(each.id, QUANTITY): canonical.encode(str(each.quantity)) for each in story_lines()},
    }
    if charged is not None:
        values["charged"] = Present(charged)
    return billed(**(values | changed))


def of(world: World, **commercial: Any) -> list[Any]:
    settings: Commercial = replace(RULES.commercial, **commercial)
    return list(late_charges(world, replace(RULES, commercial=settings)))


def test_it_is_one_invoice_item_of_the_subscription_that_names_its_line_and_is_agreed_on_when_made() -> None:
    (command,) = of(sold())
    assert isinstance(command, Command)
    intent = f"charge:00DAa0000000001:{TRAINING.id}"
    assert (command.key, command.action, command.body["object"]) == (intent, "stripe.create", "invoiceitem")
    params = dict(command.body["params"])
    metadata = params.pop("metadata")
    assert params == {
        "customer": CUSTOMER,
        "subscription": SUBSCRIPTION,
        "pricing": {"price": "price_training"},
        "quantity_decimal": "2",
    }
    assert (metadata["sf_line_id"], metadata["sf_intent"]) == (TRAINING.id, intent)
    price = Agreement(TRAINING.id, CHARGED, f'["{OPPORTUNITY}","{TRAINING.unit_price}"]')
    assert command.agreements == (Agreement(TRAINING.id, QUANTITY, '"2"'), price)


def test_what_is_charged_at_stripe_is_not_charged_again_by_a_ledger_that_was_lost() -> None:
    """Neither what was on the first invoice nor what came later."""
    found = of(sold({TRAINING.id: "ii_1"}, base={}))
    assert found == [Agreement(TRAINING.id, QUANTITY, '"2"')]


def test_nothing_is_charged_before_stripe_was_asked_what_is() -> None:
    assert of(sold(charged=None)) == []
    assert customers_to_look_at(sold(charged=None), RULES.commercial) == {CUSTOMER}


def test_what_is_known_to_be_charged_takes_no_look_and_no_write() -> None:
    known = sold(charged=None)
    known = replace(known, base={**known.base, (TRAINING.id, QUANTITY): '"2"'})
    assert customers_to_look_at(known, RULES.commercial) == frozenset()
    # An earlier version remembered the quantity only.
    price = Agreement(TRAINING.id, CHARGED, f'["{OPPORTUNITY}","{TRAINING.unit_price}"]')
    assert of(known) == [price]
    known = replace(known, base={**known.base, (TRAINING.id, CHARGED): price.value})
    assert of(known) == []
    (asked,) = of(replace(known, base={**known.base, (TRAINING.id, QUANTITY): '"1"'}))
    assert "was charged once, for 1 at 1200 each, and says 2 at 1200 each now" in asked.detail
    discounted = deal(*story_lines(), replace(TRAINING, discount=Decimal(10)))
    (asked,) = of(replace(known, deals=(discounted,)))
    assert "Training was charged once, and it has a discount of 10 percent, which is not billed" in asked.detail


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"training": {"quantity": Decimal(-1)}}, "the quantity is -1"),
        ({"training": {"unit_price": None}}, "the unit price is empty"),
        ({"training": {"discount": Decimal(10)}}, "it has a discount of 10 percent, which is not billed"),
        ({"subscription": {"status": "paused"}}, "no further invoice"),
        ({"subscription": {"cancel_at": NOW + MICROS}}, "no further invoice"),
        ({"deal": {"currency": "EUR"}}, "the deal is in EUR"),
    ],
)
def test_what_no_invoice_can_carry_is_told(changed: dict[str, Any], why: str) -> None:
    (asked,) = of(sold(**changed))
    assert isinstance(asked, Review)
    assert why in asked.detail
    assert asked.detail.endswith("invoice it by hand")


def test_by_rule_a_person_is_asked() -> None:
    (asked,) = of(sold(), changes_after_billing="review")
    assert isinstance(asked, Review)
    assert "the first invoice has been made" in asked.detail


@pytest.mark.parametrize(
    ("training", "due"),
    [
        ({"modified_at": NOW - 10 * MICROS}, NOW + 35 * MICROS),
        # NOW is 12:00 on 23 November; the business day begins at midnight in London.
        ({"service_date": "2026-11-24"}, NOW + 12 * 3600 * MICROS),
    ],
)
def test_it_rests_and_waits_for_its_day(training: dict[str, Any], due: int) -> None:
    (waits,) = of(sold(training=training))
    assert waits == LookAgain(due, TRAINING.id, f"Training is put on the next invoice of {SUBSCRIPTION}")


def test_a_subscription_that_the_sync_did_not_make_is_left_alone() -> None:
    world = sold()
    assert isinstance(world.billing, Present)
    found = replace(world, billing=Present(replace(world.billing.value, subscriptions=(subscription(),))))
    assert of(found) == []


def test_a_deal_without_such_lines_takes_no_look() -> None:
    without = replace(sold(), deals=(Deal(deal().opportunity, story_lines()),))
    assert customers_to_look_at(without, RULES.commercial) == frozenset()
