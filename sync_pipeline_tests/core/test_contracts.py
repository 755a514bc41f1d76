"""Contracts: made in Draft, dated by the subscription, activated alone, and ended in a field of ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.commands import Command
from sync_pipeline.core.contracts import keep_contracts
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Contract
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


def noon(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, 12, tzinfo=UTC).timestamp()) * MICROS


START = noon(2026, 11, 23)
FITTING = {"status": "Draft", "start_date": "2026-11-23", "term_months": Decimal(12)}


def contract(**changed: Any) -> Contract:
    values: dict[str, Any] = {"id": CONTRACT, "account_id": ACCOUNT, "stripe_subscription_id": SUBSCRIPTION, **FITTING}
    return Contract(**(values | changed))


def world_of(*deals: Deal, now: int = START, **changed: Any) -> World:
    """An annual subscription that started on 23 November 2026, in whatever state `changed` says."""
    held = subscription(**({"start_at": START} | changed))
    one = item(interval="year", period_end=noon(2027, 11, 23))
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=now,
        account=Present(account()),
        deals=deals,
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(held,), items=(one,))),
        links=(
            Link("customer", ACCOUNT, CUSTOMER),
            *(Link("subscription", deal.opportunity.id, SUBSCRIPTION) for deal in deals),
        ),
    )


def covered(of: Contract | None, **changed: Any) -> Deal:
    return Deal(opportunity(**({"contract_id": of.id if of else None} | changed)), (), of)


def rules(**changed: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **changed))


def of_contracts(world: World, under: Rules = RULES) -> list[Command]:
    """Every planned write of a Contract, and of the field by which a deal names one."""
    commands = plan(world, under, PERSONAL_KEY).commands
    return [c for c in commands if c.body.get("object") == "Contract" or "ContractId" in c.body.get("fields", {})]


def written(world: World) -> dict[str, Any]:
    (command,) = of_contracts(world)
    return dict(command.body["fields"])


def test_a_billed_deal_without_a_contract_gets_a_draft_that_carries_the_subscription() -> None:
    (command,) = keep_contracts(world_of(covered(None)), RULES)
    assert command.body == {
        "object": "Contract",
        "external_field": "Stripe_Subscription_Id__c",
        "external_id": SUBSCRIPTION,
        "fields": {
            "AccountId": ACCOUNT,
            "Status": "Draft",
            "StartDate": "2026-11-23",
            "ContractTerm": Decimal(12),
        },
    }


@pytest.mark.parametrize(
    "world",
    [
        world_of(),
        world_of(covered(None, contract_id="800NotShown")),
        world_of(covered(None, amends_opportunity_id="006Original")),
        world_of(covered(None, is_won=False)),
        world_of(covered(None), status="canceled", ended_at=START),
    ],
    ids=["no deal", "a deal that names one", "an amendment alone", "not won any more", "ended"],
)
def test_no_contract_is_made_for(world: World) -> None:
    assert [c for c in of_contracts(world) if c.action == "salesforce.upsert"] == []


def test_an_amendment_does_not_make_a_second_one() -> None:
    amendment = covered(None, id="006Amendment", amends_opportunity_id=OPPORTUNITY, close_date="2027-01-01")
    (command,) = keep_contracts(world_of(amendment, covered(None)), RULES)
    assert (command.body["external_id"], command.subject) == (SUBSCRIPTION, OPPORTUNITY)


def test_the_deals_name_the_contract_of_their_subscription_once() -> None:
    made = contract(status="Activated")
    amendment = covered(made, id="006Amendment", amends_opportunity_id=OPPORTUNITY, contract_id=None)
    commands = list(keep_contracts(world_of(covered(made, contract_id=None), amendment), RULES))
    assert {c.body["id"]: c.body["fields"] for c in commands} == {
        OPPORTUNITY: {"ContractId": CONTRACT},
        "006Amendment": {"ContractId": CONTRACT},
    }
    assert list(keep_contracts(world_of(covered(made)), RULES)) == []


def test_activation_is_the_only_field_of_its_write_and_comes_after_the_others() -> None:
    dates, activation = of_contracts(world_of(covered(contract(term_months=Decimal(6)))))
    assert dates.body["fields"] == {"ContractTerm": Decimal(12)}
    assert activation.body["fields"] == {"Status": "Activated"}
    assert written(world_of(covered(contract()))) == {"Status": "Activated"}
    assert of_contracts(world_of(covered(contract(status="Activated")))) == []


def test_a_contract_in_approval_is_not_activated_for_its_approver() -> None:
    assert of_contracts(world_of(covered(contract(status="In Approval Process")))) == []


def test_a_draft_of_a_subscription_that_has_ended_stays_one() -> None:
    ended = contract(service_end_date="2026-11-23")
    assert of_contracts(world_of(covered(ended), status="canceled", ended_at=START)) == []


@pytest.mark.parametrize(
    ("now", "months"), [(noon(2027, 11, 22), 12), (noon(2027, 11, 23), 24), (noon(2029, 1, 1), 36)]
)
def test_a_renewed_term_adds_to_the_contract(now: int, months: int) -> None:
    """The term ends on the anniversary, so its last day is the day before."""
    of = contract(status="Activated", term_months=Decimal(1))
    assert written(world_of(covered(of), now=now)) == {"ContractTerm": Decimal(months)}


def test_the_start_follows_the_subscription() -> None:
    assert written(world_of(covered(contract(status="Activated", start_date="2026-12-01")))) == {
        "StartDate": "2026-11-23"
    }


def test_the_end_of_service_is_told_in_our_own_field_and_taken_back_with_the_cancellation() -> None:
    end = noon(2027, 3, 31)
    running = contract(status="Activated", cancel_requested_on="2027-03-31")
    assert written(world_of(covered(running), cancel_at=end)) == {"Service_End_Date__c": "2027-03-31"}
    ended: dict[str, Any] = {"status": "canceled", "ended_at": noon(2027, 2, 1)}
    told = replace(running, service_end_date="2027-03-31")
    assert written(world_of(covered(told), **ended)) == {"Service_End_Date__c": "2027-02-01"}
    taken_back = contract(status="Activated", service_end_date="2027-03-31")
    assert written(world_of(covered(taken_back))) == {"Service_End_Date__c": None}


def test_rules_can_leave_the_making_to_people_or_contracts_alone() -> None:
    keep, leave = rules(contracts="keep"), rules(contracts="leave")
    assert of_contracts(world_of(covered(None)), keep) == []
    (activated,) = of_contracts(world_of(covered(contract())), keep)
    assert activated.body["fields"] == {"Status": "Activated"}
    odd = contract(start_date="2026-01-01", term_months=Decimal(1))
    assert of_contracts(world_of(covered(odd)), leave) == []
