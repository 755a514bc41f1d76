"""What every field of either system has ever held, in canonical form, told from the systems' own rows.

I27 is held against it: the merge base may only name values that both sides were seen with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import CANON, country_code
from sync_pipeline.core.fields import keyed_hash
from sync_pipeline.core.rules import Rules
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.charges import is_charged_once
from sync_pipeline.simulator.oracle import owners

Row = Mapping[str, Any]
NOTHING = canonical.encode(None)

LINE = "OpportunityLineItem"
RECORDS = {
    "account": "Account",
    "opportunity": "Opportunity",
    "line": LINE,
    "contract": "Contract",
}
OBJECTS = ("customer", "subscription", "subscription_item")
TWO_WAY = ("item.quantity", "item.unit_price", "contract.cancel_requested_on")
NAMES_OF_STRIPE = ("account.stripe_customer_id", "line.stripe_item_id")
SUBSCRIPTION_NAMED = ("opportunity.stripe_subscription_id", "contract.stripe_subscription_id")
CUSTOMER = ("customer.name", "customer.address", "customer.account_id")
FIGURES = ("account.mrr", "account.lifetime_value")
ONCE_AGREED = (
    "customer.tax_id",
    "subscription.discounts",
    "subscription.collection",
    "deal.begins",
    "late_charge.price",
)
"""Agreed on when they are sent for the first time; nobody edits them here."""


class Held:
    """`look` after every change. The values are as the base has them: canonical JSON, personal ones as keyed hashes."""

    def __init__(self, sandbox: Sandbox, rules: Rules, personal_key: bytes) -> None:
        self._sandbox, self._key = sandbox, personal_key
        self._zone = ZoneInfo(rules.commercial.time_zone)
        self._shown = {
            kind: [
                (rule.target, rules.salesforce[kind].fields[rule.field], rule.canon)
                for rule in rules.fields
                if rule.object == kind
            ]
            for kind in RECORDS
        }
        self._known: dict[str, dict[str, Row]] = defaultdict(dict)
        self._salesforce: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._stripe: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._joint: set[str] = set()
        self._billed: dict[str, list[str]] = {}

    def look(self) -> None:
        """Every row that is another one than at the last look."""
        salesforce, stripe = self._sandbox.salesforce.org.store, self._sandbox.stripe.world.store
        for kind, table in RECORDS.items():
            for record in self._moved(table, salesforce.table(table)):
                self._record(kind, record)
        for line in self._known[LINE].keys() - salesforce.table(LINE).keys():
            # One that was taken off its deal is in no bin.
            self._record("line", {**self._known[LINE].pop(line), "IsDeleted": True})
        moved = {kind: list(self._moved(kind, stripe.table(kind))) for kind in OBJECTS}
        for customer in moved["customer"]:
            self._customer(customer)
        for item in moved["subscription_item"]:
            self._item(item)
        for subscription in moved["subscription"]:
            for named in SUBSCRIPTION_NAMED:
                self._stripe["", named].add(canonical.encode(subscription["id"]))
        if any(moved.values()):
            self._ends()

    def figure(self, account: str, field: str, minor: int) -> None:
        """What Stripe says of an Account's money at this moment, in minor units."""
        self._stripe[account, field].add(_number(Decimal(minor) / 100))

    def strange(self, subject: str, field: str, value: str) -> Iterator[str]:
        """The systems that never held what is said to be agreed."""
        if field in ONCE_AGREED:
            return
        place = "" if field in (*NAMES_OF_STRIPE, *SUBSCRIPTION_NAMED) else subject
        if field == "item.unit_price":
            # A line that joins others is billed by their item before that names it.
            place, *_, amount = canonical.decode(value)
            value = canonical.encode(amount)
        if value not in self._salesforce[subject, field]:
            yield "Salesforce"
        checked = (*TWO_WAY, *NAMES_OF_STRIPE, *SUBSCRIPTION_NAMED, *CUSTOMER, *FIGURES)
        names_none = field in NAMES_OF_STRIPE and value == NOTHING
        if (
            field in checked
            and not names_none
            and subject not in self._joint
            and value not in self._stripe[place, field]
        ):
            yield "Stripe"

    def _moved(self, name: str, rows: Mapping[str, Row]) -> Iterator[Row]:
        known = self._known[name]
        for key, row in rows.items():
            if known.get(key) is not row:
                known[key] = row
                yield row

    def _record(self, kind: str, record: Row) -> None:
        subject = record["Id"]
        for field, name, form in self._shown[kind]:
            self._salesforce[subject, field].add(canonical.encode(_canonical(form, record.get(name))))
        if kind == "line":
            if is_charged_once(self._sandbox, record):
                self._joint.add(subject)
            gone = record.get("IsDeleted")
            quantity = 0 if gone else record["Quantity"]
            self._salesforce[subject, "item.quantity"].add(_number(quantity))
            self._salesforce[subject, "item.unit_price"].add(_number(Decimal(str(record["UnitPrice"])) * 100))
            said = [CANON["number"](Decimal(str(record[name]))) for name in ("Quantity", "UnitPrice")]
            self._salesforce[subject, "amendment.line"].add(canonical.encode(said))
            if gone:
                self._stripe[subject, "item.quantity"].add(_number(0))
        elif kind == "opportunity" and record.get("Stripe_Renewal_Key__c"):
            self._salesforce[subject, "renewal.amount"].add(_number(record["Amount"] or 0))
            self._salesforce[subject, "renewal.close_date"].add(canonical.encode(record["CloseDate"]))
        elif kind == "contract":
            day = canonical.encode(record.get("Cancel_Requested_On__c"))
            self._salesforce[subject, "contract.cancel_requested_on"].add(day)
            self._ends()
        elif kind == "account":
            self._of_account(record)

    def _of_account(self, account: Row) -> None:
        address = {
            "line1": account.get("BillingStreet"),
            "city": account.get("BillingCity"),
            "state": account.get("BillingState"),
            "postal_code": account.get("BillingPostalCode"),
            "country": country_code(account.get("BillingCountry")),
        }
        said = {"customer.name": ("text", account["Name"]), "customer.address": ("address", address)}
        for field, (form, value) in said.items():
            self._salesforce["", field].add(self._hashed(form, value))
        self._salesforce["", "customer.account_id"].add(canonical.encode(account["Id"]))

    def _customer(self, customer: Row) -> None:
        subject, metadata = customer["id"], customer.get("metadata") or {}
        self._stripe["", "account.stripe_customer_id"].add(canonical.encode(subject))
        self._stripe[subject, "customer.name"].add(self._hashed("text", customer.get("name")))
        self._stripe[subject, "customer.address"].add(self._hashed("address", customer.get("address")))
        self._stripe[subject, "customer.account_id"].add(canonical.encode(metadata.get("sf_account_id")))
        for field in CUSTOMER:
            self._salesforce[subject, field] = self._salesforce["", field]

    def _item(self, item: Row) -> None:
        if item.get("deleted"):
            # Nothing is left of it but its id.
            for line in self._billed.pop(item["id"], ()):
                self._stripe[line, "item.quantity"].add(_number(0))
            return
        self._stripe["", "line.stripe_item_id"].add(canonical.encode(item["id"]))
        lines = [each for each in (item["metadata"].get("sf_line_id") or "").split(",") if each]
        self._billed[item["id"]] = lines
        price = self._sandbox.stripe.world.store.table("price")[item["_price"]]
        if len(lines) > 1:
            self._joint.update(lines)
        self._stripe[price["product"], "item.unit_price"].add(_number(Decimal(price["unit_amount_decimal"])))
        for line in lines:
            self._stripe[line, "item.quantity"].add(_number(item["quantity"]))

    def _ends(self) -> None:
        """The days on which subscriptions are to end: of the Contracts that name them, or could come to do so."""
        salesforce, stripe = self._sandbox.salesforce.org.store, self._sandbox.stripe.world.store
        owner, subscriptions = owners(self._sandbox), stripe.table("subscription")
        for contract in salesforce.table("Contract").values():
            for subscription in subscriptions.values():
                of = owner.get(subscription["customer"])
                named = contract.get("Stripe_Subscription_Id__c")
                if named == subscription["id"] or (named is None and of == contract["AccountId"]):
                    day = canonical.encode(scheduled_end(self._sandbox, subscription, self._zone))
                    self._stripe[contract["Id"], "contract.cancel_requested_on"].add(day)

    def _hashed(self, form: str, value: Any) -> str:
        return keyed_hash(canonical.encode(CANON[form](value)), self._key)


def scheduled_end(sandbox: Sandbox, subscription: Row, zone: ZoneInfo) -> str | None:
    """The day on which a subscription is to end."""
    end = subscription.get("cancel_at")
    if end is None and subscription["cancel_at_period_end"]:
        items = sandbox.stripe.world.store.table("subscription_item").values()
        end = max(each["current_period_end"] for each in items if each.get("subscription") == subscription["id"])
    return datetime.fromtimestamp(end, zone).date().isoformat() if end is not None else None


def _canonical(form: str, value: Any) -> Any:
    if form == "moment" and isinstance(value, str):
        value = int(datetime.fromisoformat(value).timestamp()) * 1_000_000
    return CANON[form](Decimal(str(value)) if isinstance(value, float) else value)


def _number(value: Any) -> str:
    return canonical.encode(CANON["number"](Decimal(str(value))))
