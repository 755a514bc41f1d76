"""What must stand in both systems after the story of the deal, without ids and moments, which differ per run."""

from __future__ import annotations

from typing import Any

from sync_pipeline_tests.engine.people import truth
from sync_pipeline_tests.sandbox_process import SandboxHandle

WRITTEN_BY_US = (
    "Activation_Status__c",
    "Billing_Message__c",
    "Billing_Plan__c",
    "Billing_Status__c",
    "First_Payment_At__c",
    "Lifetime_Value__c",
    "MRR__c",
    "Seats__c",
)
IDS_WRITTEN_BY_US = ("Stripe_Customer_Id__c", "Stripe_Subscription_Id__c", "Stripe_Subscription_Item_Id__c")
OF_PEOPLE = ("Name", "StageName", "Amount", "Quantity", "UnitPrice", "Status")


def story(sandbox: SandboxHandle) -> dict[str, Any]:
    """Both systems as a comparable value: every object of Stripe, every field of Salesforce that billing touches.

    A Stripe id reads as what it names, so that two runs with other ids are equal, and a wrong or doubled one is not.
    """
    state = truth(sandbox)
    stripe = state["stripe"]
    names = _names(stripe)
    return {
        "stripe": {
            "customers": sorted(
                (c["name"], str(c["address"]), str(sorted(c["metadata"].items()))) for c in stripe.get("customer", [])
            ),
            "tax_ids": sorted((t["type"], t["value"], names[t["customer"]]) for t in stripe.get("tax_id", [])),
            "products": sorted((p["id"], p["name"]) for p in stripe.get("product", [])),
            "prices": sorted((p["lookup_key"], str(p["recurring"])) for p in stripe.get("price", [])),
            "subscriptions": sorted(
                (names[s["customer"]], s["status"], s["collection_method"], s["days_until_due"], str(s["metadata"]))
                for s in stripe.get("subscription", [])
            ),
            "items": sorted(_item(item, names) for item in stripe.get("subscription_item", [])),
            "invoices": sorted(
                (names[i["customer"]], i["status"], i["total"], i["amount_paid"]) for i in stripe.get("invoice", [])
            ),
        },
        "salesforce": {
            f"{kind} {record['Id']}": _record(record, names)
            for kind in ("Account", "Opportunity", "OpportunityLineItem", "Contract")
            for record in state["salesforce"][kind]
        },
    }


def _names(stripe: dict[str, Any]) -> dict[str, str]:
    names = {c["id"]: f"customer {c['name']}" for c in stripe.get("customer", [])}
    for subscription in stripe.get("subscription", []):
        names[subscription["id"]] = f"subscription of {subscription['metadata'].get('sf_opportunity_id')}"
        for item in subscription["items"]["data"]:
            names[item["id"]] = f"item {item['price']['lookup_key']}"
    return names


def _item(item: dict[str, Any], names: dict[str, str]) -> tuple[Any, ...]:
    price = item["price"]
    return (
        names[item["subscription"]],
        price["product"],
        price["unit_amount_decimal"],
        price["currency"],
        price["recurring"]["interval"],
        item["quantity"],
        item["metadata"].get("sf_line_id"),
    )


def _record(record: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    shown = {name: record[name] for name in (*OF_PEOPLE, *WRITTEN_BY_US) if name in record}
    return shown | {name: names[record[name]] for name in IDS_WRITTEN_BY_US if name in record}
