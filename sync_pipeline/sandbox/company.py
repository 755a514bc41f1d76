"""A software company of any size with three years behind it: its plan, lived through both systems on the clock.

Nothing is invented: every invoice, proration and retry is what the billing engine made of it. What people and the sync
pipeline would have written into Salesforce along the way is in company_paperwork.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from sync_pipeline.sandbox.company_paperwork import Book, Paperwork, major
from sync_pipeline.sandbox.company_plan import INTERVALS, PRODUCTS, Act, Customer, customers
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.world import Sandbox


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
        self._books: list[Book] = []
        self._prices: dict[tuple[str, str, str, int], str] = {}
        (success,) = self._desk.query("SELECT Id FROM User WHERE Title = 'Customer Success Manager'")
        (price_book,) = self._desk.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")
        self._success, self._price_book = success["Id"], price_book["Id"]
        self._paperwork = Paperwork(sandbox, self._desk, self._success, self._price_book)
        self._products = {name: self._product(name) for name in PRODUCTS}

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
                self._paperwork.close_books(book)

    def appear(self, customer: Customer) -> None:
        """An account with an open deal, its lines and its draft contract."""
        currency, today = customer.currency, self._paperwork.today()
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
                    "PricebookEntryId": self._paperwork.entries[line.product, currency],
                    "Quantity": line.quantity,
                    "UnitPrice": major(line.amount_minor, customer),
                },
            )
            for line in customer.lines
        ]
        book = Book(customer, account, opportunity, contract, lines)
        self._books.append(book)
        for act in customer.acts:
            self.expect(act.at, partial(self._act, book, act))

    def _act(self, book: Book, act: Act) -> None:
        paperwork, desk = self._paperwork, self._desk
        match act.what:
            case "win":
                self._win(book)
            case "lose":
                lost = {"StageName": "Closed Lost", "CloseDate": paperwork.today().isoformat(), "Description": act.word}
                desk.edit("Opportunity", book.opportunity, lost)
            case "amend" | "correct" if self._is_running(book):
                self._change_seats(book, act)
            case "turn_down" if self._is_running(book):
                paperwork.turn_down(book, act.number)
            case "settle":
                self._settle(book)
            case "decline":
                code = "insufficient_funds"
                desk.plan_payment(book.stripe_customer, "fail", decline_code=code, times=act.quantity)
            case "chase":
                paperwork.chase(book)
            case "refund":
                self._refund(book)
            case "open_renewal":
                paperwork.open_renewal(book, act.number)
            case "renewed":
                paperwork.win_renewal(book)
            case "write_off":
                self._write_off(book)
            case "leave" if self._is_running(book):
                leaving = {"cancel_at_period_end": True, "cancellation_details": {"feedback": act.word}}
                paperwork.note_end(book, desk.stripe("POST", f"/v1/subscriptions/{book.subscription}", leaving))
            case "gone":
                paperwork.note_end(book, desk.stripe("GET", f"/v1/subscriptions/{book.subscription}"))

    def _win(self, book: Book) -> None:
        customer, today = book.customer, self._paperwork.today().isoformat()
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
        book.won_on = self._paperwork.today()
        book.item_ids = [item["id"] for item in subscription["items"]["data"]]
        book.sold = [line.quantity for line in customer.lines]
        book.billed = list(book.sold)
        book.added = [[] for _ in customer.lines]

    def _subscription(self, book: Book) -> dict[str, Any]:
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

    def _change_seats(self, book: Book, act: Act) -> None:
        """Agreed with the customer: both systems get the new number, Stripe with proration."""
        if act.what == "amend":
            self._paperwork.amend(book, act.number, act.quantity)
        else:
            self._paperwork.correct(book, act.number, act.quantity)
        lines = sorted([book.line_ids[act.number], *book.added[act.number]])
        change = {"quantity": book.billed[act.number], "metadata": {"sf_line_id": ",".join(lines)}}
        self._desk.stripe("POST", f"/v1/subscription_items/{book.item_ids[act.number]}", change)

    def _settle(self, book: Book) -> None:
        sent = {"customer": book.stripe_customer, "status": "open"}
        for invoice in self._desk.stripe("GET", "/v1/invoices", sent)["data"][-1:]:
            self._desk.plan_payment(book.stripe_customer, "succeed", invoice=invoice["id"])

    def _write_off(self, book: Book) -> None:
        """Nobody expects the money any more, and service ends."""
        sent = {"customer": book.stripe_customer, "status": "open"}
        for invoice in self._desk.stripe("GET", "/v1/invoices", sent)["data"]:
            self._desk.stripe("POST", f"/v1/invoices/{invoice['id']}/mark_uncollectible")
        why = {"cancellation_details": {"comment": "Written off after 100 days without payment"}}
        self._desk.stripe("DELETE", f"/v1/subscriptions/{book.subscription}", why)

    def _refund(self, book: Book) -> None:
        last = self._desk.stripe("GET", "/v1/charges", {"customer": book.stripe_customer, "limit": 1})["data"]
        for charge in last:
            if charge["status"] == "succeeded" and charge["amount_refunded"] == 0 and charge["amount"] >= 1000:
                self._desk.stripe("POST", "/v1/refunds", {"charge": charge["id"], "amount": charge["amount"] // 10})

    def _is_running(self, book: Book) -> bool:
        subscription = self._desk.stripe("GET", f"/v1/subscriptions/{book.subscription}")
        return subscription["status"] in ("active", "past_due")

    def _product(self, name: str) -> str:
        """A product with its list prices in Salesforce, and the same product in Stripe."""
        family, prices = PRODUCTS[name]
        code = name.upper().replace(" ", "-")
        product = self._desk.create("Product2", {"Name": name, "Family": family, "ProductCode": code, "IsActive": True})
        for currency, price in prices.items():
            self._paperwork.entries[name, currency] = self._desk.create(
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
