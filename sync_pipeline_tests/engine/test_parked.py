"""What was refused is told as that wherever it is planned, and tried again as soon as it may be accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from sync_pipeline.engine.apply_plan import apply_plan
from sync_pipeline.engine.explain import explain
from sync_pipeline.engine.plan_text import as_text
from sync_pipeline.engine.planning import PlanDocument, document, foresee_accounts
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.settling import NAMES_NOTHING
from sync_pipeline.ledger import commands
from sync_pipeline.ledger.tables import attempt, command
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, decline, edit, fault, only, records, win

REFUSAL = {"error": {"type": "invalid_request_error", "code": "coupon_expired", "message": "The coupon has expired."}}


def refuse(sync: Installation, times: int = 1) -> None:
    fault(
        sync.sandbox,
        "http",
        side="stripe",
        method="POST",
        path="subscription_items/",
        status=400,
        body=REFUSAL,
        times=times,
    )


def parked(sync: Installation) -> list[str | None]:
    with sync.ledger.read() as conn:
        return [row.error for row in commands.parked(conn)]


def quantities(sync: Installation) -> set[int]:
    return {item["quantity"] for item in records(sync.sandbox, "subscription_item")}


def plan_of(sync: Installation) -> PlanDocument:
    ahead = foresee_accounts(sync.engine, [str(only(sync.sandbox, "Account")["Id"])])
    return document(sync.engine, ahead)


@pytest.fixture
def refused(sync: Installation) -> Installation:
    """Stripe has refused an edit of seats to 37, once."""
    win(sync.sandbox)
    sync.rest()
    line: dict[str, Any] = next(
        each for each in records(sync.sandbox, "OpportunityLineItem") if each["Quantity"] not in (1, 37)
    )
    edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=37)
    refuse(sync)
    sync.rest()
    assert len(parked(sync)) == 1
    assert 37 not in quantities(sync)
    return sync


def test_a_write_to_stripe_is_tried_again_when_somebody_has_changed_what_is_agreed_there(refused: Installation) -> None:
    refused.wait(3600)
    refused.rest()
    assert 37 not in quantities(refused)
    coupon = at_stripe(refused.sandbox, "POST", "/v1/coupons", percent_off=10, duration="forever")["id"]
    subscription = only(refused.sandbox, "subscription")["id"]
    at_stripe(refused.sandbox, "POST", f"/v1/subscriptions/{subscription}", discounts=[{"coupon": coupon}])
    refused.rest()
    assert 37 in quantities(refused)
    assert parked(refused) == []


def test_a_comparison_tries_again_once_and_tells_what_is_still_refused(refused: Installation) -> None:
    refuse(refused)
    refused.wait(3600)
    certificate = reconcile(refused.engine, allow=True)
    assert any("coupon_expired" in each.what for each in certificate.left)
    assert 37 not in quantities(refused)
    refused.wait(3600)
    certificate = reconcile(refused.engine, allow=True)
    assert (certificate.left, certificate.agrees) == ([], True)
    assert 37 in quantities(refused)


def test_a_plan_tells_what_was_refused_and_applying_it_tries_again(refused: Installation) -> None:
    planned = plan_of(refused)
    (told,) = planned.refused
    assert "coupon_expired" in told.why
    assert f"{told.account_id} {told.target}: {told.why}" in as_text(planned, width=160)
    refuse(refused)
    refused.wait(700)
    assert apply_plan(refused.engine, planned, allow=False).total.parked == 1
    refused.wait(700)
    assert apply_plan(refused.engine, plan_of(refused), allow=False).total.parked == 0
    assert 37 in quantities(refused)
    assert plan_of(refused).refused == ()


def test_what_could_not_be_read_is_not_taken_for_nothing(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    account = str(only(sync.sandbox, "Account")["Id"])
    edit(sync.sandbox, "Account", account, Name="Renamed")
    planned = plan_of(sync)
    assert planned.writes
    fault(sync.sandbox, "stripe_500", side="stripe", path="^/v1/", times=10**6)
    blind = plan_of(sync)
    assert [each.account_id for each in blind.unread] == [account]
    assert "1 accounts not read" in as_text(blind, width=160)
    report = apply_plan(sync.engine, planned, allow=False)
    assert (list(report.unread), report.moved, report.total.writes) == ([account], [], 0)
    sync.sandbox.control("DELETE", "/faults")
    sync.wait(700)
    assert apply_plan(sync.engine, planned, allow=False).unread == {}
    assert only(sync.sandbox, "customer")["name"] == "Renamed"


def test_an_explanation_does_not_say_that_it_is_on_its_way(refused: Installation) -> None:
    (line,) = [each for each in records(refused.sandbox, "OpportunityLineItem") if each["Quantity"] == 37]
    told = "Stripe will be told: the deal was edited in Salesforce; but it was refused, and waits: "
    item = line["Stripe_Subscription_Item_Id__c"]
    for reference, field in (
        (f"subscription_item/{item}", "quantity"),
        (f"OpportunityLineItem/{line['Id']}", "Quantity"),
    ):
        (found,) = explain(refused.engine, reference, field)
        assert found.verdict.startswith(told), found.verdict
        assert "coupon" in found.verdict.removeprefix(told)
        assert found.writes[0].outcome == "rejected"


def test_what_names_somebody_who_is_not_there_is_parked_after_one_more_look(sync: Installation) -> None:
    """It was sent five times a pass, every ten minutes for ever, and told nowhere."""
    nobody = "005Aa0000000099IAA"
    commercial = replace(sync.engine.rules.commercial, task_owners=("account_team",), task_queue=nobody)
    sync.engine = replace(sync.engine, rules=replace(sync.engine.rules, commercial=commercial))
    win(sync.sandbox)
    sync.rest()
    decline(sync.sandbox)
    sync.drain()
    sync.wait(60)
    sync.rest()
    (error,) = parked(sync)
    assert str(error).startswith("INVALID_CROSS_REFERENCE_KEY")
    assert str(error).endswith(NAMES_NOTHING)
    tried = select(func.count()).where(command.c.kind == "salesforce.once", attempt.c.command_id == command.c.id)
    assert sync.rows(tried) == [(2,)]
    able = replace(sync.engine.rules.commercial, task_owners=("owner",))
    sync.engine = replace(sync.engine, rules=replace(sync.engine.rules, commercial=able))
    assert reconcile(sync.engine).agrees
    assert len(records(sync.sandbox, "Task")) == 1
