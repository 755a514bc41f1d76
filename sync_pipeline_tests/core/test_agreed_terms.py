"""What is told to a person where a billed deal and its subscription say different things."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.agreed_terms import unapplied_changes
from sync_pipeline.core.observation import Present
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    ORG,
    SUBSCRIPTION,
    account,
    customer,
    item,
    line,
    opportunity,
    subscription,
)


def billed(**changed: Any) -> World:
    """A deal of two lines, billed by two items at the same prices."""
    lines = (line(1, unit_price=Decimal(600)), line(2, unit_price=Decimal("200.50")))
    items = tuple(
        item(id=f"si_{n}", unit_amount=Decimal(cents), line_ids=(each.id,))
        for n, (cents, each) in enumerate(zip((60_000, 20_050), lines, strict=True), 1)
    )
    deal = Deal(opportunity(**changed), lines)
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW,
        account=Present(account()),
        deals=(deal,),
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(subscription(),), items=items)),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
    )


def told(world: World) -> dict[str, str]:
    return {review.key: review.detail for review in unapplied_changes(world)}


def with_lines(world: World, *lines: Any) -> World:
    (deal,) = world.deals
    return replace(world, deals=(replace(deal, lines=lines),))


def test_equal_terms_are_no_matter() -> None:
    assert told(billed()) == {}


def test_a_price_edited_after_billing_began() -> None:
    first, second = billed().deals[0].lines
    world = with_lines(billed(), replace(first, unit_price=Decimal(700)), second)
    assert told(world) == {
        f"price_differs:{first.id}": "line Product 1 says 700, Stripe bills 60000 minor units; make them equal"
    }


def test_a_line_that_was_added() -> None:
    world = with_lines(billed(), *billed().deals[0].lines, line(3))
    detail = f"line Product 3 is on no item of {SUBSCRIPTION}; add it there, or take it off the deal"
    assert told(world) == {f"line_not_billed:{line(3).id}": detail}


def test_a_line_that_was_removed() -> None:
    world = with_lines(billed(), billed().deals[0].lines[0])
    assert told(world) == {"item_on_no_line:si_2": "Stripe bills 1 of prod_1 (si_2), which is on no line of the deal"}


def test_a_deal_that_is_lost_after_all() -> None:
    assert told(billed(is_won=False)) == {
        f"billed_deal_not_won:{OPPORTUNITY}": (
            f"it is not won any more, but {SUBSCRIPTION} goes on billing it; cancel that, or win it again"
        )
    }


def test_a_deal_that_was_deleted() -> None:
    assert told(replace(billed(), deals=())) == {
        f"billed_deal_gone:{OPPORTUNITY}": (
            f"the Opportunity is gone from Salesforce, but {SUBSCRIPTION} goes on billing it"
        )
    }


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_what_has_ended_is_no_matter_any_more(status: str) -> None:
    world = replace(billed(), deals=())
    assert isinstance(world.billing, Present)
    ended = replace(world.billing.value, subscriptions=(subscription(status=status),))
    assert told(replace(world, billing=Present(ended))) == {}
