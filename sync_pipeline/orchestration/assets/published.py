"""The derived tables in SQL: the last step of the night, so that all of them change at once."""

from hashlib import sha256
from typing import Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import PUBLISHED
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import NIGHTLY, OWNERS, key

SQL_TABLES = dg.AssetKey(["warehouse", "sql_tables"])


@dg.asset(
    key=SQL_TABLES,
    pool=RECONCILE,
    deps=[key(table) for table in PUBLISHED.values()],
    group_name="warehouse",
    kinds={"sql"},
    owners=OWNERS,
    freshness_policy=NIGHTLY,
    description=(
        "Mapping, derived tables, plan and certificate as SQL tables with comments, keys and views, in the ledger's"
        " database. They change all at once; grants on them and views of others stay."
    ),
)
def sql_tables(settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult[Any]:
    """Loads the tables beside those that are there, and swaps their contents in one transaction."""
    from sync_pipeline.engine.assembly import open_current_ledger
    from sync_pipeline.warehouse.dictionary import page
    from sync_pipeline.warehouse.parquet import Warehouse, replace_file
    from sync_pipeline.warehouse.sql import publish

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        frames = {table: warehouse.read(table) for table in PUBLISHED.values()}
        with open_current_ledger(settings) as ledger:
            rows = publish(ledger, frames)
        dictionary = warehouse.folder / "data_dictionary.md"
        replace_file(dictionary, page().encode())
    hashes = "".join(warehouse.content_hash(table) for table in PUBLISHED.values())
    return dg.MaterializeResult(
        metadata={
            "tables": len(frames),
            "dagster/row_count": rows,
            "data_dictionary": dg.MetadataValue.url(dictionary.as_uri()),
        },
        data_version=dg.DataVersion(sha256(hashes.encode()).hexdigest()),
    )
