"""A story sandbox for the whole folder, put back to its first state for every test, and installations on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline_tests.engine.installation import NOW, Installation, installed
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox


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
def sync(sandbox: SandboxHandle, tmp_path: Path) -> Iterator[Installation]:
    """A fresh installation on SQLite."""
    with installed(sandbox, tmp_path) as installation:
        yield installation
