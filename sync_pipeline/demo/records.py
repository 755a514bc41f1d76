"""The records of both systems as stories name them: by kind and by the name that people know them by.

A kind with a capital is Salesforce's, one without is Stripe's; an `alert` is in neither, but in a channel. Three are
not the systems' own: a `Line` is an OpportunityLineItem that knows its product's name, an `Opportunity` is one that
somebody sold and a `Renewal` one that stands for the next term. Deleted records are not there, except for restoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sync_pipeline.core.money import exponent

Record = Mapping[str, Any]
Truth = Mapping[str, Any]

STRIPE_KINDS = frozenset(
    "charge coupon credit_note customer discount dispute invoice invoice_payment invoiceitem item payment_method "
    "price product promotion_code refund subscription subscription_schedule tax_id".split()
)
SALESFORCE_KINDS = frozenset(
    "Account Churn_Record__c Contact Contract Line Opportunity Pricebook2 Product2 RecordType Renewal "
    "Stripe_Payment_Attempt__c Sync_Conflict__c Task User".split()
)
CHANNEL, ALERT = "channel", "alert"
KINDS = STRIPE_KINDS | SALESFORCE_KINDS | {ALERT}
OBJECTS = {"Line": "OpportunityLineItem", "Renewal": "Opportunity"}
TABLES = {"item": "subscription_item"}
RENEWAL_KEY = "Stripe_Renewal_Key__c"


class Unclear(Exception):
    """A story names a record that is not there, or that is there more than once."""


def sobject(kind: str) -> str:
    """The API name of a kind of Salesforce's."""
    return OBJECTS.get(kind, kind)


def split(key: str) -> tuple[str, str]:
    """The kind and the name of `Account Northwind Ltd`; the name is empty where any will do."""
    kind, _, name = key.partition(" ")
    return kind, name.strip()


def records(truth: Truth, key: str, *, deleted: bool = False) -> list[Record]:
    """What a key names, oldest first; `#2` behind a name is the second of those that have it."""
    kind, name = split(key)
    name, _, place = name.partition(" #")
    if kind == ALERT:
        return list(truth[CHANNEL][ALERT])
    if kind in SALESFORCE_KINDS:
        found = [r for r in truth["salesforce"].get(sobject(kind), []) if bool(r.get("IsDeleted")) == deleted]
        if kind in ("Opportunity", "Renewal"):
            found = [r for r in found if bool(r.get(RENEWAL_KEY)) == (kind == "Renewal")]
        found.sort(key=lambda each: (str(each.get("CreatedDate")), each["Id"]))
    else:
        found = [r for r in truth["stripe"].get(TABLES.get(kind, kind), []) if not r.get("deleted")]
        found.sort(key=lambda each: (each.get("created") or 0, each["id"]))
    named = [record for record in found if not name or name_of(truth, kind, record) == name]
    return named[int(place) - 1 : int(place)] if place else named


def only(truth: Truth, key: str, *, deleted: bool = False) -> Record:
    """The one record that a key names. Raises Unclear."""
    found = records(truth, key, deleted=deleted)
    if len(found) != 1:
        kind, _ = split(key)
        there = ", ".join(filter(None, (name_of(truth, kind, each) for each in records(truth, kind, deleted=deleted))))
        raise Unclear(f"{key!r} names {len(found)} records; there are: {there or 'none'}")
    return found[0]


def id_of(record: Record) -> str:
    return str(record["Id"] if "Id" in record else record["id"])


def name_of(truth: Truth, kind: str, record: Record) -> str:
    """What people call a record: a line and an item by product, a subscription and its invoices by the deal."""
    match kind:
        case "Line":
            return _name(truth["salesforce"].get("Product2", []), record["Product2Id"])
        case "Contract":
            return _name(truth["salesforce"].get("Account", []), record["AccountId"])
        case "Task":
            return str(record.get("Subject", ""))
        case "item":
            return _name(truth["stripe"].get("product", []), record["price"]["product"])
        case "price":
            return _price(truth, record)
        case "subscription":
            deal = record["metadata"].get("sf_opportunity_id")
            return _name(truth["salesforce"].get("Opportunity", []), deal) or _customer(truth, record)
        case "invoice":
            parent = (record.get("parent") or {}).get("subscription_details") or {}
            bills = [s for s in truth["stripe"].get("subscription", []) if s["id"] == parent.get("subscription")]
            return name_of(truth, "subscription", bills[0]) if bills else _customer(truth, record)
    return str(record.get("Name") or record.get("name") or "")


def _price(truth: Truth, record: Record) -> str:
    """A price by what it is for, with the amount and the interval of one unit or package."""
    product = _name(truth["stripe"].get("product", []), record["product"]) or str(record["product"])
    if record.get("unit_amount_decimal") is None:
        return product
    currency, every = str(record["currency"]).upper(), record.get("recurring")
    amount = Decimal(record["unit_amount_decimal"]).scaleb(-exponent(currency))
    count = every["interval_count"] if every else 1
    often = f" per {f'{count} ' if count > 1 else ''}{every['interval']}{'s' if count > 1 else ''}" if every else ""
    packages = record.get("transform_quantity")
    each = f" per package of {packages['divide_by']}" if packages else ""
    return f"{product} at {currency} {amount}{each}{often}"


def _customer(truth: Truth, record: Record) -> str:
    return _name(truth["stripe"].get("customer", []), record.get("customer"))


def _name(held: list[Record], wanted: str | None) -> str:
    found = (r for r in held if wanted in (r.get("Id"), r.get("id")))
    record = next(found, {})
    return str(record.get("Name") or record.get("name") or "")
