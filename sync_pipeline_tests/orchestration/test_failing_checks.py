"""Checks over derived tables that nothing in the sandbox makes fail: each finds what is put into the tables by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg
import polars as pl
import pytest

from sync_pipeline.config.settings import Settings
from sync_pipeline.core.stripe_records import InvoicePayment
from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.days import day_of
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, ACCOUNT_MRR, SNAPSHOTS
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.core.making import CUSTOMER, NOW, item, subscription
from sync_pipeline_tests.frames.recurring import mapped
from sync_pipeline_tests.orchestration.conftest import Installed

TAKEN = {"taken_at": str(NOW)}
RECURRING, MOVEMENTS, LTV = "monthly_recurring_revenue", "mrr_movements", "account_ltv"
KNOWN = "every_status_and_interval_is_known"
ENDS_TODAY = "what_recurs_now_is_the_sum_of_all_movements"
ALL_ASSIGNED = "all_collected_cash_belongs_to_an_account"


@pytest.fixture
def settings(installed: Installed) -> Settings:
    return installed()


def kept(settings: Settings, **records: Sequence[Any]) -> Warehouse:
    """The warehouse with these records of Stripe, empty otherwise, and the usual customer of the usual Account."""
    warehouse = Warehouse(settings.warehouse)
    for name, table in SNAPSHOTS.items():
        frame = to_frame(records.get(name.partition("/")[2], ()), table)
        if table.daily:
            warehouse.note(table, TAKEN)
            if frame.height:
                warehouse.write(table, frame, TAKEN, day_of(NOW))
        else:
            warehouse.write(table, frame, TAKEN)
    warehouse.write(ACCOUNT_CUSTOMERS, mapped(), TAKEN)
    return warehouse


def evaluated(settings: Settings, memory: dg.DagsterInstance, asset: str) -> Mapping[str, dg.AssetCheckEvaluation]:
    """The results of an asset's checks in a run of it alone."""
    definitions = build_defs({"settings": settings})
    (made,) = (
        each
        for each in definitions.resolve_asset_graph().assets_defs
        if not each.is_external and each.node_def.name == asset
    )
    job = dg.define_asset_job("one_asset", dg.AssetSelection.assets(*made.keys))
    result = (
        dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
        .resolve_job_def("one_asset")
        .execute_in_process(instance=memory)
    )
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def test_an_item_of_a_status_or_interval_that_is_not_known_is_told(
    settings: Settings, memory: dg.DagsterInstance
) -> None:
    items = [item(), item(id="si_2", subscription="sub_2"), item(id="si_3", interval="fortnight")]
    kept(settings, subscriptions=[subscription(), subscription(id="sub_2", status="dormant")], subscription_items=items)
    known = evaluated(settings, memory, RECURRING)[KNOWN]
    assert (known.passed, known.severity, known.metadata["items"].value) == (False, dg.AssetCheckSeverity.WARN, 2)


def test_movements_that_do_not_end_with_what_recurs_are_told(settings: Settings, memory: dg.DagsterInstance) -> None:
    warehouse = kept(settings, subscriptions=[subscription()], subscription_items=[item()])
    assert evaluated(settings, memory, RECURRING)[KNOWN].passed
    assert evaluated(settings, memory, MOVEMENTS)[ENDS_TODAY].passed
    recurs = warehouse.read(ACCOUNT_MRR)
    assert recurs.filter(definition="stripe")["mrr_minor"].to_list() == [Decimal(1000)]
    more = pl.when(definition="stripe").then(pl.col("mrr_minor") + 1).otherwise("mrr_minor")
    warehouse.write(ACCOUNT_MRR, recurs.with_columns(more.cast(pl.Decimal(38, 0)).alias("mrr_minor")), TAKEN)
    ends_today = evaluated(settings, memory, MOVEMENTS)[ENDS_TODAY]
    assert not ends_today.passed
    assert {name: each.value for name, each in ends_today.metadata.items()} == {"stripe_GBP": "1000 instead of 1001"}


def test_cash_of_a_customer_without_an_account_is_told(settings: Settings, memory: dg.DagsterInstance) -> None:
    def paid(number: int, customer: str) -> InvoicePayment:
        return InvoicePayment(
            id=f"inpay_{number}",
            invoice="in_1",
            customer=customer,
            status="paid",
            currency="GBP",
            amount_paid=1_250,
            paid_at=NOW,
            payment=f"pi_{number}",
        )

    kept(settings, invoice_payments=[paid(1, CUSTOMER), paid(2, "cus_of_nobody")])
    assigned = evaluated(settings, memory, LTV)[ALL_ASSIGNED]
    assert (assigned.passed, assigned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert {name: each.value for name, each in assigned.metadata.items()} == {"unassigned_minor_GBP": "1250"}
