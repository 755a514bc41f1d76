"""Both systems as tables, brought up to date: one step per system, because every step has its price."""

from collections.abc import Mapping

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import DAILY, SNAPSHOTS
from sync_pipeline.orchestration.assets.days import DayLog, day_key, work_of
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.launchpad import WHOLE
from sync_pipeline.orchestration.table_assets import Results, materialized, materialized_days, schema_check, table_spec

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
    "stripe/events": ("events",),
}


def _names(system: str) -> list[str]:
    return [name for name in SNAPSHOTS if name.startswith(f"{system}/")]


def _specs(system: str) -> list[dg.AssetSpec]:
    return [
        table_spec(
            SNAPSHOTS[name],
            group="snapshot",
            kinds={system, "parquet"},
            deps=[
                *(source(system, each) for each in SOURCES[name]),
                *(day_key(listing) for listing, names in DAILY.items() if name in names),
            ],
        )
        for name in _names(system)
    ]


def _check_specs(system: str) -> list[dg.AssetCheckSpec]:
    return [schema_check(SNAPSHOTS[name]) for name in _names(system)]


@dg.multi_asset(
    name="salesforce_snapshot",
    pool=RECONCILE,
    specs=_specs("salesforce"),
    check_specs=_check_specs("salesforce"),
    config_schema=WHOLE,
)
def salesforce_snapshot(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Results:
    """Reads the records of the org that have moved since the last time, or all that the sync uses."""
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.warehouse.parquet import Warehouse
    from sync_pipeline.warehouse.salesforce import refresh

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        with open_engine(settings, run=context.run.run_id) as engine:
            every = engine.rules.snapshots.whole_listing_us
            whole = context.op_execution_context.op_config["whole"]
            tables = list(refresh(warehouse, engine.salesforce, engine.env.now(), every, whole=whole))
        for each in tables:
            yield materialized(
                settings,
                each.table,
                each.frame,
                each.provenance,
                rejected=each.rejected,
                metadata={"rows_read": each.rows_read},
            )


@dg.multi_asset(
    name="stripe_snapshot",
    pool=RECONCILE,
    specs=_specs("stripe"),
    check_specs=_check_specs("stripe"),
    config_schema=WHOLE,
)
def stripe_snapshot(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Results:
    """Reads all that there is now at Stripe, and of money and events the days on which something has changed.

    The first whole every time: what is not in it counts as proved not to exist, and events may be lost.
    """
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.snapshot import read_stripe_state
    from sync_pipeline.frames.quarantine import convert
    from sync_pipeline.warehouse.days import Reader
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        with open_engine(settings, run=context.run.run_id) as engine:
            provenance = {"taken_at": str(engine.env.now())}
            reader = Reader(warehouse, engine.stripe, engine.env.now(), work_of(context))
            log = DayLog(context, engine.env)
            every = engine.rules.snapshots.whole_listing_us
            for read in reader.refresh(every, whole=context.op_execution_context.op_config["whole"]):
                log.add(read, only_changed=True)
            log.say()
            tables = read_stripe_state(engine.stripe)
        for name, records in tables.items():
            frame, rejected = convert(records, SNAPSHOTS[name])
            yield materialized(settings, SNAPSHOTS[name], frame, provenance, rejected=rejected)
        for table in (SNAPSHOTS[name] for name in _names("stripe")):
            if table.daily:
                yield materialized_days(warehouse, table)
