"""What follows from the snapshots and the mapping: money per Account."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, ACCOUNT_LTV, SNAPSHOTS
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.assets.sync import WRITEBACK
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.table_assets import Results, key, materialized, schema_check, table_spec

PAYMENTS = SNAPSHOTS["stripe/invoice_payments"]
REFUNDS = SNAPSHOTS["stripe/refunds"]
# Stripe's times are whole seconds of Stripe's clock, the time of the listing is ours.
CLOCKS_APART_US = 60 * 1_000_000
ALL_ASSIGNED = "all_collected_cash_belongs_to_an_account"


@dg.multi_asset(
    name="account_ltv",
    specs=[
        table_spec(
            ACCOUNT_LTV,
            group="derived",
            kinds={"polars", "parquet"},
            deps=[key(PAYMENTS), key(REFUNDS), key(ACCOUNT_CUSTOMERS)],
        )
    ],
    check_specs=[
        schema_check(ACCOUNT_LTV),
        dg.AssetCheckSpec(
            ALL_ASSIGNED, asset=key(ACCOUNT_LTV), description="No payment comes from a customer without an Account."
        ),
    ],
)
def account_ltv(settings: dg.ResourceParam[Settings]) -> Results:
    """Lifetime value per Account and currency, computed by Polars from the full listings."""
    import polars as pl

    from sync_pipeline.frames import ltv
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        payments, refunds = warehouse.read(PAYMENTS), warehouse.read(REFUNDS)
        mapping = warehouse.read(ACCOUNT_CUSTOMERS)
        frame = ltv.account_ltv(payments, refunds, mapping)
        unassigned = ltv.unassigned_cash(payments, mapping)
        money = [(PAYMENTS, "amount_paid"), (REFUNDS, "amount")]
        yield materialized(
            settings,
            ACCOUNT_LTV,
            frame,
            warehouse.provenance(PAYMENTS),
            lineage={
                "account_id": [(ACCOUNT_CUSTOMERS, "account_id")],
                "currency": [(PAYMENTS, "currency"), (REFUNDS, "currency")],
                "collected_minor": [(PAYMENTS, "amount_paid")],
                "refunded_minor": [(REFUNDS, "amount")],
                "net_minor": money,
                "net": money,
                "first_payment_at": [(PAYMENTS, "paid_at")],
                "last_payment_at": [(PAYMENTS, "paid_at")],
            },
            metadata=_totals(frame.group_by("currency").agg(pl.col("net_minor").sum()).rows()),
            checks=[
                dg.AssetCheckResult(
                    check_name=ALL_ASSIGNED,
                    asset_key=key(ACCOUNT_LTV),
                    passed=unassigned.is_empty(),
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={
                        f"unassigned_minor_{currency}": str(minor)
                        for currency, minor in unassigned.select("currency", "amount_minor").iter_rows()
                    },
                )
            ],
        )


@dg.asset_check(
    asset=key(ACCOUNT_LTV),
    additional_deps=[WRITEBACK, source("ledger", "fact")],
    description=(
        "The ledger's SQL sum over facts collected event by event, and the Polars sum over Stripe's full listings,"
        " are the same minor unit for every Account and currency."
    ),
)
def ledger_and_listing_agree_on_lifetime_value_to_the_penny(
    settings: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Runs after the write-back, whose fresh look at every different Account appends the facts that it proves.

    Accounts whose money moved after the listing was taken are not compared; the next night does it.
    """
    import polars as pl

    from sync_pipeline.engine.assembly import open_current_ledger
    from sync_pipeline.frames import ltv
    from sync_pipeline.ledger import facts
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        settled_before = int(warehouse.provenance(ACCOUNT_LTV)["taken_at"]) - CLOCKS_APART_US
        with open_current_ledger(settings) as ledger, ledger.read() as conn:
            sums = [(each.account, each.currency, each.amount_minor) for each in facts.sums(conn)]
            frame = pl.DataFrame(sums, schema=ltv.LEDGER_SUMS, orient="row")
            different = ltv.disagreements(warehouse.read(ACCOUNT_LTV), frame)
            known = facts.for_accounts(conn, different["account_id"].unique())
    moved = [name for name, each in known.items() if any(fact.occurred_at >= settled_before for fact in each)]
    left = different.filter(~pl.col("account_id").is_in(moved))
    return dg.AssetCheckResult(
        passed=left.is_empty(),
        metadata={
            "compared": len(sums),
            "different": left.height,
            "moved_since_the_listing": len(moved),
            "first": ", ".join(left["account_id"].unique().sort().to_list()[:20]),
        },
    )


def _totals(sums: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """Numbers that the asset's page plots over time."""
    return {f"net_minor_{currency}": int(minor) for currency, minor in sorted(sums)}
