"""The inbox of conflicts: fields on which both systems disagreed, who decided them, and what waits for a person."""

from collections import Counter

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import CONFLICTS
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.assets.sync import WRITEBACK
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Results, key, materialized, schema_check, table_spec

NONE_WAITS = "no_conflict_is_left_to_decide"


@dg.multi_asset(
    name="conflicts",
    pool=RECONCILE,
    specs=[table_spec(CONFLICTS, group="sync", kinds={"parquet"}, deps=[WRITEBACK, source("ledger", "conflict")])],
    check_specs=[
        schema_check(CONFLICTS),
        dg.AssetCheckSpec(
            NONE_WAITS,
            asset=key(CONFLICTS),
            description="None waits for a person's ruling, which is given in Salesforce or with `resolve`.",
        ),
    ],
)
def conflicts(settings: dg.ResourceParam[Settings]) -> Results:
    """Lists the conflicts that the ledger keeps, after the night's writes."""
    from sync_pipeline.engine.assembly import open_current_ledger
    from sync_pipeline.frames.conflicts import as_markdown, conflict_entries, waiting
    from sync_pipeline.frames.convert import to_frame
    from sync_pipeline.ledger.conflicts import everything

    with one_clear_failure():
        with open_current_ledger(settings) as ledger, ledger.read() as conn:
            entries = conflict_entries(everything(conn))
        left = waiting(entries)
        yield materialized(
            settings,
            CONFLICTS,
            to_frame(entries, CONFLICTS),
            {},
            metadata={
                "wait_for_a_person": len(left),
                **{status.lower(): count for status, count in sorted(Counter(e.status for e in entries).items())},
                "to_decide": dg.MetadataValue.md(as_markdown(entries)),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name=NONE_WAITS,
                    asset_key=key(CONFLICTS),
                    passed=not left,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"conflicts": len(left)},
                )
            ],
        )
