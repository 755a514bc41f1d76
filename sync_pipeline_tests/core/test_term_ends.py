"""Subscriptions that end with their term unless their renewal is won."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Agreement, Command
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Contract, Opportunity
from sync_pipeline.core.term_ends import RULE, end_terms
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CONTRACT,
    CUSTOMER,
    OPPORTUNITY,
    ORG,
    PERSONAL_KEY,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    opportunity,
    subscription,
)

ENDS: Rules = replace(RULES, commercial=replace(RULES.commercial, term_end="ends"))
IN_TIME = date(2027, 10, 1)


def at(day: date, hour: int = 12) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp()) * MICROS


TERM_END = at(date(2027, 11, 23), 10)


def world_on(
    day: date,
    *,
    deal: dict[str, Any] | None = None,
    renewal: dict[str, Any] | None = None,
    done: bool = False,
    cancel_date: str | None = None,
    **changed: Any,
) -> World:
    """An annual term from 23 November 2026; `done`: its end was scheduled by the sync before."""
    held = subscription(**({"start_at": at(date(2026, 11, 23), 10)} | changed))
    one = item(interval="year", unit_amount=Decimal(4_500_000), period_end=TERM_END)
    opened = Opportunity(**({"id": "006R", "renewal_key": f"{SUBSCRIPTION}:2027-11-23"} | (renewal or {})))
    contract = Contract(id=CONTRACT, cancel_requested_on=cancel_date)
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=at(day),
        account=Present(account()),
        deals=(Deal(opportunity(**(deal or {})), (), contract),),
        renewals=(opened,),
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(held,), items=(one,))),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        base={(OPPORTUNITY, RULE): canonical.encode("2027-11-23")} if done else {},
    )


def only(world: World, rules: Rules = ENDS) -> Command:
    (command,) = end_terms(world, rules)
    return command


def test_the_end_is_scheduled_with_the_paid_period_when_the_renewal_opens() -> None:
    assert list(end_terms(world_on(date(2027, 8, 24)), ENDS)) == []
    command = only(world_on(date(2027, 8, 25)))
    assert command.body == {
        "object": "subscription",
        "id": SUBSCRIPTION,
        "params": {
            "cancel_at": TERM_END // MICROS,
            "proration_behavior": "none",
            "cancellation_details": {"comment": "The term ends and was not renewed."},
        },
    }
    assert command.agreements == (Agreement(OPPORTUNITY, RULE, '"2027-11-23"'),)


@pytest.mark.parametrize(
    "world",
    [
        world_on(IN_TIME, done=True),
        world_on(IN_TIME, cancel_at=at(date(2027, 12, 31))),
        world_on(IN_TIME, renewal={"is_won": True, "is_closed": True}),
        world_on(IN_TIME, cancel_date="2027-12-31"),
        world_on(IN_TIME, status="canceled", ended_at=at(IN_TIME)),
        world_on(IN_TIME, deal={"term_end": "Renews"}),
        world_on(IN_TIME, deal={"term_months": None}),
    ],
    ids=["done and taken back", "ends otherwise", "renewed", "a person names a day", "ended", "renews", "no term"],
)
def test_nothing_is_scheduled_where(world: World) -> None:
    assert list(end_terms(world, ENDS)) == []


def test_a_deal_can_say_it_for_itself() -> None:
    assert list(end_terms(world_on(IN_TIME), RULES)) == []
    assert only(world_on(IN_TIME, deal={"term_end": "Ends"}), RULES).body["params"]["cancel_at"] == TERM_END // MICROS


def test_a_renewal_that_is_won_takes_the_end_back_and_no_other_end() -> None:
    won = {"is_won": True, "is_closed": True}
    command = only(world_on(IN_TIME, done=True, renewal=won, cancel_at=TERM_END))
    assert command.body["params"] == {
        "cancel_at": "",
        "proration_behavior": "none",
        "cancellation_details": {"comment": ""},
    }
    assert list(end_terms(world_on(IN_TIME, renewal=won, cancel_at=TERM_END), ENDS)) == []
    assert list(end_terms(world_on(IN_TIME, done=True, renewal=won, cancel_at=at(date(2027, 10, 31))), ENDS)) == []


@pytest.mark.parametrize("scheduled", ["2027-01-14T23:00", "2027-01-15T00:00"], ids=["now", "by earlier versions"])
def test_the_end_of_a_term_from_midnight_in_summer_is_known_again_on_either_of_its_days(scheduled: str) -> None:
    """Half a year from midnight of the 15th of July in London ends with the 14th of January for Stripe; the renewal has
    the key of the 15th, to which the calendar comes."""
    end = int(datetime.fromisoformat(scheduled).replace(tzinfo=UTC).timestamp()) * MICROS
    won = {"renewal_key": f"{SUBSCRIPTION}:2027-01-15", "is_won": True, "is_closed": True}
    term, start = {"term_months": 6}, at(date(2026, 7, 14), 23)
    world = world_on(date(2027, 1, 10), deal=term, renewal=won, start_at=start, cancel_at=end)
    done = replace(world, base={(OPPORTUNITY, RULE): canonical.encode("2027-01-15")})
    assert only(done).body["params"]["cancel_at"] == ""


def test_a_day_that_a_person_enters_at_the_same_time_is_what_is_sent() -> None:
    of = world_on(IN_TIME, cancel_date="2027-10-31", intent="sub:made by us")
    sent = [c.body["params"] for c in plan(of, ENDS, PERSONAL_KEY).commands if c.action == "stripe.update"]
    cancel_at = int(datetime(2027, 10, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    assert {"cancel_at": cancel_at, "proration_behavior": "none"} in sent
