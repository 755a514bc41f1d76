"""Money and events of Stripe day by day, so that any part of the past can be read again by a click.

A partition is a day on which objects were created; a range of them is one run. Each day is told to Dagster when it is
on disk, not at the end of the run, so that a run that is stopped leaves finished partitions behind. The nightly
comparison brings the same days up to date by itself (snapshots.py).
"""

import warnings
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import DAILY, FIRST_DAY, SNAPSHOTS
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import ALL_ACCOUNTS, BACKFILL, LANE, SCOPE
from sync_pipeline.orchestration.table_assets import OWNERS, column_schema

if TYPE_CHECKING:
    from sync_pipeline.engine.env import Env
    from sync_pipeline.warehouse.days import DayRead

# Today is a partition too: the night reads what there is of it.
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC", end_offset=1)
PARENT = "dagster/parent_run_id"
SAY_EVERY_US = 5 * 1_000_000


def day_key(listing: str) -> dg.AssetKey:
    """`invoices` -> AssetKey(["day", "stripe", "invoices"])."""
    return dg.AssetKey(["day", "stripe", listing])


def work_of(context: dg.AssetExecutionContext) -> str:
    """What a run has in common with the stopped run that it re-executes: one goes on where the other has got to. To
    re-execute a run that has succeeded is new work."""
    run = context.run
    while (parent := run.tags.get(PARENT)) and (before := context.instance.get_run_by_id(parent)) is not None:
        if before.status == dg.DagsterRunStatus.SUCCESS:
            break
        run = before
    return run.run_id


class DayLog:
    """Tells Dagster each day that is on disk, and how far the reading is, at most once in five seconds."""

    def __init__(self, context: dg.AssetExecutionContext, env: "Env") -> None:
        self._context, self._env = context, env
        self._rows = dict.fromkeys((name for names in DAILY.values() for name in names), 0)
        self._latest: DayRead | None = None
        self._said = env.wall()

    def add(self, read: "DayRead", *, only_changed: bool = False) -> None:
        for name, written in read.files.items():
            self._rows[name] += written.rows if written else 0
        self._latest = read
        # The sandbox's clock may run ahead; there are partitions up to today only.
        if (read.changed or not only_changed) and DAYS.has_partition_key(read.day.isoformat()):
            self._context.log_event(_on_disk(read))
        if self._env.wall() - self._said >= SAY_EVERY_US:
            self.say()

    def say(self) -> None:
        if self._latest is None:
            return
        counts = ", ".join(f"{rows:,} {name.partition('/')[2]}" for name, rows in self._rows.items() if rows)
        self._context.log.info(f"{self._latest.listing} back to {self._latest.day}; so far {counts or 'nothing'}")
        self._said = self._env.wall()


def _on_disk(read: "DayRead") -> dg.AssetMaterialization:
    """One event per day and listing, whatever it writes, because Dagster keeps every event for ever."""
    rows = {name.partition("/")[2]: written.rows if written else 0 for name, written in read.files.items()}
    hashes = " ".join(written.content_hash if written else "" for written in read.files.values())
    found = {"dagster/partition_row_count": rows[read.listing], **rows} if rows else {"forgotten_by_stripe": True}
    return dg.AssetMaterialization(
        day_key(read.listing),
        partition=read.day.isoformat(),
        metadata=found,
        tags={"dagster/data_version": sha256(hashes.encode()).hexdigest()} if rows else {},
    )


def _specs() -> Iterator[dg.AssetSpec]:
    for listing, names in DAILY.items():
        tables = [SNAPSHOTS[name] for name in names]
        yield dg.AssetSpec(
            day_key(listing),
            deps=[source("stripe", listing)],
            skippable=True,
            description=" ".join(
                [*(table.description for table in reversed(tables)), f"By the day on which the {listing} were created."]
            ),
            group_name="day",
            kinds={"stripe", "parquet"},
            owners=OWNERS,
            metadata={"dagster/column_schema": column_schema(tables[-1])},
        )


with warnings.catch_warnings():
    # A backfill policy is beta in Dagster 1.13, and the only way to read a range in one run.
    warnings.simplefilter("ignore", dg.BetaWarning)

    @dg.multi_asset(
        name="stripe_days",
        specs=list(_specs()),
        can_subset=True,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=BACKFILL,
    )
    def stripe_days(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Reads the chosen days from Stripe, newest first; a re-execution goes on where a stopped run has got to."""
        from sync_pipeline.engine.assembly import open_engine
        from sync_pipeline.warehouse.days import Reader
        from sync_pipeline.warehouse.parquet import Warehouse

        chosen = context.selected_asset_keys
        if not context.has_partition_key_range and not context.has_partition_key:
            context.log.info("no days are chosen: the snapshots bring them up to date by themselves")
            yield from (dg.MaterializeResult(asset_key=each) for each in chosen)
            return
        days = [date.fromisoformat(day) for day in context.partition_keys]
        with one_clear_failure(), open_engine(settings, run=context.run.run_id) as engine:
            reader = Reader(Warehouse(settings.warehouse), engine.stripe, engine.env.now(), work_of(context))
            log = DayLog(context, engine.env)
            for listing in DAILY:
                if day_key(listing) in chosen:
                    for read in reader.some(listing, days):
                        log.add(read)
            log.say()


backfill_days = dg.define_asset_job(
    "backfill_days",
    selection=dg.AssetSelection.assets(*stripe_days.keys),
    executor_def=dg.in_process_executor,
    tags={LANE: BACKFILL, SCOPE: ALL_ACCOUNTS},
    description="Reads a range of days of Stripe's invoices, payments, refunds and events again, in one run.",
)
