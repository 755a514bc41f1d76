"""Amendments: their lines come to the deal that they amend, once, when they take effect, and are billed from there."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core.amendments import amendments, with_pending
from sync_pipeline.core.foresight import foresee
from sync_pipeline.core.money import Money
from sync_pipeline.core.next_term import billed_in_term
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import LineItem, Opportunity
from sync_pipeline.core.stripe_records import SubscriptionItem, SubscriptionSchedule
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import OPPORTUNITY, PERSONAL_KEY, RULES, account, opportunity, story_lines
from sync_pipeline_tests.core.two_systems import TwoSystems

AMENDMENT = "006Amendment01IAA"
DAY = 86_400 * MICROS
HOUR = 3600 * MICROS
# The deal was won on 23 November 2026 at noon and bills by the year.
PERIOD_ENDS = "2027-11-23T12:00:00"
PRODUCTS = {each.product_name: each for each in story_lines()}
PRICES = {"Analytics Platform": 30_000, "Analyst Seat": 600, "Viewer Seat": 200}


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * MICROS


@cache
def _at_rest(interval: str, settings: tuple[tuple[str, Any], ...]) -> TwoSystems:
    both = TwoSystems(replace(RULES, commercial=replace(RULES.commercial, **dict(settings))))
    lines = [replace(each, pricebook_entry_id=f"01u{each.product_name}") for each in story_lines()]
    both.put(account(), opportunity(billing_interval=interval), *lines)
    both.settle()
    both.step()
    return both


def running(interval: str = "Annual", **settings: Any) -> TwoSystems:
    """The £45,000 deal, billed and at rest since the day on which it was won."""
    return deepcopy(_at_rest(interval, tuple(settings.items())))


def amended(both: TwoSystems, *lines: tuple[str, int] | tuple[str, int, int], id: str = AMENDMENT, **deal: Any) -> None:
    """A won amendment of products and quantities, at the deal's prices unless others are given."""
    values = {"close_date": "2027-02-21", "amends_opportunity_id": OPPORTUNITY, "service_start_date": None}
    both.put(opportunity(**{"id": id, "term_months": None, "billing_interval": None, **values, **deal}))
    for number, (product, quantity, *price) in enumerate(lines, start=1):
        of = PRODUCTS[product]
        both.put(
            LineItem(
                id=f"00k{id}{number}",
                opportunity_id=id,
                product_id=of.product_id,
                product_name=product,
                product_family=of.product_family,
                pricebook_entry_id=f"01u{product}",
                quantity=Decimal(quantity),
                unit_price=Decimal(price[0] if price else PRICES[product]),
                modified_at=both.now,
            )
        )


def rest(both: TwoSystems) -> None:
    """Rounds until nothing is left to do but what waits for more than a day, the quiet periods included."""
    for _ in range(6):
        plans = both.settle()
        again = plans[-1].look_again_at
        if again is None or again > both.now + DAY:
            return
        both.now = again
    raise AssertionError("it does not come to rest")


def item_of(both: TwoSystems, product: str) -> SubscriptionItem | None:
    """The item that bills a product at the deal's own price."""
    amount = PRICES[product] * 100
    name = f"sf_{PRODUCTS[product].product_id}"
    return next((i for i in both.items.values() if i.product == name and i.unit_amount == amount), None)


def quantity(both: TwoSystems, product: str) -> int | None:
    found = item_of(both, product)
    return found.quantity if found else None


def deal_lines(both: TwoSystems) -> dict[str, int]:
    """The deal's lines that amendments brought, by the amendment's line."""
    lines = (record for record in both.records.values() if isinstance(record, LineItem))
    own = (line for line in lines if line.opportunity_id == OPPORTUNITY)
    return {line.amends_line_id: int(line.quantity or 0) for line in own if line.amends_line_id}


def sent(both: TwoSystems, kind: str = "subscription_item") -> list[dict[str, Any]]:
    """What was said of one kind of object, in order."""
    return [said for _, of, _, said in both.requests if of == kind]


def message(both: TwoSystems, id: str = AMENDMENT) -> str | None:
    found: Opportunity = both.records[id]
    return found.billing_message


def test_added_seats_are_billed_by_the_deals_subscription_from_the_day_on_which_they_were_sold() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5))
    rest(both)
    assert deal_lines(both) == {f"00k{AMENDMENT}1": 5}
    assert quantity(both, "Analyst Seat") == 25
    (change,) = sent(both)
    assert (change["quantity"], change["proration_date"]) == (25, at("2027-02-21T00:00:00") // MICROS)
    assert change["proration_behavior"] == "create_prorations"
    assert len(both.subscriptions) == 1
    sold: Opportunity = both.records[AMENDMENT]
    (subscription,) = both.subscriptions
    assert (sold.stripe_subscription_id, sold.billing_status, sold.billing_message) == (subscription, "Active", None)
    assert (sold.activation_status, sold.first_payment_at) == (None, None)
    assert not any("Billing_Message__c" in said for said in sent(both, "Opportunity")), "there was nothing to wait for"
    assert [both.step().commands for _ in range(3)] == [(), (), ()]


@pytest.mark.parametrize(
    ("dates", "billed_from"),
    [
        ({"service_start_date": "2027-01-10"}, "2027-01-10"),
        # Closed before its close date: from the day on which that is seen.
        ({"close_date": "2027-03-31"}, "2027-02-21"),
        # Before the deal's own first day: from that on.
        ({"service_start_date": "2026-10-01"}, "2026-11-23T12:00:00"),
    ],
)
def test_the_day_from_which_an_amendment_counts(dates: dict[str, Any], billed_from: str) -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5), **dates)
    rest(both)
    (change,) = sent(both)
    assert change["proration_date"] == at(billed_from) // MICROS


def test_an_amendment_from_a_later_day_waits_for_it_where_everybody_can_see_that() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5), service_start_date="2027-06-01")
    rest(both)
    assert (quantity(both, "Analyst Seat"), deal_lines(both)) == (20, {})
    assert message(both) == "Takes effect on 2027-06-01: 5 Analyst Seat"
    (waits,) = both.step().waits
    assert (waits.subject, waits.detail) == (AMENDMENT, "Takes effect on 2027-06-01: 5 Analyst Seat")
    # The business is in London: its first of June begins an hour before that of UTC.
    assert waits.at == at("2027-05-31T23:00:00")
    both.now = waits.at
    rest(both)
    assert (quantity(both, "Analyst Seat"), message(both)) == (25, None)
    assert sent(both)[-1]["proration_date"] == at("2027-05-31T23:00:00") // MICROS


def test_a_reduction_waits_for_the_renewal_and_is_on_its_invoice() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", -5))
    rest(both)
    assert (quantity(both, "Analyst Seat"), deal_lines(both)) == (20, {})
    assert message(both) == "Takes effect on 2027-11-23: -5 Analyst Seat"
    assert both.records[AMENDMENT].stripe_subscription_id in both.subscriptions
    both.now = at(PERIOD_ENDS) - HOUR - 1
    rest(both)
    assert quantity(both, "Analyst Seat") == 15
    change = sent(both)[-1]
    assert (change["quantity"], change["proration_behavior"]) == (15, "none")
    assert "proration_date" not in change
    assert both.now < at(PERIOD_ENDS), "before Stripe makes the renewal's invoice"
    assert (deal_lines(both), message(both)) == ({f"00k{AMENDMENT}1": -5}, None)
    assert both.step().commands == ()


def test_the_renewal_is_opened_at_what_the_next_term_bills_once_the_reduction_has_come() -> None:
    both = running()
    both.now = at("2027-09-01T09:00:00")
    amended(both, ("Analyst Seat", -5), ("Viewer Seat", -15), close_date="2027-09-01")
    amended(both, ("Viewer Seat", 2), id="006Later", service_start_date="2027-11-23")
    world = both.observe()
    assert isinstance(world.billing, Present)
    (subscription,) = world.billing.value.subscriptions
    then = with_pending(world, RULES, world.billing.value, subscription, date(2027, 11, 23))
    # 30,000 for the platform, 15 analysts at 600 and 2 viewers at 200.
    assert billed_in_term(then, subscription, at(PERIOD_ENDS) // MICROS, 12) == Money(3_940_000, "GBP")
    before = with_pending(world, RULES, world.billing.value, subscription, date(2027, 11, 22))
    assert billed_in_term(before, subscription, at(PERIOD_ENDS) // MICROS, 12) == Money(4_500_000, "GBP")


def test_while_stripe_is_unknown_nothing_is_brought_and_nothing_is_said() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5))
    unknown = replace(both.observe(), billing=Unknown("timeout"))
    touched = {command.target for command in plan(unknown, RULES, PERSONAL_KEY).commands}
    assert not any(AMENDMENT in target for target in touched)


def test_a_reduction_from_the_day_on_which_the_term_ends_is_of_that_renewal() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", -5), service_start_date="2027-11-23")
    rest(both)
    assert message(both) == "Takes effect on 2027-11-23: -5 Analyst Seat"


def test_a_reduction_waits_for_the_end_of_the_term_and_not_of_a_month() -> None:
    both = running("Monthly")
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", -5))
    rest(both)
    assert message(both) == "Takes effect on 2027-11-23: -5 Analyst Seat"


def test_a_renewal_that_the_sync_slept_through_is_credited_from_its_first_second() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", -5))
    rest(both)
    both.now = at("2027-11-25T09:00:00")
    begun, ends = at(PERIOD_ENDS), at("2028-11-23T12:00:00")
    both.items = {key: replace(i, period_start=begun, period_end=ends) for key, i in both.items.items()}
    rest(both)
    assert sent(both)[-1]["proration_date"] == begun // MICROS
    assert quantity(both, "Analyst Seat") == 15


def test_a_reduction_is_credited_at_once_where_the_rule_says_so() -> None:
    both = running(reductions="now")
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", -5))
    rest(both)
    assert quantity(both, "Analyst Seat") == 15
    assert sent(both)[-1]["proration_date"] == at("2027-02-21T00:00:00") // MICROS


def test_what_a_change_costs_is_invoiced_at_once_where_the_rule_says_so() -> None:
    both = running(bill_changes="at_once")
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5), ("Viewer Seat", 2, 180))
    rest(both)
    assert [said["proration_behavior"] for said in sent(both)] == ["always_invoice"]
    assert sent(both, "subscription")[-1]["proration_behavior"] == "always_invoice"


def test_an_exchange_counts_as_a_whole_from_its_day() -> None:
    """Waiting with the half that takes back would bill the seats at their old and at their new price."""
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", -20), ("Analyst Seat", 20, 550))
    rest(both)
    billed = {i.unit_amount: i.quantity for i in both.items.values() if i.product == "sf_01tAa0000000002IAA"}
    assert billed == {Decimal(55_000): 20}
    day = at("2027-02-21T00:00:00") // MICROS
    assert {said["proration_date"] for said in sent(both, "subscription")[1:]} == {day}


def test_a_product_that_is_given_up_goes_with_the_renewal_without_a_credit() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Viewer Seat", -15))
    rest(both)
    both.now = at(PERIOD_ENDS) - HOUR
    rest(both)
    assert quantity(both, "Viewer Seat") is None
    assert sent(both, "subscription")[-1]["proration_behavior"] == "none"
    # It can come back: what was taken off by an amendment is not fought over.
    both.now += 2 * DAY
    amended(both, ("Viewer Seat", 3), id="006Again", close_date="2027-11-25")
    rest(both)
    assert quantity(both, "Viewer Seat") == 3


def test_seats_at_another_price_are_an_item_of_their_own() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5, 500))
    rest(both)
    assert quantity(both, "Analyst Seat") == 20
    assert sorted(i.quantity or 0 for i in both.items.values()) == [1, 5, 15, 20]


def test_an_amendment_that_only_its_type_tells_is_of_the_one_deal_that_is_billed() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5), amends_opportunity_id=None, type="Amendment")
    rest(both)
    assert both.records[AMENDMENT].amends_opportunity_id == OPPORTUNITY
    assert quantity(both, "Analyst Seat") == 25


def test_an_amendment_of_an_amendment_amends_the_deal() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5))
    amended(both, ("Analyst Seat", 2), id="006Second", amends_opportunity_id=AMENDMENT)
    rest(both)
    assert quantity(both, "Analyst Seat") == 27


DISCOUNTED = "it has a discount of 30 percent, which is not billed: put the negotiated price into UnitPrice"
REFUSED: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "there are no line items"),
    (
        (("Analyst Seat", 5),),
        {"amends_opportunity_id": "006Nowhere"},
        "it amends Opportunity 006Nowhere, which is no won deal of this Account",
    ),
    (
        (("Analyst Seat", 5),),
        {"amends_opportunity_id": AMENDMENT},
        f"it amends Opportunity {AMENDMENT}, which amends this one",
    ),
    ((("Analyst Seat", 5),), {"discount_percent": Decimal(10)}, "it has a discount of its own"),
    ((("Analyst Seat", 5),), {"free_months": Decimal(1)}, "it has free months"),
    ((("Analyst Seat", 5),), {"currency": "EUR"}, "it is in EUR, sub_made0, which it amends, in GBP"),
    ((("Analyst Seat", 5),), {"billing_interval": "Weekly"}, "line Analyst Seat: the billing interval is 'Weekly'"),
    ((("Analyst Seat", 0),), {}, "line Analyst Seat: the quantity is 0, not a positive whole number"),
    ((("Analyst Seat", -21),), {}, "it takes back 1 more of Analyst Seat than the deal has at that price"),
    ((("Analyst Seat", -5, 590),), {}, "it takes back 5 more of Analyst Seat than the deal has at that price"),
    (
        (("Analyst Seat", -20), ("Viewer Seat", -15), ("Analytics Platform", -1)),
        {},
        "it would leave nothing of the deal that it amends",
    ),
]


@pytest.mark.parametrize(("lines", "deal", "why"), REFUSED)
def test_what_cannot_be_amended_is_refused_with_the_reason_and_bills_nothing(
    lines: tuple[Any, ...], deal: dict[str, Any], why: str
) -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, *lines, **deal)
    rest(both)
    assert (message(both) or "").startswith(f"Not billed: {why}")
    assert both.records[AMENDMENT].billing_status == "Needs Attention"
    assert (deal_lines(both), len(both.subscriptions)) == ({}, 1)
    assert sent(both) == []


def test_a_line_with_a_discount_is_refused_until_its_price_says_it() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5))
    both.edit(f"00k{AMENDMENT}1", discount=Decimal(30))
    rest(both)
    assert message(both) == f"Not billed: line Analyst Seat: {DISCOUNTED}"
    assert (deal_lines(both), sent(both)) == ({}, [])
    both.edit(f"00k{AMENDMENT}1", discount=None, unit_price=Decimal(420), modified_at=both.now)
    rest(both)
    assert (message(both), deal_lines(both)) == (None, {f"00k{AMENDMENT}1": 5})


def test_a_deal_that_has_ended_or_is_not_billed_yet_cannot_be_amended() -> None:
    both = running()
    (subscription,) = both.subscriptions
    both.now = at("2027-02-21T15:00:00")
    both.cancel(subscription)
    amended(both, ("Analyst Seat", 5))
    rest(both)
    assert message(both) == f"Not billed: {subscription}, which it amends, has ended; sell it as a deal of its own"
    unbilled = TwoSystems(RULES)
    lines = [replace(each, pricebook_entry_id=f"01u{each.product_name}") for each in story_lines()]
    unbilled.put(account(), opportunity(term_months=None), *lines)
    amended(unbilled, ("Analyst Seat", 5), close_date="2026-11-23")
    rest(unbilled)
    assert message(unbilled) == f"Waits until Opportunity {OPPORTUNITY}, which it amends, is billed"
    unbilled.edit(OPPORTUNITY, term_months=Decimal(12))
    rest(unbilled)
    assert (quantity(unbilled, "Analyst Seat"), message(unbilled)) == (25, None)


def test_of_two_deals_that_are_billed_the_amendment_has_to_name_one() -> None:
    both = running()
    both.put(opportunity(id="006Other"), replace(story_lines()[2], id="00kOther", opportunity_id="006Other"))
    rest(both)
    amended(both, ("Analyst Seat", 5), amends_opportunity_id=None, type="Amendment", close_date="2026-11-23")
    rest(both)
    named = f"2 deals of this Account are billed ({OPPORTUNITY}, 006Other)"
    told = f"Not billed: it is an amendment that names no Opportunity, and {named}; name the one that it amends"
    assert message(both) == told
    both.edit(AMENDMENT, amends_opportunity_id="006Other")
    rest(both)
    assert len(both.items) == 5


def test_a_line_that_comes_to_a_ramp_is_for_the_phase_that_runs_and_all_later_ones() -> None:
    both = running()
    viewer = story_lines()[2]
    both.edit(OPPORTUNITY, term_months=Decimal(36))
    both.edit(viewer.id, from_month=Decimal(25))
    subscription = next(iter(both.subscriptions.values()))
    schedule = SubscriptionSchedule(
        id="sub_sched_1",
        customer=subscription.customer,
        status="active",
        starts_at=subscription.start_at,
        opportunity_id=OPPORTUNITY,
    )
    both.now = at("2027-12-01T09:00:00")
    amended(both, ("Analyst Seat", 5), close_date="2027-12-01")
    amended(both, ("Viewer Seat", -5), ("Analyst Seat", 1), id="006Early", close_date="2027-12-01")
    world = both.observe()
    assert isinstance(world.billing, Present)
    billing = replace(world.billing.value, schedules=(schedule,))
    sound, early = amendments(replace(world, billing=Present(billing)), RULES)
    # Nothing turns before the 25th month.
    assert [pending.line.from_month for pending in sound.pending] == [1]
    assert early.faults == (
        "it takes back 5 more of Viewer Seat than the deal has at that price",
        "5 more of Viewer Seat are taken back than are sold in months 1 to 24",
    )


def test_people_amend_where_the_rule_says_so() -> None:
    both = running(amendments="by_hand")
    amended(both, ("Analyst Seat", 5), close_date="2026-11-23")
    rest(both)
    told = f"it amends Opportunity {OPPORTUNITY}, and the rules leave that to people"
    assert (message(both), deal_lines(both)) == (f"Not billed: {told}", {})


def amended_and_billed(**settings: Any) -> TwoSystems:
    both = running(**settings)
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5))
    rest(both)
    both.now += DAY
    return both


def open_reviews(both: TwoSystems) -> dict[str, str]:
    return {review.rule: review.detail for review in both.step().reviews}


def test_an_amendment_that_is_edited_later_is_followed() -> None:
    both = amended_and_billed()
    both.edit(f"00k{AMENDMENT}1", quantity=Decimal(7), modified_at=both.now)
    rest(both)
    assert (quantity(both, "Analyst Seat"), deal_lines(both)) == (27, {f"00k{AMENDMENT}1": 7})
    followed = [said for said in sent(both, "OpportunityLineItem") if "Quantity" in said][-1]
    assert {name: Decimal(value) for name, value in followed.items()} == {"Quantity": 7, "UnitPrice": 600}


def test_seats_that_the_customer_gave_back_do_not_come_again_with_the_amendment() -> None:
    both = amended_and_billed()
    found = item_of(both, "Analyst Seat")
    assert found is not None
    both.items[found.id] = replace(found, quantity=22)
    rest(both)
    assert (quantity(both, "Analyst Seat"), deal_lines(both)) == (22, {f"00k{AMENDMENT}1": 2})
    both.edit(f"00k{AMENDMENT}1", quantity=Decimal(6), modified_at=both.now)
    rest(both)
    assert quantity(both, "Analyst Seat") == 22
    told = "line Analyst Seat of the amendment says 6 at 600 now, its line on the deal 2 at 600; make them equal"
    assert open_reviews(both) == {"amendment_edited": told}


def test_an_amendment_whose_line_is_given_a_discount_later_is_told() -> None:
    both = amended_and_billed()
    both.edit(f"00k{AMENDMENT}1", discount=Decimal(30), modified_at=both.now)
    rest(both)
    assert quantity(both, "Analyst Seat") == 25
    assert open_reviews(both) == {"amendment_edited": f"line Analyst Seat of the amendment: {DISCOUNTED}"}


def test_a_line_of_a_running_deal_with_a_discount_is_told_and_bills_on() -> None:
    """20 seats are billed already and keep their price; 5 more at the same price would join them."""
    both = running()
    seats = both.records[story_lines()[1].id]
    both.edit(seats.id, discount=Decimal(30), modified_at=both.now)
    both.put(replace(seats, id="00kLater", quantity=Decimal(5), discount=Decimal(30), stripe_item_id=None))
    rest(both)
    assert quantity(both, "Analyst Seat") == 20
    told = f"line Analyst Seat: {DISCOUNTED}"
    assert open_reviews(both) == {"item.unit_price": told, "line_not_billed": told}


def test_a_line_that_was_taken_off_the_deal_is_not_brought_a_second_time() -> None:
    both = amended_and_billed(removed_lines="carry")
    (brought,) = [key for key, x in both.records.items() if isinstance(x, LineItem) and x.amends_line_id]
    del both.records[brought]
    rest(both)
    assert (quantity(both, "Analyst Seat"), deal_lines(both)) == (20, {})
    assert message(both) is None


@pytest.mark.parametrize("how", ["reopened", "deleted", "line deleted"])
def test_an_amendment_that_is_taken_back_bills_on_until_a_person_decides(how: str) -> None:
    both = amended_and_billed()
    if how == "reopened":
        both.edit(AMENDMENT, is_won=False)
    elif how == "deleted":
        del both.records[AMENDMENT], both.records[f"00k{AMENDMENT}1"]
    else:
        del both.records[f"00k{AMENDMENT}1"]
    rest(both)
    assert quantity(both, "Analyst Seat") == 25
    assert "amendment_gone" in open_reviews(both)


def test_a_line_that_came_over_before_a_crash_is_known_afterwards() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5), ("Viewer Seat", 5))
    planned = both.step()
    base = {key: value for key, value in both.base.items() if key[1] != "amendment.line"}
    made = [command for command in planned.commands if command.action == "salesforce.upsert"]
    assert len(made) == 2
    both.base = base
    del both.records[f"new-00k{AMENDMENT}2"]
    rest(both)
    assert deal_lines(both) == {f"00k{AMENDMENT}1": 5, f"00k{AMENDMENT}2": 5}
    assert (quantity(both, "Analyst Seat"), quantity(both, "Viewer Seat")) == (25, 20)


def test_a_plan_foresees_the_line_and_what_is_billed_for_it() -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    amended(both, ("Analyst Seat", 5))
    ahead = foresee(both.observe(), RULES, PERSONAL_KEY, lambda _: Billing())
    assert ahead.is_whole
    told = [(command.action, command.body["object"]) for command in ahead.commands]
    assert ("salesforce.upsert", "OpportunityLineItem") in told
    assert ("stripe.update", "subscription_item") in told


def test_a_line_of_the_deal_with_a_later_day_is_not_billed_before_it() -> None:
    """It would join its item at once, and be served before it is sold."""
    both = running()
    seats = both.records[story_lines()[1].id]
    both.put(replace(seats, id="00kLater", quantity=Decimal(5), service_date="2027-01-10", stripe_item_id=None))
    rest(both)
    assert quantity(both, "Analyst Seat") == 20
    both.now = at("2027-01-10T00:00:00")
    rest(both)
    assert quantity(both, "Analyst Seat") == 25


products = st.sampled_from(["Analyst Seat", "Viewer Seat"])
changes = st.lists(st.tuples(products, st.integers(-6, 6).filter(bool)), min_size=1, max_size=3)
days = st.sampled_from([None, "2026-12-01", "2027-02-01", "2027-07-01", "2027-11-23"])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(changes, days), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_whatever_is_amended_the_deal_says_what_is_billed_and_nothing_comes_twice(
    sold: list[tuple[list[tuple[str, int]], str | None]], chance: Any
) -> None:
    both = running()
    both.now = at("2027-02-21T15:00:00")
    for number, (lines, day) in enumerate(sold):
        amended(both, *lines, id=f"006Amendment{number}", close_date=f"2027-01-0{number + 1}", service_start_date=day)
    order = list(both.records.items())
    chance.shuffle(order)
    both.records = dict(order)
    for moment in (at("2027-02-21T15:00:00"), at("2027-07-01T00:00:00"), at(PERIOD_ENDS) - HOUR):
        both.now = max(both.now, moment)
        rest(both)
    assert [both.step().commands for _ in range(2)] == [(), ()]
    brought = deal_lines(both)
    refused = {each.id for each in both.records.values() if isinstance(each, Opportunity) and each.billing_message}
    expected = {
        f"00k006Amendment{number}{place}": quantity
        for number, (lines, _) in enumerate(sold)
        for place, (_, quantity) in enumerate(lines, start=1)
        if f"006Amendment{number}" not in refused
    }
    assert brought == expected
    for product, before in (("Analyst Seat", 20), ("Viewer Seat", 15)):
        added = sum(
            quantity
            for number, (lines, _) in enumerate(sold)
            for name, quantity in lines
            if name == product and f"006Amendment{number}" not in refused
        )
        assert quantity(both, product) == (before + added or None)
