"""A worker that is killed at any call: whoever comes next ends in the same state, with nothing made twice.

For every call to either system a real process is killed while its request has not reached the system yet; for
every write it is killed again while the system has done its work but not answered. (A read has no work to do.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from sync_pipeline_tests.engine.chapters import Call, play
from sync_pipeline_tests.engine.installation import LEASE_SECONDS, installed
from sync_pipeline_tests.engine.people import fault, hits
from sync_pipeline_tests.engine.story import story
from sync_pipeline_tests.sandbox_process import SandboxHandle

HELD_SECONDS = 3600
BEFORE_ITS_WORK, AFTER_ITS_WORK = "delay", "withhold"


def _work(sandbox: SandboxHandle, folder: Path, url: str) -> None:
    with installed(sandbox, folder, url=url) as worker:
        worker.drain()


def _kill_at(sandbox: SandboxHandle, folder: Path, url: str, call: Call, kind: str) -> None:
    """Runs a worker as a process of its own and kills it while one of its calls is held back."""
    fault(sandbox, kind, side=call.side, nth=call.nth, seconds=HELD_SECONDS)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(sandbox, folder, url))
    process.start()
    assert process.pid is not None
    while process.is_alive() and not hits(sandbox):
        time.sleep(0.03)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert hits(sandbox) == 1, f"the worker never made {call}"
    sandbox.control("DELETE", "/faults")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BEFORE_ITS_WORK, AFTER_ITS_WORK])
@pytest.mark.parametrize("chapter", ["won", "paid"])
def test_a_worker_killed_at_any_call_leaves_nothing_half_done(
    sandbox: SandboxHandle, tmp_path: Path, chapter: str, kind: str
) -> None:
    played = play(sandbox, tmp_path, chapter)
    chosen = [call for call in played.until_the_end() if call.is_write or kind == BEFORE_ITS_WORK]
    assert len(chosen) > 0
    for call in chosen:
        url = played.begin(sandbox, tmp_path)
        _kill_at(sandbox, tmp_path, url, call, kind)
        with installed(sandbox, tmp_path, url=url) as successor:
            successor.wait(LEASE_SECONDS)
            successor.rest()
            assert story(sandbox) == played.wanted, f"killed at {call}, {kind}"
            successor.check_books()
