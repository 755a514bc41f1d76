"""The discount of a running subscription: edited in Salesforce, changed at Stripe, spent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Agreement, Command, Entry, Review
from sync_pipeline.core.conflict import Clash, Side
from sync_pipeline.core.conflict_inbox import with_conflicts
from sync_pipeline.core.discount_terms import RULE, changed_discounts, keep_discounts
from sync_pipeline.core.foresight import imagine
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.stripe_records import Coupon, Discount
from sync_pipeline.core.world import Billing, Catalogue, World
from sync_pipeline_tests.core.making import (
    NOW,
    OPPORTUNITY,
    RULES,
    SUBSCRIPTION,
    billed,
    deal,
    item,
    subscription,
)

TEN = "sf-10pct-forever"
THANKS = Discount(id="di_2", subscription=SUBSCRIPTION, coupon="thanks", duration="forever", start_at=NOW)
HAS_TEN = Discount(
    id="di_1", subscription=SUBSCRIPTION, coupon=TEN, duration="forever", percent_off=Decimal(10), start_at=NOW
)
MADE = Coupon(id=TEN, valid=True, duration="forever", percent=Decimal(10))
TOLD = {"discount_percent": Decimal(10), "discount_duration": "Forever"}


def rules(**changed: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **changed))


def running(*has: Discount, base: list[str] | None, **agreed: Any) -> World:
    world = billed(
        subscription(intent="sub:1", opportunity_id=OPPORTUNITY),
        items=(item(),),
        deals=(deal(**agreed),),
        base={} if base is None else {(OPPORTUNITY, RULE): canonical.encode(base)},
    )
    assert isinstance(world.billing, Present)
    return replace(
        world,
        billing=Present(replace(world.billing.value, discounts=has)),
        catalogue=Present(Catalogue(coupons={TEN: MADE})),
    )


def told(world: World, **rule: Any) -> Entry:
    (entry,) = keep_discounts(world, rules(**rule))
    return entry


def written(world: World, **rule: Any) -> dict[str, Any]:
    entry = told(world, **rule)
    assert isinstance(entry, Command)
    assert entry.body["object"] == "subscription"
    params: dict[str, Any] = entry.body["params"]
    return params


def test_both_have_it_or_neither() -> None:
    assert told(running(HAS_TEN, base=None, **TOLD)) == Agreement(OPPORTUNITY, RULE, canonical.encode([TEN]))
    assert told(running(base=None)) == Agreement(OPPORTUNITY, RULE, "[]")


@pytest.mark.parametrize(
    ("has", "base", "agreed", "params"),
    [
        ([], [], TOLD, {"discounts": [{"coupon": TEN}]}),
        ([HAS_TEN], [TEN], {}, {"discounts": ""}),
        ([replace(HAS_TEN, coupon="sf-5pct-forever")], ["sf-5pct-forever"], TOLD, {"discounts": [{"coupon": TEN}]}),
    ],
)
def test_an_edit_in_salesforce_is_billed_from_the_next_invoice(
    has: list[Discount], base: list[str], agreed: dict[str, Any], params: dict[str, Any]
) -> None:
    assert written(running(*has, base=base, **agreed)) == params
    review = told(running(*has, base=base, **agreed), changes_after_billing="review")
    assert isinstance(review, Clash)


def test_its_coupon_is_made_first() -> None:
    world = replace(running(base=[], **TOLD), catalogue=Present(Catalogue()))
    entry = told(world)
    assert isinstance(entry, Command)
    assert (entry.action, entry.body["object"], entry.body["params"]["id"]) == ("stripe.create", "coupon", TEN)
    assert [each.coupon for each in changed_discounts(world, RULES)] == [TEN]


@pytest.mark.parametrize(
    ("has", "put_back"),
    [
        ([HAS_TEN, THANKS], {"discounts": [{"discount": "di_1"}]}),
        ([], {"discounts": [{"coupon": TEN}]}),
        (
            [HAS_TEN, replace(THANKS, item="si_1")],
            {"discounts": [{"discount": "di_1"}], "items": [{"id": "si_1", "discounts": ""}]},
        ),
    ],
)
def test_coupons_that_are_added_or_taken_away_at_stripe(has: list[Discount], put_back: dict[str, Any]) -> None:
    world = running(*has, base=[TEN], **TOLD)
    review = told(world)
    assert isinstance(review, Clash)
    assert "changed at Stripe" in review.detail
    assert written(world, on_stripe_discounts="revert") == put_back


def test_an_accepted_coupon_stays_beside_the_deals_own() -> None:
    world = running(HAS_TEN, THANKS, base=[TEN], **TOLD)
    assert told(world, on_stripe_discounts="accept") == Agreement(OPPORTUNITY, RULE, canonical.encode([TEN]))


@pytest.mark.parametrize("base", [None, ["sf-500000gbp-once"]])
def test_what_was_taken_off_once_is_spent_and_not_missing(base: list[str] | None) -> None:
    once = {"discount_amount": Decimal(5000), "discount_duration": "Once"}
    assert isinstance(told(running(base=base, **once)), Agreement)


def test_a_subscription_from_before_the_base_is_never_changed_unasked() -> None:
    assert isinstance(told(running(base=None, **TOLD)), Clash)


def test_what_is_put_back_again_and_again_is_left_to_a_person() -> None:
    world = running(HAS_TEN, THANKS, base=[TEN], **TOLD)
    fought = replace(world, reverts={(OPPORTUNITY, RULE): (NOW - 3, NOW - 2, NOW - 1)})
    entries = list(keep_discounts(fought, rules(on_stripe_discounts="revert")))
    assert [entry.rule for entry in entries if isinstance(entry, Review)] == ["edit_war"]
    assert not any(isinstance(entry, Command) for entry in entries)


def test_a_write_leads_to_a_world_that_is_at_rest() -> None:
    world = running(HAS_TEN, replace(THANKS, item="si_1"), base=[TEN], **TOLD)
    entry = told(world, on_stripe_discounts="revert")
    assert isinstance(entry, Command)
    after, is_whole = imagine(world, [entry], RULES, lambda _: Billing())
    assert is_whole
    assert isinstance(told(after), Agreement)


@pytest.mark.parametrize(
    ("interval", "status", "why"),
    [
        ("month", "active", None),
        ("year", "active", "a discount for 3 months is no whole number of billing intervals"),
        ("month", "trialing", "a discount for some months would count the free months too"),
    ],
)
def test_some_months_are_months_that_are_billed_or_a_person_is_told(
    interval: str, status: str, why: str | None
) -> None:
    half = {"discount_percent": Decimal(50), "discount_duration": "Months", "discount_months": Decimal(3)}
    world = running(base=[], **half)
    assert isinstance(world.billing, Present)
    known = world.billing.value
    billing = replace(
        known,
        subscriptions=(replace(known.subscriptions[0], status=status),),
        items=(replace(known.items[0], interval=interval),),
    )
    coupon = Coupon(id="sf-50pct-3months", valid=True, duration="repeating", percent=Decimal(50), months=3)
    world = replace(world, billing=Present(billing), catalogue=Present(Catalogue(coupons={coupon.id: coupon})))
    if why is None:
        assert written(world)["discounts"] == [{"coupon": coupon.id}]
    else:
        review = told(world)
        assert isinstance(review, Review)
        assert review.detail.endswith(f"{why}; use negotiated prices or a ramp")


def test_discounts_that_no_coupon_can_say_are_told() -> None:
    review = told(running(HAS_TEN, base=[TEN], discount_percent=Decimal(101), discount_duration="Forever"))
    assert isinstance(review, Review)
    assert "the discount is 101 percent" in review.detail


@pytest.mark.parametrize(("side", "writes"), [("Salesforce", True), ("Stripe", False)])
def test_a_person_may_rule_that_a_coupon_is_taken_away_or_stays(side: Side, writes: bool) -> None:
    world = running(HAS_TEN, THANKS, base=[TEN], **TOLD)
    (opened,) = (each for each in plan(world, RULES, b"key").conflicts if each.rule == RULE)
    said = with_conflicts(world, [replace(opened, ruling=side, ruled_by="Robin", ruled_at=NOW)])
    entries = list(keep_discounts(said, RULES))
    assert any(isinstance(entry, Command) for entry in entries) == writes
    assert not any(isinstance(entry, Clash) for entry in entries)
