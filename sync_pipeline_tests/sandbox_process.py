"""Starting a real sandbox process for a test, and speaking with its control port."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STOP_SECONDS = 20
# A folder: every sandbox of the run then records its traffic into a file of its own there.
TRAFFIC_FOLDER = "SANDBOX_TRAFFIC_DIR"
_numbers = itertools.count(1)


class ControlError(Exception):
    """The control port said no: `status` and the parsed `body`."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class SandboxHandle:
    """A running sandbox. `ready` is its ready line."""

    ready: dict[str, str]
    process: subprocess.Popen[str]

    def control(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Call the control port with JSON. Raises ControlError unless the answer is 2xx."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ready["control_url"] + path, data=data, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise ControlError(error.code, json.loads(error.read() or b"null")) from None

    def stop(self) -> int:
        """End the process as a supervisor would; its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=_STOP_SECONDS)


@contextmanager
def start_sandbox(*arguments: str, module: str = "sync_pipeline.sandbox.command") -> Iterator[SandboxHandle]:
    """A sandbox on free ports, with the command line's own options as `arguments`, for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *_recording(), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            code = process.wait(timeout=_STOP_SECONDS)
            raise RuntimeError(f"the sandbox ended with exit code {code} before it was ready")
        handle = SandboxHandle(json.loads(line), process)
        yield handle
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=_STOP_SECONDS)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()


def _recording() -> tuple[str, ...]:
    """The option that records traffic, if this run records. A test's own `--traffic` comes later and wins."""
    folder = os.environ.get(TRAFFIC_FOLDER)
    return ("--traffic", str(Path(folder) / f"{os.getpid()}-{next(_numbers)}.jsonl")) if folder else ()
