"""The job that the sensors start: one run that drains the queue, lingers while work keeps coming, and hands over."""

from typing import TYPE_CHECKING

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.orchestration.assets.sync import WRITEBACK
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import DUE_ACCOUNTS, LANE, SCOPE
from sync_pipeline.orchestration.launchpad import ALLOW, filled_in

if TYPE_CHECKING:
    from sync_pipeline.engine.env import Env
    from sync_pipeline.engine.rounds import BatchReport

JOB = "drain_inbox"
RUN_SECONDS = 30 * 60
REPORT_EVERY_US = 2 * 1_000_000
# More than the drain gives itself: Dagster ends it only when it hangs.
MAX_RUNTIME_SECONDS = RUN_SECONDS + 5 * 60


class BatchLog:
    """Says what batches came to, at most once in two seconds, because Dagster keeps every event for ever."""

    def __init__(self, context: dg.OpExecutionContext, env: "Env") -> None:
        self._context, self._env = context, env
        self._counts = dict.fromkeys(("batches", "accounts", "settled", "deferred", "writes", "linked", "parked"), 0)
        self._empty = dict(self._counts)
        self._said = 0

    def add(self, batch: "BatchReport") -> None:
        self._counts["batches"] += 1
        for name in self._counts.keys() - {"batches"}:
            self._counts[name] += getattr(batch, name)
        if self._env.wall() - self._said >= REPORT_EVERY_US:
            self.say()

    def say(self) -> None:
        """Reports what was added since it last spoke, as a log line and an observation of sync/writeback."""
        if self._counts == self._empty:
            return
        found, self._counts, self._said = self._counts, dict(self._empty), self._env.wall()
        self._context.log.info(", ".join(f"{count} {name}" for name, count in found.items()))
        self._context.log_event(dg.AssetObservation(WRITEBACK, metadata=found))


@dg.op(config_schema=ALLOW)
def drain_due_accounts(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Claims due accounts, looks at both systems, plans and writes until nothing is due for SYNC_LINGER_SECONDS."""
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.drain import DrainPlan, drain

    plan = DrainPlan(
        linger_seconds=settings.linger_seconds,
        run_seconds=RUN_SECONDS,
        poll_seconds=settings.poll_seconds,
        allow=context.op_config["allow"],
    )
    with one_clear_failure(), open_engine(settings, run=context.run_id) as engine:
        for warning in engine.warnings:
            context.log.warning(f"the rules do not fit the org, so writes will be refused: {warning}")
        log = BatchLog(context, engine.env)
        try:
            report = drain(engine, plan, log.add)
        finally:
            log.say()
    for problem in sorted(report.problems):
        context.log.warning(f"asking for changes failed, and is tried again: {problem}")
    for problem in sorted(report.total.problems):
        context.log.warning(f"left for later: {problem}")
    context.add_output_metadata(
        {
            "batches": report.batches,
            "writes": report.total.writes,
            "settled": report.total.settled,
            "salesforce_changes": report.new_changes,
            "missed_stripe_events": report.new_events,
            **report.total.cost.report(),
        }
    )


@dg.job(
    name=JOB,
    config=filled_in(ALLOW, "drain_due_accounts"),
    executor_def=dg.in_process_executor,
    tags={LANE: "drain", SCOPE: DUE_ACCOUNTS, "dagster/max_runtime": str(MAX_RUNTIME_SECONDS)},
    description="Brings every account that an event or a change touched to rest. The sensors start it.",
)
def drain_inbox() -> None:
    drain_due_accounts()
