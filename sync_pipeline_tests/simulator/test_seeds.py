"""The simulator in short: seeds hold, the same seed is the same story, rare states are reached, failures shrink."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sync_pipeline.simulator.campaign import campaign
from sync_pipeline.simulator.play import Plan, Result, plan_of, play
from sync_pipeline.simulator.shrink import shrink

SEEDS = (*range(41, 64), 153, 575, 784, 2064, 2561, 4020, 5432)
"""Some as they come, and some that reach what is rare."""
RARE = {
    "a bulk job was let run",
    "a bulk job is to give up half way",
    "a worker was killed",
    "a worker stood still longer than its lease",
    "a webhook was lost for good",
    "a webhook was delivered again later",
    "an attempt was ambiguous",
    "an attempt was throttled",
    "stripe: late",
    "stripe: lost after",
    "stripe: stripe_500 committed",
    "salesforce: lost after",
    "salesforce: salesforce_row_lock",
    "people: edit seats at Stripe",
    "people: edit seats in Salesforce",
    "people: edit a price in Salesforce",
    "people: pay",
    "people: refund",
    "people: cancel at once",
    "people: take the end back",
    "people: fail to pay",
    "people: edit seats on both sides",
    "people: set the end on both sides",
    "people: rule on a conflict",
    "people: win an amendment",
    "people: enter a cancel date",
    "people: take the cancel date away",
    "people: dispute a payment",
    "people: win a dispute",
    "people: lose a dispute",
    "people: merge the Account",
    "people: delete the Account",
    "people: restore the Account",
    "people: delete the customer",
    "people: change a rule",
    "people: take a line off",
    "people: put a line on",
    "people: edit the terms of payment",
    "people: use the calls of the day",
    "people: sell a one-time charge",
    "people: grant free months",
    "people: move the deal",
    "people: keep a plan and apply it",
    "a kept plan was applied",
    "a kept plan did not fit any more",
    "both sides edited item.quantity",
    "both sides edited contract.cancel_requested_on",
    "refused: a signature by a strange secret",
    "refused: a delivery of six minutes ago",
    "refused: more than a mebibyte",
}


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return list(campaign(map(plan_of, SEEDS), processes=2, timelines=True))


def test_every_invariant_holds(results: list[Result]) -> None:
    assert {each.plan.seed: each.violations for each in results if each.violations} == {}


def test_what_is_rare_was_reached(results: list[Result]) -> None:
    """A simulator that never gets there would prove nothing."""
    reached = sum((each.sometimes for each in results), Counter())
    assert {what for what in RARE if not reached[what]} == set()


def test_the_same_seed_is_the_same_story(results: list[Result]) -> None:
    """In another process and after other seeds, to the microsecond."""
    again = play(plan_of(results[6].plan.seed))
    assert again.trace == results[6].trace
    assert again.digest == results[6].digest
    assert len({each.digest for each in results}) == len(results)


def test_a_failing_seed_shrinks_to_what_it_takes() -> None:
    """Here a seed fails as soon as somebody refunds at a certain moment while a certain call goes wrong."""
    plan = plan_of(5)
    refund = replace(plan.actions[0], verb="refund")
    plan = replace(plan, actions=(*plan.actions, refund), trouble=((3, "late"), (9, "stripe_500"), (40, "late")))

    moment = sum(action.after for action in plan.actions)

    def pretend(candidate: Plan) -> Result:
        moments = [
            sum(action.after for action in candidate.actions[: place + 1])
            for place, action in enumerate(candidate.actions)
            if action.verb == "refund"
        ]
        fails = moment in moments and (9, "stripe_500") in candidate.trouble
        return Result(candidate, "", violations=["I6: a made-up failure"] if fails else [])

    smallest = shrink(pretend(plan), pretend).plan
    assert smallest.actions == (replace(refund, after=moment),)
    assert smallest.trouble == ((9, "stripe_500"),)
