"""A range of days as one run: whoever is stopped half-way leaves finished days, and the next one goes on from there.

Once by a process that is killed, once as a person does it: a range chosen in the UI, and the button that tries a failed
backfill again.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.remote_representation.grpc_server_registry import GrpcServerRegistry
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._grpc.constants import GrpcServerCommand
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster_graphql.test.utils import execute_dagster_graphql

from sync_pipeline.config.settings import load_settings, sandbox_environment
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.days import day_of
from sync_pipeline.frames.tables import DAILY, SNAPSHOTS
from sync_pipeline.orchestration.assets.days import DayLog, day_key
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.systems.stripe import client, listings
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.warehouse import days
from sync_pipeline.warehouse.days import DayRead
from sync_pipeline.warehouse.parquet import Warehouse, Written
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import NOW
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

FIRST, LAST = date(2025, 10, 17), date(2026, 1, 14)
RANGE = {
    "dagster/asset_partition_range_start": FIRST.isoformat(),
    "dagster/asset_partition_range_end": LAST.isoformat(),
}
CHOSEN = day_key("invoices")
INVOICES = SNAPSHOTS["stripe/invoices"]
DAYS = {(FIRST + timedelta(days=each)).isoformat() for each in range(90)}
PROGRAM = """
import json, sys
import dagster as dg
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.systems.stripe import client
from sync_pipeline.warehouse import days
client.PAGE = days.PAGE = 5
with dg.DagsterInstance.get() as instance:
    job = build_defs().resolve_job_def("backfill_days")
    chosen = [dg.AssetKey(["day", "stripe", "invoices"])]
    job.execute_in_process(instance=instance, tags=json.loads(sys.argv[1]), asset_selection=chosen)
"""


@pytest.fixture(scope="module")
def company() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "company", "--accounts", "25", "--now", str(NOW)) as handle:
        yield handle


LAUNCH = """mutation Launch($what: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $what) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
TRY_AGAIN = """mutation TryAgain($of: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $of) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
LONG_AGO = date(2023, 1, 15)


def backfill(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(RANGE)]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=DEVNULL)


@pytest.mark.postgres
def test_ninety_days_are_killed_half_way_and_go_on(
    company: SandboxHandle, tmp_path: Path, postgres_instance: dg.DagsterInstance
) -> None:
    environment = {**sandbox_environment(company.ready), "SYNC_HOME": str(tmp_path / "sync")}
    warehouse = Warehouse(load_settings(environment).warehouse)
    environment["DAGSTER_HOME"] = postgres_instance.root_directory
    stripe = Stripe(company.ready["stripe_key"], base_url=company.ready["stripe_url"])
    everything = {
        name: _by_id(
            row
            for each in listings.dated(stripe, "invoices")
            if FIRST <= day_of(each.created_at) <= LAST
            for row in each.rows.get(name.partition("/")[2], ())
        )
        for name in DAILY["invoices"]
    }
    people.fault(company, "delay", side="stripe", method="GET", path="/v1/invoices$", seconds=0.3, times=1000)
    process = backfill(environment)
    while len(warehouse.days(INVOICES)) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    company.control("DELETE", "/faults")

    finished = warehouse.days(INVOICES)
    assert finished[0] > FIRST, "it was killed too late to show anything"
    assert kept(warehouse, "stripe/invoices") == [
        each for each in everything["stripe/invoices"] if day_of(each.created_at) in finished
    ]
    (killed,) = postgres_instance.get_runs()
    told = postgres_instance.get_materialized_partitions(CHOSEN)
    # The day that it was killed in may be on disk and not told yet.
    assert {day.isoformat() for day in finished[1:]} <= told < DAYS

    written = {day: warehouse.path(INVOICES, day).stat().st_mtime_ns for day in finished}
    job = build_defs({"settings": load_settings(environment)}).resolve_job_def("backfill_days")
    family = {"dagster/root_run_id": killed.run_id, "dagster/parent_run_id": killed.run_id}
    again = job.execute_in_process(instance=postgres_instance, tags={**RANGE, **family}, asset_selection=[CHOSEN])
    assert again.success
    assert {name: kept(warehouse, name) for name in everything} == everything
    # What was finished is not read again.
    assert {day: warehouse.path(INVOICES, day).stat().st_mtime_ns for day in finished} == written
    assert postgres_instance.get_materialized_partitions(CHOSEN) | {finished[0].isoformat()} == DAYS


@pytest.fixture
def clicks(memory: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clicks]:
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name="sync_pipeline.definitions"),
        location_name="sync_pipeline",
    )
    launched: list[Any] = []
    monkeypatch.setattr(SyncInMemoryRunLauncher, "launch_run", lambda _, context: launched.append(context))
    with (
        # A location in this process has no server, but Dagster wants to know how it would start one.
        GrpcServerRegistry(None, GrpcServerCommand.API_GRPC, 30, 30, False) as servers,
        WorkspaceProcessContext(memory, InProcessWorkspaceLoadTarget(origin), grpc_server_registry=servers) as made,
    ):
        yield Clicks(made, launched)


@dataclass(frozen=True)
class Clicks:
    """What the buttons of the UI send, and what Dagster's daemon makes of it; runs are run in this process."""

    dagster: WorkspaceProcessContext
    launched: list[Any]

    def click(self, mutation: str, **variables: Any) -> str:
        """The new backfill's id."""
        answer = execute_dagster_graphql(self.dagster.create_request_context(), mutation, variables)
        ((found,),) = (each.values() for each in answer.data.values())
        return str(found)

    def work(self) -> list[dg.DagsterRun]:
        """The daemon looks at the backfills, its runs are run, and it looks again; those runs."""
        self._look()
        runs = [context.dagster_run.run_id for context in self.launched]
        for context in self.launched:
            execute_run(recon_job_from_origin(context.job_code_origin), context.dagster_run, self.dagster.instance)
        self.launched.clear()
        self._look()
        return [run for run_id in runs if (run := self.dagster.instance.get_run_by_id(run_id)) is not None]

    def status(self, backfill_id: str) -> BulkActionStatus:
        found = self.dagster.instance.get_backfill(backfill_id)
        assert found is not None
        return found.status

    def _look(self) -> None:
        assert not any(execute_backfill_iteration(self.dagster, logging.getLogger("dagster.test")))


def test_three_years_are_a_click_and_one_run_and_a_failed_one_is_tried_again_from_where_it_got_to(
    company: SandboxHandle, tmp_path: Path, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**sandbox_environment(company.ready), "SYNC_HOME": str(tmp_path / "sync")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(client, "PAGE", 20)
    monkeypatch.setattr(days, "PAGE", 20)
    warehouse, instance = Warehouse(load_settings(environment).warehouse), clicks.dagster.instance
    every = [(LONG_AGO + timedelta(days=each)).isoformat() for each in range((LAST - LONG_AGO).days + 1)]
    assert len(every) == 1096
    people.fault(company, "http", side="stripe", method="GET", path="/v1/invoices$", status=403, nth=3)

    first = clicks.click(LAUNCH, what={"assetSelection": [{"path": CHOSEN.path}], "partitionNames": every})
    (failed,) = clicks.work()
    assert range_of(failed) == (every[0], every[-1])
    assert failed.status == dg.DagsterRunStatus.FAILURE
    assert (failed.tags["sync/lane"], failed.tags["sync/scope"]) == ("backfill", "all accounts")
    assert clicks.status(first) == BulkActionStatus.COMPLETED_FAILED
    company.control("DELETE", "/faults")
    finished = warehouse.days(INVOICES)
    told = instance.get_materialized_partitions(CHOSEN)
    assert 20 <= warehouse.read(INVOICES).height < 40
    assert {day.isoformat() for day in finished} <= told < set(every)
    written = {day: warehouse.path(INVOICES, day).stat().st_mtime_ns for day in finished}

    second = clicks.click(TRY_AGAIN, of={"parentRunId": first, "strategy": "FROM_FAILURE"})
    (run,) = clicks.work()
    assert range_of(run) == (every[0], max(set(every) - told))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert clicks.status(second) == BulkActionStatus.COMPLETED_SUCCESS
    assert instance.get_materialized_partitions(CHOSEN) == set(every)
    assert {day: warehouse.path(INVOICES, day).stat().st_mtime_ns for day in finished} == written
    stripe = Stripe(company.ready["stripe_key"], base_url=company.ready["stripe_url"])
    there = [
        row.id
        for each in listings.dated(stripe, "invoices")
        if LONG_AGO <= day_of(each.created_at) <= LAST
        for row in each.rows["invoices"]
    ]
    assert sorted(warehouse.read(INVOICES)["id"]) == sorted(there)
    assert len(there) > 40
    said = [entry.user_message for entry in instance.all_logs(run.run_id) if "so far" in entry.user_message]
    assert said[-1].startswith(f"invoices back to {every[0]}; so far ")
    assert f" {len(there) - warehouse.scan(INVOICES, finished).collect().height} invoices" in said[-1]


def test_of_everything_clicked_at_once_each_run_stands_in_its_lane(
    company: SandboxHandle, tmp_path: Path, clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**sandbox_environment(company.ready), "SYNC_HOME": str(tmp_path / "sync")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    everything = [{"path": each.path} for each in build_defs().resolve_asset_graph().materializable_asset_keys]
    week = sorted(DAYS)[-7:]
    clicked = clicks.click(LAUNCH, what={"assetSelection": everything, "partitionNames": week})
    looks: list[list[dg.DagsterRun]] = []
    while clicks.status(clicked) == BulkActionStatus.REQUESTED:
        looks.append(sorted(clicks.work(), key=lambda run: run.tags["sync/lane"]))
    assert clicks.status(clicked) == BulkActionStatus.COMPLETED_SUCCESS
    # The days with the snapshots of Salesforce, in whichever order Dagster launches them; those of Stripe, for which
    # the days are needed; and what follows from both systems.
    lanes = [[run.tags["sync/lane"] for run in look] for look in looks]
    assert lanes == [["backfill", "reconcile"], ["reconcile"], ["reconcile"]]
    assert range_of(looks[0][0]) == (week[0], week[-1])


def range_of(run: dg.DagsterRun) -> tuple[str, str]:
    return run.tags["dagster/asset_partition_range_start"], run.tags["dagster/asset_partition_range_end"]


@dataclass
class Said:
    """The part of Dagster's context that a DayLog speaks to."""

    lines: list[str] = field(default_factory=list)
    events: list[dg.AssetMaterialization] = field(default_factory=list)

    @property
    def log(self) -> Said:
        return self

    def info(self, line: str) -> None:
        self.lines.append(line)

    def log_event(self, event: dg.AssetMaterialization) -> None:
        self.events.append(event)


class Ticking(SystemEnv):
    """Each look at the clock is a second after the one before."""

    seconds = 0

    def wall(self) -> int:
        self.seconds += 1
        return self.seconds * 1_000_000


def test_every_day_is_told_and_progress_every_five_seconds() -> None:
    said = Said()
    context: Any = said
    log = DayLog(context, Ticking())
    newest = date(2026, 1, 14)
    for each in range(12):
        rows = Written(Path("x"), 100, 1, f"hash {each}", changed=True)
        log.add(DayRead("invoices", newest - timedelta(days=each), {"stripe/invoices": rows}, changed=True))
    log.say()
    assert [event.partition for event in said.events] == [
        (newest - timedelta(days=each)).isoformat() for each in range(12)
    ]
    # It looks at the clock for each day, and once more when it has spoken.
    assert said.lines == [
        "invoices back to 2026-01-10; so far 500 invoices",
        "invoices back to 2026-01-05; so far 1,000 invoices",
        "invoices back to 2026-01-03; so far 1,200 invoices",
    ]


def kept(warehouse: Warehouse, name: str) -> list[Any]:
    return _by_id(to_records(warehouse.read(SNAPSHOTS[name]), SNAPSHOTS[name]))


def _by_id(records: Iterable[Any]) -> list[Any]:
    return sorted(records, key=lambda each: each.id)
