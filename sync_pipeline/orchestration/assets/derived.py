"""What follows from the snapshots and the mapping: money per Account."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, ACCOUNT_LTV, SNAPSHOTS
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.assets.sync import WRITEBACK
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Results, key, materialized, schema_check, table_spec

INVOICES = SNAPSHOTS["stripe/invoices"]
PAYMENTS = SNAPSHOTS["stripe/invoice_payments"]
CHARGES = SNAPSHOTS["stripe/charges"]
REFUNDS = SNAPSHOTS["stripe/refunds"]
DISPUTES = SNAPSHOTS["stripe/disputes"]
CREDIT_NOTES = SNAPSHOTS["stripe/credit_notes"]
MONEY = (INVOICES, PAYMENTS, CHARGES, REFUNDS, DISPUTES, CREDIT_NOTES)

if TYPE_CHECKING:
    import polars as pl

    from sync_pipeline.warehouse.parquet import Warehouse

# Stripe's times are whole seconds of Stripe's clock, the time of the listing is ours.
CLOCKS_APART_US = 60 * 1_000_000
ALL_ASSIGNED = "all_collected_cash_belongs_to_an_account"


@dg.multi_asset(
    name="account_ltv",
    pool=RECONCILE,
    specs=[
        table_spec(
            ACCOUNT_LTV,
            group="derived",
            kinds={"polars", "parquet"},
            deps=[*map(key, MONEY), key(ACCOUNT_CUSTOMERS)],
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

    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.frames import cash, ltv
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        mapping = warehouse.read(ACCOUNT_CUSTOMERS)
        entries = _cash(warehouse)
        reporting = load_rules(settings.rules_file).commercial.default_currency
        frame = ltv.account_ltv(entries, warehouse.read(INVOICES), mapping, reporting)
        unassigned = cash.unassigned_cash(entries, mapping)
        back = [(REFUNDS, "amount"), (DISPUTES, "withdrawn"), (CREDIT_NOTES, "out_of_band")]
        settled = [(CHARGES, "settled"), (REFUNDS, "settled"), (DISPUTES, "settled")]
        yield materialized(
            settings,
            ACCOUNT_LTV,
            frame,
            warehouse.provenance(PAYMENTS),
            lineage={
                "account_id": [(ACCOUNT_CUSTOMERS, "account_id")],
                "currency": [(PAYMENTS, "currency"), (REFUNDS, "currency")],
                "billed_minor": [(INVOICES, "total"), (INVOICES, "credited_before_payment")],
                "collected_minor": [(PAYMENTS, "amount_paid")],
                "refunded_minor": [(REFUNDS, "amount")],
                "disputed_minor": [(DISPUTES, "withdrawn")],
                "credited_elsewhere_minor": [(CREDIT_NOTES, "out_of_band")],
                "net_minor": [(PAYMENTS, "amount_paid"), *back],
                "net": [(PAYMENTS, "amount_paid"), *back],
                "reporting_minor": [(PAYMENTS, "amount_paid"), *back, *settled],
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
    pool=RECONCILE,
    additional_deps=[WRITEBACK, source("ledger", "fact")],
    description=(
        "The ledger's SQL sum over facts collected event by event, and the Polars sum over Stripe's full listings,"
        " are the same minor unit for every Account, kind of movement and currency."
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
    from sync_pipeline.frames import cash
    from sync_pipeline.ledger import facts
    from sync_pipeline.warehouse.ledger_frames import sums_of_facts
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        listed = cash.sums(_cash(warehouse), warehouse.read(ACCOUNT_CUSTOMERS))
        settled_before = int(warehouse.provenance(ACCOUNT_LTV)["taken_at"]) - CLOCKS_APART_US
        with open_current_ledger(settings) as ledger, ledger.read() as conn:
            ledgers = sums_of_facts(conn)
            different = cash.disagreements(listed, ledgers)
            known = facts.for_accounts(conn, different["account_id"].unique())
    moved = [name for name, each in known.items() if any(fact.occurred_at >= settled_before for fact in each)]
    left = different.filter(~pl.col("account_id").is_in(moved))
    return dg.AssetCheckResult(
        passed=left.is_empty(),
        metadata={
            "compared": ledgers.height,
            "different": left.height,
            "moved_since_the_listing": len(moved),
            "first": ", ".join(left["account_id"].unique().sort().to_list()[:20]),
        },
    )


def _cash(warehouse: "Warehouse") -> "pl.DataFrame":
    from sync_pipeline.frames import cash

    invoices, payments, charges, refunds, disputes, credit_notes = map(warehouse.read, MONEY)
    return cash.cash(cash.Listings(invoices, payments, charges, refunds, disputes, credit_notes))


def _totals(sums: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """Numbers that the asset's page plots over time."""
    return {f"net_minor_{currency}": int(minor) for currency, minor in sorted(sums)}
