"""The people of a seed and the companies with which it begins. What they do is data (`acts.py` does it), so that a
failing seed can be told and shrunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sync_pipeline.sandbox import story
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.world import Sandbox, build

OPENS_AT = 1_768_471_200  # 2026-01-15 10:00 UTC
MINUTE, HOUR, DAY = 60, 3_600, 86_400
GAPS = (0, 5, 20, 50, 5 * MINUTE, 40 * MINUTE, 3 * HOUR, 23 * HOUR + 50 * MINUTE, 4 * DAY, 31 * DAY, 180 * DAY)
CUSTOMERS = 3
CANARY = "Canary"
OPEN = "Negotiation/Review"
ONE_TIME = "One-Time"
ENDED = ("canceled", "incomplete_expired")


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """`after` seconds of the action before it, somebody does `verb` to the customer `who`; `n` is its number."""

    after: int
    verb: str
    who: int
    n: int

    def __str__(self) -> str:
        return f"{self.verb} (customer {self.who}, {self.n})"


def first_state() -> Sandbox:
    """Three Accounts with an open deal each; Stripe is empty."""
    sandbox = build(seed=0, now=OPENS_AT)
    desk = Desk(sandbox)
    told = story.tell(sandbox)
    lines = desk.query("SELECT PricebookEntryId, Quantity, UnitPrice FROM OpportunityLineItem")
    (pattern,) = desk.query("SELECT Pricebook2Id, Service_Start_Date__c, CloseDate FROM Opportunity")
    place = {"BillingStreet": f"1 {CANARY} Street", "BillingCity": "London", "BillingCountry": "United Kingdom"}
    desk.edit("Account", told["account"], {"Name": f"{CANARY} One Ltd", **place})
    for number, (name, interval) in enumerate((("Two", "Monthly"), ("Three", "Annual")), start=1):
        account = desk.create("Account", {"Name": f"{CANARY} {name} Ltd", **place})
        fields = {**plain(pattern), "AccountId": account, "Name": f"Deal {name}", "StageName": OPEN}
        opportunity = desk.create("Opportunity", {**fields, "Billing_Interval__c": interval, "Term_Months__c": 12})
        for line in lines[number:]:
            desk.create("OpportunityLineItem", {**plain(line), "OpportunityId": opportunity})
    return sandbox


class People:
    """Whoever works in the two systems, who keeps the rules of the sync, and whoever makes plans and applies them.

    `seat_edits` are by Account: which system, which line or item, how many. `amended` are Accounts whose deal has
    other lines since.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.desk = sandbox, Desk(sandbox)
        self.keeps_contracts = True
        self.operator_comes: Callable[[int], None] = lambda n: None
        self.amended: set[str] = set()
        self.seat_edits: dict[str, list[tuple[str, str, int]]] = {}
        self.accounts = [row["Id"] for row in self.desk.query("SELECT Id FROM Account ORDER BY CreatedDate, Id")]

    def leave_cards(self) -> None:
        """Every customer without a card leaves one, as at a checkout."""
        for customer in self.desk.stripe_all("/v1/customers"):
            if not customer["invoice_settings"]["default_payment_method"]:
                card = self.desk.stripe("POST", "/v1/payment_methods/pm_card_visa/attach", {"customer": customer["id"]})
                settings = {"invoice_settings": {"default_payment_method": card["id"]}}
                self.desk.stripe("POST", f"/v1/customers/{customer['id']}", settings)

    @property
    def calls_left(self) -> int:
        """Percent of the calls that Salesforce allows in a day, for all programs of the org."""
        limits = self.sandbox.salesforce.org.limits
        return 100 * (limits.allowed - limits.used()) // limits.allowed

    def opportunity(self, account: str) -> Mapping[str, Any] | None:
        rows = self.desk.query(f"SELECT Id, StageName FROM Opportunity WHERE AccountId = '{account}' ORDER BY Id")
        return rows[0] if rows else None

    def customer(self, account: str) -> Mapping[str, Any] | None:
        found = [
            c for c in self.desk.stripe_all("/v1/customers") if (c["metadata"] or {}).get("sf_account_id") == account
        ]
        return found[-1] if found else None

    def lines(self, account: str) -> list[dict[str, Any]]:
        """What the Account's first deal bills again and again."""
        found = self.opportunity(account)
        fields = "Id, UnitPrice, PricebookEntryId, Product2.Family"
        deal = found["Id"] if found else ""
        rows = self.desk.query(f"SELECT {fields} FROM OpportunityLineItem WHERE OpportunityId = '{deal}' ORDER BY Id")
        return [row for row in rows if row.pop("Product2")["Family"] != ONE_TIME]

    def one_time_entry(self) -> str:
        """The price book's entry of what is charged once; it is made when somebody sells it first."""
        found = self.desk.query(f"SELECT Id FROM PricebookEntry WHERE Product2.Family = '{ONE_TIME}'")
        if found:
            return str(found[0]["Id"])
        (book,) = self.desk.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")
        product = {"Name": "Onboarding", "Family": ONE_TIME, "ProductCode": "ONBOARDING", "IsActive": True}
        entry = {"Product2Id": self.desk.create("Product2", product), "UnitPrice": 500, "IsActive": True}
        return self.desk.create("PricebookEntry", {**entry, "Pricebook2Id": book["Id"]})

    def contract(self, account: str) -> str | None:
        rows = self.desk.query(f"SELECT Id FROM Contract WHERE AccountId = '{account}' ORDER BY Id")
        return rows[0]["Id"] if rows else None

    def day(self, n: int) -> str:
        """So many days from today."""
        return datetime.fromtimestamp(self.sandbox.clock.now() + n * DAY, UTC).date().isoformat()

    def subscription(self, account: str) -> Mapping[str, Any] | None:
        customer = self.customer(account)
        if customer is None:
            return None
        found = self.desk.stripe_all("/v1/subscriptions", {"customer": customer["id"], "status": "all"})
        running = [each for each in found if each["status"] not in ENDED]
        return running[0] if running else None


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("attributes", "Id")}
