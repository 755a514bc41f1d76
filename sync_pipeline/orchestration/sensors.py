"""The sensors that keep a drain run going while there is work: one listens to the inbox, one asks Salesforce.

Neither has a cursor or a run key: what is due stands in the ledger, and a run key would keep a failed run from
ever being tried again. The daemon's loop turns every 5 s, so an interval of 1 s means every turn.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.orchestration.decision import FAILURES_SEEN, DrainRun, why_not
from sync_pipeline.orchestration.drain import JOB
from sync_pipeline.orchestration.reconcile import IN_FLIGHT

if TYPE_CHECKING:
    from sync_pipeline.engine.env import Env
    from sync_pipeline.ledger.database import Ledger


@dg.sensor(
    job_name=JOB,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a drain run when accounts are due and no drain is alive to take them.",
)
def stripe_inbox_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> Any:
    from sync_pipeline.engine.assembly import build_env, open_current_ledger

    with open_current_ledger(settings) as ledger:
        return _start_a_drain(context.instance, ledger, build_env(settings))


@dg.sensor(
    job_name=JOB,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks Salesforce what changed while no drain is alive to do it, and starts one when something did.",
)
def salesforce_changes_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> Any:
    from sync_pipeline.engine.assembly import build_env, open_current_ledger, open_engine
    from sync_pipeline.engine.drain import KIND, STALE_US
    from sync_pipeline.engine.intake import poll_is_due, poll_salesforce
    from sync_pipeline.ledger import workers

    env = build_env(settings)
    with open_current_ledger(settings) as ledger:
        with ledger.read() as conn:
            alive = workers.alive(conn, kind=KIND, now_wall=env.wall(), stale_us=STALE_US)
        if alive:
            return dg.SkipReason("a drain is alive and asks Salesforce itself")
        if not poll_is_due(ledger, env, settings.poll_seconds):
            asked = f"Salesforce was asked less than {settings.poll_seconds} s ago"
            return dg.SkipReason(f"{asked}, or the calls that it has left are kept for failed payments")
        with open_engine(settings, run="salesforce_changes_sensor") as engine:
            poll_salesforce(ledger, engine.salesforce, env)
        return _start_a_drain(context.instance, ledger, env)


def _start_a_drain(instance: dg.DagsterInstance, ledger: "Ledger", env: "Env") -> dg.RunRequest | dg.SkipReason:
    from sync_pipeline.engine.drain import drain_is_needed
    from sync_pipeline.ledger import cursors

    needed = drain_is_needed(ledger, env)
    runs, failed = _drain_runs(instance), _failed_in_a_row(instance) if needed else ()
    wall = env.wall()
    with ledger.tx() as conn:
        # Two sensors may decide at the same time. Writing this row first makes one wait for the other on Postgres,
        # as SQLite does for any write, so the second one sees that a drain was requested.
        cursors.put(conn, "drain.decided_wall", str(wall), wall)
        requested = int(cursors.get(conn, "drain.requested_wall") or 0)
        reason = why_not(needed=needed, runs=runs, failed_wall=failed, requested_wall=requested, wall=wall)
        if reason is None:
            cursors.put(conn, "drain.requested_wall", str(wall), wall)
    return dg.RunRequest() if reason is None else dg.SkipReason(reason)


def _drain_runs(instance: dg.DagsterInstance) -> Sequence[DrainRun]:
    """The drain runs that are not over."""
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB, statuses=IN_FLIGHT))
    return [
        DrainRun(record.dagster_run.run_id, None if record.start_time is None else int(record.start_time * 1_000_000))
        for record in records
    ]


def _failed_in_a_row(instance: dg.DagsterInstance) -> Sequence[int]:
    """When the latest drain runs that are over ended, newest first, as far as they have failed; microseconds."""
    over = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB, statuses=over), limit=FAILURES_SEEN)
    failed = takewhile(lambda record: record.dagster_run.status == dg.DagsterRunStatus.FAILURE, records)
    return [int((record.end_time or record.update_timestamp.timestamp()) * 1_000_000) for record in failed]
