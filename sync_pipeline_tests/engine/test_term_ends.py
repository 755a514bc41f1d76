"""A deal whose term ends, over real HTTP: ended because nobody renewed it, or kept because somebody did."""

from __future__ import annotations

from typing import Any

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import edit, mark, only, pay, records, win, writes_since


def settled_for_good(sync: Installation) -> None:
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def near_its_end(sync: Installation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The story's deal as one that ends with its term, paid, 280 days later: its renewal and its subscription."""
    edit(sync.sandbox, "Opportunity", only(sync.sandbox, "Opportunity")["Id"], Term_End__c="Ends")
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    sync.rest()
    sync.wait(276 * DAY)
    reconcile(sync.engine)
    return renewal_of(sync), only(sync.sandbox, "subscription")


def renewal_of(sync: Installation) -> dict[str, Any]:
    (renewal,) = (each for each in records(sync.sandbox, "Opportunity") if each.get("Stripe_Renewal_Key__c"))
    return renewal


def test_a_term_that_nobody_renews_ends_and_its_renewal_is_lost_with_the_reason(sync: Installation) -> None:
    renewal, subscription = near_its_end(sync)
    assert subscription["cancel_at"] == subscription["items"]["data"][0]["current_period_end"]
    assert renewal["OwnerId"] == only(sync.sandbox, "Account")["OwnerId"]
    assert only(sync.sandbox, "Contract")["Cancel_Requested_On__c"] == "2027-01-15"
    assert only(sync.sandbox, "Account")["Retention_Status__c"] == "Cancel Scheduled"
    settled_for_good(sync)
    sync.wait(95 * DAY)
    sync.rest()
    assert only(sync.sandbox, "subscription")["status"] == "canceled"
    assert len(records(sync.sandbox, "invoice")) == 1
    lost = renewal_of(sync)
    assert (lost["StageName"], lost["Renewal_Lost_Reason__c"]) == ("Closed Lost", "cancellation was requested")
    churned = only(sync.sandbox, "Churn_Record__c")
    assert (churned["Status__c"], churned["Comment__c"]) == ("Final", "The term ends and was not renewed.")
    settled_for_good(sync)


def test_a_renewal_that_is_won_in_time_keeps_the_subscription_for_the_next_term(sync: Installation) -> None:
    renewal, _ = near_its_end(sync)
    edit(sync.sandbox, "Opportunity", renewal["Id"], StageName="Closed Won")
    sync.rest()
    assert only(sync.sandbox, "subscription")["cancel_at"] is None
    assert "Cancel_Requested_On__c" not in only(sync.sandbox, "Contract")
    assert only(sync.sandbox, "Churn_Record__c")["Status__c"] == "Rescinded"
    settled_for_good(sync)
    sync.wait(95 * DAY)
    sync.rest()
    assert only(sync.sandbox, "subscription")["status"] == "active"
    assert len(records(sync.sandbox, "invoice")) == 2
    assert len(records(sync.sandbox, "subscription")) == 1
    settled_for_good(sync)
