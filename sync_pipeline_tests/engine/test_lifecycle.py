"""What follows a won deal, live: seats from either side, an overdue invoice, a cancellation, a renewal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from sync_pipeline.engine.reconcile import compare, read_tables, reconcile
from sync_pipeline.ledger import facts
from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import at_stripe, edit, mark, only, pay, records, win, writes_since


@pytest.fixture
def billed(sync: Installation) -> Installation:
    """The story's deal, won and billed."""
    win(sync.sandbox)
    sync.rest()
    return sync


def seats(sync: Installation) -> dict[int, tuple[int, float]]:
    """Unit amount -> quantity at Stripe and in Salesforce."""
    items = {item["id"]: item for item in only(sync.sandbox, "subscription")["items"]["data"]}
    return {
        items[line["Stripe_Subscription_Item_Id__c"]]["price"]["unit_amount"]: (
            items[line["Stripe_Subscription_Item_Id__c"]]["quantity"],
            line["Quantity"],
        )
        for line in records(sync.sandbox, "OpportunityLineItem")
    }


def settled_for_good(sync: Installation) -> None:
    """Both systems agree, and further reconciles write nothing."""
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def test_seats_edited_in_salesforce_are_billed_from_the_edit_after_the_quiet_period(billed: Installation) -> None:
    billed.wait(90 * DAY)
    billed.rest()
    (line,) = [each for each in records(billed.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    edit(billed.sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
    edited_at = billed.sandbox.control("GET", "/clock")["now"]
    billed.drain()
    assert seats(billed)[60_000] == (20, 25.0)
    billed.wait(60)
    billed.rest()
    assert seats(billed)[60_000] == (25, 25.0)
    prorated = records(billed.sandbox, "invoiceitem")
    assert {each["period"]["start"] for each in prorated} == {edited_at}
    period = only(billed.sandbox, "subscription")["items"]["data"][0]
    start, end = period["current_period_start"], period["current_period_end"]
    credit, debit = sorted(each["amount"] for each in prorated)
    assert (credit, debit) == (
        -round(20 * 60_000 * (end - edited_at) / (end - start)),
        round(25 * 60_000 * (end - edited_at) / (end - start)),
    )
    assert only(billed.sandbox, "Opportunity")["Amount"] == 48_000.0
    assert only(billed.sandbox, "Account")["MRR__c"] == 4_000.0
    settled_for_good(billed)


def test_seats_changed_at_stripe_reach_the_lines_with_their_price(billed: Installation) -> None:
    (item,) = [i for i in only(billed.sandbox, "subscription")["items"]["data"] if i["quantity"] == 20]
    at_stripe(billed.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=28)
    billed.rest()
    assert seats(billed)[60_000] == (28, 28.0)
    (line,) = [each for each in records(billed.sandbox, "OpportunityLineItem") if each["Quantity"] == 28]
    assert line["UnitPrice"] == 600.0
    assert only(billed.sandbox, "Opportunity")["Amount"] == 49_800.0
    assert only(billed.sandbox, "Account")["Seats__c"] == 43.0
    settled_for_good(billed)


class ThenSomebodyActs:
    """The real Stripe adapter; right after the answer to its first update, before anything is written down, `act`."""

    def __init__(self, stripe: Stripe, act: Callable[[], object]) -> None:
        self.stripe, self.act = stripe, [act]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stripe, name)

    def update(self, *args: Any, **kwargs: Any) -> Outcome:
        outcome = self.stripe.update(*args, **kwargs)
        while self.act:
            self.act.pop()()
        return outcome


def test_a_customer_who_acts_between_our_write_and_the_next_look_is_not_overruled(billed: Installation) -> None:
    (line,) = [each for each in records(billed.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    (item,) = [i for i in only(billed.sandbox, "subscription")["items"]["data"] if i["quantity"] == 20]
    edit(billed.sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
    billed.wait(60)
    path = f"/v1/subscription_items/{item['id']}"
    hurried = ThenSomebodyActs(billed.engine.stripe, lambda: at_stripe(billed.sandbox, "POST", path, quantity=23))
    billed.engine = replace(billed.engine, stripe=cast(Stripe, hurried))
    billed.rest()
    assert hurried.act == []
    assert seats(billed)[60_000] == (23, 23.0)
    assert billed.open_reviews() == {}
    settled_for_good(billed)


def test_an_overdue_invoice_is_one_task_however_often_it_is_looked_at(billed: Installation) -> None:
    billed.wait(34 * DAY)
    billed.rest()
    reconcile(billed.engine)
    account = only(billed.sandbox, "Account")
    task = only(billed.sandbox, "Task")
    assert task["Subject"] == "Invoice overdue: GBP 45,000.00"
    assert task["OwnerId"] == account["Customer_Success_Owner__c"]
    assert task["WhatId"] == account["Id"]
    assert "Monthly recurring revenue at risk: GBP 3,750.00." in task["Description"]
    invoice = only(billed.sandbox, "invoice")
    assert only(billed.sandbox, "Stripe_Payment_Attempt__c")["Key__c"] == f"overdue:{invoice['id']}"
    assert (account["Billing_Status__c"], account["MRR_At_Risk__c"]) == ("Past Due", 3_750.0)
    assert account["Retention_Status__c"] == "At Risk"
    settled_for_good(billed)


def test_a_cancellation_taken_back_and_made_again_is_two_episodes(billed: Installation) -> None:
    subscription = only(billed.sandbox, "subscription")["id"]
    path = f"/v1/subscriptions/{subscription}"
    at_stripe(billed.sandbox, "POST", path, cancel_at_period_end=True)
    billed.rest()
    assert only(billed.sandbox, "Churn_Record__c")["Status__c"] == "Open"
    assert only(billed.sandbox, "Account")["Retention_Status__c"] == "Cancel Scheduled"
    at_stripe(billed.sandbox, "POST", path, cancel_at_period_end=False)
    billed.rest()
    assert only(billed.sandbox, "Churn_Record__c")["Status__c"] == "Rescinded"
    at_stripe(billed.sandbox, "POST", path, cancel_at_period_end=True)
    billed.rest()
    pay(billed.sandbox)
    billed.wait(366 * DAY)
    billed.rest()
    told = {r["Episode_Key__c"]: r["Status__c"] for r in records(billed.sandbox, "Churn_Record__c")}
    assert told == {f"{subscription}:1": "Rescinded", f"{subscription}:2": "Final"}
    account = only(billed.sandbox, "Account")
    assert (account["Retention_Status__c"], account["MRR__c"]) == ("Churned", 0.0)
    assert len(records(billed.sandbox, "subscription")) == 1
    settled_for_good(billed)


def test_a_renewal_opens_follows_the_seats_and_is_won_when_the_next_term_is_paid(billed: Installation) -> None:
    pay(billed.sandbox)
    billed.wait(280 * DAY)
    reconcile(billed.engine)
    deal, renewal = sorted(records(billed.sandbox, "Opportunity"), key=lambda each: each["Id"])
    subscription = only(billed.sandbox, "subscription")
    assert renewal["Stripe_Renewal_Key__c"] == f"{subscription['id']}:2027-01-15"
    assert (renewal["StageName"], renewal["Amount"]) == ("Prospecting", 45_000.0)
    (item,) = [i for i in subscription["items"]["data"] if i["quantity"] == 20]
    at_stripe(billed.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=25)
    billed.rest()
    deal, renewal = sorted(records(billed.sandbox, "Opportunity"), key=lambda each: each["Id"])
    assert (deal["Amount"], renewal["Amount"]) == (48_000.0, 48_000.0)
    billed.wait(90 * DAY)
    pay(billed.sandbox)
    billed.rest()
    deal, renewal = sorted(records(billed.sandbox, "Opportunity"), key=lambda each: each["Id"])
    assert renewal["StageName"] == "Closed Won"
    assert len(records(billed.sandbox, "subscription")) == 1
    settled_for_good(billed)


def test_tables_that_are_older_than_the_ledger_add_no_facts(billed: Installation) -> None:
    before_payment = read_tables(billed.engine)
    pay(billed.sandbox)
    billed.rest()
    with billed.ledger.read() as conn:
        known = facts.sums(conn)
    stale = dict(before_payment)
    stale["stripe/invoice_payments"] = [
        replace(payment, status="paid", amount_paid=1, paid_at=1)
        for payment in before_payment["stripe/invoice_payments"]
    ]
    compared = compare(billed.engine, stale)
    with billed.ledger.read() as conn:
        assert facts.sums(conn) == known
    assert compared.different() == [only(billed.sandbox, "Account")["Id"]]
