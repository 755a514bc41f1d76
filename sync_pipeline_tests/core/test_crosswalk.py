"""Which records belong together: the order of evidence, and what is not decided by a machine."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from sync_pipeline.core.commands import Command, Review
from sync_pipeline.core.crosswalk import Ambiguous, Match, match_item, match_subscription, owner_of_named
from sync_pipeline.core.deal import subscription_intent
from sync_pipeline.core.ensure import ensure_everything
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.unbilled import unbilled_deals
from sync_pipeline.core.world import Link
from sync_pipeline_tests.core.making import OPPORTUNITY, ORG, RULES, billed, deal, item, line, opportunity, subscription

INTENT = subscription_intent(ORG, OPPORTUNITY)
BY_LINK = subscription(id="sub_link")
BY_INTENT = subscription(id="sub_intent", intent=INTENT)
BY_METADATA = subscription(id="sub_metadata", opportunity_id=OPPORTUNITY)
BY_FIELD = subscription(id="sub_field")
LINK = Link("subscription", OPPORTUNITY, "sub_link")
NAMED = opportunity(stripe_subscription_id="sub_field")


def found(subscriptions: list[Subscription], *links: Link, named: Opportunity = NAMED) -> Match | Ambiguous | None:
    return match_subscription(named, subscriptions, links, ORG)


@pytest.mark.parametrize(
    ("present", "winner", "evidence"),
    [
        ([BY_LINK, BY_INTENT, BY_METADATA, BY_FIELD], "sub_link", "link"),
        ([BY_INTENT, BY_METADATA, BY_FIELD], "sub_intent", "metadata.sf_intent"),
        ([BY_METADATA, BY_FIELD], "sub_metadata", "metadata.sf_opportunity_id"),
        ([BY_FIELD], "sub_field", "Opportunity field"),
    ],
)
def test_the_strongest_evidence_counts(present: list[Subscription], winner: str, evidence: str) -> None:
    for order in permutations(present):
        assert found(list(order), LINK) == Match(winner, evidence)


def test_nothing_is_found_by_resemblance() -> None:
    stranger = subscription(id="sub_x", intent="sub:00DOTHERORG0001:" + OPPORTUNITY, opportunity_id="006x")
    assert (
        found([stranger], LINK, Link("subscription", "006x", "sub_x"), Link("customer", OPPORTUNITY, "sub_x")) is None
    )


OTHERS = "006Aa0000000077IAA"


@pytest.mark.parametrize(
    ("named", "links"),
    [
        (subscription(id="sub_field", opportunity_id=OTHERS), ()),
        (subscription(id="sub_field"), (Link("subscription", OTHERS, "sub_field"),)),
    ],
)
def test_a_copied_opportunity_does_not_own_the_subscription_that_it_names(
    named: Subscription, links: tuple[Link, ...]
) -> None:
    copy = opportunity(stripe_subscription_id="sub_field")
    assert found([named], *links) is None
    assert owner_of_named(copy, [named], links) == OTHERS
    amendment = opportunity(stripe_subscription_id="sub_field", amends_opportunity_id=OTHERS)
    assert match_subscription(amendment, [named], links, ORG) == Match("sub_field", "Opportunity field")
    assert owner_of_named(amendment, [named], links) is None


def test_a_copied_deal_is_not_billed_and_says_why_until_its_id_is_cleared() -> None:
    first, running = deal(line()), subscription(opportunity_id=OPPORTUNITY)
    copy = deal(line(2, opportunity_id=OTHERS), id=OTHERS, stripe_subscription_id=running.id)
    of = replace(billed(running), deals=(first, copy))
    waiting = unbilled_deals(of, RULES)
    assert waiting.ready == ()
    (why,) = waiting.incomplete[OTHERS].missing
    assert running.id in why
    assert OPPORTUNITY in why
    assert [entry.rule for entry in ensure_everything(of, RULES) if isinstance(entry, Review)] == ["incomplete_deal"]
    assert not any(isinstance(entry, Command) for entry in ensure_everything(of, RULES))
    cleared = replace(copy, opportunity=replace(copy.opportunity, stripe_subscription_id=None))
    assert [d.opportunity.id for d, _ in unbilled_deals(replace(of, deals=(first, cleared)), RULES).ready] == [OTHERS]


def test_two_claims_of_one_strength_are_for_a_person() -> None:
    second = subscription(id="sub_b", intent=INTENT)
    for order in permutations([BY_INTENT, second, BY_FIELD]):
        assert found(list(order)) == Ambiguous(("sub_b", "sub_intent"), "metadata.sf_intent")


def test_an_ended_subscription_is_still_the_deals() -> None:
    assert found([subscription(id="sub_old", status="canceled", intent=INTENT)]) == Match(
        "sub_old", "metadata.sf_intent"
    )


def test_a_line_is_found_by_metadata_before_the_field() -> None:
    ours = line(1, stripe_item_id="si_field")
    named = item(id="si_field")
    claimed = item(id="si_metadata", line_ids=(ours.id, "00kOther"))
    elsewhere = item(id="si_field", subscription="sub_other")
    for order in permutations([named, claimed]):
        assert match_item(ours, order, "sub_northwind") == Match("si_metadata", "metadata.sf_line_id")
    assert match_item(ours, [named], "sub_northwind") == Match("si_field", "OpportunityLineItem field")
    assert match_item(ours, [elsewhere], "sub_northwind") is None


def test_a_line_claimed_by_two_items_is_found_the_same_in_any_order() -> None:
    ours = line(1)
    both = [item(id="si_b", line_ids=(ours.id,)), item(id="si_a", line_ids=(ours.id,))]
    assert match_item(ours, both, "sub_northwind") == match_item(ours, reversed(both), "sub_northwind")
