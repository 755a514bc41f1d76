"""The daily job that deletes what nobody looks at any more: old drain runs of Dagster, rows of the ledger and plans.

Dagster keeps every run and every event for ever. Drain runs come every few minutes, and what they did stands in the
ledger's audit; they materialize nothing, so no asset loses its state with them. Other runs are a few a day, and stay.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.core.units import DAY_US
from sync_pipeline.orchestration.by_hand import plans_folder
from sync_pipeline.orchestration.drain import JOB
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import LANE
from sync_pipeline.orchestration.reconcile import TIME_ZONE

if TYPE_CHECKING:
    from sync_pipeline.engine.env import Env

OVER = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
RUNS_AT_ONCE = 200


@dg.op
def delete_old_runs(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Deletes finished drain runs with their events and logs, after `retention.drain_runs_days` of the rules."""
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.engine.assembly import build_env

    with one_clear_failure():
        days = load_rules(settings.rules_file).retention.drain_runs_days
        deleted = 0 if days is None else _delete_drain_runs(context.instance, build_env(settings), days)
    context.log.info(f"{deleted} drain runs deleted")
    context.add_output_metadata({"runs": deleted})


@dg.op
def delete_old_rows(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Deletes what the ledger need not remember any more, by the days of the rules. The audit still verifies."""
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.engine.assembly import build_env, open_current_ledger
    from sync_pipeline.engine.retention import retain

    with one_clear_failure(), open_current_ledger(settings) as ledger:
        removed = retain(ledger, load_rules(settings.rules_file), build_env(settings), run=context.run_id)
    counts = asdict(removed)
    context.log.info(", ".join(f"{count} {name}" for name, count in counts.items()) + " deleted")
    context.add_output_metadata(counts)


@dg.op
def delete_half_files(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Deletes files that a killed run has left half-written in the warehouse, a day later."""
    from sync_pipeline.engine.assembly import build_env
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        deleted = Warehouse(settings.warehouse).clear(build_env(settings).wall() - DAY_US)
    context.log.info(f"{deleted} half-written files deleted")
    context.add_output_metadata({"files": deleted})


@dg.op
def delete_old_plans(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Deletes plans that nobody has written, and those that were, after `retention.plans_days` of the rules."""
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.engine.assembly import build_env

    with one_clear_failure():
        days = load_rules(settings.rules_file).retention.plans_days
        before = 0 if days is None else build_env(settings).wall() - days * DAY_US
    old = [path for path in plans_folder(settings).glob("*.json") if path.stat().st_mtime_ns // 1000 < before]
    for path in old:
        path.unlink(missing_ok=True)
    context.log.info(f"{len(old)} plans deleted")
    context.add_output_metadata({"plans": len(old)})


@dg.job(
    name="retention",
    executor_def=dg.in_process_executor,
    tags={LANE: "retention", "dagster/max_runtime": "3600"},
    description="Deletes what nobody looks at any more; the rules say how old it has to be.",
)
def retention() -> None:
    delete_old_runs()
    delete_old_rows()
    delete_half_files()
    delete_old_plans()


retention_schedule = dg.ScheduleDefinition(
    name="retention_schedule",
    job=retention,
    cron_schedule="30 4 * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night at 04:30.",
)


def _delete_drain_runs(instance: dg.DagsterInstance, env: "Env", days: int) -> int:
    before = datetime.fromtimestamp(env.wall() / 1_000_000, UTC) - timedelta(days=days)
    old = dg.RunsFilter(job_name=JOB, statuses=OVER, created_before=before)
    deleted = 0
    while runs := instance.get_run_records(old, limit=RUNS_AT_ONCE):
        for record in runs:
            _delete(instance, record.dagster_run.run_id)
        deleted += len(runs)
    return deleted


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    from dagster._core.storage.event_log import SqliteEventLogStorage

    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # Each run has a file of its own there, which stays when its rows are deleted.
        shard = Path(storage.path_for_shard(run_id))
        for each in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            each.unlink(missing_ok=True)
