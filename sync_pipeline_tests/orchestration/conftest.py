"""A story sandbox for the folder, back at its start for every test, and the settings that point at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest

from sync_pipeline.config.settings import Settings, load_settings, sandbox_environment
from sync_pipeline_tests.databases import database_kind, empty_database, ledger_url, postgres_ledger_url
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

__all__ = ["database_kind", "ledger_url", "postgres_ledger_url"]

NOW = 1_768_471_200
"""2026-01-15 10:00 UTC: where the sandbox's clock stands at the start."""

Installed = Callable[..., Settings]


def settings_of(sandbox: SandboxHandle, folder: Path, **variables: str) -> Settings:
    """Settings for a sandbox with an own home; keyword arguments are environment variables."""
    environment: Mapping[str, str] = {
        **sandbox_environment(sandbox.ready),
        "SYNC_HOME": str(folder / "home"),
        "SYNC_LINGER_SECONDS": "1",
        **variables,
    }
    return load_settings(environment)


@pytest.fixture(scope="package")
def running_sandbox() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "story", "--now", str(NOW)) as handle:
        yield handle


@pytest.fixture
def sandbox(running_sandbox: SandboxHandle) -> SandboxHandle:
    """A deal of 45,000 pounds a year that is about to be won; Stripe is empty."""
    running_sandbox.control("POST", "/reset")
    return running_sandbox


@pytest.fixture
def installed(sandbox: SandboxHandle, tmp_path: Path) -> Installed:
    """Makes settings for the sandbox with an own home; keyword arguments are environment variables."""

    def make(**variables: str) -> Settings:
        return settings_of(sandbox, tmp_path, **variables)

    return make


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's own storage on disk, as in production."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def postgres_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage on Postgres, as larger installations have it; other processes open it by its folder."""
    home = tmp_path / "dagster"
    home.mkdir()
    url = empty_database("postgres", tmp_path).replace("postgresql:", "postgresql+psycopg2:")
    storage = {"storage": {"postgres": {"postgres_url": url}}}
    with dg.instance_for_test(overrides=storage, temp_dir=str(home)) as made:
        yield made


@pytest.fixture
def memory() -> Iterator[dg.DagsterInstance]:
    """Dagster's storage in memory, for tests of what runs do and not of what is stored: five times faster."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made
