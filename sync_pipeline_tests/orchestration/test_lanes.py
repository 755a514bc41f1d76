"""Runs that write the same tables wait for each other, also those that are clicked on assets and are no job's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from sync_pipeline.config.settings import Settings, load_settings
from sync_pipeline.frames.tables import ACCOUNT_LTV, QUARANTINE
from sync_pipeline.orchestration.assets.days import day_key
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.orchestration.lanes import in_its_lane
from sync_pipeline.orchestration.table_assets import key

ROOT = Path(__file__).resolve().parents[2]
CLICKED = "__ASSET_JOB"
QUEUED, STARTED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED
LTV, ASIDE, DAYS = key(ACCOUNT_LTV), key(QUARANTINE), day_key("invoices")


@pytest.fixture(scope="module")
def kept_instance() -> Iterator[dg.DagsterInstance]:
    """An instance with the queue as the repository's dagster.yaml has it."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    ours = {name: settings[name] for name in ("run_coordinator", "concurrency")}
    with dg.instance_for_test(overrides=ours) as made:
        yield made


@pytest.fixture
def queueing(kept_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """The same, without a run."""
    for run in kept_instance.get_runs():
        kept_instance.delete_run(run.run_id)
    return kept_instance


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Nothing here speaks to a system."""
    access = ("SALESFORCE_DOMAIN", "SALESFORCE_CLIENT_ID", "SALESFORCE_CLIENT_SECRET", "STRIPE_API_KEY")
    return load_settings({**dict.fromkeys(access, "unused"), "SYNC_HOME": str(tmp_path)})


@cache
def definitions() -> dg.Definitions:
    return build_defs()


def start(
    instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus, selection: Sequence[dg.AssetKey] | None = None
) -> dg.DagsterRun:
    """A run as the UI makes it: of a job, or of chosen assets."""
    definition = definitions().resolve_job_def(job)
    if selection is not None:
        definition = definition.get_subset(asset_selection=set(selection))
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("localhost", 4000), "ours"), job)
    return instance.create_run_for_job(
        definition,
        asset_selection=definition.asset_selection,
        status=status,
        tags=definition.run_tags,
        remote_job_origin=origin,
    )


def let_in(instance: dg.DagsterInstance) -> list[str]:
    """The runs that the queue starts now, after it has met the pools of what waits."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
    for _ in range(2):
        found = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
    return [run.run_id for run in found]


@pytest.mark.parametrize(
    ("works", "comes", "both"),
    [
        (("reconcile", None), (CLICKED, [LTV]), False),
        ((CLICKED, [ASIDE]), (CLICKED, [LTV]), False),
        (("backfill_days", [DAYS]), (CLICKED, [DAYS]), False),
        ((CLICKED, [DAYS]), ("reconcile", None), True),
        ((CLICKED, [LTV]), ("resync_accounts", None), True),
    ],
)
def test_two_runs_are_let_in_together_unless_they_write_the_same(
    queueing: dg.DagsterInstance,
    works: tuple[str, Sequence[dg.AssetKey] | None],
    comes: tuple[str, Sequence[dg.AssetKey] | None],
    both: bool,
) -> None:
    start(queueing, works[0], STARTED, works[1])
    waiting = start(queueing, comes[0], QUEUED, comes[1])
    assert let_in(queueing) == ([waiting.run_id] if both else [])


def test_a_drain_hands_over_to_its_successor_and_to_no_third(queueing: dg.DagsterInstance) -> None:
    start(queueing, "drain_inbox", STARTED)
    successor, _ = (start(queueing, "drain_inbox", QUEUED) for _ in range(2))
    assert let_in(queueing) == [successor.run_id]


def test_everything_that_can_be_clicked_stands_in_a_lane() -> None:
    job = definitions().resolve_job_def(CLICKED)
    pools = {
        node.name: node.definition.pool for node in job.graph.nodes if isinstance(node.definition, dg.OpDefinition)
    }
    assert set(pools.values()) == {"reconcile", "backfill"}, pools


@pytest.mark.parametrize(
    ("selection", "lane"),
    [([ASIDE, LTV], "reconcile"), ([DAYS], "backfill"), ([DAYS, LTV], "backfill and reconcile")],
)
def test_a_click_is_tagged_with_its_lane(
    memory: dg.DagsterInstance, settings: Settings, selection: Sequence[dg.AssetKey], lane: str
) -> None:
    run = start(memory, CLICKED, STARTED, selection)
    with in_its_lane(memory, run, settings):
        pass
    assert _ours(memory, run) == {"sync/lane": lane, "sync/scope": "all accounts"}


def test_a_job_keeps_the_lane_and_the_scope_that_it_has(memory: dg.DagsterInstance, settings: Settings) -> None:
    run = start(memory, "reconcile", STARTED)
    memory.add_run_tags(run.run_id, own := {"sync/lane": "reconcile", "sync/scope": "0a1b"})
    with in_its_lane(memory, _now(memory, run), settings):
        pass
    assert _ours(memory, run) == own


@pytest.mark.parametrize(("selection", "waits"), [([LTV], True), ([DAYS], False)])
def test_what_is_run_past_the_queue_waits_when_it_begins(
    memory: dg.DagsterInstance, settings: Settings, selection: Sequence[dg.AssetKey], waits: bool
) -> None:
    first, made = (start(memory, CLICKED, STARTED, each) for each in ([ASIDE], selection))
    # Tagged here, because a storage in memory belongs to one thread.
    memory.add_run_tags(made.run_id, {"sync/lane": "any"})
    second, begun = _now(memory, made), Event()

    def other() -> None:
        with in_its_lane(memory, second, settings):
            begun.set()

    thread = Thread(target=other)
    with in_its_lane(memory, first, settings):
        thread.start()
        assert begun.wait(0.2) is not waits
    assert begun.wait(5)
    thread.join()


def _ours(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str]:
    return {name: tag for name, tag in _now(instance, run).tags.items() if name.startswith("sync/")}


def _now(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found
