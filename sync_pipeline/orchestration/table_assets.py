"""A table of the warehouse as a Dagster asset: its spec, its column schema, and what a materialization says of it.

Metadata never holds rows: counts, sums, hashes and names of columns only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.columns import SQL_TYPES, Column, Table
from sync_pipeline.frames.tables import QUARANTINED

if TYPE_CHECKING:
    import polars as pl

    from sync_pipeline.warehouse.parquet import Warehouse

OWNERS = ["team:revenue-operations"]
SCHEMA_CHECK = "every_row_fits_its_schema"
FEW_ROWS, FEW_SHARE = 10, 100
"""So many rows, or one in so many, may be set aside without stopping what follows."""
# Every table is made anew by the nightly reconcile.
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25))

Results = Iterator[dg.MaterializeResult[Any]]
"""What an asset's body yields."""

Lineage = Mapping[str, Sequence[tuple[Table, str]]]
"""Column -> the columns of other tables that it is computed from."""


def key(table: Table) -> dg.AssetKey:
    """`snapshot/stripe/invoices` -> AssetKey(["snapshot", "stripe", "invoices"])."""
    return dg.AssetKey(table.name.split("/"))


def table_spec(table: Table, *, group: str, kinds: set[str], deps: Iterable[Any] = ()) -> dg.AssetSpec:
    """The asset of a table, with its columns as the catalogue shows them."""
    return dg.AssetSpec(
        key(table),
        deps=list(deps),
        description=table.description,
        group_name=group,
        kinds=kinds,
        owners=OWNERS,
        freshness_policy=NIGHTLY,
        metadata={"dagster/column_schema": column_schema(table), "dagster/table_name": table.name},
    )


def column_schema(table: Table) -> dg.TableSchema:
    """The table's columns; what holds personal data is tagged so."""
    return dg.TableSchema(
        columns=[_column(table, column) for column in table.columns],
        constraints=dg.TableConstraints(other=[f"unique: {', '.join(table.key)}"]),
    )


def schema_check(table: Table) -> dg.AssetCheckSpec:
    """The check that `materialized` answers: nothing is computed from a table whose rows do not fit.

    Single rows from outside are set aside with a warning, and the rest goes on; many of them are a broken listing.
    """
    return dg.AssetCheckSpec(
        SCHEMA_CHECK,
        asset=key(table),
        blocking=True,
        description="Types, nulls and allowed values are as documented, and no key is there twice.",
    )


def materialized(
    settings: Settings,
    table: Table,
    frame: "pl.DataFrame",
    provenance: Mapping[str, str],
    *,
    lineage: Lineage | None = None,
    metadata: Mapping[str, Any] | None = None,
    checks: Sequence[dg.AssetCheckResult] = (),
    value: Any = None,
    rejected: "pl.DataFrame | None" = None,
) -> dg.MaterializeResult[Any]:
    """Writes the table to the warehouse and says so, with the result of its schema check and of `checks`.

    `rejected` is the quarantine of rows that are not in the frame any more.
    """
    from sync_pipeline.warehouse.parquet import Warehouse
    from sync_pipeline.warehouse.summaries import summary

    warehouse = Warehouse(settings.warehouse)
    quarantined: dict[str, Any] = {}
    if table in QUARANTINED:
        from sync_pipeline.frames.quarantine import quarantine_of, set_aside

        rows = frame.height
        frame, aside = set_aside(frame, table)
        aside = aside if rejected is None else aside.vstack(rejected)
        warehouse.write(quarantine_of(table), aside, {})
        quarantined["rows_quarantined"] = aside["row_key"].n_unique()
        few = quarantined["rows_quarantined"] <= max(FEW_ROWS, rows // FEW_SHARE)
        fits = _fits(frame, table, aside, few=few)
    else:
        fits = _fits(frame, table, None, few=False)
    written = warehouse.write(table, frame, provenance)
    told = summary(table.name, frame)
    found: dict[str, Any] = {
        **({} if told is None else {"summary": dg.MetadataValue.md(told)}),
        **(metadata or {}),
        "dagster/row_count": written.rows,
        **quarantined,
        "dagster/uri": str(written.path),
        "size_bytes": written.size_bytes,
    }
    if lineage:
        found["dagster/column_lineage"] = _column_lineage(lineage)
    kept = {} if value is None else {"value": value}
    return dg.MaterializeResult(
        asset_key=key(table),
        metadata=found,
        data_version=dg.DataVersion(written.content_hash),
        check_results=[fits, *checks],
        **kept,
    )


def materialized_days(warehouse: "Warehouse", table: Table) -> dg.MaterializeResult[Any]:
    """Says what is in a daily table that was brought up to date, with the result of its schema check, which was made
    day by day."""
    import polars as pl

    from sync_pipeline.frames.quarantine import quarantine_of
    from sync_pipeline.frames.schema import empty

    aside = warehouse.read(quarantine_of(table))
    rows = warehouse.scan(table).select(pl.len()).collect().item()
    quarantined = aside["row_key"].n_unique()
    days = warehouse.days(table)
    return dg.MaterializeResult(
        asset_key=key(table),
        metadata={
            "dagster/row_count": rows,
            "rows_quarantined": quarantined,
            "dagster/uri": str(warehouse.path(table)),
            "days": len(days),
            "size_bytes": sum(warehouse.path(table, day).stat().st_size for day in days),
        },
        data_version=dg.DataVersion(warehouse.content_hash(table)),
        check_results=[_fits(empty(table), table, aside, few=quarantined <= max(FEW_ROWS, rows // FEW_SHARE))],
    )


def _fits(frame: "pl.DataFrame", table: Table, aside: "pl.DataFrame | None", *, few: bool) -> dg.AssetCheckResult:
    """Whether all rows fitted: those of the frame, and that none was set aside. A few of those are a warning."""
    from sync_pipeline.frames.schema import violations

    broken = {f"{each.column}: {each.check}": each.rows for each in violations(frame, table)}
    stops = bool(broken) or not few
    if aside is not None:
        counts = aside.group_by("column_name", "problem").len().sort("column_name", "problem")
        broken |= {f"{column}: {problem}": rows for column, problem, rows in counts.iter_rows()}
    return dg.AssetCheckResult(
        check_name=SCHEMA_CHECK,
        asset_key=key(table),
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
        metadata=broken,
        description="; ".join(f"{what} ({rows} rows)" for what, rows in broken.items()) or None,
    )


def _column(table: Table, column: Column) -> dg.TableColumn:
    allowed = [f"one of: {', '.join(column.allowed)}"] if column.allowed else []
    return dg.TableColumn(
        column.name,
        SQL_TYPES[column.type],
        description=column.description,
        constraints=dg.TableColumnConstraints(
            nullable=column.nullable, unique=table.key == (column.name,), other=allowed
        ),
        tags={"personal_data": "yes"} if column.personal else {},
    )


def _column_lineage(lineage: Lineage) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=key(table), column_name=name) for table, name in sources]
            for column, sources in lineage.items()
        }
    )
