"""A started sandbox for the tests of this folder, back at its first state for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

START = 1_795_000_000


@pytest.fixture(scope="session")
def empty_process() -> Iterator[SandboxHandle]:
    with start_sandbox("--now", str(START)) as handle:
        yield handle


@pytest.fixture
def sandbox(empty_process: SandboxHandle) -> SandboxHandle:
    """An empty sandbox process whose clock stands still at START."""
    empty_process.control("POST", "/reset", {})
    return empty_process
