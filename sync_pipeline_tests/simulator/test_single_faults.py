"""One thing goes wrong, at any place of a story: the end is as if nothing had. Here a sample of it; the rest is in

sync-pipeline simulate --story all
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_pipeline.simulator.play import Plan, Result, play
from sync_pipeline.simulator.single_faults import STORIES, differences, faults, play_faults, undisturbed
from sync_pipeline.simulator.stage import Boundary, Strike, Weather


def test_a_single_fault_changes_nothing_in_the_end() -> None:
    found = dict(play_faults("paid", every=53, processes=2))
    assert len(found) > 12
    assert {fault: different for fault, different in found.items() if different} == {}


def test_people_edit_the_same_line_whichever_id_its_item_got() -> None:
    """A product's request that is lost moves the ids of items; the seats that a customer edits stay the same ones."""
    plan = undisturbed("seats_at_stripe")
    wanted = play(plan)
    lost = [each for each in faults(plan, wanted) if each.words.endswith("POST /v1/products: lost before")]
    assert lost
    assert [differences(play(each.plan), wanted) for each in lost] == [[] for _ in lost]
    assert any('"sf_line_id"' in line and '"quantity": 28' in line for line in wanted.end_state)


def test_a_product_that_failed_once_at_stripe_keeps_no_deal_waiting_for_the_night() -> None:
    """What Stripe answered to its create was taken for a refusal for good: the deal was not billed for weeks."""
    plan = undisturbed("cancelled")
    wanted = play(plan)
    fault = next(each for each in faults(plan, wanted) if each.words.endswith("POST /v1/products: stripe_500"))
    assert differences(play(fault.plan), wanted) == []


def test_there_are_more_than_ten_stories_beside_the_golden_one() -> None:
    assert len(STORIES) > 11


def test_every_call_fails_in_every_way_and_workers_are_struck_wherever_it_makes_a_difference() -> None:
    plan = Plan(0, (), (), Weather(), by_card=False)
    result = Result(
        plan,
        "",
        calls=[
            ("stripe", "GET /v1/events", False),
            ("salesforce", "POST /composite", True),
            ("stripe", "POST /v1/prices", True),
        ],
        boundaries=[
            Boundary("before a transaction", may_stand=True),
            Boundary("after a transaction", may_stand=True),
            Boundary("before GET /v1/events", may_stand=False),
            Boundary("after GET /v1/events", may_stand=True),
            Boundary("after POST /v1/prices", may_stand=True),
        ],
    )
    plans = [fault.plan for fault in faults(plan, result)]
    struck = [each.strike for each in plans if each.strike]
    assert struck == [
        Strike(2, "kill"),
        Strike(2, "pause"),
        Strike(4, "pause"),
        Strike(5, "kill"),
        Strike(5, "pause"),
    ]
    broken = [trouble for each in plans for trouble in each.trouble]
    assert {number for number, kind in broken if kind == "lost before"} == {1, 2, 3}
    for of_writes in ("lost after", "late"):
        assert {number for number, kind in broken if kind == of_writes} == {2, 3}
    assert {number for number, kind in broken if kind == "stripe_500"} == {1, 3}
    assert {number for number, kind in broken if kind == "stripe_500 committed"} == {3}
    assert {number for number, kind in broken if kind == "salesforce_row_lock"} == {2}


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (["a", "b"], []),
        (["a"], ["missing: b"]),
        (["a", "b", "c"], ["beyond: c"]),
        (["a", "a", "b"], ["some lines stand another number of times"]),
    ],
)
def test_an_end_that_differs_is_told(ends: list[str], told: list[str]) -> None:
    wanted = Result(undisturbed("paid"), "", end_state=["a", "b"])
    assert differences(replace(wanted, end_state=ends), wanted) == told


def test_the_end_says_what_stands_in_both_systems() -> None:
    """By hand: 45,000 pounds a year are 3,750 a month; all of it is collected."""
    result = play(undisturbed("paid"))
    (account,) = [line for line in result.end_state if line.startswith("Account") and "Canary One" in line]
    assert '"Lifetime_Value__c": 45000.0' in account
    assert '"MRR__c": 3750.0' in account
    assert '"Stripe_Customer_Id__c": "cus_"' in account
    assert 'invoice {"amount_paid": 4500000, "status": "paid", "total": 4500000}' in result.end_state
