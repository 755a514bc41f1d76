"""The kept state: loaded at the start, saved whenever something changed, so that not even a crash loses more than the
last moments."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

from sync_pipeline.sandbox.world import Sandbox

_EVERY_SECONDS = 1.0
_LOOK_SECONDS = 0.05
_LOG = logging.getLogger(__name__)


class Keeper:
    """Saves into one file, which is whole at every moment: a new one takes its place."""

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self._sandbox = sandbox
        self._path = path
        self._saved: Any = None

    async def run(self) -> None:
        """Save for ever, after changes. A copy of the process does the writing, so that no caller waits for it."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            changes = self._sandbox.changes()
            if changes != self._saved and await self._save_beside():
                self._saved = changes

    async def _save_beside(self) -> bool:
        child = os.fork()
        if child == 0:
            self._write_and_exit()
        try:
            while True:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        except asyncio.CancelledError:  # the sandbox ends: its last save must come after this one
            os.waitpid(child, 0)
            raise
        if status:
            _LOG.warning("--keep %s: the state could not be saved", self._path)
        return status == 0

    def _write_and_exit(self) -> None:
        """In the copy: nothing of the event loop is touched, and nothing of the copy is left."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.save()
            code = 0
        finally:
            os._exit(code)

    def save(self) -> None:
        """Raises OSError."""
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            beside.write_text(json.dumps(self._sandbox.snapshot()), encoding="utf-8")
            beside.replace(self._path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
