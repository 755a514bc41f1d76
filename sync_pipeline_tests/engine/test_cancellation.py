"""Customers who leave, in part or altogether, what they still owe, and those who come back; over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import DAY, NOW, Installation, installed
from sync_pipeline_tests.engine.people import at_stripe, edit, mark, only, pay, records, win, writes_since
from sync_pipeline_tests.engine.selling import sell
from sync_pipeline_tests.engine.test_failed_payments import billing, on_card, until_renewed, will_fail
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox


@pytest.fixture(scope="module")
def sandbox_that_gives_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxHandle]:
    """After the last attempt a subscription stays, unpaid."""
    settings = tmp_path_factory.mktemp("unpaid") / "vendors.json"
    settings.write_text(json.dumps({"stripe": {"final_action": "unpaid"}}), "utf-8")
    with start_sandbox("--data", "story", "--now", str(NOW), "--settings", str(settings)) as handle:
        yield handle


def settled_for_good(sync: Installation) -> None:
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def billed(sync: Installation) -> str:
    """The story's deal, won and billed; the path of its subscription."""
    win(sync.sandbox)
    sync.rest()
    return f"/v1/subscriptions/{only(sync.sandbox, 'subscription')['id']}"


def test_five_seats_less_at_stripe_are_a_contraction_and_the_customer_stays(sync: Installation) -> None:
    path = billed(sync)
    sync.wait(20 * DAY)
    (item,) = (i for i in only(sync.sandbox, "subscription")["items"]["data"] if i["quantity"] == 20)
    at_stripe(sync.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=15)
    sync.rest()
    given_up = only(sync.sandbox, "Churn_Record__c")
    assert (given_up["Kind__c"], given_up["Status__c"], given_up["Lost_MRR__c"]) == ("Contraction", "Final", 250.0)
    assert given_up["Effective_Date__c"] == "2026-02-04"
    assert given_up["Opportunity__c"] == only(sync.sandbox, "Opportunity")["Id"]
    assert only(sync.sandbox, "Account")["Retention_Status__c"] == "Healthy"
    settled_for_good(sync)
    at_stripe(sync.sandbox, "DELETE", path)
    sync.rest()
    lost = {r["Kind__c"]: r["Lost_MRR__c"] for r in records(sync.sandbox, "Churn_Record__c")}
    assert lost == {"Contraction": 250.0, "Churn": 3_500.0}
    settled_for_good(sync)


def test_an_end_at_once_tells_why_and_what_is_owed_until_that_is_paid(sync: Installation) -> None:
    path = billed(sync)
    words = {"feedback": "switched_service", "comment": "Moved to a rival"}
    at_stripe(sync.sandbox, "DELETE", path, cancellation_details=words)
    sync.rest()
    churned = only(sync.sandbox, "Churn_Record__c")
    told = [churned[name] for name in ("Kind__c", "Status__c", "Lost_MRR__c", "Open_Debt__c", "Voluntary__c")]
    assert told == ["Churn", "Final", 3_750.0, 45_000.0, True]
    assert (churned["Feedback__c"], churned["Comment__c"]) == ("switched_service", "Moved to a rival")
    settled_for_good(sync)
    pay(sync.sandbox)
    sync.rest()
    assert only(sync.sandbox, "Churn_Record__c")["Open_Debt__c"] == 0.0
    assert only(sync.sandbox, "Account")["Lifetime_Value__c"] == 45_000.0
    settled_for_good(sync)


def test_who_leaves_in_the_free_months_takes_no_revenue_along(sync: Installation) -> None:
    sell(sync.sandbox, {"product": "Platform Two", "price": 1_200}, Free_Months__c=2, Billing_Interval__c="Monthly")
    sync.rest()
    assert only(sync.sandbox, "Account")["MRR__c"] == 0.0
    at_stripe(sync.sandbox, "DELETE", f"/v1/subscriptions/{only(sync.sandbox, 'subscription')['id']}")
    sync.rest()
    churned = only(sync.sandbox, "Churn_Record__c")
    assert (churned["Status__c"], churned["Lost_MRR__c"]) == ("Final", 0.0)
    settled_for_good(sync)


def test_seats_that_an_unpaid_subscription_gained_are_neither_at_risk_nor_lost(
    sandbox_that_gives_up: SandboxHandle, tmp_path: Path
) -> None:
    with installed(sandbox_that_gives_up, tmp_path) as sync:
        subscription = on_card(sync)
        will_fail(sync, "insufficient_funds", times=20)
        until_renewed(sync, subscription)
        sync.rest()
        assert billing(sync) == ("Past Due", 3_750.0, "At Risk")
        sync.wait(20 * DAY)
        sync.rest()
        assert billing(sync) == ("Unpaid", 0.0, "At Risk")
        (line,) = (each for each in records(sync.sandbox, "OpportunityLineItem") if each["Quantity"] == 20)
        edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
        sync.wait(60)
        sync.rest()
        account = only(sync.sandbox, "Account")
        assert (account["MRR__c"], account["MRR_At_Risk__c"]) == (0.0, 0.0)
        at_stripe(sync.sandbox, "DELETE", f"/v1/subscriptions/{subscription['id']}")
        sync.rest()
        churned = only(sync.sandbox, "Churn_Record__c")
        assert (churned["Kind__c"], churned["Status__c"], churned["Lost_MRR__c"]) == ("Churn", "Final", 0.0)
        settled_for_good(sync)


def test_a_first_payment_that_never_comes_is_told_to_a_person_and_loses_no_customer(sync: Installation) -> None:
    customer = at_stripe(
        sync.sandbox,
        "POST",
        "/v1/customers",
        name="Northwind Analytics Ltd",
        payment_method="pm_card_chargeCustomerFail",
        invoice_settings={"default_payment_method": "pm_card_chargeCustomerFail"},
    )
    edit(sync.sandbox, "Account", only(sync.sandbox, "Account")["Id"], Stripe_Customer_Id__c=customer["id"])
    deal = sell(sync.sandbox, {"product": "Platform Two", "price": 1_200}, Collection_Method__c="Charge Automatically")
    sync.rest()
    subscription = only(sync.sandbox, "subscription")
    assert subscription["status"] == "incomplete"
    assert billing(sync) == ("Incomplete", 0.0, "At Risk")
    sync.wait(2 * DAY)
    sync.rest()
    assert only(sync.sandbox, "subscription")["status"] == "incomplete_expired"
    account = only(sync.sandbox, "Account")
    assert (account.get("Retention_Status__c"), account["MRR__c"]) == (None, 0.0)
    assert records(sync.sandbox, "Churn_Record__c") == []
    (won,) = (each for each in records(sync.sandbox, "Opportunity") if each["Id"] == deal)
    told = f"Not billed: {subscription['id']} expired at Stripe, because its first payment did not come; "
    assert won["Billing_Status__c"] == "Needs Attention"
    assert won["Billing_Message__c"].startswith(told)
    assert sync.open_reviews()["incomplete_deal"].startswith(told)
    assert not reconcile(sync.engine).agrees
    edit(sync.sandbox, "Opportunity", deal, StageName="Closed Lost")
    sync.rest()
    assert sync.open_reviews() == {}
    settled_for_good(sync)


def test_whoever_comes_back_has_a_new_deal_and_the_old_subscription_stays_ended(sync: Installation) -> None:
    path = billed(sync)
    at_stripe(sync.sandbox, "DELETE", path)
    sync.rest()
    account = only(sync.sandbox, "Account")
    assert (account["Retention_Status__c"], account["MRR__c"]) == ("Churned", 0.0)
    edit(sync.sandbox, "Opportunity", only(sync.sandbox, "Opportunity")["Id"], Description="touched")
    sync.rest()
    assert [s["status"] for s in records(sync.sandbox, "subscription")] == ["canceled"]
    sync.wait(30 * DAY)
    sell(sync.sandbox, {"product": "Platform Two", "price": 12_000}, Service_Start_Date__c="2026-02-14")
    sync.rest()
    assert sorted(s["status"] for s in records(sync.sandbox, "subscription")) == ["active", "canceled"]
    assert len(records(sync.sandbox, "customer")) == 1
    account = only(sync.sandbox, "Account")
    assert (account["Retention_Status__c"], account["MRR__c"]) == ("Won Back", 1_000.0)
    assert only(sync.sandbox, "Churn_Record__c")["Status__c"] == "Final"
    settled_for_good(sync)
