"""What people do in a seed: sales in Salesforce, customers and finance at Stripe, at moments that the seed decides.

An action is data, so that a failing seed can be told and shrunk. One that makes no sense when its moment comes (to pay
where nothing is open) is left out: people cannot do it either.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sync_pipeline.sandbox import story
from sync_pipeline.sandbox.desk import Desk, RefusedError
from sync_pipeline.sandbox.world import Sandbox, build

OPENS_AT = 1_768_471_200  # 2026-01-15 10:00 UTC
MINUTE, HOUR, DAY = 60, 3_600, 86_400
GAPS = (0, 5, 20, 50, 5 * MINUTE, 40 * MINUTE, 3 * HOUR, 23 * HOUR + 50 * MINUTE, 4 * DAY, 31 * DAY, 180 * DAY)
CUSTOMERS = 3
CANARY = "Canary"
OPEN = "Negotiation/Review"


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
        fields = {**_plain(pattern), "AccountId": account, "Name": f"Deal {name}", "StageName": OPEN}
        opportunity = desk.create("Opportunity", {**fields, "Billing_Interval__c": interval, "Term_Months__c": 12})
        for line in lines[number:]:
            desk.create("OpportunityLineItem", {**_plain(line), "OpportunityId": opportunity})
    return sandbox


def script(chance: random.Random) -> list[Action]:
    """Some actions; early ones win deals, so that there is something to happen to, and some who pay want it back."""
    who = list(range(CUSTOMERS))
    chance.shuffle(who)
    first = [Action(chance.choice(GAPS[:6]), "win", each, 0) for each in who[: chance.randint(1, CUSTOMERS)]]
    verbs = [verb for verb in VERBS if verb != "win"]
    others = [
        Action(chance.choice(GAPS), chance.choice(verbs), chance.randrange(CUSTOMERS), chance.randint(1, 60))
        for _ in range(chance.randint(3, 10))
    ]
    told = first[:1] + sorted(first[1:] + others, key=lambda _: chance.random())
    wanted_back = [
        [replace(action, verb="refund", after=HOUR)] if action.verb == "pay" and chance.random() < 0.4 else []
        for action in told
    ]
    return [each for action, refund in zip(told, wanted_back, strict=True) for each in (action, *refund)]


class People:
    """Whoever works in the two systems. `seat_edits` are by Account: which system, which line or item, how many."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.desk = Desk(sandbox)
        self.seat_edits: dict[str, list[tuple[str, str, int]]] = {}
        self.accounts = [row["Id"] for row in self.desk.query("SELECT Id FROM Account ORDER BY CreatedDate, Id")]

    def act(self, action: Action) -> bool:
        """False where it made no sense."""
        try:
            return VERBS[action.verb](self, self.accounts[action.who], action.n) is not False
        except RefusedError:
            return False

    def leave_cards(self) -> None:
        """Every customer without a card leaves one, as at a checkout."""
        for customer in self.desk.stripe_all("/v1/customers"):
            if not customer["invoice_settings"]["default_payment_method"]:
                card = self.desk.stripe("POST", "/v1/payment_methods/pm_card_visa/attach", {"customer": customer["id"]})
                settings = {"invoice_settings": {"default_payment_method": card["id"]}}
                self.desk.stripe("POST", f"/v1/customers/{customer['id']}", settings)

    def opportunity(self, account: str) -> Mapping[str, Any] | None:
        rows = self.desk.query(f"SELECT Id, StageName FROM Opportunity WHERE AccountId = '{account}' ORDER BY Id")
        return rows[0] if rows else None

    def customer(self, account: str) -> Mapping[str, Any] | None:
        found = [
            c for c in self.desk.stripe_all("/v1/customers") if (c["metadata"] or {}).get("sf_account_id") == account
        ]
        return found[-1] if found else None

    def subscription(self, account: str) -> Mapping[str, Any] | None:
        customer = self.customer(account)
        if customer is None:
            return None
        found = self.desk.stripe_all("/v1/subscriptions", {"customer": customer["id"], "status": "all"})
        running = [each for each in found if each["status"] not in ("canceled", "incomplete_expired")]
        return running[0] if running else None


def _win(people: People, account: str, n: int) -> Any:
    found = people.opportunity(account)
    return people.desk.edit("Opportunity", found["Id"], {"StageName": "Closed Won"}) if found else False


def _seats_in_salesforce(people: People, account: str, n: int) -> Any:
    lines = people.desk.query(
        f"SELECT Id, UnitPrice FROM OpportunityLineItem WHERE Opportunity.AccountId = '{account}' ORDER BY Id"
    )
    if not lines:
        return False
    people.seat_edits.setdefault(account, []).append(("salesforce", lines[-1]["Id"], n))
    # Salesforce would recompute the price from an unchanged total, if it were left out.
    price = {"UnitPrice": lines[-1]["UnitPrice"]}
    return people.desk.edit("OpportunityLineItem", lines[-1]["Id"], {"Quantity": n, **price})


def _seats_at_stripe(people: People, account: str, n: int) -> Any:
    subscription = people.subscription(account)
    if subscription is None:
        return False
    # Ids of items are chance; told by its line, it is the same one in every play, and the one that sales edit too.
    item = max(subscription["items"]["data"], key=lambda each: each["metadata"].get("sf_line_id") or "")
    people.seat_edits.setdefault(account, []).append(("stripe", item["id"], n))
    return people.desk.stripe("POST", f"/v1/subscription_items/{item['id']}", {"quantity": n})


def _seats_on_both_sides(people: People, account: str, n: int) -> Any:
    """Sales and the customer, at the same moment and to different numbers."""
    if people.subscription(account) is None:
        return False
    return _seats_in_salesforce(people, account, n) and _seats_at_stripe(people, account, n + 1)


def _price_in_salesforce(people: People, account: str, n: int) -> Any:
    lines = people.desk.query(
        f"SELECT Id FROM OpportunityLineItem WHERE Opportunity.AccountId = '{account}' ORDER BY Id"
    )
    return people.desk.edit("OpportunityLineItem", lines[-1]["Id"], {"UnitPrice": 10 * n}) if lines else False


def _rename(people: People, account: str, n: int) -> Any:
    return people.desk.edit("Account", account, {"Name": f"{CANARY} Renamed {n} Ltd"})


def _edit_by_hand(people: People, account: str, n: int) -> Any:
    return people.desk.edit("Account", account, {"Lifetime_Value__c": n, "MRR__c": n})


def _reopen(people: People, account: str, n: int) -> Any:
    found = people.opportunity(account)
    return people.desk.edit("Opportunity", found["Id"], {"StageName": OPEN}) if found else False


def _payment(outcome: str) -> Callable[[People, str, int], Any]:
    def pay(people: People, account: str, n: int) -> Any:
        customer = people.customer(account)
        if customer is None:
            return False
        return people.desk.plan_payment(customer["id"], outcome)

    return pay


def _refund(people: People, account: str, n: int) -> Any:
    customer = people.customer(account)
    charges = people.desk.stripe_all("/v1/charges", {"customer": customer["id"]}) if customer else []
    paid = [each for each in charges if each["paid"] and not each["refunded"]]
    return people.desk.stripe("POST", "/v1/refunds", {"charge": paid[0]["id"], "amount": n}) if paid else False


def _change_subscription(**params: Any) -> Callable[[People, str, int], Any]:
    def change(people: People, account: str, n: int) -> Any:
        subscription = people.subscription(account)
        return people.desk.stripe("POST", f"/v1/subscriptions/{subscription['id']}", params) if subscription else False

    return change


def _cancel_now(people: People, account: str, n: int) -> Any:
    subscription = people.subscription(account)
    return people.desk.stripe("DELETE", f"/v1/subscriptions/{subscription['id']}") if subscription else False


def _rename_customer(people: People, account: str, n: int) -> Any:
    customer = people.customer(account)
    return (
        people.desk.stripe("POST", f"/v1/customers/{customer['id']}", {"name": f"{CANARY} Edited {n}"})
        if customer
        else False
    )


VERBS: Mapping[str, Callable[[People, str, int], Any]] = {
    "win": _win,
    "edit seats in Salesforce": _seats_in_salesforce,
    "edit seats at Stripe": _seats_at_stripe,
    "edit seats on both sides": _seats_on_both_sides,
    "edit a price in Salesforce": _price_in_salesforce,
    "rename the Account": _rename,
    "edit figures by hand": _edit_by_hand,
    "reopen the deal": _reopen,
    "pay": _payment("succeed"),
    "fail to pay": _payment("fail"),
    "refund": _refund,
    "schedule the end": _change_subscription(cancel_at_period_end=True),
    "take the end back": _change_subscription(cancel_at_period_end=False),
    "cancel at once": _cancel_now,
    "rename the customer": _rename_customer,
}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("attributes", "Id")}
