"""The sensors that tell people, with real runs, Dagster's real storage, a real ledger and a chat's webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.test_utils import create_run_for_test

from sync_pipeline.config.settings import Settings
from sync_pipeline.core.rules import Priority
from sync_pipeline.engine.assembly import build_env, open_current_ledger
from sync_pipeline.engine.intake import POLLED
from sync_pipeline.ledger import breakers, cursors, work
from sync_pipeline.orchestration.alerting import (
    NO_CHANNEL,
    SENSORS,
    failed_checks_sensor,
    failed_runs_sensor,
    freshness_sensor,
    stuck_work_sensor,
)
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.orchestration.drain import JOB
from sync_pipeline_tests.alert_hook import Hook, serving
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import run
from sync_pipeline_tests.sandbox_process import SandboxHandle

MINUTE = 60_000_000
AGREE = "salesforce_and_stripe_agree_to_the_penny"
REFUSED = {"error": {"type": "invalid_request_error", "message": "Invalid email address: ada@northwind.example"}}


@pytest.fixture
def chat() -> Iterator[Hook]:
    with serving(Hook(200)) as hook:
        yield hook


@pytest.fixture
def settings(installed: Installed, chat: Hook) -> Settings:
    return installed(SYNC_ALERT_WEBHOOK=chat.url, SYNC_DAGSTER_URL="https://dagster.acme.example/")


class Ticking:
    """One sensor, tick by tick, with the cursor that Dagster keeps for it."""

    def __init__(self, sensor: dg.SensorDefinition, settings: Settings, instance: dg.DagsterInstance, chat: Hook):
        self._sensor, self._settings, self._instance, self._chat = sensor, settings, instance, chat
        self._cursor: str | None = None

    def tick(self) -> list[str]:
        """What the chat hears at this tick."""
        before = len(self._chat.bodies)
        with dg.build_sensor_context(
            self._instance, cursor=self._cursor, resources={"settings": self._settings}, definitions=build_defs()
        ) as context:
            answer = self._sensor(context)
        assert isinstance(answer, dg.SensorResult)
        self._cursor = answer.cursor
        return [str(json.loads(body)["text"]) for body in self._chat.bodies[before:]]


def test_a_failing_job_is_told_once_per_cause_and_so_is_its_recovery(
    installed: Installed, settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    sensor = Ticking(failed_runs_sensor, settings, memory, chat)
    assert sensor.tick() == []
    nowhere = installed(SYNC_CLOCK_URL="http://127.0.0.1:9/clock")
    failed = run(JOB, nowhere, memory)
    (told,) = sensor.tick()
    assert told.startswith("*drain_inbox has failed*\nthe sandbox clock at http://127.0.0.1:9/clock does not answer")
    assert told.endswith(f"Run {failed.run_id}\n<https://dagster.acme.example/runs/{failed.run_id}|Open it in Dagster>")

    run(JOB, nowhere, memory)
    assert sensor.tick() == [], "the same failure of another run"
    run(JOB, installed(SALESFORCE_CLIENT_SECRET="not-the-secret"), memory)
    (told,) = sensor.tick()
    assert told.startswith("*drain_inbox has failed*\nSalesforce")
    run(JOB, nowhere, memory)
    assert sensor.tick() == [], "a cause that was told in this episode"
    assert run(JOB, settings, memory).success
    assert sensor.tick() == ["*drain_inbox works again*\nIt lasted 1 min."]
    assert sensor.tick() == []


def test_a_run_that_dagster_starts_again_has_not_failed_and_one_without_a_step_says_what_is_known(
    settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    sensor = Ticking(failed_runs_sensor, settings, memory, chat)
    failure = dg.DagsterRunStatus.FAILURE
    create_run_for_test(memory, job_name="resync_accounts", status=failure)
    create_run_for_test(memory, job_name="reconcile", status=failure, tags={"dagster/will_retry": "true"})
    assert sensor.tick() == []
    create_run_for_test(memory, job_name="reconcile", status=failure)
    (told,) = sensor.tick()
    assert told.startswith("*reconcile has failed*\nits process ended, or never began")


def test_a_message_that_does_not_arrive_is_sent_at_the_next_tick(
    settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    sensor = Ticking(failed_runs_sensor, settings, memory, chat)
    create_run_for_test(memory, job_name="reconcile", status=dg.DagsterRunStatus.FAILURE)
    chat.status = 503
    assert len(sensor.tick()) == len(sensor.tick()) == 1
    chat.status = 200
    assert len(sensor.tick()) == 1
    assert sensor.tick() == []


def test_late_tables_are_told_together_once_and_so_is_that_all_are_fresh(
    settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    sensor = Ticking(freshness_sensor, settings, memory, chat)

    def becomes(state: FreshnessState, *names: str) -> None:
        """What Dagster's freshness daemon writes when a policy's verdict changes."""
        for name in names:
            change = FreshnessStateChange(
                key=dg.AssetKey(name.split("/")),
                new_state=state,
                previous_state=FreshnessState.UNKNOWN,
                state_change_timestamp=1.0,
            )
            memory._report_runless_asset_event(change)

    becomes(FreshnessState.PASS, "sync/certificate", "derived/account_ltv")
    becomes(FreshnessState.WARN, "derived/account_mrr")
    assert sensor.tick() == []
    becomes(FreshnessState.FAIL, "sync/certificate", "derived/account_ltv")
    (told,) = sensor.tick()
    assert told.startswith("*2 tables are older than they may be*\nderived/account_ltv, sync/certificate\n")
    becomes(FreshnessState.FAIL, "derived/account_mrr")
    assert sensor.tick() == []
    becomes(FreshnessState.PASS, "sync/certificate", "derived/account_ltv", "derived/account_mrr")
    assert sensor.tick() == ["*All tables are fresh again*\nIt lasted 1 min."]


def test_a_check_that_fails_is_told_once_and_a_warning_or_one_that_is_being_made_is_not(
    settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    sensor = Ticking(failed_checks_sensor, settings, memory, chat)
    certificate, error = dg.AssetKey(["sync", "certificate"]), dg.AssetCheckSeverity.ERROR

    def answers(*, passed: bool, severity: dg.AssetCheckSeverity = error) -> None:
        memory.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=certificate,
                check_name=AGREE,
                passed=passed,
                severity=severity,
            )
        )

    answers(passed=True)
    answers(passed=False, severity=dg.AssetCheckSeverity.WARN)
    assert sensor.tick() == []
    answers(passed=False)
    link = "<https://dagster.acme.example/assets/sync/certificate?view=checks|Open it in Dagster>"
    assert sensor.tick() == [
        "*Checks have failed*\nsync/certificate: it does not hold that salesforce and stripe agree to the penny\n"
        + link
    ]
    answers(passed=False)
    assert sensor.tick() == []
    planned = create_run_for_test(memory, job_name="reconcile")
    memory.report_dagster_event(
        dg.DagsterEvent(
            event_type_value="ASSET_CHECK_EVALUATION_PLANNED",
            job_name="reconcile",
            event_specific_data=AssetCheckEvaluationPlanned(asset_key=certificate, check_name=AGREE),
        ),
        planned.run_id,
    )
    assert sensor.tick() == [], "nobody knows yet whether it is over"
    answers(passed=True)
    assert sensor.tick() == ["*All checks pass again*\nIt lasted 1 min."]


def test_stuck_work_is_told_once_without_personal_values(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    sensor = Ticking(stuck_work_sensor, settings, memory, chat)
    people.win(sandbox)
    account, path = people.only(sandbox, "Account")["Id"], "^/v1/subscriptions$"
    people.fault(sandbox, "http", side="stripe", method="POST", path=path, status=400, body=REFUSED)
    assert run("resync_accounts", settings, memory, {"accounts": [account]}).success
    (told,) = sensor.tick()
    assert told.startswith("*Writes were refused*\n")
    assert f"of {account}: 400  Invalid email address: …" in told
    assert sensor.tick() == []

    wall = build_env(settings).wall()
    with open_current_ledger(settings) as ledger:
        with ledger.tx() as conn:
            work.mark_dirty(conn, [account], priority=int(Priority.SWEEP), now_wall=wall - 16 * MINUTE)
            for _ in range(breakers.FAILURES_TO_OPEN):
                breakers.failed(conn, "stripe.create", "503 upstream", now_wall=wall, jitter=0)
        stripe, waiting = sensor.tick()
        assert stripe.startswith("*stripe.create fails again and again*\n5 times in a row;")
        assert waiting.startswith("*Accounts wait to be looked at*\n1 are due, the first for 16 min.")
        assert sensor.tick() == []
        with ledger.tx() as conn:
            breakers.worked(conn, "stripe.create")
    assert run("resync_accounts", settings, memory, {"accounts": [account]}).success
    assert [told.splitlines()[0] for told in sensor.tick()] == [
        "*stripe.create works again*",
        "*No write is refused any more*",
        "*No account waits any more*",
    ]


def test_a_salesforce_that_nobody_asks_any_more_is_told(
    settings: Settings, memory: dg.DagsterInstance, chat: Hook
) -> None:
    """With a sign-in that is refused nothing becomes due, so that no run fails and no account waits."""
    sensor = Ticking(stuck_work_sensor, settings, memory, chat)
    assert sensor.tick() == []
    _asked_last(settings, minutes_ago=14)
    assert sensor.tick() == []
    _asked_last(settings, minutes_ago=16)
    (told,) = sensor.tick()
    assert told.startswith("*Salesforce is not asked any more what changed*\nThe last time was 16 min ago.")
    assert sensor.tick() == []
    _asked_last(settings, minutes_ago=0)
    assert [told.splitlines()[0] for told in sensor.tick()] == ["*Salesforce is asked again what changed*"]


def _asked_last(settings: Settings, minutes_ago: int) -> None:
    wall = build_env(settings).wall()
    with open_current_ledger(settings) as ledger, ledger.tx() as conn:
        cursors.put(conn, POLLED, str(wall - minutes_ago * MINUTE), wall)


@pytest.mark.parametrize("sensor", SENSORS)
def test_without_a_channel_the_sensor_says_how_to_get_one(
    sensor: dg.SensorDefinition, installed: Installed, memory: dg.DagsterInstance
) -> None:
    with dg.build_sensor_context(memory, resources={"settings": installed()}, definitions=build_defs()) as context:
        answer = sensor(context)
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == NO_CHANNEL
