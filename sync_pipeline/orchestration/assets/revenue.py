"""Monthly recurring revenue, in every definition: per item, subscription and payer, and the bridge between them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.tables import (
    ACCOUNT_CUSTOMERS,
    ACCOUNT_MRR,
    MRR_BRIDGE,
    MRR_ITEMS,
    MRR_SUBSCRIPTIONS,
    SNAPSHOTS,
)
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Lineage, Results, key, materialized, schema_check, table_spec

if TYPE_CHECKING:
    import polars as pl

ITEMS = SNAPSHOTS["stripe/subscription_items"]
SUBSCRIPTIONS = SNAPSHOTS["stripe/subscriptions"]
DISCOUNTS = SNAPSHOTS["stripe/discounts"]
LINES = SNAPSHOTS["stripe/invoice_lines"]
KINDS = {"polars", "parquet"}
KNOWN = "every_status_and_interval_is_known"
ADDS_UP = "every_bridge_is_exact_to_the_last_fraction"

_PRICE = [(ITEMS, "unit_amount"), (ITEMS, "package_amount"), (ITEMS, "package_size"), (ITEMS, "package_rounding")]
_AMOUNT = [*_PRICE, (ITEMS, "quantity"), (ITEMS, "interval"), (ITEMS, "interval_count")]
_NET = [*_AMOUNT, (DISCOUNTS, "percent_off"), (DISCOUNTS, "amount_off"), (LINES, "discounts")]
_COUNTS = [(SUBSCRIPTIONS, "status"), (SUBSCRIPTIONS, "collection_paused"), (SUBSCRIPTIONS, "cancel_at")]
_MONEY = {name: [*_NET, *_COUNTS] for name in ("yearly_numerator", "yearly_denominator", "mrr_minor")}
_PAYER = {"payer": [(ACCOUNT_CUSTOMERS, "account_id"), (SUBSCRIPTIONS, "customer")], "currency": [(ITEMS, "currency")]}
LINEAGE: Mapping[Table, Lineage] = {
    MRR_ITEMS: {
        "item": [(ITEMS, "id")],
        "status": [(SUBSCRIPTIONS, "status")],
        "counts": _COUNTS,
        "why_not": _COUNTS,
        **_PAYER,
        **_MONEY,
    },
    MRR_SUBSCRIPTIONS: {"subscription": [(SUBSCRIPTIONS, "id")], **_PAYER, **_MONEY},
    ACCOUNT_MRR: {"account_id": [(ACCOUNT_CUSTOMERS, "account_id")], **_PAYER, **_MONEY},
    MRR_BRIDGE: {"item": [(ITEMS, "id")], "reason": [*_COUNTS, (DISCOUNTS, "duration")], **_PAYER, **_MONEY},
}


@dg.multi_asset(
    name="monthly_recurring_revenue",
    pool=RECONCILE,
    specs=[
        table_spec(
            table,
            group="derived",
            kinds=KINDS,
            deps=[key(ITEMS), key(SUBSCRIPTIONS), key(DISCOUNTS), key(LINES), key(ACCOUNT_CUSTOMERS)],
        )
        for table in LINEAGE
    ],
    check_specs=[
        *map(schema_check, LINEAGE),
        dg.AssetCheckSpec(
            KNOWN,
            asset=key(MRR_ITEMS),
            description="No item is left out because Stripe has a status or interval that this version does not know.",
        ),
        dg.AssetCheckSpec(
            ADDS_UP,
            asset=key(MRR_BRIDGE),
            blocking=True,
            description="Stripe's amounts and the steps of the bridge are the amounts of the other definitions.",
        ),
    ],
)
def monthly_recurring_revenue(settings: dg.ResourceParam[Settings]) -> Results:
    """What recurs at the moment of the snapshot, in every definition."""
    import polars as pl

    from sync_pipeline.core.mrr_definitions import DEFINITIONS, STRIPE
    from sync_pipeline.frames import mrr
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        provenance = warehouse.provenance(SUBSCRIPTIONS)
        found = mrr.recurring(
            warehouse.read(ITEMS),
            warehouse.read(SUBSCRIPTIONS),
            warehouse.read(DISCOUNTS),
            warehouse.read(LINES),
            warehouse.read(ACCOUNT_CUSTOMERS),
            at=int(provenance["taken_at"]),
        )
        items = pl.concat([mrr.mrr_items(found, definition) for definition in DEFINITIONS.values()])
        others = [definition for definition in DEFINITIONS.values() if definition is not STRIPE]
        bridge = pl.concat([mrr.mrr_bridge(found, definition) for definition in others])
        frames = {
            MRR_ITEMS: items,
            MRR_SUBSCRIPTIONS: mrr.mrr_subscriptions(items),
            ACCOUNT_MRR: mrr.account_mrr(items),
            MRR_BRIDGE: bridge,
        }
        unknown = items.filter(pl.col("why_not").is_in(["unknown_status", "unknown_interval"]))
        gaps = mrr.bridge_gaps(items, bridge)
        checks = {
            MRR_ITEMS: dg.AssetCheckResult(
                check_name=KNOWN,
                asset_key=key(MRR_ITEMS),
                passed=unknown.is_empty(),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"items": unknown["item"].n_unique()},
            ),
            MRR_BRIDGE: dg.AssetCheckResult(
                check_name=ADDS_UP, asset_key=key(MRR_BRIDGE), passed=gaps.is_empty(), metadata={"gaps": gaps.height}
            ),
        }
        for table, frame in frames.items():
            yield materialized(
                settings,
                table,
                frame,
                provenance,
                lineage=LINEAGE[table],
                metadata=_totals(frame) if table is ACCOUNT_MRR else None,
                checks=[checks[table]] if table in checks else [],
            )


def _totals(frame: "pl.DataFrame") -> Mapping[str, Any]:
    """Numbers that the asset's page plots over time."""
    sums = frame.select("definition", "currency", "mrr_minor").group_by("definition", "currency").sum()
    return {f"mrr_minor_{definition}_{currency}": int(minor) for definition, currency, minor in sorted(sums.rows())}
