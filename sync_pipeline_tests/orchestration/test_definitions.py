"""What Dagster loads: complete, documented, light, silent, and accepted by Dagster's own tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sync_pipeline.frames.tables import DAILY, TABLES
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.orchestration.reconcile import TIME_ZONE, reconcile_schedule

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("alembic", "pandas", "pandera", "polars", "requests", "simple_salesforce", "sqlalchemy", "stripe")


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_defs().resolve_all_asset_specs()}


def test_every_table_is_an_asset_of_its_name_and_nothing_else_is_made(specs: dict[str, dg.AssetSpec]) -> None:
    made = {name for name in specs if not name.startswith("source/")}
    days = {f"day/stripe/{listing}" for listing in DAILY}
    assert made == {*TABLES, *days, "sync/writeback", "warehouse/sql_tables"}


def test_every_asset_says_what_it_is_and_whose(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        assert spec.description, name
        assert spec.group_name not in (None, "default"), name
        assert spec.kinds, name
        assert spec.owners == ["team:revenue-operations"], name
        # What lies outside is not made here, so Dagster cannot know how old it is, and a day of the past does not age.
        assert (spec.freshness_policy is None) == name.startswith(("source/", "day/")), name


@pytest.mark.parametrize("name", TABLES)
def test_the_catalogue_shows_every_column_with_its_description(name: str, specs: dict[str, dg.AssetSpec]) -> None:
    shown = specs[name].metadata["dagster/column_schema"]
    assert [column.name for column in shown.columns] == [column.name for column in TABLES[name].columns]
    assert [column.description for column in shown.columns] == [column.description for column in TABLES[name].columns]
    personal = {column.name for column in shown.columns if column.tags == {"personal_data": "yes"}}
    assert personal == {column.name for column in TABLES[name].columns if column.personal}
    assert specs[name].freshness_policy is not None


def test_lineage_runs_from_both_systems_to_the_certificate(specs: dict[str, dg.AssetSpec]) -> None:
    def upstream(name: str) -> set[str]:
        direct = {dep.asset_key.to_user_string() for dep in specs[name].deps}
        return direct.union(*map(upstream, direct))

    read = {name for name in specs if name.startswith(("source/", "snapshot/", "mapping/"))}
    # The inbox of conflicts is what the night has left, not what it begins from.
    assert read - {"source/ledger/conflict"} <= upstream("sync/certificate")
    assert "sync/plan" in upstream("sync/writeback")
    assert not upstream("source/salesforce/Account")


def test_checks_read_as_statements() -> None:
    checks = set(build_defs().resolve_asset_graph().asset_check_keys)
    assert len({key.asset_key for key in checks}) == len(TABLES)
    for key in checks:
        assert len(key.name.split("_")) >= 5, key.name
        assert re.search(r"(fits|belongs|has|is|agree)", key.name), key.name


def test_what_guards_the_writes_is_blocking() -> None:
    graph = build_defs().resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get(key).blocking}
    assert blocking == {
        "every_row_fits_its_schema",
        "each_customer_belongs_to_at_most_one_account",
        "each_deal_has_at_most_one_subscription",
        "every_bridge_is_exact_to_the_last_fraction",
        "start_and_every_movement_is_the_end",
    }


def test_no_setting_and_no_secret_is_configuration() -> None:
    repository = build_defs().get_repository_def()
    for name in ("drain_inbox", "reconcile"):
        job = repository.get_job(name)
        config = job.resource_defs["settings"].config_schema.config_type
        assert isinstance(config, dg.Shape)
        assert config.fields == {}, name


def test_the_schedule_runs_at_two_in_the_morning_unless_the_last_run_still_works() -> None:
    at_two = datetime(2026, 1, 15, 2, tzinfo=UTC)
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(instance, scheduled_execution_time=at_two) as context,
    ):
        assert isinstance(reconcile_schedule(context), dg.RunRequest)
        run = create_run_for_test(instance, job_name="reconcile", status=dg.DagsterRunStatus.STARTED)
        skipped = reconcile_schedule(context)
        assert isinstance(skipped, dg.SkipReason)
        assert run.run_id in str(skipped.skip_message)
    assert (reconcile_schedule.cron_schedule, reconcile_schedule.execution_timezone) == ("0 2 * * *", TIME_ZONE)


def test_sensors_and_schedule_run_without_being_switched_on() -> None:
    definitions = build_defs()
    for name in ("stripe_inbox_sensor", "salesforce_changes_sensor"):
        sensor = definitions.resolve_sensor_def(name)
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert sensor.minimum_interval_seconds == 1
    assert definitions.resolve_schedule_def("reconcile_schedule").default_status == dg.DefaultScheduleStatus.RUNNING


def test_loading_imports_nothing_heavy() -> None:
    program = (
        "import json, sys, dagster\n"
        "before = set(sys.modules)\n"
        "from sync_pipeline.definitions import defs\n"
        "defs().get_repository_def().load_all_definitions()\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded & set(HEAVY) == set()


def test_loading_warns_of_nothing_that_our_code_causes() -> None:
    script = ROOT / "scripts" / "check_definitions_load.py"
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 warnings of our making" in done.stdout


def test_dagster_validates_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=ROOT,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location sync_pipeline" in done.stdout + done.stderr


def test_runs_about_nobody_in_particular_say_so() -> None:
    definitions = build_defs()
    scopes = {name: definitions.resolve_job_def(name).run_tags["sync/scope"] for name in ("drain_inbox", "reconcile")}
    assert scopes == {"drain_inbox": "due accounts", "reconcile": "all accounts"}


def test_a_comparison_can_be_told_to_read_everything_again() -> None:
    mapping = build_defs().resolve_job_def("reconcile").config_mapping
    assert mapping is not None
    for given in ({}, {"whole": True}):
        found = mapping.resolve_from_unvalidated_config(given)["ops"]
        whole = {"config": {"whole": bool(given)}}
        assert found["salesforce_snapshot"] == found["stripe_snapshot"] == whole
        assert found["sync__writeback"]["ops"]["write_back"]["config"] == {"allow": False}
