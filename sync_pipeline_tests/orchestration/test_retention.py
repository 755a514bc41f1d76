"""The retention job, run for real on both kinds of storage: what is old goes, what is young or unfinished stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.test_utils import create_run_for_test, freeze_time

from sync_pipeline.config.settings import Settings
from sync_pipeline.engine.assembly import build_env, open_current_ledger
from sync_pipeline.ledger import inbox
from sync_pipeline.ledger.inbox import InboxEvent
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.orchestration.reconcile import TIME_ZONE
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import run

DAY = timedelta(days=1)
KEPT_DAYS = 14
WRITEBACK = dg.AssetKey(["sync", "writeback"])


def old_run(instance: dg.DagsterInstance, job: str, age: timedelta, status: dg.DagsterRunStatus) -> str:
    with freeze_time(datetime.now(UTC) - age):
        made = create_run_for_test(instance, job_name=job, status=status)
        instance.report_engine_event("something happened", made)
    return made.run_id


def check_runs(instance: dg.DagsterInstance, settings: Settings) -> tuple[set[str], dict[str, str]]:
    """Runs the job; the ids of the runs that are left, and those that were made by what they are."""
    done, started = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.STARTED
    made = {
        "old": old_run(instance, "drain_inbox", (KEPT_DAYS + 1) * DAY, done),
        "old failed": old_run(instance, "drain_inbox", 400 * DAY, dg.DagsterRunStatus.FAILURE),
        "young": old_run(instance, "drain_inbox", (KEPT_DAYS - 1) * DAY, done),
        "old and running": old_run(instance, "drain_inbox", 20 * DAY, started),
        "old reconcile": old_run(instance, "reconcile", 400 * DAY, done),
    }
    result = run("retention", settings, instance)
    assert result.success
    return {each.run_id for each in instance.get_runs()} - {result.run_id}, made


@pytest.mark.postgres
def test_old_drain_runs_go_with_their_events(installed: Installed, postgres_instance: dg.DagsterInstance) -> None:
    left, made = check_runs(postgres_instance, installed())
    assert left == {made["young"], made["old and running"], made["old reconcile"]}
    assert postgres_instance.all_logs(made["old"]) == []
    assert postgres_instance.all_logs(made["young"]) != []


def test_on_sqlite_their_files_go_too(installed: Installed, instance: dg.DagsterInstance) -> None:
    left, made = check_runs(instance, installed())
    assert left == {made["young"], made["old and running"], made["old reconcile"]}
    storage = instance.event_log_storage
    assert isinstance(storage, SqliteEventLogStorage)
    there = {name for name, run_id in made.items() if Path(storage.path_for_shard(run_id)).exists()}
    assert there == {"young", "old and running", "old reconcile"}


def test_the_ledger_forgets_by_its_rules(installed: Installed, memory: dg.DagsterInstance) -> None:
    settings = installed()
    wall, day = build_env(settings).wall(), 86_400_000_000
    with open_current_ledger(settings) as ledger, ledger.tx() as conn:
        for name, age, account in (("old", 91, "001A"), ("open", 91, None), ("young", 89, "001A")):
            event = InboxEvent("stripe", f"evt_{name}", "invoice.paid", (), wall - age * day, account)
            inbox.receive(conn, [event], received_wall=wall - age * day, priority=1)
    result = run("retention", settings, memory)
    assert result.success
    (counts,) = (
        {name: value.value for name, value in event.step_output_data.metadata.items()}
        for event in result.all_node_events
        if event.is_successful_output and event.step_key == "delete_old_rows"
    )
    assert counts == dict.fromkeys(("audit", "chains", "commands", "attempts", "workers", "buckets"), 0) | {"inbox": 1}
    with open_current_ledger(settings) as ledger, ledger.read() as conn:
        assert inbox.status(conn).total == 2


def test_halves_of_files_go_when_they_are_old(installed: Installed, memory: dg.DagsterInstance) -> None:
    settings = installed()
    halves = [settings.warehouse / "derived" / f".{name}-x.tmp" for name in ("old", "young")]
    halves[0].parent.mkdir(parents=True)
    for path in halves:
        path.write_text("half")
    os.utime(halves[0], (build_env(settings).wall() // 1_000_000 - 2 * 86_400,) * 2)
    assert run("retention", settings, memory).success
    assert [path.exists() for path in halves] == [False, True]


def kept_plans(settings: Settings) -> dict[str, Path]:
    """Plans that were made 29 and 31 days ago."""
    folder = settings.home / "plans"
    folder.mkdir(parents=True)
    made = {name: folder / f"{name}.json" for name in ("young", "old")}
    for (name, path), days in zip(made.items(), (29, 31), strict=True):
        path.write_text(name, "utf-8")
        os.utime(path, (build_env(settings).wall() // 1_000_000 - days * 86_400,) * 2)
    return made


def test_plans_go_when_they_are_old(installed: Installed, memory: dg.DagsterInstance) -> None:
    settings = installed()
    plans = kept_plans(settings)
    assert run("retention", settings, memory).success
    assert {name: path.exists() for name, path in plans.items()} == {"young": True, "old": False}


def test_every_night_at_half_past_four_one_run_is_asked_for(memory: dg.DagsterInstance) -> None:
    schedule = build_defs().resolve_schedule_def("retention_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * *", TIME_ZONE)
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.build_schedule_context(memory, scheduled_execution_time=datetime(2026, 1, 15, 4, 30, tzinfo=UTC)) as tick:
        (request,) = schedule.evaluate_tick(tick).run_requests or ()
    assert (schedule.job_name, request.job_name, request.run_config) == ("retention", None, {})


def test_what_is_to_be_kept_for_ever_is_kept(installed: Installed, memory: dg.DagsterInstance, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("retention:\n  drain_runs_days: null\n  plans_days: null\n", "utf-8")
    settings = installed(SYNC_RULES=str(rules))
    plans = kept_plans(settings)
    run_id = old_run(memory, "drain_inbox", 900 * DAY, dg.DagsterRunStatus.SUCCESS)
    assert run("retention", settings, memory).success
    assert memory.get_run_by_id(run_id) is not None
    assert all(path.exists() for path in plans.values())
