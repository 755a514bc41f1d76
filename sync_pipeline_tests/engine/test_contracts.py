"""Contracts live: made, dated, activated and named; and the cancel date that people write in them."""

from __future__ import annotations

from datetime import UTC, datetime

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import at_stripe, edit, mark, only, pay, records, win, writes_since
from sync_pipeline_tests.engine.selling import sell


def settled_for_good(sync: Installation) -> None:
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def day_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def episodes(sync: Installation) -> list[tuple[str, str]]:
    return [(r["Status__c"], r["Effective_Date__c"]) for r in records(sync.sandbox, "Churn_Record__c")]


def test_a_draft_is_dated_by_the_subscription_and_activated_by_itself(sync: Installation) -> None:
    edit(sync.sandbox, "Contract", only(sync.sandbox, "Contract")["Id"], StartDate="2025-06-01", ContractTerm=6)
    win(sync.sandbox)
    sync.rest()
    contract = only(sync.sandbox, "Contract")
    assert (contract["Status"], contract["StartDate"], contract["ContractTerm"]) == ("Activated", "2026-01-15", 12)
    assert contract["EndDate"] == "2027-01-14"
    settled_for_good(sync)
    pay(sync.sandbox)
    sync.wait(366 * DAY)
    reconcile(sync.engine)
    renewed = only(sync.sandbox, "Contract")
    assert (renewed["ContractTerm"], renewed["EndDate"]) == (24, "2028-01-14")


def test_a_deal_without_a_contract_gets_one_that_it_names(sync: Installation) -> None:
    deal = sell(sync.sandbox, {"product": "Workshop", "price": 1_000})
    sync.rest()
    (opportunity,) = (o for o in records(sync.sandbox, "Opportunity") if o["Id"] == deal)
    (made,) = (c for c in records(sync.sandbox, "Contract") if c["Id"] == opportunity["ContractId"])
    assert made["Stripe_Subscription_Id__c"] == only(sync.sandbox, "subscription")["id"]
    assert (made["Status"], made["StartDate"], made["ContractTerm"]) == ("Activated", "2026-01-15", 12)
    assert len(records(sync.sandbox, "Contract")) == 2
    settled_for_good(sync)


def test_a_person_cancels_in_salesforce_moves_it_takes_it_back_and_means_it_in_the_end(sync: Installation) -> None:
    sandbox = sync.sandbox
    win(sandbox)
    sync.rest()
    pay(sandbox)
    sync.rest()
    contract = only(sandbox, "Contract")["Id"]
    path = f"/v1/subscriptions/{only(sandbox, 'subscription')['id']}"

    edit(sandbox, "Contract", contract, Cancel_Requested_On__c="2026-06-30")
    sync.drain()
    assert only(sandbox, "subscription")["cancel_at"] is None
    sync.wait(60)
    sync.rest()
    assert only(sandbox, "subscription")["cancel_at"] == int(datetime(2026, 6, 30, 22, 59, 59, tzinfo=UTC).timestamp())
    assert records(sandbox, "invoiceitem") == []
    assert episodes(sync) == [("Open", "2026-06-30")]
    assert only(sandbox, "Account")["Retention_Status__c"] == "Cancel Scheduled"

    moved = only(sandbox, "subscription")["cancel_at"] + 31 * DAY
    at_stripe(sandbox, "POST", path, cancel_at=moved, proration_behavior="none")
    sync.rest()
    assert only(sandbox, "Contract")["Cancel_Requested_On__c"] == day_of(moved) == "2026-07-31"
    assert episodes(sync) == [("Open", "2026-07-31")]

    edit(sandbox, "Contract", contract, Cancel_Requested_On__c=None)
    sync.wait(60)
    sync.rest()
    assert only(sandbox, "subscription")["cancel_at"] is None
    assert records(sandbox, "invoiceitem") == []
    assert episodes(sync) == [("Rescinded", "2026-07-31")]
    assert only(sandbox, "Account")["Retention_Status__c"] == "Healthy"
    settled_for_good(sync)

    edit(sandbox, "Contract", contract, Cancel_Requested_On__c="2026-09-30")
    sync.wait(60)
    sync.rest()
    sync.wait(260 * DAY)
    sync.rest()
    ended = only(sandbox, "subscription")
    assert (ended["status"], day_of(ended["ended_at"])) == ("canceled", "2026-09-30")
    assert episodes(sync) == [("Rescinded", "2026-07-31"), ("Final", "2026-09-30")]
    assert only(sandbox, "Contract")["Service_End_Date__c"] == "2026-09-30"
    assert only(sandbox, "Account")["Lifetime_Value__c"] == 45_000.0
    settled_for_good(sync)
