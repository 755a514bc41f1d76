"""A software company of any size with three years behind it: its plan, lived through both systems on the clock.

Nothing is invented: every invoice, proration and retry is what the billing engine made of it. What the sync
pipeline would have written into Salesforce is written at the end, read from what Stripe then says.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any

from sync_pipeline.sandbox.company_plan import INTERVALS, PRODUCTS, Act, Customer, customers
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.world import Sandbox

_STATUS_WORDS = {"active": "Active", "past_due": "Past Due", "unpaid": "Unpaid", "canceled": "Canceled"}


@dataclass
class _Book:
    """What is known of one customer in both systems, as far as the story has come."""

    customer: Customer
    account: str
    opportunity: str
    contract: str
    line_ids: list[str]
    stripe_customer: str = ""
    subscription: str = ""
    first_invoice: str = ""
    item_ids: list[str] = field(default_factory=list)


def found(sandbox: Sandbox, *, accounts: int, seed: int, until: int) -> None:
    """Fill an empty sandbox, whose clock stands at the company's opening, and move it to `until`."""
    company = _Company(sandbox)
    for customer in customers(accounts, seed, until):
        company.expect(customer.appears_at, partial(company.appear, customer))
    company.live(until)


class _Company:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self._desk = sandbox, Desk(sandbox)
        self._org15 = sandbox.salesforce.org_id[:15]
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._books: list[_Book] = []
        self._prices: dict[tuple[str, str, str, int], str] = {}
        self._entries: dict[tuple[str, str], str] = {}
        (success,) = self._desk.query("SELECT Id FROM User WHERE Title = 'Customer Success Manager'")
        (price_book,) = self._desk.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")
        self._success, self._price_book = success["Id"], price_book["Id"]
        self._products = {name: self._product(name) for name in PRODUCTS}
        self._product_names = {product: name for name, product in self._products.items()}

    def expect(self, at: int, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, len(self._agenda) + len(self._books), do))

    def live(self, until: int) -> None:
        """Let everything happen in its time, then write down in Salesforce where each customer stands."""
        while self._agenda and self._agenda[0][0] < until:
            at, _, do = heapq.heappop(self._agenda)
            self._sandbox.move_to(at)
            do()
        self._sandbox.move_to(until)
        for book in self._books:
            if book.subscription:
                self._write_back(book)

    def appear(self, customer: Customer) -> None:
        """An account with an open deal, its lines and its draft contract."""
        currency, today = customer.currency, self._today()
        create = self._desk.create
        account = create(
            "Account",
            {
                "Name": customer.name,
                "BillingStreet": customer.street,
                "BillingCity": customer.city,
                "BillingPostalCode": customer.postal_code,
                "BillingCountry": customer.country.name,
                "Tax_Registration__c": customer.tax_number,
                "Tax_Registration_Type__c": customer.country.tax_type,
                "Customer_Success_Owner__c": self._success,
                "CurrencyIsoCode": currency,
            },
        )
        contract = create(
            "Contract",
            {"AccountId": account, "Status": "Draft", "StartDate": today.isoformat(), "ContractTerm": 12},
        )
        opportunity = create(
            "Opportunity",
            {
                "AccountId": account,
                "Name": f"{customer.name} - {customer.lines[0].product}",
                "Type": "New Business",
                "StageName": "Proposal/Price Quote",
                "CloseDate": (today + timedelta(days=60)).isoformat(),
                "CurrencyIsoCode": currency,
                "Pricebook2Id": self._price_book,
                "ContractId": contract,
                "Billing_Interval__c": customer.interval,
                "Term_Months__c": 12,
            },
        )
        lines = [
            create(
                "OpportunityLineItem",
                {
                    "OpportunityId": opportunity,
                    "PricebookEntryId": self._entries[line.product, currency],
                    "Quantity": line.quantity,
                    "UnitPrice": _major(line.amount_minor, customer),
                },
            )
            for line in customer.lines
        ]
        book = _Book(customer, account, opportunity, contract, lines)
        self._books.append(book)
        for act in customer.acts:
            self.expect(act.at, partial(self._act, book, act))

    def _act(self, book: _Book, act: Act) -> None:
        match act.what:
            case "win":
                self._win(book)
            case "seats":
                self._change_seats(book, act)
            case "settle":
                self._settle(book)
            case "decline":
                self._desk.plan_payment(book.stripe_customer, "fail", decline_code="insufficient_funds")
            case "refund":
                self._refund(book)
            case "leave":
                self._desk.stripe(
                    "POST",
                    f"/v1/subscriptions/{book.subscription}",
                    {"cancel_at_period_end": True, "cancellation_details": {"feedback": "too_expensive"}},
                )

    def _win(self, book: _Book) -> None:
        customer, today = book.customer, self._today().isoformat()
        won = {"StageName": "Closed Won", "CloseDate": today, "Service_Start_Date__c": today}
        self._desk.edit("Opportunity", book.opportunity, won)
        self._desk.edit("Contract", book.contract, {"StartDate": today})
        self._desk.edit("Contract", book.contract, {"Status": "Activated"})
        params: dict[str, Any] = {
            "name": customer.name,
            "address": {
                "line1": customer.street,
                "city": customer.city,
                "postal_code": customer.postal_code,
                "country": customer.country.code,
            },
            "tax_id_data": [{"type": customer.country.tax_type, "value": customer.tax_number}],
            "metadata": {"sf_account_id": book.account, "sf_intent": f"cus:{self._org15}:{book.account}"},
        }
        if customer.automatic:
            card = {"default_payment_method": "pm_card_visa"}
            params |= {"payment_method": "pm_card_visa", "invoice_settings": card}
        book.stripe_customer = self._desk.stripe("POST", "/v1/customers", params)["id"]
        subscription = self._desk.stripe("POST", "/v1/subscriptions", self._subscription(book))
        book.subscription = subscription["id"]
        book.first_invoice = subscription["latest_invoice"]
        book.item_ids = [item["id"] for item in subscription["items"]["data"]]

    def _subscription(self, book: _Book) -> dict[str, Any]:
        customer = book.customer
        collection = {"collection_method": "charge_automatically"}
        if not customer.automatic:
            collection = {"collection_method": "send_invoice", "days_until_due": "30"}
        return collection | {
            "customer": book.stripe_customer,
            "items": [
                {
                    "price": self._price(line.product, customer, line.amount_minor),
                    "quantity": line.quantity,
                    "metadata": {"sf_line_id": line_id},
                }
                for line, line_id in zip(customer.lines, book.line_ids, strict=True)
            ],
            "metadata": {
                "sf_account_id": book.account,
                "sf_opportunity_id": book.opportunity,
                "sf_intent": f"sub:{self._org15}:{book.opportunity}:1",
            },
        }

    def _change_seats(self, book: _Book, act: Act) -> None:
        """Agreed with the customer: both systems get the new number, Stripe with proration."""
        if self._status(book) not in ("active", "past_due"):
            return
        price = _major(book.customer.lines[act.number].amount_minor, book.customer)
        line = {"Quantity": act.quantity, "UnitPrice": price}
        self._desk.edit("OpportunityLineItem", book.line_ids[act.number], line)
        item = book.item_ids[act.number]
        self._desk.stripe("POST", f"/v1/subscription_items/{item}", {"quantity": act.quantity})

    def _settle(self, book: _Book) -> None:
        sent = {"customer": book.stripe_customer, "status": "open", "limit": 1}
        for invoice in self._desk.stripe("GET", "/v1/invoices", sent)["data"]:
            self._desk.plan_payment(book.stripe_customer, "succeed", invoice=invoice["id"])

    def _refund(self, book: _Book) -> None:
        last = self._desk.stripe("GET", "/v1/charges", {"customer": book.stripe_customer, "limit": 1})["data"]
        for charge in last:
            if charge["status"] == "succeeded" and charge["amount_refunded"] == 0 and charge["amount"] >= 1000:
                self._desk.stripe("POST", "/v1/refunds", {"charge": charge["id"], "amount": charge["amount"] // 10})

    def _status(self, book: _Book) -> str:
        return str(self._desk.stripe("GET", f"/v1/subscriptions/{book.subscription}")["status"])

    def _write_back(self, book: _Book) -> None:
        """The fields that the sync keeps, from what Stripe says now."""
        subscription = self._desk.stripe("GET", f"/v1/subscriptions/{book.subscription}")
        charges = self._desk.stripe_all("/v1/charges", {"customer": book.stripe_customer})
        items = subscription["items"]["data"] if subscription["status"] in ("active", "past_due") else []
        status = _STATUS_WORDS.get(subscription["status"])
        if status == "Active" and (subscription["cancel_at_period_end"] or subscription["cancel_at"]):
            status = "Cancel Scheduled"
        collected = sum(c["amount_captured"] - c["amount_refunded"] for c in charges)
        first_payment = self._first_payment(book)
        monthly = round(sum(map(_yearly, subscription["items"]["data"]), Fraction(0)) / 12)
        customer = book.customer
        largest = max(items, key=lambda item: (_yearly(item), item["id"]), default=None)
        families = [PRODUCTS[line.product][0] for line in customer.lines]
        seats = [i["quantity"] for i, family in zip(items, families, strict=False) if family == "Seats"]
        self._desk.edit(
            "Account",
            book.account,
            {
                "Stripe_Customer_Id__c": book.stripe_customer,
                "Billing_Status__c": status,
                "Billing_Plan__c": self._product_names[largest["price"]["product"]] if largest else None,
                "Seats__c": sum(seats),
                "MRR__c": _major(monthly if items else 0, customer),
                "MRR_At_Risk__c": _major(monthly if status in ("Past Due", "Unpaid") else 0, customer),
                "Lifetime_Value__c": _major(collected, customer),
            },
        )
        self._desk.edit(
            "Opportunity",
            book.opportunity,
            {
                "Stripe_Subscription_Id__c": book.subscription,
                "Billing_Status__c": status,
                "Activation_Status__c": "Activated" if first_payment else "Pending",
                "First_Payment_At__c": _datetime(first_payment) if first_payment else None,
            },
        )
        self._desk.edit("Contract", book.contract, {"Stripe_Subscription_Id__c": book.subscription})
        for line, item in zip(book.line_ids, book.item_ids, strict=True):
            if subscription["status"] != "canceled":
                self._desk.edit("OpportunityLineItem", line, {"Stripe_Subscription_Item_Id__c": item})

    def _first_payment(self, book: _Book) -> int | None:
        """When the first invoice that was ever paid was paid; nearly always that is the first invoice."""
        first = self._desk.stripe("GET", f"/v1/invoices/{book.first_invoice}")
        if first["status"] == "paid":
            return int(first["status_transitions"]["paid_at"])
        paid = self._desk.stripe_all("/v1/invoices", {"subscription": book.subscription, "status": "paid"})
        return min((invoice["status_transitions"]["paid_at"] for invoice in paid), default=None)

    def _product(self, name: str) -> str:
        """A product with its list prices in Salesforce, and the same product in Stripe."""
        family, prices = PRODUCTS[name]
        code = name.upper().replace(" ", "-")
        product = self._desk.create("Product2", {"Name": name, "Family": family, "ProductCode": code, "IsActive": True})
        for currency, price in prices.items():
            self._entries[name, currency] = self._desk.create(
                "PricebookEntry",
                {
                    "Pricebook2Id": self._price_book,
                    "Product2Id": product,
                    "UnitPrice": price,
                    "CurrencyIsoCode": currency,
                    "IsActive": True,
                },
            )
        body = {"id": f"sf_{product}", "name": name, "metadata": {"sf_product_id": product}}
        return str(self._desk.stripe("POST", "/v1/products", body)["id"])

    def _price(self, product: str, customer: Customer, amount_minor: int) -> str:
        """The reusable price of a negotiated rate, made when it is first agreed."""
        currency = customer.currency.lower()
        interval, count = INTERVALS[customer.interval]
        known = self._prices.get((product, currency, customer.interval, amount_minor))
        if known is None:
            key = f"{self._products[product]}:{currency}:{count}{interval}:{amount_minor}"
            body = {
                "product": self._products[product],
                "currency": currency,
                "unit_amount": amount_minor,
                "recurring": {"interval": interval, "interval_count": count},
                "lookup_key": key,
            }
            known = self._desk.stripe("POST", "/v1/prices", body)["id"]
            self._prices[product, currency, customer.interval, amount_minor] = known
        return known

    def _today(self) -> date:
        return datetime.fromtimestamp(self._sandbox.clock.now(), UTC).date()


def _major(amount_minor: int, customer: Customer) -> int | float:
    """Stripe's amount as Salesforce holds it: a JSON number in whole units of the currency."""
    return amount_minor if customer.currency == "JPY" else amount_minor / 100


def _yearly(item: dict[str, Any]) -> Fraction:
    """What a subscription item bills in a year, in minor units."""
    recurring = item["price"]["recurring"]
    periods = Fraction(1 if recurring["interval"] == "year" else 12, recurring["interval_count"])
    return periods * int(item["price"]["unit_amount"]) * int(item["quantity"])


def _datetime(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S}.000+0000"
