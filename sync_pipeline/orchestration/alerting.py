"""The sensors that tell people: of runs and checks that fail, of tables that are late, of work that is stuck.

Each looks at what is the case now, tells what is new of it through the channel of alerts (SYNC_ALERT_WEBHOOK, or
e-mail), and tells once when it is over. What it has told stands in its cursor, in Dagster's storage, so that it can
say that the ledger's database is down. A message that could not be delivered is tried again at the next look.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.orchestration.drain import JOB
from sync_pipeline.orchestration.episodes import Episode, Trouble, news
from sync_pipeline.orchestration.reconcile import reconcile

if TYPE_CHECKING:
    from sync_pipeline.ledger.database import Ledger

AUTOMATIC = (JOB, reconcile.name)
"""A job that a person starts shows its failure to that person."""
WILL_RETRY = "dagster/will_retry"
LATE = "FAIL"
PLANNED = "PLANNED"
EVERY_SECONDS = 30
WAITING_US = 15 * 60 * 1_000_000
TABLES_NAMED = 5
ANSWERS = 5
NO_CHANNEL = "nobody can be told: set SYNC_ALERT_WEBHOOK, or SYNC_ALERT_EMAIL with SYNC_SMTP_URL"


@dg.sensor(
    minimum_interval_seconds=EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Tells once when the drain or the nightly reconcile begins to fail, again only for another cause, and once when"
        " it works again."
    ),
)
def failed_runs_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    return _tell(context, settings, lambda: _failing_jobs(context.instance))


@dg.sensor(
    minimum_interval_seconds=EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells once of every check that fails, as when the two systems differ, and once when all pass again.",
)
def failed_checks_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    return _tell(context, settings, lambda: _failing_checks(context))


@dg.sensor(
    minimum_interval_seconds=EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells once when tables are older than their freshness policies allow, and when all are fresh again.",
)
def freshness_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    return _tell(context, settings, lambda: _late_tables(context))


@dg.sensor(
    minimum_interval_seconds=EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Tells once of every write that a system refuses, of operations that fail again and again, and of accounts that"
        " wait, or a Salesforce that was not asked, for a quarter of an hour; and once when that is over."
    ),
)
def stuck_work_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    from sync_pipeline.engine.assembly import build_env, open_current_ledger

    def found() -> list[Trouble]:
        with open_current_ledger(settings) as ledger:
            return list(_stuck(ledger, build_env(settings).wall(), settings.poll_seconds))

    return _tell(context, settings, found)


SENSORS = [failed_runs_sensor, failed_checks_sensor, freshness_sensor, stuck_work_sensor]


def _tell(
    context: dg.SensorEvaluationContext, settings: Settings, look: Callable[[], Iterable[Trouble]]
) -> dg.SensorResult | dg.SkipReason:
    """Looks, tells what is new, and remembers what was told."""
    import msgspec

    from sync_pipeline.engine.assembly import build_alerts, build_env

    alerts = build_alerts(settings)
    if not alerts.is_configured:
        return dg.SkipReason(NO_CHANNEL)
    told = msgspec.json.decode(context.cursor or "{}", type=dict[str, Episode])
    said: list[str] = []
    for each in list(news(told, look(), build_env(settings).wall())):
        page = f"{settings.dagster_url}{each.path}" if settings.dagster_url and each.path else ""
        alert = {"title": each.title, "text": each.text, "link": page, "link_text": "Open it in Dagster"}
        outcome = alerts.send(alert, guard=lambda: None)
        if outcome.state != "done":
            context.log.error(f"{each.title}: could not be told, and is tried again: {outcome.message}")
            said.append(f"could not be told: {outcome.message}")
            continue
        said.append(f"told: {each.title}")
        told.pop(each.subject, None)
        if each.then is not None:
            told[each.subject] = each.then
    cursor = msgspec.json.encode(told, order="sorted").decode()
    return dg.SensorResult(cursor=cursor, skip_reason="; ".join(said) or "nothing new to tell")


def _failing_jobs(instance: dg.DagsterInstance) -> Iterator[Trouble]:
    """The automatic jobs whose latest run has failed for good; one that Dagster starts once more has not."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    for job in AUTOMATIC:
        for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=ended), limit=1):
            if run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY) != "true":
                why = _why(instance, run.run_id)
                yield Trouble(
                    subject=f"job {job}",
                    cause=_kind_of(why),
                    begun=f"{job} has failed",
                    over=f"{job} works again",
                    line=f"{why}\nRun {run.run_id}",
                    path=f"/runs/{run.run_id}",
                )


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    """The line with which a step ended, where it is one of ours; otherwise only the kind of the error, whose text may
    hold anything."""
    failures = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    for record in failures:
        assert record.event_log_entry.dagster_event is not None
        data = record.event_log_entry.dagster_event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return str(data.user_failure_data.description)
        if data.error is not None:
            return f"{data.error.cls_name or 'an error'} that nobody has foreseen; the run shows where"
    return "its process ended, or never began; the run shows when"


def _kind_of(why: str) -> str:
    """The same for failures that differ in ids, amounts and times only."""
    return sha256(re.sub(r"\w*\d\w*", "#", why).encode()).hexdigest()[:12]


def _failing_checks(context: dg.SensorEvaluationContext) -> Iterator[Trouble]:
    """The checks whose latest answer is an error; one that is just being made has the answer before it."""
    assert context.repository_def is not None
    storage = context.instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key(list(context.repository_def.asset_graph.asset_check_keys))
    for check, found in sorted(latest.items(), key=lambda item: item[0].to_user_string()):
        ended = found.status.value != PLANNED
        records = [found] if ended else storage.get_asset_check_execution_history(check, limit=ANSWERS)
        answer = next((each.evaluation for each in records if each.status.value != PLANNED), None)
        if answer is not None and not answer.passed and answer.severity == dg.AssetCheckSeverity.ERROR:
            asset = check.asset_key.to_user_string()
            yield Trouble(
                subject="checks",
                cause=f"{asset}:{check.name}",
                begun="Checks have failed",
                over="All checks pass again",
                line=f"{asset}: it does not hold that {check.name.replace('_', ' ')}",
                path=f"/assets/{asset}?view=checks",
            )


def _late_tables(context: dg.SensorEvaluationContext) -> Iterator[Trouble]:
    """The tables that Dagster's own freshness daemon calls late; many are late together, for one reason."""
    assert context.repository_def is not None
    graph = context.repository_def.asset_graph
    keys = [key for key in graph.materializable_asset_keys if graph.get(key).freshness_policy is not None]
    states = context.instance.get_freshness_state_records(keys)
    late = sorted(key.to_user_string() for key, state in states.items() if state.freshness_state == LATE)
    if late:
        names = ", ".join(late[:TABLES_NAMED]) + (" ..." if len(late) > TABLES_NAMED else "")
        yield Trouble(
            subject="freshness",
            cause="late",
            begun=f"{len(late)} tables are older than they may be",
            over="All tables are fresh again",
            line=f"{names}\nThe nightly reconcile makes them: look at its last run, or start it now.",
            path="/jobs",
        )


def _stuck(ledger: "Ledger", wall: int, poll_seconds: int) -> Iterator[Trouble]:
    from sync_pipeline.engine.intake import POLLED
    from sync_pipeline.engine.refusals import without_values
    from sync_pipeline.ledger import breakers, commands, cursors, work

    with ledger.read() as conn:
        polled = int(cursors.get(conn, POLLED) or wall)
        parked, troubled, waiting = commands.parked(conn), breakers.troubled(conn), work.status(conn, wall)
    for row in parked:
        yield Trouble(
            subject="refused writes",
            cause=row.id[-12:],
            begun="Writes were refused",
            over="No write is refused any more",
            line=f"{row.target} of {row.account}: {without_values(row.error or 'no reason given')}",
            path="/jobs",
        )
    for each in troubled:
        if each.failures >= breakers.FAILURES_TO_OPEN:
            yield Trouble(
                subject=f"operation {each.operation}",
                cause="paused",
                begun=f"{each.operation} fails again and again",
                over=f"{each.operation} works again",
                line=f"{each.failures} times in a row; it is left alone for a while. {without_values(each.why)}",
                path="/runs",
            )
    if waiting.oldest_due_wall is not None and wall - waiting.oldest_due_wall >= WAITING_US:
        yield Trouble(
            subject="waiting accounts",
            cause="waiting",
            begun="Accounts wait to be looked at",
            over="No account waits any more",
            line=f"{waiting.due} are due, the first for {(wall - waiting.oldest_due_wall) // 60_000_000} min.",
            path="/runs",
        )
    # Nothing becomes due while nobody asks, as with a sign-in that is refused: no run would ever fail.
    if wall - polled >= max(WAITING_US, 3 * poll_seconds * 1_000_000):
        yield Trouble(
            subject="polls of Salesforce",
            cause="late",
            begun="Salesforce is not asked any more what changed",
            over="Salesforce is asked again what changed",
            line=f"The last time was {(wall - polled) // 60_000_000} min ago. The ticks of salesforce_changes_sensor "
            "tell why, and sync-pipeline doctor.",
            path="/automation",
        )
