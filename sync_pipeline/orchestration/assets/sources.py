"""What lies outside: the objects of both systems and the ledger, so that lineage begins where the data does."""

from collections.abc import Iterable

import dagster as dg

from sync_pipeline.orchestration.table_assets import OWNERS

SALESFORCE_OBJECTS = (
    "Account",
    "Opportunity",
    "OpportunityLineItem",
    "Contract",
    "Churn_Record__c",
    "Sync_Conflict__c",
    "Task",
)
STRIPE_OBJECTS = (
    "customers",
    "products",
    "prices",
    "coupons",
    "subscriptions",
    "subscription_schedules",
    "invoices",
    "charges",
    "disputes",
    "credit_notes",
    "events",
)
LEDGER_TABLES = {
    "link": "The crosswalk: which Stripe object belongs to which Salesforce record.",
    "fact": "Append-only money facts, collected event by event.",
    "conflict": "The inbox of conflicts: what both systems said of a field, and who decided.",
}


def source(system: str, name: str) -> dg.AssetKey:
    return dg.AssetKey(["source", system, name])


def sources() -> list[dg.AssetSpec]:
    """All external assets."""
    return [
        *_system("salesforce", SALESFORCE_OBJECTS, "Salesforce object {}, read over the API."),
        *_system("stripe", STRIPE_OBJECTS, "Stripe list of {}, read over the API."),
        *(
            dg.AssetSpec(source("ledger", name), description=text, group_name="ledger", kinds={"sql"}, owners=OWNERS)
            for name, text in LEDGER_TABLES.items()
        ),
    ]


def _system(system: str, names: Iterable[str], text: str) -> Iterable[dg.AssetSpec]:
    for name in names:
        yield dg.AssetSpec(
            source(system, name), description=text.format(name), group_name=system, kinds={system}, owners=OWNERS
        )
