"""The nightly job: snapshots of both systems, mapping, money, plan, writing, certificate."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.orchestration.assets.days import stripe_days
from sync_pipeline.orchestration.assets.sources import sources
from sync_pipeline.orchestration.lanes import ALL_ACCOUNTS, LANE, RECONCILE, SCOPE
from sync_pipeline.orchestration.launchpad import ALLOW, WHOLE

TIME_ZONE = "Europe/London"
IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def _run_config(values: Mapping[str, Any]) -> Mapping[str, Any]:
    snapshot = {"config": {"whole": values["whole"]}}
    write_back = {"ops": {"write_back": {"config": {"allow": values["allow"]}}}}
    return {"ops": {"sync__writeback": write_back, "salesforce_snapshot": snapshot, "stripe_snapshot": snapshot}}


reconcile = dg.define_asset_job(
    "reconcile",
    selection=dg.AssetSelection.all()
    - dg.AssetSelection.assets(*(spec.key for spec in sources()))
    - dg.AssetSelection.assets(*stripe_days.keys),
    config=dg.ConfigMapping(config_schema={**ALLOW, **WHOLE}, config_fn=_run_config),
    executor_def=dg.in_process_executor,
    tags={LANE: RECONCILE, SCOPE: ALL_ACCOUNTS},
    description="Compares everything in both systems, repairs what differs, and certifies what agrees.",
)


@dg.schedule(
    job=reconcile,
    cron_schedule="0 2 * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night at 02:00, unless the last one still runs.",
)
def reconcile_schedule(context: dg.ScheduleEvaluationContext) -> Any:
    running = context.instance.get_runs(dg.RunsFilter(job_name=reconcile.name, statuses=IN_FLIGHT), limit=1)
    if running:
        return dg.SkipReason(f"run {running[0].run_id} still compares")
    return dg.RunRequest()
