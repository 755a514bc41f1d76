"""Cancellations: episodes, their records, and the retention status."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.churn import churn_records, retention
from sync_pipeline.core.commands import Command
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.observation import Present
from sync_pipeline.core.salesforce_records import ChurnRecord
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.unrecorded import unrecorded_facts
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    ORG,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    opportunity,
    subscription,
)

DAY = 86_400 * MICROS
END = int(datetime(2027, 11, 23, 12, tzinfo=UTC).timestamp()) * MICROS
SCHEDULED = {
    "cancel_at": END,
    "canceled_at": NOW,
    "cancellation_reason": "cancellation_requested",
    "cancellation_feedback": "too_expensive",
}
ENDED = {**SCHEDULED, "status": "canceled", "ended_at": END}
OPEN_RECORD = {
    "kind": "Churn",
    "status": "Open",
    "account_id": ACCOUNT,
    "opportunity_id": OPPORTUNITY,
    "effective_date": "2027-11-23",
    "lost_mrr": Decimal("3750.00"),
    "reason": "cancellation was requested",
    "feedback": "too_expensive",
    "is_voluntary": True,
}


def record(number: int = 1, **changed: Any) -> ChurnRecord:
    values: dict[str, Any] = {"id": f"a0{number}", "key": f"{SUBSCRIPTION}:{number}", "subscription_id": SUBSCRIPTION}
    return ChurnRecord(**(values | OPEN_RECORD | changed))


def canceling(*records: ChurnRecord, **changed: Any) -> World:
    """An annual subscription of 45,000 pounds, in whatever state `changed` says."""
    one = item(interval="year", unit_amount=Decimal(4_500_000), period_end=END)
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW + DAY,
        account=Present(account()),
        deals=(Deal(opportunity()),),
        churn_records=records,
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(subscription(**changed),), items=(one,))),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
    )


def only(world: World) -> Command:
    (command,) = churn_records(world, RULES)
    assert isinstance(command, Command)
    return command


def test_a_running_subscription_has_no_record() -> None:
    assert list(churn_records(canceling(), RULES)) == []


def test_a_scheduled_end_opens_the_first_episode() -> None:
    command = only(canceling(**SCHEDULED))
    assert command.body == {
        "object": "Churn_Record__c",
        "external_field": "Episode_Key__c",
        "external_id": f"{SUBSCRIPTION}:1",
        "fields": {
            "Kind__c": "Churn",
            "Status__c": "Open",
            "Account__c": ACCOUNT,
            "Opportunity__c": OPPORTUNITY,
            "Stripe_Subscription_Id__c": SUBSCRIPTION,
            "Effective_Date__c": "2027-11-23",
            "Lost_MRR__c": Decimal("3750.00"),
            "Reason__c": "cancellation was requested",
            "Feedback__c": "too_expensive",
            "Voluntary__c": True,
        },
    }


def test_cancel_at_period_end_counts_even_without_a_date() -> None:
    command = only(canceling(**(SCHEDULED | {"cancel_at": None, "cancel_at_period_end": True})))
    assert command.body["fields"]["Effective_Date__c"] == "2027-11-23"


def test_an_open_episode_that_says_the_truth_is_left_alone() -> None:
    assert list(churn_records(canceling(record(), **SCHEDULED), RULES)) == []


def test_a_moved_end_moves_the_open_episode() -> None:
    moved = END + 30 * DAY
    command = only(canceling(record(), **(SCHEDULED | {"cancel_at": moved})))
    assert command.body["fields"] == {"Effective_Date__c": "2027-12-23"}


def test_taking_it_back_rescinds_the_episode_once() -> None:
    assert only(canceling(record())).body["fields"] == {"Status__c": "Rescinded"}
    assert list(churn_records(canceling(record(status="Rescinded")), RULES)) == []


def test_scheduling_again_opens_a_second_episode() -> None:
    command = only(canceling(record(status="Rescinded"), **SCHEDULED))
    assert command.body["external_id"] == f"{SUBSCRIPTION}:2"


def test_the_end_makes_the_open_episode_final_and_then_nothing_changes() -> None:
    assert only(canceling(record(), **ENDED)).body["fields"] == {"Status__c": "Final", "Open_Debt__c": Decimal("0.00")}
    final = record(status="Final", open_debt=Decimal(0), reason="edited by a person")
    assert list(churn_records(canceling(final, **ENDED), RULES)) == []


def owing(status: str, remaining: int, subscription_id: str = SUBSCRIPTION) -> Invoice:
    return Invoice(
        id=f"in_{status}_{subscription_id}",
        customer=CUSTOMER,
        status=status,
        currency="GBP",
        created_at=NOW,
        total=4_500_000,
        amount_due=4_500_000,
        amount_paid=4_500_000 - remaining,
        amount_remaining=remaining,
        subscription=subscription_id,
    )


def with_invoices(world: World, *invoices: Invoice) -> World:
    assert isinstance(world.billing, Present)
    return replace(world, billing=Present(replace(world.billing.value, invoices=invoices)))


def test_what_is_still_owed_is_told_until_it_is_paid() -> None:
    """120.00 open and 45,000.00 given up are debts; what was voided, and what another subscription owes, is not."""
    debts = (
        owing("open", 12_000),
        owing("uncollectible", 4_500_000),
        owing("void", 4_500_000),
        owing("open", 7, "sub_x"),
    )
    command = only(with_invoices(canceling(record(), **ENDED), *debts))
    assert command.body["fields"]["Open_Debt__c"] == Decimal("45120.00")
    final = record(status="Final", open_debt=Decimal(45120), reason="edited by a person")
    assert list(churn_records(with_invoices(canceling(final, **ENDED), *debts), RULES)) == []
    later = only(with_invoices(canceling(final, **ENDED), owing("open", 12_000), owing("paid", 0)))
    assert later.body["fields"] == {"Open_Debt__c": Decimal("120.00")}


def test_while_it_runs_an_open_invoice_is_no_debt_of_an_ended_subscription() -> None:
    command = only(with_invoices(canceling(**SCHEDULED), owing("open", 12_000)))
    assert "Open_Debt__c" not in command.body["fields"]


def test_what_the_customer_wrote_is_told_and_kept_in_the_audit_as_a_hash() -> None:
    command = only(canceling(**(SCHEDULED | {"cancellation_comment": "Call Ada on 555"})))
    assert command.body["fields"]["Comment__c"] == "Call Ada on 555"
    (change,) = (change for change in command.changes if change.field == "Comment__c")
    assert change.personal
    assert "Ada" not in canonical.encode(command.changes)


def test_in_an_org_with_several_currencies_the_record_is_in_the_subscriptions() -> None:
    euro = canceling(**(SCHEDULED | {"currency": "EUR"}))
    assert "CurrencyIsoCode" not in only(euro).body["fields"]
    several = replace(euro, account=Present(account(currency="GBP")))
    assert only(several).body["fields"]["CurrencyIsoCode"] == "EUR"


def test_an_end_without_warning_is_final_at_once() -> None:
    changed = {"status": "canceled", "ended_at": NOW, "cancellation_reason": "payment_failed"}
    command = only(canceling(**changed))
    assert command.body["fields"]["Status__c"] == "Final"
    assert command.body["fields"]["Voluntary__c"] is False
    assert command.body["fields"]["Reason__c"] == "the payment failed for good"


def test_a_subscription_that_never_started_did_not_churn() -> None:
    assert list(churn_records(canceling(status="incomplete_expired"), RULES)) == []


@pytest.mark.parametrize(("status", "lost"), [("active", "3750.00"), ("trialing", "0.00"), ("unpaid", "0.00")])
def test_an_end_that_is_ahead_loses_what_counts_now(status: str, lost: str) -> None:
    assert only(canceling(**SCHEDULED, status=status)).body["fields"]["Lost_MRR__c"] == Decimal(lost)


def test_an_end_at_the_end_of_a_trial_loses_nothing() -> None:
    """No look saw the trial: its own dates say that nothing was ever due."""
    assert only(canceling(**ENDED, trial_end_at=END)).body["fields"]["Lost_MRR__c"] == 0
    after = only(canceling(**ENDED, trial_end_at=END - DAY))
    assert after.body["fields"]["Lost_MRR__c"] == Decimal("3750.00")


def test_an_end_after_it_was_given_up_as_unpaid_loses_nothing_and_one_that_was_paid_again_does() -> None:
    held: tuple[Fact, ...] = ()
    lost = []
    for status in ("past_due", "unpaid", "active"):
        before = replace(canceling(status=status), facts=held)
        held = (*held, *unrecorded_facts(before, RULES))
        lost.append(only(replace(canceling(**ENDED), facts=held)).body["fields"]["Lost_MRR__c"])
    assert lost == [Decimal(3750), 0, Decimal(3750)]


@pytest.mark.parametrize(("total", "lost"), [(4_500_000, Decimal(3750)), (0, 0)])
def test_a_trial_that_was_billed_before_anybody_looked_again_is_lost(total: int, lost: Decimal | int) -> None:
    """Without an invoice it was paused when its trial ended, for want of a card to charge."""
    trial = {"trial_end_at": NOW + 14 * DAY}
    seen = unrecorded_facts(canceling(status="trialing", **trial), RULES)
    ended = replace(canceling(**ENDED, **trial), facts=tuple(seen))
    setup = replace(owing("paid", 0), finalized_at=NOW + DAY)
    first = replace(setup, id="in_2", total=total, finalized_at=NOW + 15 * DAY)
    assert only(with_invoices(ended, setup, first)).body["fields"]["Lost_MRR__c"] == lost


def test_one_that_was_given_up_as_unpaid_long_after_its_trial_loses_nothing() -> None:
    trial = {"trial_end_at": NOW - 60 * DAY}
    seen = unrecorded_facts(canceling(status="unpaid", **trial), RULES)
    ended = replace(canceling(**ENDED, **trial), facts=tuple(seen))
    once_paid = replace(owing("paid", 0), finalized_at=NOW - 50 * DAY)
    assert only(with_invoices(ended, once_paid)).body["fields"]["Lost_MRR__c"] == 0


def test_the_tenth_episode_follows_the_ninth() -> None:
    records = [record(n, status="Rescinded") for n in range(1, 10)]
    command = only(canceling(*reversed(records), **SCHEDULED))
    assert command.body["external_id"] == f"{SUBSCRIPTION}:10"


@pytest.mark.parametrize(
    ("subscriptions", "status"),
    [
        ([], None),
        ([{}], "Healthy"),
        ([{"status": "incomplete_expired", "ended_at": NOW}], None),
        ([{"status": "incomplete_expired", "ended_at": NOW - DAY}, {}], "Healthy"),
        ([{"status": "incomplete_expired", "ended_at": NOW}, {"status": "canceled", "ended_at": NOW}], "Churned"),
        ([{"status": "past_due"}], "At Risk"),
        ([{"status": "past_due", "cancel_at": END}], "Cancel Scheduled"),
        ([{"status": "canceled", "ended_at": NOW}], "Churned"),
        ([{"status": "canceled", "ended_at": NOW}, {"created_at": NOW + DAY}], "Won Back"),
        ([{"status": "canceled", "ended_at": NOW}, {"created_at": NOW - DAY}], "Healthy"),
    ],
)
def test_retention_status(subscriptions: list[dict[str, Any]], status: str | None) -> None:
    made = tuple(replace(subscription(**changed), id=f"sub_{n}") for n, changed in enumerate(subscriptions))
    assert retention(Billing(subscriptions=made), NOW) == status
