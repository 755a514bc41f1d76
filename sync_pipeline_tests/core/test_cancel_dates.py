"""The last day of service, merged between a Contract's cancel date and a subscription's end."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.cancel_dates import RULE, keep_cancel_dates
from sync_pipeline.core.commands import Agreement, Command, Entry, LookAgain, Review
from sync_pipeline.core.conflict import Clash
from sync_pipeline.core.observation import Present
from sync_pipeline.core.salesforce_records import Contract
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CONTRACT,
    CUSTOMER,
    OPPORTUNITY,
    ORG,
    RESTS,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    opportunity,
    subscription,
)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = seconds("2027-01-10 12:00") * MICROS
DAYS = ("2027-03-31", "2027-05-01")


def merged(
    asked: str | None,
    scheduled: str | None,
    base: str | None = "unknown",
    *,
    edited: str = "2027-01-01 09:00",
    **changed: Any,
) -> list[Entry]:
    """What follows from these days; `base` is the day on which both last agreed, "unknown" while they never did."""
    contract = Contract(
        id=CONTRACT, account_id=ACCOUNT, cancel_requested_on=asked, modified_at=seconds(edited) * MICROS
    )
    end = seconds(f"{scheduled} 15:00") * MICROS if scheduled else None
    held = subscription(**({"cancel_at": end, "intent": "sub:made by us"} | changed))
    one = item(interval="year", unit_amount=Decimal(4_500_000), period_end=seconds("2027-11-23 10:00") * MICROS)
    world = World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW,
        account=Present(account()),
        deals=(Deal(opportunity(contract_id=CONTRACT), (), contract),),
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(held,), items=(one,))),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        base={(CONTRACT, RULE): canonical.encode(base)} if base != "unknown" else {},
    )
    return list(keep_cancel_dates(world, RULES))


def command(entries: list[Entry]) -> Command:
    (found,) = (entry for entry in entries if isinstance(entry, Command))
    return found


def test_a_day_that_a_person_enters_ends_service_with_that_day_and_gives_nothing_back() -> None:
    """The last second of 31 March in London is 22:59:59 UTC, for summer time has begun."""
    found = command(merged("2027-03-31", None, None))
    assert found.body == {
        "object": "subscription",
        "id": SUBSCRIPTION,
        "params": {"cancel_at": seconds("2027-03-31 22:59:59"), "proration_behavior": "none"},
    }
    assert found.agreements == (Agreement(CONTRACT, RULE, '"2027-03-31"'),)


def test_the_day_on_which_the_paid_period_ends_means_its_very_end() -> None:
    assert command(merged("2027-11-23", None, None)).body["params"]["cancel_at"] == seconds("2027-11-23 10:00")


def test_today_can_still_be_the_last_day_and_yesterday_takes_a_person() -> None:
    assert command(merged("2027-01-10", None, None)).body["params"]["cancel_at"] == seconds("2027-01-10 23:59:59")
    (review,) = merged("2027-01-09", None, None)
    assert isinstance(review, Review)
    assert "the cancel date 2027-01-09 is past" in review.detail


def test_a_subscription_whose_first_invoice_is_not_paid_is_given_no_end_yet() -> None:
    (review,) = merged("2027-03-31", None, None, status="incomplete")
    assert isinstance(review, Review)
    assert "takes no end before its first invoice is paid" in review.detail


def test_a_day_that_is_taken_away_takes_the_end_away_and_bills_nothing_a_second_time() -> None:
    found = command(merged(None, "2027-03-31", "2027-03-31"))
    assert found.body["params"] == {"cancel_at": "", "proration_behavior": "none"}
    with_period = merged(None, "2027-11-23", "2027-11-23", cancel_at_period_end=True)
    assert command(with_period).body["params"] == {"cancel_at_period_end": False}


@pytest.mark.parametrize("scheduled", [None, "2027-05-01"])
def test_what_moves_at_stripe_reaches_the_contract(scheduled: str | None) -> None:
    found = command(merged("2027-03-31", scheduled, "2027-03-31"))
    assert found.body["fields"] == {"Cancel_Requested_On__c": scheduled}
    assert found.agreements == (Agreement(CONTRACT, RULE, canonical.encode(scheduled)),)


def test_cancel_at_period_end_without_a_date_is_the_end_of_the_period() -> None:
    found = command(merged(None, None, None, cancel_at_period_end=True))
    assert found.body["fields"] == {"Cancel_Requested_On__c": "2027-11-23"}


def test_moved_on_both_sides_stripe_wins_and_a_person_is_told() -> None:
    entries = merged("2027-03-31", "2027-05-01", None)
    assert command(entries).body["fields"] == {"Cancel_Requested_On__c": "2027-05-01"}
    (clash,) = (entry for entry in entries if isinstance(entry, Clash))
    assert clash.detail == "changed on both sides: 2027-03-31 in Salesforce, 2027-05-01 at Stripe; Stripe wins"
    assert (clash.words, clash.winner) == (("no end", "2027-03-31", "2027-05-01"), "Stripe")


def test_an_edit_rests_before_it_is_sent() -> None:
    (entry,) = merged("2027-03-31", None, None, edited="2027-01-10 11:59:30")
    assert entry == LookAgain(seconds("2027-01-10 12:00:15") * MICROS, CONTRACT, RESTS)


def test_the_end_of_a_subscription_that_was_found_is_taken_over_but_none_is_brought_to_it() -> None:
    assert command(merged(None, "2027-03-31", intent=None)).body["fields"] == {"Cancel_Requested_On__c": "2027-03-31"}
    (clash,) = merged("2027-03-31", None, intent=None)
    assert isinstance(clash, Clash)
    assert (clash.winner, clash.words) == (None, (None, "2027-03-31", "no end"))


def test_a_subscription_that_has_ended_is_left_alone() -> None:
    assert merged("2027-03-31", None, None, status="canceled", ended_at=NOW) == []


@pytest.mark.parametrize(("asked", "scheduled", "base"), list(product([None, *DAYS], repeat=3)))
def test_every_pair_of_days_comes_to_rest_with_both_sides_equal(
    asked: str | None, scheduled: str | None, base: str | None
) -> None:
    """The table of the three-way merge, played out: one write at most, and what one side alone said survives."""
    entries = merged(asked, scheduled, base)
    writes = [entry for entry in entries if isinstance(entry, Command)]
    if asked == scheduled:
        assert entries == [Agreement(CONTRACT, RULE, canonical.encode(asked))]
        return
    (write,) = writes
    only_a_person_moved = scheduled == base
    assert write.action == ("stripe.update" if only_a_person_moved else "salesforce.update")
    settled = asked if only_a_person_moved else scheduled
    assert [a.value for a in write.agreements] == [canonical.encode(settled)]
    assert [e for e in merged(settled, settled, settled) if not isinstance(e, Agreement)] == []
