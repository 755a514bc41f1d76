"""The story's deal, from Closed Won to collected cash: the exact end state, and what it may cost in calls."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import create, edit, mark, only, pay, records, requests_since, win, writes_since


def test_a_won_deal_becomes_exactly_one_customer_and_one_subscription_at_the_negotiated_rates(
    sync: Installation,
) -> None:
    win(sync.sandbox)
    report = sync.drain()
    assert (report.total.deferred, report.total.parked) == (0, 0)
    account, opportunity = only(sync.sandbox, "Account"), only(sync.sandbox, "Opportunity")
    customer, subscription = only(sync.sandbox, "customer"), only(sync.sandbox, "subscription")
    tax_id = only(sync.sandbox, "tax_id")
    assert (tax_id["customer"], tax_id["type"], tax_id["value"]) == (customer["id"], "gb_vat", "GB123456789")
    assert customer["name"] == "Northwind Analytics Ltd"
    assert customer["address"]["country"] == "GB"
    rates = Counter(
        (item["price"]["unit_amount"], item["price"]["currency"], item["price"]["recurring"]["interval"])
        for item in subscription["items"]["data"]
        for _ in range(item["quantity"])
    )
    assert rates == {(3_000_000, "gbp", "year"): 1, (60_000, "gbp", "year"): 20, (20_000, "gbp", "year"): 15}
    assert len(subscription["items"]["data"]) == 3
    assert subscription["billing_mode"]["type"] == "flexible"
    assert only(sync.sandbox, "invoice")["total"] == 4_500_000
    assert account["Stripe_Customer_Id__c"] == customer["id"]
    assert opportunity["Stripe_Subscription_Id__c"] == subscription["id"]
    assert only(sync.sandbox, "Contract")["Stripe_Subscription_Id__c"] == subscription["id"]
    by_line = {item["metadata"]["sf_line_id"]: item["id"] for item in subscription["items"]["data"]}
    lines = records(sync.sandbox, "OpportunityLineItem")
    assert {line["Id"]: line["Stripe_Subscription_Item_Id__c"] for line in lines} == by_line
    assert (account["MRR__c"], account["Billing_Status__c"], account["Seats__c"]) == (3750.0, "Active", 35.0)
    assert opportunity["Activation_Status__c"] == "Pending"
    assert "First_Payment_At__c" not in opportunity
    sync.check_books()


def test_the_deal_costs_one_call_per_object_and_one_salesforce_write(sync: Installation) -> None:
    win(sync.sandbox)
    start = mark(sync.sandbox)
    sync.drain()
    calls = Counter(writes_since(sync.sandbox, start))
    composites = calls.pop("POST /services/data/{v}/composite")
    assert calls == {
        "POST /v1/customers": 1,
        "POST /v1/products": 3,
        "POST /v1/prices": 3,
        "POST /v1/subscriptions": 1,
    }
    assert composites == 1
    keys = [entry["body"] for entry in requests_since(sync.sandbox, start, "stripe") if entry["method"] == "POST"]
    assert len(set(keys)) == len(keys)


def test_four_days_later_the_payment_activates_the_deal(sync: Installation) -> None:
    win(sync.sandbox)
    sync.drain()
    pay(sync.sandbox)
    start = mark(sync.sandbox)
    sync.drain()
    account, opportunity = only(sync.sandbox, "Account"), only(sync.sandbox, "Opportunity")
    paid_at = only(sync.sandbox, "invoice")["status_transitions"]["paid_at"]
    assert account["Lifetime_Value__c"] == 45000.00
    assert account["MRR__c"] == 3750.00
    assert opportunity["Activation_Status__c"] == "Activated"
    assert datetime.fromisoformat(opportunity["First_Payment_At__c"]) == datetime.fromtimestamp(paid_at, UTC)
    assert writes_since(sync.sandbox, start) == ["POST /services/data/{v}/composite"]
    sync.check_books()


def test_what_agrees_is_never_written_again(sync: Installation) -> None:
    win(sync.sandbox)
    sync.drain()
    pay(sync.sandbox)
    sync.drain()
    first = reconcile(sync.engine)
    assert (first.agrees, first.accounts, first.repaired) == (True, 1, 0)
    start = mark(sync.sandbox)
    second = reconcile(sync.engine)
    assert (second.agrees, second.writes) == (True, 0)
    totals = {measure: total["GBP"] for measure, total in second.totals.items()}
    assert (totals["mrr"].salesforce, totals["mrr"].stripe) == (375_000, 375_000)
    assert (totals["lifetime_value"].salesforce, totals["lifetime_value"].stripe) == (4_500_000, 4_500_000)
    for _ in range(3):
        sync.drain()
    assert writes_since(sync.sandbox, start) == []


def test_a_reconcile_alone_bills_a_deal_whose_events_were_all_lost(sync: Installation) -> None:
    sync.drain()
    win(sync.sandbox)
    certificate = reconcile(sync.engine)
    assert (certificate.agrees, certificate.repaired, certificate.left) == (True, 1, [])
    assert only(sync.sandbox, "Account")["MRR__c"] == 3750.0
    start = mark(sync.sandbox)
    assert reconcile(sync.engine).writes == 0
    assert writes_since(sync.sandbox, start) == []


def test_a_second_deal_on_known_rates_makes_no_new_product_and_no_new_price(sync: Installation) -> None:
    win(sync.sandbox)
    sync.drain()
    sandbox = sync.sandbox
    first = only(sandbox, "Opportunity")
    lines = records(sandbox, "OpportunityLineItem")
    second = create(
        sandbox,
        "Opportunity",
        AccountId=first["AccountId"],
        Name="More seats",
        StageName="Prospecting",
        CloseDate="2026-01-20",
        Pricebook2Id=first["Pricebook2Id"],
        Billing_Interval__c="Annual",
        Term_Months__c=12,
    )
    create(
        sandbox,
        "OpportunityLineItem",
        OpportunityId=second,
        PricebookEntryId=lines[1]["PricebookEntryId"],
        Quantity=5,
        UnitPrice=lines[1]["UnitPrice"],
    )
    edit(sandbox, "Opportunity", second, StageName="Closed Won")
    start = mark(sandbox)
    sync.drain()
    calls = Counter(writes_since(sandbox, start))
    # A Contract that was just made can only be activated, and named by its deal, in a second call.
    assert calls == {"POST /v1/subscriptions": 1, "POST /services/data/{v}/composite": 2}
    assert only(sandbox, "Account")["MRR__c"] == 3750.0 + 250.0
    assert reconcile(sync.engine).agrees
