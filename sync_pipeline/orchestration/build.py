"""The one assembly of everything that Dagster loads: for production, the command line and tests."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.orchestration import alerting, by_hand
from sync_pipeline.orchestration.assets import (
    conflicts,
    days,
    derived,
    mapping,
    movements,
    published,
    quarantine,
    revenue,
    revenue_operations,
    snapshots,
    sync,
)
from sync_pipeline.orchestration.assets.sources import sources
from sync_pipeline.orchestration.drain import drain_inbox
from sync_pipeline.orchestration.parquet_io import parquet_io
from sync_pipeline.orchestration.reconcile import reconcile, reconcile_schedule
from sync_pipeline.orchestration.resources import SettingsResource, run_memory
from sync_pipeline.orchestration.retention import retention, retention_schedule
from sync_pipeline.orchestration.sensors import salesforce_changes_sensor, stripe_inbox_sensor


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions, with resources replaced by `overrides` (`settings`: a Settings object)."""
    return dg.Definitions(
        assets=[
            *sources(),
            days.stripe_days,
            snapshots.salesforce_snapshot,
            snapshots.stripe_snapshot,
            mapping.account_customers,
            mapping.deal_subscriptions,
            mapping.billed_lines,
            derived.account_ltv,
            revenue.monthly_recurring_revenue,
            movements.mrr_movements,
            revenue_operations.revenue_operations,
            sync.plan,
            sync.writeback,
            sync.certificate,
            conflicts.conflicts,
            quarantine.quarantined_rows,
            published.sql_tables,
        ],
        asset_checks=[derived.ledger_and_listing_agree_on_lifetime_value_to_the_penny],
        jobs=[drain_inbox, reconcile, days.backfill_days, retention, *by_hand.JOBS],
        schedules=[reconcile_schedule, retention_schedule],
        sensors=[stripe_inbox_sensor, salesforce_changes_sensor, *alerting.SENSORS],
        resources={
            "settings": SettingsResource(),
            "run_memory": run_memory,
            "io_manager": parquet_io,
            **(overrides or {}),
        },
        # A step in a process of its own would cost two seconds, and could not be handed a plan in memory.
        executor=dg.in_process_executor,
    )
