"""What revenue operations works with: revenue at risk, churn, renewals, deals on their way to cash, cohorts."""

from collections.abc import Mapping, Sequence

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.tables import (
    ACCOUNT_CUSTOMERS,
    CHURN_RECORDS,
    COHORTS,
    DEAL_SUBSCRIPTIONS,
    DEAL_TO_CASH,
    MRR_AT_RISK,
    MRR_HISTORY,
    MRR_MOVEMENTS,
    RENEWAL_PIPELINE,
    SNAPSHOTS,
)
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Lineage, Results, key, materialized, schema_check, table_spec

OPPORTUNITIES = SNAPSHOTS["salesforce/opportunities"]
RECORDS = SNAPSHOTS["salesforce/churn_records"]
CUSTOMERS = SNAPSHOTS["stripe/customers"]
ITEMS = SNAPSHOTS["stripe/subscription_items"]
SUBSCRIPTIONS = SNAPSHOTS["stripe/subscriptions"]
DISCOUNTS = SNAPSHOTS["stripe/discounts"]
INVOICES = SNAPSHOTS["stripe/invoices"]
LINES = SNAPSHOTS["stripe/invoice_lines"]
PAYMENTS = SNAPSHOTS["stripe/invoice_payments"]
REFUNDS = SNAPSHOTS["stripe/refunds"]
DISPUTES = SNAPSHOTS["stripe/disputes"]

RECURS = (ITEMS, SUBSCRIPTIONS, DISCOUNTS, LINES, ACCOUNT_CUSTOMERS)
_PRICE = [(ITEMS, "unit_amount"), (ITEMS, "package_amount"), (ITEMS, "package_size"), (ITEMS, "package_rounding")]
_AMOUNT = [*_PRICE, (ITEMS, "quantity"), (DISCOUNTS, "percent_off"), (DISCOUNTS, "amount_off")]
TABLES: Mapping[Table, tuple[Sequence[Table], Lineage]] = {
    MRR_AT_RISK: (
        (*RECURS, CUSTOMERS, INVOICES, PAYMENTS, DISPUTES),
        {
            "cause": [
                (SUBSCRIPTIONS, "status"),
                (INVOICES, "attempt_count"),
                (INVOICES, "due_at"),
                (DISPUTES, "status"),
                (SUBSCRIPTIONS, "cancel_at"),
                (CUSTOMERS, "payment_method"),
            ],
            "mrr_minor": _AMOUNT,
            "open_minor": [(INVOICES, "amount_remaining")],
        },
    ),
    CHURN_RECORDS: (
        (SUBSCRIPTIONS, ITEMS, MRR_HISTORY, RECORDS, ACCOUNT_CUSTOMERS),
        {
            "ends_at": [(SUBSCRIPTIONS, "ended_at"), (SUBSCRIPTIONS, "cancel_at"), (ITEMS, "period_end")],
            "lost_mrr_minor": [(MRR_HISTORY, "yearly_numerator")],
            "salesforce_status": [(RECORDS, "status")],
            "salesforce_lost_mrr_minor": [(RECORDS, "lost_mrr")],
        },
    ),
    RENEWAL_PIPELINE: (
        (*RECURS, OPPORTUNITIES, DEAL_SUBSCRIPTIONS, MRR_AT_RISK),
        {
            "term_end_date": [(SUBSCRIPTIONS, "start_at"), (OPPORTUNITIES, "term_months")],
            "next_term_minor": _AMOUNT[:2],
            "renewal_opportunity_id": [(OPPORTUNITIES, "renewal_key")],
            "risk": [(MRR_AT_RISK, "cause")],
        },
    ),
    DEAL_TO_CASH: (
        (OPPORTUNITIES, DEAL_SUBSCRIPTIONS, SUBSCRIPTIONS, INVOICES, PAYMENTS, REFUNDS),
        {
            "won_minor": [(OPPORTUNITIES, "amount")],
            "billed_minor": [(INVOICES, "total"), (INVOICES, "credited_after_payment")],
            "collected_minor": [(PAYMENTS, "amount_paid")],
            "refunded_minor": [(REFUNDS, "amount")],
            "days_to_cash": [(OPPORTUNITIES, "close_date"), (PAYMENTS, "paid_at")],
        },
    ),
    COHORTS: (
        (MRR_MOVEMENTS,),
        {"active_payers": [(MRR_MOVEMENTS, "kind")], "mrr_minor": [(MRR_MOVEMENTS, "movement_minor")]},
    ),
}


@dg.multi_asset(
    name="revenue_operations",
    pool=RECONCILE,
    specs=[
        table_spec(table, group="derived", kinds={"polars", "parquet"}, deps=map(key, needed))
        for table, (needed, _) in TABLES.items()
    ],
    check_specs=[schema_check(table) for table in TABLES],
)
def revenue_operations(settings: dg.ResourceParam[Settings]) -> Results:
    """Computes the five tables from the snapshots, the mapping and the movements."""
    import polars as pl

    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.core.deal import today
    from sync_pipeline.frames import deals, ends, mrr, risk
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        read = warehouse.read
        commercial = load_rules(settings.rules_file).commercial
        zone = commercial.time_zone
        provenance = warehouse.provenance(SUBSCRIPTIONS)
        at = int(provenance["taken_at"])
        mapping, of_deal, subscriptions = read(ACCOUNT_CUSTOMERS), read(DEAL_SUBSCRIPTIONS), read(SUBSCRIPTIONS)
        opportunities, invoices, payments = read(OPPORTUNITIES), read(INVOICES), read(PAYMENTS)
        found = mrr.recurring(read(ITEMS), subscriptions, read(DISCOUNTS), read(LINES), mapping, at)
        at_risk = risk.mrr_at_risk(found, subscriptions, read(CUSTOMERS), invoices, payments, read(DISPUTES), at)
        frames = {
            MRR_AT_RISK: at_risk,
            CHURN_RECORDS: ends.churn_records(
                subscriptions, read(ITEMS), read(MRR_HISTORY), read(RECORDS), mapping, zone
            ),
            RENEWAL_PIPELINE: ends.renewal_pipeline(
                found, opportunities, subscriptions, of_deal, zone, commercial.renewal_days, at, at_risk
            ),
            DEAL_TO_CASH: deals.deal_to_cash(
                opportunities, of_deal, subscriptions, invoices, payments, read(REFUNDS), zone
            ),
            COHORTS: deals.cohorts(read(MRR_MOVEMENTS), today(at, commercial)),
        }
        risky = at_risk.group_by("cause", "currency").agg(pl.col("mrr_minor").sum())
        numbers = {
            f"at_risk_minor_{cause}_{currency}": int(minor) for cause, currency, minor in sorted(risky.iter_rows())
        }
        for table, frame in frames.items():
            yield materialized(
                settings,
                table,
                frame,
                provenance,
                lineage=TABLES[table][1],
                metadata=numbers if table is MRR_AT_RISK else None,
            )
