"""A table of the warehouse as a Dagster asset: its spec, its column schema, and what a materialization says of it.

Metadata never holds rows: counts, hashes and names of columns only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.columns import SQL_TYPES, Column, Table

if TYPE_CHECKING:
    import polars as pl

OWNERS = ["team:revenue-operations"]
SCHEMA_CHECK = "every_row_fits_its_schema"
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
    """The check that `materialized` answers: nothing is computed from a table whose rows do not fit."""
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
) -> dg.MaterializeResult[Any]:
    """Writes the table to the warehouse and says so, with the result of its schema check and of `checks`."""
    from sync_pipeline.frames.schema import violations
    from sync_pipeline.warehouse.parquet import Warehouse

    broken = violations(frame, table)
    written = Warehouse(settings.warehouse).write(table, frame, provenance)
    fits = dg.AssetCheckResult(
        check_name=SCHEMA_CHECK,
        asset_key=key(table),
        passed=not broken,
        metadata={f"{each.column}: {each.check}": each.rows for each in broken},
        description="; ".join(f"{each.column}: {each.check} ({each.rows} rows)" for each in broken) or None,
    )
    found: dict[str, Any] = {
        "dagster/row_count": written.rows,
        "dagster/uri": str(written.path),
        "size_bytes": written.size_bytes,
        **(metadata or {}),
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
