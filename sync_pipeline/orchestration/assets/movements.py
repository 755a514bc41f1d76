"""Monthly recurring revenue over time: its history, its movements by day, and the roll-forward that adds up."""

from collections.abc import Mapping

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.tables import (
    ACCOUNT_CUSTOMERS,
    ACCOUNT_MRR,
    EXCHANGE_RATES,
    MRR_HISTORY,
    MRR_ITEMS,
    MRR_MOVEMENTS,
    MRR_ROLLFORWARD,
    SNAPSHOTS,
)
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Lineage, Results, key, materialized, schema_check, table_spec

ITEMS = SNAPSHOTS["stripe/subscription_items"]
SUBSCRIPTIONS = SNAPSHOTS["stripe/subscriptions"]
DISCOUNTS = SNAPSHOTS["stripe/discounts"]
LINES = SNAPSHOTS["stripe/invoice_lines"]
PRICES = SNAPSHOTS["stripe/prices"]
CHARGES = SNAPSHOTS["stripe/charges"]
KINDS = {"polars", "parquet"}
ADDS_UP = "start_and_every_movement_is_the_end"
ENDS_TODAY = "what_recurs_now_is_the_sum_of_all_movements"

_MOVED = [(MRR_HISTORY, "yearly_numerator"), (MRR_HISTORY, "yearly_denominator")]
_PARTS = ("start", "new", "expansion", "contraction", "churn", "reactivation", "end")
DEPS: Mapping[Table, tuple[Table, ...]] = {
    MRR_HISTORY: (MRR_ITEMS, ITEMS, SUBSCRIPTIONS, DISCOUNTS, LINES, PRICES),
    MRR_MOVEMENTS: (MRR_HISTORY, ACCOUNT_CUSTOMERS),
    EXCHANGE_RATES: (CHARGES,),
    MRR_ROLLFORWARD: (MRR_MOVEMENTS, EXCHANGE_RATES),
}
LINEAGE: Mapping[Table, Lineage] = {
    MRR_HISTORY: {
        "item": [(ITEMS, "id"), (LINES, "item")],
        "true_from_at": [(LINES, "period_start"), (SUBSCRIPTIONS, "ended_at")],
        "yearly_numerator": [
            (MRR_ITEMS, "yearly_numerator"),
            (LINES, "unit_amount"),
            (LINES, "quantity"),
            (LINES, "discounts"),
            (PRICES, "interval"),
            (PRICES, "package_size"),
            (PRICES, "package_rounding"),
        ],
    },
    MRR_MOVEMENTS: {
        "payer": [(ACCOUNT_CUSTOMERS, "account_id"), (MRR_HISTORY, "customer")],
        "day_date": [(MRR_HISTORY, "true_from_at"), (MRR_HISTORY, "true_until_at")],
        **{f"{name}_minor": _MOVED for name in ("start", "movement", "end")},
    },
    EXCHANGE_RATES: {"charged_minor": [(CHARGES, "amount")], "settled_minor": [(CHARGES, "settled")]},
    MRR_ROLLFORWARD: {
        **{f"{name}_minor": [(MRR_MOVEMENTS, "movement_minor")] for name in _PARTS},
        "fx_minor": [
            (MRR_MOVEMENTS, "movement_minor"),
            (EXCHANGE_RATES, "settled_minor"),
            (EXCHANGE_RATES, "charged_minor"),
        ],
    },
}


@dg.multi_asset(
    name="mrr_movements",
    pool=RECONCILE,
    specs=[
        table_spec(table, group="derived", kinds=KINDS, deps=[key(each) for each in needed])
        for table, needed in DEPS.items()
    ],
    check_specs=[
        *map(schema_check, DEPS),
        dg.AssetCheckSpec(
            ADDS_UP,
            asset=key(MRR_ROLLFORWARD),
            blocking=True,
            description=("In every period, currency and definition; each period begins where the one before ended."),
        ),
        dg.AssetCheckSpec(
            ENDS_TODAY,
            asset=key(MRR_ROLLFORWARD),
            additional_deps=[key(ACCOUNT_MRR)],
            description="The last day ends with what recurs at the snapshot, to the minor unit.",
        ),
    ],
)
def mrr_movements(settings: dg.ResourceParam[Settings]) -> Results:
    """Brings the history up to the snapshot, and computes every movement from it anew."""
    import polars as pl

    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.core.deal import today
    from sync_pipeline.core.mrr_definitions import DEFINITIONS
    from sync_pipeline.frames import history, movements
    from sync_pipeline.warehouse.parquet import Warehouse
    from sync_pipeline.warehouse.summaries import months, trend

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        commercial = load_rules(settings.rules_file).commercial
        provenance = warehouse.provenance(MRR_ITEMS)
        at = int(provenance["taken_at"])
        seen, subscriptions = warehouse.read(MRR_ITEMS), warehouse.read(SUBSCRIPTIONS)
        mapping = warehouse.read(ACCOUNT_CUSTOMERS)
        known, looked_before = warehouse.read_or_empty(MRR_HISTORY)
        said = history.billed(
            warehouse.read(LINES), warehouse.read(ITEMS), warehouse.read(PRICES), warehouse.read(DISCOUNTS)
        )
        table = pl.concat(
            history.history(said, seen.filter(definition=name), subscriptions, each, known, at, looked_before)
            for name, each in DEFINITIONS.items()
        )
        yield materialized(settings, MRR_HISTORY, table, provenance, lineage=LINEAGE[MRR_HISTORY])
        moved = movements.movements(table, mapping, commercial.time_zone)
        yield materialized(
            settings,
            MRR_MOVEMENTS,
            moved,
            provenance,
            lineage=LINEAGE[MRR_MOVEMENTS],
            metadata=dict(moved.filter(definition="stripe")["kind"].value_counts().sort("kind").iter_rows()),
        )
        rates = movements.exchange_rates(warehouse.read(CHARGES), commercial.default_currency, commercial.time_zone)
        yield materialized(settings, EXCHANGE_RATES, rates, provenance, lineage=LINEAGE[EXCHANGE_RATES])
        rolled = movements.rollforward(moved, rates, commercial.default_currency, today(at, commercial))
        wrong = movements.does_not_add_up(rolled)
        apart = movements.apart_from(rolled, warehouse.read(ACCOUNT_MRR))
        yield materialized(
            settings,
            MRR_ROLLFORWARD,
            rolled,
            provenance,
            lineage=LINEAGE[MRR_ROLLFORWARD],
            metadata={
                "trend": dg.MetadataValue.md(trend(rolled, commercial.default_currency)),
                "months": dg.MetadataValue.md(months(rolled, commercial.default_currency)),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name=ADDS_UP,
                    asset_key=key(MRR_ROLLFORWARD),
                    passed=wrong.is_empty(),
                    metadata={"periods": wrong.height},
                ),
                dg.AssetCheckResult(
                    check_name=ENDS_TODAY,
                    asset_key=key(MRR_ROLLFORWARD),
                    passed=apart.is_empty(),
                    metadata={
                        f"{definition}_{currency}": f"{ended} instead of {recurs}"
                        for definition, currency, ended, recurs in apart.iter_rows()
                    },
                ),
            ],
        )
