"""Ramps that are edited while they run: what their schedules are told, and what a person is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from sync_pipeline.core.commands import Agreement, Command, LookAgain, Review
from sync_pipeline.core.foresight import Foreseen, foresee
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.ramp_changes import keep_ramps
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.stripe_records import SubscriptionSchedule
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, World
from sync_pipeline_tests.core.making import NOW, OPPORTUNITY, PERSONAL_KEY, RESTS, RULES, deal, line, world

YEAR = 365 * 86_400 * MICROS
BASE, FIRST, SECOND, THIRD = (line(number).id for number in range(1, 5))


def foreseen(of: World, rules: Rules = RULES) -> Foreseen:
    return foresee(of, rules, PERSONAL_KEY, lambda _: Billing())


@cache
def running() -> World:
    """A base line for three years, and 10, 20, 30 seats in each of them; in its first year, and at rest."""
    seats = [
        line(2 + n, product_id="01tSeat", quantity=Decimal(10 * (n + 1)), from_month=Decimal(12 * n + 1), to_month=to)
        for n, to in enumerate((Decimal(12), Decimal(24), None))
    ]
    sold = deal(line(1, unit_price=Decimal(5000)), *seats, term_months=Decimal(36))
    begun = foreseen(world(deals=(sold,)))
    assert begun.is_whole
    settled = plan(begun.after, RULES, PERSONAL_KEY)
    assert settled.commands == ()
    base = {(each.subject, each.rule): each.value for each in settled.agreements}
    return replace(begun.after, base={**begun.after.base, **base}, now=NOW + 100 * MICROS)


def edited(line_id: str, **changed: Any) -> World:
    (sold,) = running().deals
    lines = tuple(replace(each, **changed) if each.id == line_id else each for each in sold.lines)
    return replace(running(), deals=(replace(sold, lines=lines),))


def written(ahead: Foreseen) -> list[tuple[str, str]]:
    return [(c.action, c.body["object"]) for c in ahead.commands if c.action.startswith("stripe.")]


def quantities(command: Command) -> list[list[int]]:
    """Per phase that is said."""
    return [[item["quantity"] for item in phase["items"]] for phase in command.body["params"]["phases"]]


def schedule(of: World) -> SubscriptionSchedule:
    assert isinstance(of.billing, Present)
    (found,) = of.billing.value.schedules
    return found


def with_schedule(of: World, **changed: Any) -> World:
    assert isinstance(of.billing, Present)
    edited_schedule = replace(schedule(of), **changed)
    return replace(of, billing=Present(replace(of.billing.value, schedules=(edited_schedule,))))


def test_seats_of_the_third_year_are_said_to_the_schedule_and_bill_nothing_now() -> None:
    ahead = foreseen(edited(THIRD, quantity=Decimal(33)))
    assert written(ahead) == [("stripe.update", "subscription_schedule")]
    (change,) = ahead.commands
    assert quantities(change) == [[1, 10], [1, 20], [1, 33]]
    assert change.body["params"]["phases"][0]["start_date"] * MICROS == schedule(running()).phase_starts_at
    assert ahead.is_whole


def test_a_price_of_all_years_is_made_first_and_prorated_in_the_one_that_runs() -> None:
    ahead = foreseen(edited(BASE, unit_price=Decimal(6000)))
    assert written(ahead) == [("stripe.create", "price"), ("stripe.update", "subscription_schedule")]
    (change,) = (c for c in ahead.commands if c.body.get("object") == "subscription_schedule")
    prices = {phase["items"][0]["price"] for phase in change.body["params"]["phases"]}
    assert prices == {"(new price sf_01tAa0000000001IAA:gbp:1year:600000)"}
    assert change.body["params"]["proration_behavior"] == "create_prorations"
    assert ahead.is_whole


def test_what_a_change_of_the_running_year_costs_is_invoiced_at_once_where_the_rule_says_so() -> None:
    at_once = replace(RULES, commercial=replace(RULES.commercial, bill_changes="at_once"))
    ahead = foreseen(edited(BASE, unit_price=Decimal(6000)), at_once)
    (change,) = (c for c in ahead.commands if c.body.get("object") == "subscription_schedule")
    assert change.body["params"]["proration_behavior"] == "always_invoice"


def test_seats_of_the_year_that_runs_are_sent_to_their_item_first() -> None:
    ahead = foreseen(edited(FIRST, quantity=Decimal(12)))
    assert written(ahead) == [("stripe.update", "subscription_item"), ("stripe.update", "subscription_schedule")]
    assert quantities(ahead.rounds[1][0]) == [[1, 12], [1, 20], [1, 30]]
    assert ahead.is_whole


def test_in_the_second_year_the_first_is_said_no_more() -> None:
    before = edited(THIRD, quantity=Decimal(33))
    (sold,), second_starts = before.deals, int(schedule(before).phases[1].partition("-")[0]) * MICROS
    assert isinstance(before.billing, Present)
    items = before.billing.value.items
    in_force = tuple(
        replace(each, quantity=20, line_ids=(SECOND,)) if FIRST in each.line_ids else each for each in items
    )
    later = with_schedule(before, phase_starts_at=second_starts)
    assert isinstance(later.billing, Present)
    later = replace(later, billing=Present(replace(later.billing.value, items=in_force)), now=NOW + YEAR + YEAR // 2)
    (change,) = (each for each in keep_ramps(later, RULES) if isinstance(each, Command))
    assert quantities(change) == [[1, 20], [1, 33]]
    assert change.body["params"]["phases"][0]["start_date"] * MICROS == second_starts
    assert sold.opportunity.id == change.subject


def test_phases_that_were_edited_at_stripe_are_told_and_salesforce_wins_once_it_is_edited_too() -> None:
    first, second, third = schedule(running()).phases
    there = with_schedule(running(), phases=(first, second, third.replace("*30", "*31")))
    (told,) = keep_ramps(there, RULES)
    assert isinstance(told, Review)
    assert "put back there what the deal says" in told.detail
    both = replace(there, deals=edited(THIRD, quantity=Decimal(33)).deals)
    review, change = keep_ramps(both, RULES)
    assert isinstance(review, Review)
    assert "Salesforce wins" in review.detail
    assert isinstance(change, Command)
    assert quantities(change)[-1] == [1, 33]


def by_rule(**commercial: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **commercial))


def test_phases_that_were_edited_at_stripe_are_put_back_by_the_rule_of_what_was_edited() -> None:
    first, second, third = schedule(running()).phases
    seats = with_schedule(running(), phases=(first, second, third.replace("*30", "*31")))
    price = third.partition(":")[2].partition("*")[0]
    prices = with_schedule(running(), phases=(first, second, third.replace(price, "price_of_somebody")))
    for seen, rules in ((seats, by_rule(on_stripe_quantity="revert")), (prices, by_rule(on_stripe_price="revert"))):
        (change,) = keep_ramps(seen, rules)
        assert isinstance(change, Command)
        assert quantities(change) == [[1, 10], [1, 20], [1, 30]]
        (field,) = change.changes
        assert (field.put_back, field.new) == (schedule(running()).id, [first, second, third])
        assert [type(each) for each in keep_ramps(seats if seen is prices else prices, rules)] == [Review]
        # Once it is written the phases are those of the deal, and a put-back is agreed on anew.
        base = {(each.subject, each.rule): each.value for each in change.agreements}
        (agreed,) = keep_ramps(replace(running(), base={**running().base, **base}), rules)
        assert isinstance(agreed, Agreement)
        assert (agreed.subject, agreed.rule) == (schedule(running()).id, "schedule.phases")


def test_phases_that_are_edited_again_and_again_are_fought_over() -> None:
    first, second, third = schedule(running()).phases
    seats = with_schedule(running(), phases=(first, second, third.replace("*30", "*31")))
    often = {(schedule(running()).id, "schedule.phases"): (NOW, NOW + 1, NOW + 2)}
    told, again = keep_ramps(replace(seats, reverts=often), by_rule(on_stripe_quantity="revert"))
    assert isinstance(told, Review)
    assert told.rule == "edit_war"
    assert isinstance(again, LookAgain)


def test_edits_rest_for_a_while_and_by_rule_are_only_told() -> None:
    fresh = edited(THIRD, quantity=Decimal(33), modified_at=NOW + 99 * MICROS)
    assert list(keep_ramps(fresh, RULES)) == [LookAgain(NOW + (99 + 45) * MICROS, OPPORTUNITY, RESTS)]
    asked = replace(RULES, commercial=replace(RULES.commercial, changes_after_billing="review"))
    (told,) = keep_ramps(edited(THIRD, quantity=Decimal(33)), asked)
    assert isinstance(told, Review)


def test_in_its_last_phase_a_schedule_is_left_alone() -> None:
    """Its subscription's items follow the deal, and it is released within a month."""
    only = schedule(running()).phases[:1]
    (sold,) = edited(BASE, unit_price=Decimal(6000)).deals
    plain = tuple(replace(each, to_month=None) for each in sold.lines if each.id in (BASE, FIRST))
    assert (
        list(keep_ramps(replace(with_schedule(running(), phases=only), deals=(replace(sold, lines=plain),)), RULES))
        == []
    )


def test_what_a_schedule_cannot_say_is_told() -> None:
    (told,) = keep_ramps(edited(THIRD, quantity=Decimal("0.5")), RULES)
    assert isinstance(told, Review)
    assert "the quantity is 0.5" in told.detail


def test_what_a_running_ramp_bills_keeps_its_periods_when_it_is_edited() -> None:
    """Periods are counted from microseconds: from seconds they began in 1970."""
    last = running().deals[0].lines[-1]
    ahead = foreseen(edited(last.id, quantity=(last.quantity or 0) + 5))
    before, after = (seen.billing for seen in (ahead.before, ahead.after))
    assert isinstance(before, Present)
    assert isinstance(after, Present)
    assert written(ahead) == [("stripe.update", "subscription_schedule")]
    assert [each.period_start for each in after.value.items] == [each.period_start for each in before.value.items]
