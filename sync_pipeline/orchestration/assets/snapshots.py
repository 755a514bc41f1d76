"""Complete listings of both systems as tables: one step per system, because every step has its price."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import SNAPSHOTS
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.table_assets import Results, materialized, schema_check, table_spec

SOURCES: Mapping[str, tuple[str, ...]] = {
    "salesforce/accounts": ("Account",),
    "salesforce/opportunities": ("Opportunity",),
    "salesforce/opportunity_line_items": ("OpportunityLineItem",),
    "salesforce/contracts": ("Contract",),
    "salesforce/churn_records": ("Churn_Record__c",),
    "salesforce/sync_conflicts": ("Sync_Conflict__c",),
    "salesforce/failure_tasks": ("Task",),
    "stripe/customers": ("customers",),
    "stripe/products": ("products",),
    "stripe/prices": ("prices",),
    "stripe/subscriptions": ("subscriptions",),
    "stripe/subscription_items": ("subscriptions",),
    "stripe/subscription_schedules": ("subscription_schedules",),
    "stripe/coupons": ("coupons",),
    "stripe/discounts": ("subscriptions",),
    "stripe/invoices": ("invoices",),
    "stripe/invoice_lines": ("invoices",),
    "stripe/invoice_payments": ("invoices",),
    "stripe/charges": ("charges",),
    "stripe/refunds": ("charges",),
    "stripe/disputes": ("disputes", "charges"),
    "stripe/credit_notes": ("credit_notes",),
}


def _names(system: str) -> list[str]:
    return [name for name in SNAPSHOTS if name.startswith(f"{system}/")]


def _specs(system: str) -> list[dg.AssetSpec]:
    return [
        table_spec(
            SNAPSHOTS[name],
            group="snapshot",
            kinds={system, "parquet"},
            deps=[source(system, each) for each in SOURCES[name]],
        )
        for name in _names(system)
    ]


def _check_specs(system: str) -> list[dg.AssetCheckSpec]:
    return [schema_check(SNAPSHOTS[name]) for name in _names(system)]


@dg.multi_asset(name="salesforce_snapshot", specs=_specs("salesforce"), check_specs=_check_specs("salesforce"))
def salesforce_snapshot(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Results:
    """Reads all records of the org that the sync uses."""
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.snapshot import read_salesforce

    with one_clear_failure():
        with open_engine(settings, run=context.run.run_id) as engine:
            provenance = {"taken_at": str(engine.env.now()), "origin": engine.salesforce.org_id}
            tables = read_salesforce(engine.salesforce)
        yield from _results(settings, "salesforce", tables, provenance)


@dg.multi_asset(name="stripe_snapshot", specs=_specs("stripe"), check_specs=_check_specs("stripe"))
def stripe_snapshot(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Results:
    """Reads all objects of the Stripe account that the sync uses."""
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.snapshot import read_stripe

    with one_clear_failure():
        with open_engine(settings, run=context.run.run_id) as engine:
            provenance = {"taken_at": str(engine.env.now())}
            tables = read_stripe(engine.stripe)
        yield from _results(settings, "stripe", tables, provenance)


def _results(
    settings: Settings, system: str, tables: Mapping[str, list[Any]], provenance: Mapping[str, str]
) -> Results:
    from sync_pipeline.frames.quarantine import convert

    for name in _names(system):
        table = SNAPSHOTS[name]
        frame, rejected = convert(tables[name], table)
        yield materialized(settings, table, frame, provenance, rejected=rejected)
