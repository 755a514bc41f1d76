"""The made-up company: believable, of the asked size, the same for the same seed, and the same in both systems.

Issue B, data.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.relativedelta import relativedelta

from sync_pipeline.sandbox import company, company_plan
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.world import Sandbox, build
from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import start_sandbox

ACCOUNTS = 120
DAY = 86_400
Rows = dict[str, list[dict[str, Any]]]


def made(accounts: int, seed: int) -> Sandbox:
    settings = SalesforceSettings(multi_currency=True)
    sandbox = build(seed=seed, now=company_plan.opens_at(START), salesforce_settings=settings)
    company.found(sandbox, accounts=accounts, seed=seed, until=START)
    return sandbox


@pytest.fixture(scope="module")
def truth() -> dict[str, Rows]:
    return made(ACCOUNTS, 1).truth()


def minor(amount: float, currency: str) -> int:
    """Salesforce's JSON number in minor units."""
    exact = Decimal(str(amount)) * (1 if currency == "JPY" else 100)
    assert exact == int(exact)
    return int(exact)


def test_it_has_the_asked_size_and_ends_at_the_asked_moment(truth: dict[str, Any]) -> None:
    assert len(truth["salesforce"]["Account"]) == ACCOUNTS
    assert truth["now"] == START


def near(found: int, expected: float) -> bool:
    """Chance may move a small number far: up to three times, either way."""
    return expected / 3 <= found <= expected * 3


def test_it_is_believable(truth: dict[str, Rows]) -> None:
    """Of each kind about as many as the rates of company_plan.py give for the years that its customers were with it."""
    stripe, salesforce = truth["stripe"], truth["salesforce"]
    deals = Counter((deal["Type"], deal["StageName"]) for deal in salesforce["Opportunity"])
    won = deals["New Business", "Closed Won"]
    assert won > 0.75 * ACCOUNTS
    assert near(deals["New Business", "Closed Lost"], company_plan.LOST * ACCOUNTS)
    assert near(deals["New Business", "Proposal/Price Quote"], company_plan.OPEN * ACCOUNTS)
    years = sum((s["ended_at"] or START) - s["start_date"] for s in stripe["subscription"]) / (365 * DAY)
    # Seats change once in four years, and four of six changes are more seats.
    assert near(deals["Amendment", "Closed Won"], years * 0.25 * 4 / 6)
    assert near(deals["Existing Business", "Closed Lost"], years * 0.06)
    statuses = Counter(subscription["status"] for subscription in stripe["subscription"])
    assert statuses["active"] > 0.75 * won
    assert near(statuses["canceled"], years * company_plan.LEAVING)
    assert 1 <= statuses["past_due"] < 0.1 * won
    charges = Counter(charge["status"] for charge in stripe["charge"])
    assert 0.01 < charges["failed"] / charges.total() < 0.15
    by_card = sum(1 for invoice in stripe["invoice"] if invoice["collection_method"] == "charge_automatically")
    assert near(len(stripe["refund"]), by_card * company_plan.REFUNDED)
    assert any(line["amount"] < 0 for line in stripe["line_item"]), "nobody changed seats in mid-term"
    assert {account["CurrencyIsoCode"] for account in salesforce["Account"]} == {"GBP", "EUR", "USD", "JPY"}
    closed = Counter(deal["CloseDate"][:4] for deal in salesforce["Opportunity"] if deal["IsWon"])
    assert len(closed) >= 3


def test_an_amendment_is_billed_by_the_subscription_of_its_deal(truth: dict[str, Rows]) -> None:
    deals = {deal["Id"]: deal for deal in truth["salesforce"]["Opportunity"]}
    lines = truth["salesforce"]["OpportunityLineItem"]
    copies = {line["Amends_Line__c"]: line for line in lines if "Amends_Line__c" in line}
    billed = {
        line: item
        for subscription in truth["stripe"]["subscription"]
        for item in subscription["items"]["data"]
        for line in item["metadata"]["sf_line_id"].split(",")
    }
    compared = 0
    for line in lines:
        amendment = deals[line["OpportunityId"]]
        if amendment["Type"] == "Amendment":
            copy = copies.pop(line["Id"])
            assert copy["OpportunityId"] == amendment["Amends_Opportunity__c"]
            assert (copy["Quantity"], copy["UnitPrice"]) == (line["Quantity"], line["UnitPrice"])
            subscription = deals[copy["OpportunityId"]]["Stripe_Subscription_Id__c"]
            assert amendment["Stripe_Subscription_Id__c"] == subscription == billed[copy["Id"]]["subscription"]
            compared += 1
    assert compared
    assert not copies


def test_renewals_follow_the_terms_and_what_was_paid_for_them(truth: dict[str, Rows]) -> None:
    """One for each term that ended or ends in 90 days; won by a paid invoice of the next one, lost by the end."""
    invoices = [invoice for invoice in truth["stripe"]["invoice"] if invoice["status"] == "paid"]
    subscriptions = {s["id"]: s for s in truth["stripe"]["subscription"]}
    renewals = {
        deal["Stripe_Renewal_Key__c"]: deal
        for deal in truth["salesforce"]["Opportunity"]
        if "Stripe_Renewal_Key__c" in deal
    }
    due = {
        f"{name}:{end.isoformat()}"
        for name, subscription in subscriptions.items()
        for term in (1, 2, 3)
        if (end := day(subscription["start_date"]) + relativedelta(months=12 * term)) - timedelta(days=90)
        < day(subscription["ended_at"] or START)
    }
    # One whose card fails for good is over, although Stripe still tries.
    assert renewals.keys() <= due
    assert len(due - renewals.keys()) <= 0.05 * len(due)
    stages = Counter(renewal["StageName"] for renewal in renewals.values())
    assert min(stages[stage] for stage in ("Closed Won", "Closed Lost", "Prospecting")) > 0
    for key, renewal in renewals.items():
        name, _, end = key.partition(":")
        paid = any(
            i["parent"]["subscription_details"]["subscription"] == name and day(i["created"]) >= date.fromisoformat(end)
            for i in invoices
            if i["parent"]
        )
        ended = "Closed Lost" if subscriptions[name]["status"] == "canceled" else "Prospecting"
        assert renewal["StageName"] == ("Closed Won" if paid else ended)


def test_every_end_has_one_churn_record_and_a_date_on_its_contract(truth: dict[str, Rows]) -> None:
    contracts = {c.get("Stripe_Subscription_Id__c"): c for c in truth["salesforce"]["Contract"]}
    records = {record["Episode_Key__c"]: record for record in truth["salesforce"]["Churn_Record__c"]}
    ends = [s for s in truth["stripe"]["subscription"] if s["status"] == "canceled" or s["cancel_at_period_end"]]
    assert records.keys() == {f"{subscription['id']}:1" for subscription in ends}
    assert {record["Voluntary__c"] for record in records.values()} == {True, False}
    for subscription in ends:
        record = records[f"{subscription['id']}:1"]
        over = subscription["ended_at"] is not None
        at = subscription["ended_at"] or max(i["current_period_end"] for i in subscription["items"]["data"])
        assert record["Status__c"] == ("Final" if over else "Open")
        assert record["Effective_Date__c"] == day(at).isoformat()
        assert contracts[subscription["id"]]["Service_End_Date__c"] == day(at).isoformat()
        items = [(item["price"]["recurring"], item) for item in subscription["items"]["data"]]
        a_year = sum(
            (12 if every["interval"] == "month" else 1)
            * item["price"]["unit_amount"]
            * item["quantity"]
            // every["interval_count"]
            for every, item in items
        )
        assert abs(minor(record["Lost_MRR__c"], subscription["currency"].upper()) - a_year / 12) <= 0.5


def test_every_failed_payment_has_one_task_that_is_done_once_nothing_is_owed(truth: dict[str, Rows]) -> None:
    accounts = {a["Id"]: a for a in truth["salesforce"]["Account"]}
    tasks = {task["Stripe_Failure_Key__c"]: task for task in truth["salesforce"]["Task"]}
    assert len(tasks) == len(truth["salesforce"]["Task"]) == len(truth["salesforce"]["Stripe_Payment_Attempt__c"])
    unpaid = [i for i in truth["stripe"]["invoice"] if i["status"] == "open"]
    owing = {i["customer"] for i in unpaid if i["attempt_count"] > 0 or (i["due_date"] or START) < START}
    failed = [charge for charge in truth["stripe"]["charge"] if charge["status"] == "failed"]
    recent = START - 2 * DAY
    assert {f"attempt:{charge['id']}" for charge in failed if charge["created"] < recent} <= tasks.keys()
    assert {task["Status"] for task in tasks.values()} == {"Completed", "Not Started"}
    for key, task in tasks.items():
        if task["Status"] == "Not Started":
            assert accounts[task["WhatId"]]["Stripe_Customer_Id__c"] in owing
        else:
            assert key not in {f"overdue:{invoice['id']}" for invoice in unpaid}


def day(moment: int) -> date:
    """In London, where the company is."""
    return datetime.fromtimestamp(moment, ZoneInfo("Europe/London")).date()


def test_every_customer_is_an_account_and_every_subscription_a_won_deal(truth: dict[str, Rows]) -> None:
    stripe, salesforce = truth["stripe"], truth["salesforce"]
    sold = [deal for deal in salesforce["Opportunity"] if deal["IsWon"] and deal["Type"] == "New Business"]
    won = {deal["Id"]: deal for deal in sold}
    customers = {account.get("Stripe_Customer_Id__c"): account for account in salesforce["Account"]}
    assert len(stripe["subscription"]) == len(stripe["customer"]) == len(won)
    for customer in stripe["customer"]:
        account = customers[customer["id"]]
        assert customer["metadata"]["sf_account_id"] == account["Id"]
        assert customer["name"] == account["Name"]
    for subscription in stripe["subscription"]:
        deal = won[subscription["metadata"]["sf_opportunity_id"]]
        assert deal["Stripe_Subscription_Id__c"] == subscription["id"]


def test_lines_and_items_agree_in_quantity_and_price(truth: dict[str, Rows]) -> None:
    lines = {line["Id"]: line for line in truth["salesforce"]["OpportunityLineItem"]}
    compared = 0
    for subscription in truth["stripe"]["subscription"]:
        for item in subscription["items"]["data"]:
            sold = [lines[line] for line in item["metadata"]["sf_line_id"].split(",")]
            assert sum(line["Quantity"] for line in sold) == item["quantity"]
            currency = subscription["currency"].upper()
            assert {minor(line["UnitPrice"], currency) for line in sold} == {item["price"]["unit_amount"]}
            compared += 1
    assert compared > ACCOUNTS


def test_lifetime_value_is_what_was_collected_less_refunds(truth: dict[str, Rows]) -> None:
    collected: Counter[str] = Counter()
    for invoice in truth["stripe"]["invoice"]:
        collected[invoice["customer"]] += invoice["amount_paid"]
    refunded: Counter[str] = Counter()
    for charge in truth["stripe"]["charge"]:
        refunded[charge["customer"]] += charge["amount_refunded"]
    for account in truth["salesforce"]["Account"]:
        if customer := account.get("Stripe_Customer_Id__c"):
            value = minor(account["Lifetime_Value__c"], account["CurrencyIsoCode"])
            assert value == collected[customer] - refunded[customer]


def test_money_adds_up_on_every_invoice(truth: dict[str, Rows]) -> None:
    lines: Counter[str] = Counter()
    for line in truth["stripe"]["line_item"]:
        lines[line["invoice"]] += line["amount"]
    for invoice in truth["stripe"]["invoice"]:
        assert lines[invoice["id"]] == invoice["subtotal"]
        assert invoice["amount_due"] == invoice["amount_paid"] + invoice["amount_remaining"]


def test_the_same_seed_gives_the_same_company_to_the_byte() -> None:
    first, again, other = (json.dumps(made(12, seed).truth(), sort_keys=True) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_it_is_served() -> None:
    """And read to the end, so that what three years made goes through Stripe's contract with the recorded traffic."""
    with start_sandbox("--data", "company", "--accounts", "15", "--seed", "2") as handle:
        state = handle.control("GET", "/state")
        assert len(state["salesforce"]["Account"]) == 15
        assert handle.control("GET", "/clock")["frozen"] is False
        for kind in ("customer", "subscription", "invoice", "charge", "refund", "payment_intent"):
            every: dict[str, Any] = {"status": "all"} if kind == "subscription" else {}
            found: list[str] = []
            page: dict[str, Any] = {"has_more": True}
            while page["has_more"]:
                after: dict[str, Any] = {"starting_after": found[-1]} if found else {}
                page = calls.stripe(handle, "GET", f"/v1/{kind}s", limit=100, **every, **after).json()
                found += [row["id"] for row in page["data"]]
            assert sorted(found) == sorted(row["id"] for row in state["stripe"].get(kind, []))
        assert calls.stripe(handle, "GET", "/v1/events", limit=100).json()["data"]
