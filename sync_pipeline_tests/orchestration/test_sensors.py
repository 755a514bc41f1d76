"""The sensors against a real ledger, Dagster's real storage and a running Salesforce."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sync_pipeline.config.settings import Settings
from sync_pipeline.engine.assembly import build_env, open_current_ledger
from sync_pipeline.engine.drain import KIND
from sync_pipeline.engine.intake import resync
from sync_pipeline.ledger import work, workers
from sync_pipeline.orchestration.drain import JOB
from sync_pipeline.orchestration.sensors import salesforce_changes_sensor, stripe_inbox_sensor
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.sandbox_process import SandboxHandle

SECOND = 1_000_000
ACCOUNT = "001Aa0000000001IAA"
Sensor = Callable[..., Any]


def tick(sensor: Sensor, settings: Settings, instance: dg.DagsterInstance) -> str | None:
    """Why the sensor started nothing; None when it requested a run."""
    with dg.build_sensor_context(instance=instance, resources={"settings": settings}) as context:
        answer = sensor(context)
    if isinstance(answer, dg.RunRequest):
        assert answer.run_key is None, "a run key is never tried again"
        return None
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message


def make_due(settings: Settings) -> None:
    with open_current_ledger(settings) as ledger:
        resync(ledger, [ACCOUNT], build_env(settings))


def beat(settings: Settings, *, ends_in: int | None, seconds_ago: int = 0) -> None:
    """A drain gave a sign of life and means to end at some time."""
    with open_current_ledger(settings) as ledger, ledger.tx() as conn:
        wall = build_env(settings).wall()
        ends = None if ends_in is None else wall + ends_in * SECOND
        workers.beat(conn, name="drain-1", kind=KIND, now_wall=wall - seconds_ago * SECOND, ends_wall=ends)


def test_nothing_due_starts_nothing(installed: Installed, instance: dg.DagsterInstance) -> None:
    assert "no work is due" in str(tick(stripe_inbox_sensor, installed(), instance))


def test_due_work_starts_one_run_and_not_a_second(installed: Installed, instance: dg.DagsterInstance) -> None:
    settings = installed()
    make_due(settings)
    assert tick(stripe_inbox_sensor, settings, instance) is None
    assert "a moment ago" in str(tick(stripe_inbox_sensor, settings, instance))


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
def test_a_run_that_is_about_to_start_will_take_the_work(
    installed: Installed, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    settings = installed()
    make_due(settings)
    waiting = create_run_for_test(instance, job_name=JOB, status=status)
    assert tick(stripe_inbox_sensor, settings, instance) == f"run {waiting.run_id} is about to start"


def test_runs_that_are_over_and_runs_of_other_jobs_do_not_count(
    installed: Installed, instance: dg.DagsterInstance
) -> None:
    settings = installed()
    make_due(settings)
    create_run_for_test(instance, job_name=JOB, status=dg.DagsterRunStatus.FAILURE)
    create_run_for_test(instance, job_name=JOB, status=dg.DagsterRunStatus.SUCCESS)
    create_run_for_test(instance, job_name="reconcile", status=dg.DagsterRunStatus.NOT_STARTED)
    assert tick(stripe_inbox_sensor, settings, instance) is None


def test_a_run_that_started_and_gives_no_sign_of_life_keeps_nothing_waiting(
    installed: Installed, instance: dg.DagsterInstance
) -> None:
    settings = installed()
    make_due(settings)
    run = create_run_for_test(instance, job_name=JOB, status=dg.DagsterRunStatus.NOT_STARTED)
    started = datetime.now(UTC) - timedelta(seconds=31)
    instance.run_storage.handle_run_event(
        run.run_id,
        dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=JOB),
        started,
    )
    assert tick(stripe_inbox_sensor, settings, instance) is None


def test_after_runs_that_failed_again_and_again_the_next_waits(
    installed: Installed, instance: dg.DagsterInstance
) -> None:
    settings = installed()
    make_due(settings)
    for ends_with in ("PIPELINE_FAILURE", "PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_FAILURE"):
        run = create_run_for_test(instance, job_name=JOB)
        ended = dg.DagsterEvent(event_type_value=ends_with, job_name=JOB)
        instance.run_storage.handle_run_event(run.run_id, ended, datetime.now(UTC))
    assert str(tick(stripe_inbox_sensor, settings, instance)).startswith("the last 2 runs have failed; the next one is")
    run = create_run_for_test(instance, job_name=JOB)
    ended = dg.DagsterEvent(event_type_value="PIPELINE_CANCELED", job_name=JOB)
    instance.run_storage.handle_run_event(run.run_id, ended, datetime.now(UTC))
    assert tick(stripe_inbox_sensor, settings, instance) is None


def test_a_living_drain_takes_the_work(installed: Installed, instance: dg.DagsterInstance) -> None:
    settings = installed()
    make_due(settings)
    beat(settings, ends_in=600)
    assert "a drain is at it" in str(tick(stripe_inbox_sensor, settings, instance))


def test_a_drain_about_to_end_gets_one_successor(installed: Installed, instance: dg.DagsterInstance) -> None:
    settings = installed()
    make_due(settings)
    beat(settings, ends_in=5)
    assert tick(stripe_inbox_sensor, settings, instance) is None
    assert "a moment ago" in str(tick(stripe_inbox_sensor, settings, instance))


def test_a_drain_that_died_is_replaced(installed: Installed, instance: dg.DagsterInstance) -> None:
    settings = installed()
    make_due(settings)
    beat(settings, ends_in=600, seconds_ago=20)
    assert tick(stripe_inbox_sensor, settings, instance) is None


def test_both_sensors_at_the_same_moment_start_one_run(
    installed: Installed, instance: dg.DagsterInstance, ledger_url: str
) -> None:
    settings = installed(SYNC_DATABASE_URL=ledger_url)
    make_due(settings)
    barrier = Barrier(2)

    def at_once(sensor: Sensor) -> str | None:
        barrier.wait()
        return tick(sensor, settings, instance)

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(at_once, [stripe_inbox_sensor, salesforce_changes_sensor]))
    assert answers.count(None) == 1, answers


def test_a_change_in_salesforce_is_found_and_starts_a_run(
    sandbox: SandboxHandle, installed: Installed, instance: dg.DagsterInstance
) -> None:
    settings = installed()
    people.win(sandbox)
    assert tick(salesforce_changes_sensor, settings, instance) is None
    with open_current_ledger(settings) as ledger, ledger.read() as conn:
        assert work.due(conn, build_env(settings).wall()) == 1
    assert "less than 30 s ago" in str(tick(salesforce_changes_sensor, settings, instance))


def test_salesforce_is_left_to_a_living_drain(
    sandbox: SandboxHandle, installed: Installed, instance: dg.DagsterInstance
) -> None:
    settings = installed()
    beat(settings, ends_in=600)
    before = people.mark(sandbox)
    assert "asks Salesforce itself" in str(tick(salesforce_changes_sensor, settings, instance))
    assert people.requests_since(sandbox, before, "salesforce") == []
