"""A range of days read by a process that is killed half-way: what it has finished stays, and the next one goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import dagster as dg
import pytest

from sync_pipeline.config.settings import load_settings, sandbox_environment
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.days import day_of
from sync_pipeline.frames.tables import DAILY, SNAPSHOTS
from sync_pipeline.orchestration.assets.days import day_key
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.systems.stripe import listings
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.warehouse.parquet import Warehouse
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


def kept(warehouse: Warehouse, name: str) -> list[Any]:
    return _by_id(to_records(warehouse.read(SNAPSHOTS[name]), SNAPSHOTS[name]))


def _by_id(records: Iterable[Any]) -> list[Any]:
    return sorted(records, key=lambda each: each.id)
