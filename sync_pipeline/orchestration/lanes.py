"""Which runs may work at the same time. Every run stands in a lane, however it was started.

A job has its lane as a tag, and the queue counts tags. What is clicked on assets is a run of no job, and Dagster gives
it no tag: so what writes the same files shares a pool of the lane's name, and the queue counts pools by the run
(`dagster.yaml`). When such a run begins it is tagged too, so that it is found among the others. What is run past the
queue, by a command line say, waits when it begins.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sync_pipeline.config.settings import Settings

LANE = "sync/lane"
SCOPE = "sync/scope"
"""The tag that says which Accounts a run is about: a keyed hash of those that were named, or one of these."""
ALL_ACCOUNTS, DUE_ACCOUNTS = "all accounts", "due accounts"

RECONCILE = "reconcile"
"""Lane and pool of all that makes the tables: two at once would each read what the other has half made."""
BACKFILL = "backfill"
"""Lane and pool of what reads ranges of days again."""


@contextmanager
def in_its_lane(instance: dg.DagsterInstance, run: dg.DagsterRun, settings: Settings) -> Iterator[None]:
    """For as long as a run lasts. One that has pools and no lane was clicked on assets, which are about all accounts.

    Ranges of days exclude each other by themselves, listing by listing.
    """
    pools = (run.run_op_concurrency.all_pools if run.run_op_concurrency else None) or set()
    if pools and LANE not in run.tags:
        instance.add_run_tags(run.run_id, {LANE: " and ".join(sorted(pools)), SCOPE: ALL_ACCOUNTS})
    if RECONCILE not in pools:
        yield
        return
    from sync_pipeline.warehouse.parquet import Warehouse

    with Warehouse(settings.warehouse).alone(RECONCILE):
        yield
