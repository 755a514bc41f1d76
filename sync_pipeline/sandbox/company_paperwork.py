"""What stands in Salesforce about a made-up customer besides the deal: amendments, renewals, churn, Tasks, the figures.

People enter it as things happen, and the sync pipeline knows it as its own: an amendment names its deal and is billed
by the deal's subscription, and renewals, churn records and Tasks have the keys by which the pipeline finds its own, so
that it never makes a second one of any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from sync_pipeline.sandbox.company_plan import INTERVALS, PRODUCTS, Customer
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.world import Sandbox

_STATUS_WORDS = {"active": "Active", "past_due": "Past Due", "unpaid": "Unpaid", "canceled": "Canceled"}
_RUNNING = ("active", "past_due")
_HOME = ZoneInfo("Europe/London")
_REASONS = {
    "cancellation_requested": "cancellation was requested",
    "payment_failed": "the payment failed for good",
}


@dataclass
class Book:
    """What is known of one customer in both systems, as far as the story has come.

    By line of the deal: `line_ids` of the deal itself, `sold` on that line, `added` lines that amendments brought, and
    what is `billed` of all together. Open renewals and Tasks are by their keys; `told` are all failures that ever had
    a Task.
    """

    customer: Customer
    account: str
    opportunity: str
    contract: str
    line_ids: list[str]
    stripe_customer: str = ""
    subscription: str = ""
    first_invoice: str = ""
    won_on: date = date.min
    item_ids: list[str] = field(default_factory=list)
    sold: list[int] = field(default_factory=list)
    billed: list[int] = field(default_factory=list)
    added: list[list[str]] = field(default_factory=list)
    amendments: list[str] = field(default_factory=list)
    renewals: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    churn_record: str = ""
    churn_status: str = ""


class Paperwork:
    """`entries` are the price book entries by product and currency, filled before the first deal."""

    def __init__(self, sandbox: Sandbox, desk: Desk, success: str, price_book: str) -> None:
        self._sandbox, self._desk = sandbox, desk
        self._success, self._price_book = success, price_book
        self.entries: dict[tuple[str, str], str] = {}

    def today(self) -> date:
        return day_of(self._sandbox.clock.now())

    def amend(self, book: Book, number: int, more: int) -> None:
        """A won amendment over more of a line, and that line on the deal that it amends."""
        customer, today = book.customer, self.today().isoformat()
        product = customer.lines[number].product
        amendment = self._desk.create(
            "Opportunity",
            {
                "AccountId": book.account,
                "Name": f"{customer.name} - {more} more {product}",
                "Type": "Amendment",
                "Amends_Opportunity__c": book.opportunity,
                "StageName": "Closed Won",
                "CloseDate": today,
                "CurrencyIsoCode": customer.currency,
                "Pricebook2Id": self._price_book,
                "ContractId": book.contract,
            },
        )
        line = {
            "PricebookEntryId": self.entries[product, customer.currency],
            "Quantity": more,
            "UnitPrice": major(customer.lines[number].amount_minor, customer),
        }
        sold = self._desk.create("OpportunityLineItem", line | {"OpportunityId": amendment})
        on_the_deal = line | {"OpportunityId": book.opportunity, "Amends_Line__c": sold, "ServiceDate": today}
        book.added[number].append(self._desk.create("OpportunityLineItem", on_the_deal))
        book.amendments.append(amendment)
        book.billed[number] += more

    def correct(self, book: Book, number: int, fewer: int) -> None:
        """A line of the deal itself has fewer."""
        book.sold[number] -= fewer
        book.billed[number] -= fewer
        # Quantity alone would have Salesforce compute the price anew from an unchanged total.
        price = major(book.customer.lines[number].amount_minor, book.customer)
        self._desk.edit(
            "OpportunityLineItem", book.line_ids[number], {"Quantity": book.sold[number], "UnitPrice": price}
        )

    def turn_down(self, book: Book, number: int) -> None:
        """The customer was offered more and did not want it."""
        customer = book.customer
        lost = {
            "AccountId": book.account,
            "Name": f"{customer.name} - expansion of {customer.lines[number].product}",
            "Type": "Existing Business",
            "StageName": "Closed Lost",
            "CloseDate": self.today().isoformat(),
            "CurrencyIsoCode": customer.currency,
            "Amount": major(customer.lines[number].amount_minor * max(1, book.billed[number] // 2), customer),
        }
        self._desk.create("Opportunity", lost)

    def open_renewal(self, book: Book, term: int) -> None:
        """The renewal at the end of a term (1 is the first), over what the next one bills as things stand."""
        customer = book.customer
        end = book.won_on + relativedelta(months=12 * term)
        key = f"{book.subscription}:{end.isoformat()}"
        renewal = {
            "AccountId": book.account,
            "Name": f"{customer.name} - {customer.lines[0].product} renewal {end:%Y-%m}",
            "Type": "Renewal",
            "StageName": "Prospecting",
            "CloseDate": end.isoformat(),
            "CurrencyIsoCode": customer.currency,
            "Amount": major(self._yearly(book), customer),
            "Stripe_Renewal_Key__c": key,
        }
        book.renewals[key] = self._desk.create("Opportunity", renewal)

    def win_renewal(self, book: Book) -> None:
        """Close what was renewed: the renewals of terms of which an invoice has been paid."""
        begun = {key: renewal for key, renewal in book.renewals.items() if _end_in(key) <= self.today()}
        if not begun:
            return
        paid = {"subscription": book.subscription, "status": "paid", "limit": 1}
        for invoice in self._desk.stripe("GET", "/v1/invoices", paid)["data"]:
            for key, renewal in begun.items():
                if day_of(invoice["created"]) >= _end_in(key):
                    self._desk.edit("Opportunity", renewal, {"StageName": "Closed Won"})
                    del book.renewals[key]

    def chase(self, book: Book) -> None:
        """A Task for each failed charge and overdue invoice that has none, and no open one once all is paid."""
        customer = {"customer": book.stripe_customer}
        unpaid = self._desk.stripe("GET", "/v1/invoices", customer | {"status": "open"})["data"]
        charges = self._desk.stripe("GET", "/v1/charges", customer)["data"]
        for charge in (each for each in charges if each["status"] == "failed"):
            self._task(book, f"attempt:{charge['id']}", "Payment failed", charge["amount"])
        now = self._sandbox.clock.now()
        for invoice in unpaid:
            if (invoice["due_date"] or now) < now:
                self._task(book, f"overdue:{invoice['id']}", "Invoice overdue", invoice["amount_remaining"])
        if not any(invoice["attempt_count"] or (invoice["due_date"] or now) < now for invoice in unpaid):
            for task in book.tasks.values():
                self._desk.edit("Task", task, {"Status": "Completed"})
            book.tasks.clear()

    def note_end(self, book: Book, subscription: dict[str, Any]) -> None:
        """The churn record of a subscription whose end is scheduled or has come, and what follows from the end."""
        status, ends_at = _end_of(subscription)
        if ends_at is None or status == book.churn_status:
            return
        day, details = day_of(ends_at).isoformat(), subscription["cancellation_details"]
        record: dict[str, Any] = {
            "Status__c": status,
            "Effective_Date__c": day,
            "Lost_MRR__c": major(monthly(subscription["items"]["data"]), book.customer),
            "Reason__c": _REASONS.get(details["reason"], details["reason"]),
            "Feedback__c": details["feedback"],
            "Comment__c": details["comment"],
            "Voluntary__c": details["reason"] == "cancellation_requested",
        }
        if status == "Final":
            record["Open_Debt__c"] = major(self._debt(book), book.customer)
        if book.churn_record:
            self._desk.edit("Churn_Record__c", book.churn_record, record)
        else:
            identity = {
                "Episode_Key__c": f"{book.subscription}:1",
                "Kind__c": "Churn",
                "Account__c": book.account,
                "Opportunity__c": book.opportunity,
                "Stripe_Subscription_Id__c": book.subscription,
                "CurrencyIsoCode": book.customer.currency,
            }
            book.churn_record = self._desk.create("Churn_Record__c", identity | record)
        book.churn_status = status
        # An activated Contract keeps its status for ever: its end stands in a date.
        contract = {"Service_End_Date__c": day, "Stripe_Subscription_Id__c": book.subscription}
        self._desk.edit(
            "Contract", book.contract, contract | ({"Cancel_Requested_On__c": day} if status == "Open" else {})
        )
        if status == "Final":
            told = ": ".join(filter(None, (record["Reason__c"], (details["feedback"] or "").replace("_", " "))))
            for renewal in book.renewals.values():
                self._desk.edit("Opportunity", renewal, {"StageName": "Closed Lost", "Renewal_Lost_Reason__c": told})
            book.renewals.clear()

    def close_books(self, book: Book) -> None:
        """The fields that the sync keeps, from what Stripe says now."""
        desk, customer = self._desk, book.customer
        subscription = desk.stripe("GET", f"/v1/subscriptions/{book.subscription}")
        self.note_end(book, subscription)
        if book.tasks or subscription["status"] == "past_due":
            self.chase(book)
        charges = desk.stripe_all("/v1/charges", {"customer": book.stripe_customer})
        running = subscription["status"] in _RUNNING
        items = subscription["items"]["data"] if running else []
        status = _STATUS_WORDS.get(subscription["status"])
        if status == "Active" and book.churn_status == "Open":
            status = "Cancel Scheduled"
        collected = sum(c["amount_captured"] - c["amount_refunded"] for c in charges)
        first_payment = self._first_payment(book)
        recurring = major(monthly(items), customer)
        families = [PRODUCTS[line.product][0] for line in customer.lines]
        seats = [billed for billed, family in zip(book.billed, families, strict=True) if family == "Seats"]
        at_risk = status in ("Past Due", "Unpaid")
        desk.edit(
            "Account",
            book.account,
            {
                "Stripe_Customer_Id__c": book.stripe_customer,
                "Billing_Status__c": status,
                "Billing_Plan__c": self._plan(book) if running else None,
                "Seats__c": sum(seats) if running else 0,
                "MRR__c": recurring,
                "MRR_At_Risk__c": recurring if at_risk else 0,
                "Lifetime_Value__c": major(collected, customer),
                "Retention_Status__c": _retention(status, at_risk),
            },
        )
        billed = {"Stripe_Subscription_Id__c": book.subscription, "Billing_Status__c": status}
        activation = {
            "Activation_Status__c": "Activated" if first_payment else "Pending",
            "First_Payment_At__c": _datetime(first_payment) if first_payment else None,
        }
        desk.edit("Opportunity", book.opportunity, billed | activation)
        for amendment in book.amendments:
            desk.edit("Opportunity", amendment, billed)
        contract: dict[str, Any] = {"Stripe_Subscription_Id__c": book.subscription}
        if running:
            contract["ContractTerm"] = 12 * (relativedelta(self.today(), book.won_on).years + 1)
            for lines, item in zip(zip(book.line_ids, book.added, strict=True), book.item_ids, strict=True):
                for line in (lines[0], *lines[1]):
                    desk.edit("OpportunityLineItem", line, {"Stripe_Subscription_Item_Id__c": item})
        desk.edit("Contract", book.contract, contract)

    def _task(self, book: Book, key: str, happened: str, amount_minor: int) -> None:
        """With the marker by which the sync knows that it was made."""
        if key in book.told:
            return
        self._desk.create("Stripe_Payment_Attempt__c", {"Key__c": key, "Account__c": book.account})
        amount = f"{book.customer.currency} {major(amount_minor, book.customer):,}"
        task = {
            "WhatId": book.account,
            "OwnerId": self._success,
            "Subject": f"{happened}: {amount}",
            "Description": f"{happened} of {book.customer.name}. Ask what holds it up.",
            "ActivityDate": (self.today() + timedelta(days=3)).isoformat(),
            "Priority": "Normal",
            "Status": "Not Started",
            "Stripe_Failure_Key__c": key,
        }
        book.tasks[key] = self._desk.create("Task", task)
        book.told.add(key)

    def _debt(self, book: Book) -> int:
        """What was billed and never paid, minor units."""
        of_it = {"subscription": book.subscription}
        unpaid = [self._desk.stripe_all("/v1/invoices", of_it | {"status": s}) for s in ("open", "uncollectible")]
        return sum(invoice["amount_remaining"] for invoices in unpaid for invoice in invoices)

    def _first_payment(self, book: Book) -> int | None:
        """When the first invoice that was ever paid was paid; nearly always that is the first invoice."""
        first = self._desk.stripe("GET", f"/v1/invoices/{book.first_invoice}")
        if first["status"] == "paid":
            return int(first["status_transitions"]["paid_at"])
        paid = self._desk.stripe_all("/v1/invoices", {"subscription": book.subscription, "status": "paid"})
        return min((invoice["status_transitions"]["paid_at"] for invoice in paid), default=None)

    def _yearly(self, book: Book) -> int:
        """What a year bills as things stand, minor units."""
        unit, count = INTERVALS[book.customer.interval]
        periods = 1 if unit == "year" else 12 // count
        lines = zip(book.customer.lines, book.billed, strict=True)
        return periods * sum(line.amount_minor * billed for line, billed in lines)

    def _plan(self, book: Book) -> str:
        """The product with most of the recurring revenue."""
        lines = zip(book.customer.lines, book.billed, book.item_ids, strict=True)
        return max((line.amount_minor * billed, item, line.product) for line, billed, item in lines)[2]


def major(amount_minor: int, customer: Customer) -> int | float:
    """Stripe's amount as Salesforce holds it: a JSON number in whole units of the currency."""
    return amount_minor if customer.currency == "JPY" else amount_minor / 100


def monthly(items: list[dict[str, Any]]) -> int:
    """The monthly recurring revenue of subscription items, minor units."""
    return round(sum(map(_yearly_of_item, items), Fraction(0)) / 12)


def day_of(moment: int) -> date:
    """The company's day of a moment (epoch seconds)."""
    return datetime.fromtimestamp(moment, UTC).astimezone(_HOME).date()


def _yearly_of_item(item: dict[str, Any]) -> Fraction:
    recurring = item["price"]["recurring"]
    periods = Fraction(1 if recurring["interval"] == "year" else 12, recurring["interval_count"])
    return periods * int(item["price"]["unit_amount"]) * int(item["quantity"])


def _end_of(subscription: dict[str, Any]) -> tuple[str, int | None]:
    """The status of its churn record, and when the subscription ended or will; None where no end is known."""
    if subscription["status"] == "canceled":
        return "Final", subscription["ended_at"]
    if subscription["cancel_at_period_end"] or subscription["cancel_at"]:
        ends = max(item["current_period_end"] for item in subscription["items"]["data"])
        return "Open", subscription["cancel_at"] or ends
    return "", None


def _end_in(renewal_key: str) -> date:
    return date.fromisoformat(renewal_key.rpartition(":")[2])


def _retention(status: str | None, at_risk: bool) -> str:
    word = {"Canceled": "Churned", "Cancel Scheduled": "Cancel Scheduled"}.get(status or "", "Healthy")
    return "At Risk" if at_risk else word


def _datetime(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S}.000+0000"
