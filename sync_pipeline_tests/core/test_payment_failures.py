"""Failed payments and overdue invoices: one Task each, to the right person, saying what is true."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.commands import Command
from sync_pipeline.core.observation import Present
from sync_pipeline.core.payment_failures import payment_failure_tasks
from sync_pipeline.core.records import Charge, Invoice, InvoicePayment
from sync_pipeline.core.world import Billing, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    MICROS,
    NOW,
    ORG,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    subscription,
)

DAY = 86_400 * MICROS
OWNERS = {
    "success_owner_id": "005Aa000000002IAA",
    "success_owner_active": True,
    "owner_id": "005Aa000000001IAA",
    "owner_active": True,
}


def charge(number: int, **changed: Any) -> Charge:
    values: dict[str, Any] = {
        "id": f"ch_{number}",
        "customer": CUSTOMER,
        "status": "failed",
        "currency": "GBP",
        "amount": 4_500_000,
        "created_at": NOW - (4 - number) * DAY,
        "payment_intent": "pi_1",
        "failure_code": "insufficient_funds",
    }
    return Charge(**(values | changed))


def failing(
    *charges: Charge, owners: dict[str, Any] = OWNERS, once: frozenset[str] = frozenset(), **invoice: Any
) -> World:
    """An annual subscription of 45,000 pounds whose renewal invoice is open."""
    values: dict[str, Any] = {
        "id": "in_1",
        "customer": CUSTOMER,
        "status": "open",
        "currency": "GBP",
        "created_at": NOW - 5 * DAY,
        "total": 4_500_000,
        "amount_due": 4_500_000,
        "amount_paid": 0,
        "amount_remaining": 4_500_000,
        "subscription": SUBSCRIPTION,
        "number": "NW-0002",
        "collection_method": "charge_automatically",
        "next_attempt_at": NOW + 2 * DAY,
        "hosted_url": "https://invoice.example/in_1",
    }
    bill = Invoice(**(values | invoice))
    open_payment = InvoicePayment(
        id="inpay_1", invoice="in_1", customer=CUSTOMER, status="open", currency="GBP", payment="pi_1"
    )
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW,
        account=Present(account(**owners)),
        customers={CUSTOMER: Present(customer())},
        billing=Present(
            Billing(
                subscriptions=(subscription(status="past_due"),),
                items=(item(interval="year", unit_amount=Decimal(4_500_000)),),
                invoices=(bill,),
                payments=(open_payment,),
                charges=charges,
            )
        ),
        links=(Link("customer", ACCOUNT, CUSTOMER),),
        once=once,
    )


def task(command: Command) -> dict[str, Any]:
    fields: dict[str, Any] = command.body["record"]["fields"]
    return fields


def test_a_failed_attempt_becomes_a_task_and_its_marker() -> None:
    (command,) = payment_failure_tasks(failing(charge(1)), RULES)
    assert command.action == "salesforce.once"
    assert command.body["marker"] == {
        "object": "Stripe_Payment_Attempt__c",
        "fields": {"Key__c": "attempt:ch_1", "Account__c": ACCOUNT},
    }
    assert task(command) == {
        "WhatId": ACCOUNT,
        "OwnerId": "005Aa000000002IAA",
        "Subject": "Payment failed: GBP 45,000.00",
        "Description": (
            "Attempt 1 to collect GBP 45,000.00 for invoice NW-0002 failed: the card has insufficient funds. "
            "The next attempt is on 2026-11-25. If nothing is collected, the subscription is canceled in 12 days.\n"
            "Monthly recurring revenue at risk: GBP 3,750.00.\n"
            "Invoice: https://invoice.example/in_1"
        ),
        "ActivityDate": "2026-11-23",
        "Priority": "High",
        "Status": "Not Started",
    }


def test_every_attempt_has_its_own_task_with_its_number() -> None:
    commands = list(payment_failure_tasks(failing(charge(2), charge(1), charge(3)), RULES))
    told = {command.key: task(command)["Description"].split(" to collect")[0] for command in commands}
    assert told == {"attempt:ch_1": "Attempt 1", "attempt:ch_2": "Attempt 2", "attempt:ch_3": "Attempt 3"}


def test_what_was_told_once_is_not_told_again() -> None:
    world = failing(charge(1), charge(2), once=frozenset({"attempt:ch_1"}))
    assert [command.key for command in payment_failure_tasks(world, RULES)] == ["attempt:ch_2"]


def test_a_payment_that_worked_is_no_task() -> None:
    assert list(payment_failure_tasks(failing(charge(1, status="succeeded")), RULES)) == []


def test_a_charge_of_no_invoice_is_no_task() -> None:
    assert list(payment_failure_tasks(failing(charge(1, payment_intent="pi_other")), RULES)) == []


def test_a_backlog_is_not_told() -> None:
    assert list(payment_failure_tasks(failing(charge(1, created_at=NOW - 15 * DAY)), RULES)) == []


def test_without_a_planned_retry_the_task_says_so() -> None:
    (command,) = payment_failure_tasks(failing(charge(1), next_attempt_at=None), RULES)
    assert "No retry is planned." in task(command)["Description"]


def test_an_unknown_decline_code_is_shown_as_it_is() -> None:
    (command,) = payment_failure_tasks(failing(charge(1, failure_code="new_code")), RULES)
    assert "failed: new_code." in task(command)["Description"]


@pytest.mark.parametrize(
    ("owners", "owner"),
    [
        (OWNERS, "005Aa000000002IAA"),
        (OWNERS | {"success_owner_active": False}, "005Aa000000001IAA"),
        (OWNERS | {"success_owner_id": None}, "005Aa000000001IAA"),
        (OWNERS | {"success_owner_active": False, "owner_active": False}, None),
    ],
)
def test_the_task_goes_to_an_active_person(owners: dict[str, Any], owner: str | None) -> None:
    (command,) = payment_failure_tasks(failing(charge(1), owners=owners), RULES)
    assert task(command).get("OwnerId") == owner


def test_little_at_risk_is_no_emergency() -> None:
    world = failing(charge(1))
    assert isinstance(world.billing, Present)
    small = replace(world.billing.value, items=(item(interval="year", unit_amount=Decimal(1_199_000)),))
    (command,) = payment_failure_tasks(replace(world, billing=Present(small)), RULES)
    assert task(command)["Priority"] == "Normal"
    assert task(command)["ActivityDate"] == "2026-11-26"


def test_an_overdue_invoice_is_a_failure_of_its_own_kind() -> None:
    world = failing(collection_method="send_invoice", due_at=NOW - 4 * DAY, next_attempt_at=None)
    (command,) = payment_failure_tasks(world, RULES)
    assert command.key == "overdue:in_1"
    assert task(command)["Subject"] == "Invoice overdue: GBP 45,000.00"
    assert task(command)["Description"].startswith("Invoice NW-0002 over GBP 45,000.00 is 4 days overdue.")


def test_an_invoice_that_is_not_due_yet_is_no_task() -> None:
    world = failing(collection_method="send_invoice", due_at=NOW + DAY, next_attempt_at=None)
    assert list(payment_failure_tasks(world, RULES)) == []
