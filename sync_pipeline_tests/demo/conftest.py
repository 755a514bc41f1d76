"""Sandboxes for the stories: one for each set-up of the two systems, put back to its first state for every story."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sync_pipeline.demo.stage import Sandbox, running_sandbox
from sync_pipeline.demo.story import Story
from sync_pipeline.demo.theatre import QUICK_START, systems_of


@pytest.fixture(scope="package")
def sandbox_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Story], Sandbox]]:
    """The sandbox that a story asks for, in its first state."""
    running: dict[str, Sandbox] = {}
    with ExitStack() as stack:

        def sandbox(story: Story) -> Sandbox:
            systems = systems_of(story)
            key = json.dumps(systems, sort_keys=True)
            if key not in running:
                folder: Path = tmp_path_factory.mktemp("sandbox")
                running[key] = stack.enter_context(running_sandbox(folder, "--now", QUICK_START, systems=systems))
            running[key].control("POST", "/reset")
            return running[key]

        yield sandbox


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a ledger, in memory where there is any on the machine: a story makes some hundred commits."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
