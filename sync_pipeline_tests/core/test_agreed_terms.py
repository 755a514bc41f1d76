"""What is told to a person of a deal that is billed and is no deal any more."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.agreed_terms import unapplied_changes
from sync_pipeline.core.billed_items import RATE
from sync_pipeline.core.commands import Review
from sync_pipeline.core.conflict import Clash, Side, Standing
from sync_pipeline.core.conflict_inbox import with_conflicts
from sync_pipeline.core.deal import subscription_intent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.part_ids import part_id
from sync_pipeline.core.plan import plan
from sync_pipeline.core.stripe_records import Subscription, SubscriptionSchedule
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
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


def billed(**changed: Any) -> World:
    """A deal of two lines, billed by two items at the same prices."""
    lines = (line(1, unit_price=Decimal(600)), line(2, unit_price=Decimal("200.50")))
    items = tuple(
        item(id=f"si_{n}", unit_amount=Decimal(cents), interval="year", line_ids=(each.id,))
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
    entries = list(unapplied_changes(world, RULES))
    reviews = {entry.key: entry.detail for entry in entries if isinstance(entry, Review)}
    clashes = [entry for entry in entries if isinstance(entry, Clash)]
    return reviews | {f"{each.standing.rule}:{each.standing.subject}": each.detail for each in clashes}


def test_equal_terms_are_no_matter() -> None:
    assert told(billed()) == {}


def test_a_deal_that_is_lost_after_all() -> None:
    assert told(billed(is_won=False)) == {
        f"billed_deal_not_won:{OPPORTUNITY}": (
            f"it is not won any more, but {SUBSCRIPTION} goes on billing it; cancel that, or win it again"
        )
    }


def test_a_deal_that_was_deleted() -> None:
    assert told(replace(billed(), deals=())) == {
        f"billed_deal_gone:{OPPORTUNITY}": (
            f"the Opportunity is not on this Account any more, but {SUBSCRIPTION} goes on billing it"
        )
    }


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_what_has_ended_is_no_matter_any_more(status: str) -> None:
    world = replace(billed(), deals=())
    assert isinstance(world.billing, Present)
    ended = replace(world.billing.value, subscriptions=(subscription(status=status),))
    assert told(replace(world, billing=Present(ended))) == {}


INTENT = subscription_intent(ORG, OPPORTUNITY)
SECOND = subscription(id="sub_second", intent=INTENT)
BEGINS = SubscriptionSchedule(
    id="sub_sched_2", customer=CUSTOMER, status="not_started", starts_at=NOW + MICROS, intent=INTENT
)


@pytest.mark.parametrize("second", [SECOND, replace(SECOND, status="past_due"), BEGINS])
def test_what_bills_a_deal_beside_its_subscription_is_told(second: Subscription | SubscriptionSchedule) -> None:
    """Whatever made it: the link shows one subscription only, and the customer pays for both."""
    assert told(beside(second)) == {
        f"billed_twice:{OPPORTUNITY}": (
            f"{SUBSCRIPTION}, {second.id} each bill it, by their sf_intent; cancel all but one at Stripe, or take "
            "sf_intent off what bills something else"
        )
    }


@pytest.mark.parametrize(
    "second",
    [
        replace(SECOND, status="canceled"),
        replace(SECOND, intent=None),
        replace(SECOND, intent=subscription_intent(ORG, part_id(OPPORTUNITY, 2))),
        replace(BEGINS, status="active", subscription=SUBSCRIPTION),
        replace(BEGINS, status="canceled"),
    ],
)
def test_what_does_not_bill_the_deal_a_second_time_is_not(second: Subscription | SubscriptionSchedule) -> None:
    """What has ended, was adopted, bills another part of it, or has begun the subscription that there is."""
    assert told(beside(second)) == {}


def beside(second: Subscription | SubscriptionSchedule) -> World:
    """A deal with the subscription that it was given, and one more of these."""
    world = billed()
    assert isinstance(world.billing, Present)
    held = replace(world.billing.value, subscriptions=(subscription(intent=INTENT),))
    if isinstance(second, Subscription):
        held = replace(held, subscriptions=(*held.subscriptions, second))
    else:
        held = replace(held, schedules=(second,))
    return replace(world, billing=Present(held))


@pytest.mark.parametrize("interval", ["Monthly", None])
def test_an_interval_that_was_edited_after_billing_began(interval: str | None) -> None:
    world = made_by_us(billed(billing_interval=interval))
    said = interval or "empty"
    assert told(world) == {
        f"interval_differs:{OPPORTUNITY}": (
            f"{SUBSCRIPTION} bills Product 1 ({said}), Product 2 ({said}) by another interval: it goes on as it was, "
            "and no price of these lines is carried; put the interval back, or sell the change as an amendment"
        )
    }


def made_by_us(world: World) -> World:
    assert isinstance(world.billing, Present)
    return replace(
        world, billing=Present(replace(world.billing.value, subscriptions=(subscription(intent="sub:ours:1"),)))
    )


def with_first_line(world: World, **changed: Any) -> World:
    (deal,) = world.deals
    return replace(world, deals=(replace(deal, lines=(replace(deal.lines[0], **changed), deal.lines[1])),))


@pytest.mark.parametrize("deal_says", ["Annual", "Monthly"])
def test_a_price_of_another_interval_is_never_billed_by_the_one_that_runs(deal_says: str) -> None:
    """600 a year that sales makes 50 a month must not become 50 a year, nor a year's price one of a month."""
    of_line = None if deal_says == "Monthly" else "Monthly"
    world = made_by_us(billed(billing_interval=deal_says))
    world = with_first_line(world, billing_interval=of_line, unit_price=Decimal(50))
    world = replace(world, base={(line(1).id, RATE): canonical.encode(["prod_1", "year", 1, "60000"])})
    assert list(told(world)) == [f"interval_differs:{OPPORTUNITY}"]
    found = plan(world, RULES, b"key")
    assert not [each for each in found.commands if each.action.startswith("stripe.") and "item" in each.target]
    assert not [each for each in found.agreements if (each.subject, each.rule) == (line(1).id, RATE)]


def test_an_interval_that_sales_makes_equal_to_what_stripe_bills_settles_it() -> None:
    """Somebody moved the first item to 50 a month at Stripe."""
    world = made_by_us(with_first_line(billed(), billing_interval="Monthly", unit_price=Decimal(50)))
    assert isinstance(world.billing, Present)
    first, second = world.billing.value.items
    moved = replace(first, interval="month", unit_amount=Decimal(5_000))
    seen = replace(
        world,
        billing=Present(replace(world.billing.value, items=(moved, second))),
        base={(line(1).id, RATE): canonical.encode(["prod_1", "year", 1, "60000"])},
    )
    assert told(seen) == {}
    agreed = {each.subject: each.value for each in plan(seen, RULES, b"key").agreements if each.rule == RATE}
    assert agreed[line(1).id] == canonical.encode(["prod_1", "month", 1, "5000"])


@pytest.mark.parametrize("euros", [Decimal(600), Decimal(550)])
def test_a_deal_in_another_currency_is_told_and_none_of_its_prices_is_compared_or_written(euros: Decimal) -> None:
    """600 euros are not 600 pounds; nor is what differs in number an edit that Stripe would have to follow."""
    world = billed(currency="EUR")
    assert isinstance(world.billing, Present)
    ours = replace(world.billing.value, subscriptions=(subscription(intent="sub:ours:1"),))
    (deal,) = world.deals
    edited = replace(deal, lines=(replace(deal.lines[0], unit_price=euros), deal.lines[1]))
    base = {(each.id, RATE): canonical.encode(["prod_1", "year", 1, "60000"]) for each in edited.lines[:1]}
    of = replace(world, billing=Present(ours), deals=(edited,), base=base)
    assert told(of) == {
        f"currency_differs:{OPPORTUNITY}": (
            f"the deal is in EUR, {SUBSCRIPTION} bills it in GBP: no price of it is compared or written; "
            "correct the currency of the deal, or end the subscription and sell it anew"
        )
    }
    found = plan(of, RULES, b"key")
    assert not [each for each in found.agreements if each.rule == RATE]
    assert not found.conflicts
    assert not [each for each in found.commands if each.action.startswith("stripe.") and "item" in each.target]
    assert [each.rule for each in found.reviews if each.rule == RATE] == []


def ruled(world: World, side: Side) -> list[Any]:
    """What the plan asks for once a person has ruled on what it found."""
    opened = plan(world, RULES, b"key").conflicts
    said = with_conflicts(world, (replace(each, ruling=side, ruled_by="Robin", ruled_at=NOW) for each in opened))
    return [each for each in unapplied_changes(said, RULES) if not isinstance(each, Standing)]


def test_a_person_may_rule_that_a_lost_deal_ends_with_what_is_paid() -> None:
    """The last period of its items ends a day later; until then it is paid for."""
    world = billed(is_won=False, stage="Closed Lost")
    assert isinstance(world.billing, Present)
    until = NOW + 86_400 * MICROS
    items = tuple(replace(each, period_end=until) for each in world.billing.value.items)
    (command,) = ruled(replace(world, billing=Present(replace(world.billing.value, items=items))), "Salesforce")
    assert command.body == {
        "object": "subscription",
        "id": SUBSCRIPTION,
        "params": {"cancel_at": until // MICROS, "proration_behavior": "none"},
    }


def test_a_person_may_rule_that_a_lost_deal_is_billed_on() -> None:
    assert ruled(billed(is_won=False, stage="Closed Lost"), "Stripe") == []


def test_the_end_of_a_lost_deal_settles_it() -> None:
    world = billed(is_won=False)
    assert isinstance(world.billing, Present)
    ending = replace(world.billing.value, subscriptions=(subscription(cancel_at=NOW + 1),))
    assert told(replace(world, billing=Present(ending))) == {}
