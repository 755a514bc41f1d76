"""All rows that were set aside, in one table: what somebody has to mend in one of the systems."""

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import QUARANTINE, QUARANTINED
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Results, key, materialized, schema_check, table_spec

NONE_ASIDE = "no_row_of_either_system_is_set_aside"


@dg.multi_asset(
    name="quarantined_rows",
    pool=RECONCILE,
    specs=[table_spec(QUARANTINE, group="quarantine", kinds={"parquet"}, deps=map(key, QUARANTINED))],
    check_specs=[
        schema_check(QUARANTINE),
        dg.AssetCheckSpec(
            NONE_ASIDE,
            asset=key(QUARANTINE),
            description="Every record that was read is in its table; the others are in here with what is wrong.",
        ),
    ],
)
def quarantined_rows(settings: dg.ResourceParam[Settings]) -> Results:
    """Collects the quarantines of all listings and of the mapping."""
    import polars as pl

    from sync_pipeline.frames.quarantine import quarantine_of
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        rows = pl.concat(warehouse.read(quarantine_of(table)) for table in QUARANTINED)
        yield materialized(
            settings,
            QUARANTINE,
            rows,
            {},
            checks=[
                dg.AssetCheckResult(
                    check_name=NONE_ASIDE,
                    asset_key=key(QUARANTINE),
                    passed=rows.is_empty(),
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata=dict(rows["table_name"].value_counts(sort=True).iter_rows()),
                )
            ],
        )
