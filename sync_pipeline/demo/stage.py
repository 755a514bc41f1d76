"""A stage is where a story is played: both systems and a running sync. There are two, a quick one and Dagster's.

Here is what a story may ask of either, and the sandbox process that both have.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import requests

from sync_pipeline.config.settings import Settings, harmless_environment
from sync_pipeline.ledger.database import Ledger

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_SECONDS = 15
MINIMUM_PROFILE = {"salesforce": {"minimum_profile": True}}
"""The integration user may do what salesforce_package grants and nothing more, as in an org set up by its README."""


class StageError(Exception):
    """Something of the stage did not start or died; the message names it and its log."""


class Stage(Protocol):
    """`patience_seconds` is how long the sync may take until an expectation holds."""

    @property
    def sandbox(self) -> Sandbox: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def patience_seconds(self) -> float: ...

    @property
    def alerts(self) -> Sequence[Mapping[str, Any]]:
        """What was told to people outside of both systems, oldest first."""

    def settle(self) -> None:
        """Lets the sync do what there is to do now."""

    def pass_time(self, seconds: int, *, receiving: bool = True) -> None:
        """Time passes for both systems and for the sync, which works on unless it is not `receiving`."""

    def wait(self, seconds: float) -> None:
        """Waits for a sync that works by itself."""

    def reconcile(self) -> list[str]:
        """The nightly comparison; the sums of money that differ after it. Raises StageError when it fails."""


class Sandbox:
    """A running sandbox by its ready line: the control plane, through which people act and time passes."""

    def __init__(self, ready: Mapping[str, str]) -> None:
        self.ready = ready
        self._http = requests.Session()
        self._http.trust_env = False

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call the control plane. Raises StageError with the sandbox's own words."""
        answer = self._http.request(method, self.ready["control_url"] + path, json=body, timeout=300)
        if answer.status_code >= 300:
            raise StageError(f"the sandbox refused {method} {path}: {answer.text[:500]}")
        return answer.json()

    def truth(self) -> dict[str, Any]:
        """Both systems as they are."""
        found: dict[str, Any] = self.control("GET", "/state")
        return found

    def last_request(self) -> int:
        return int(self.control("GET", "/requests?entries=0")["last"])

    def writes_since(self, mark: int) -> list[str]:
        """The calls since then that could change a system: no sign-in, no query, no composite of reads."""
        entries = self.control("GET", f"/requests?since={mark}")["entries"]
        return [entry["endpoint"] for entry in entries if _is_write(entry)]


def _is_write(entry: Mapping[str, Any]) -> bool:
    if entry["side"] == "stripe":
        return bool(entry["method"] != "GET")
    if "/services/oauth2/" in entry["path"]:
        return False
    return entry["method"] in ("PATCH", "DELETE") or (entry["method"] == "POST" and _changes(entry["body"]))


def _changes(body: str) -> bool:
    return any(method in body for method in ('"PATCH"', '"POST"', '"DELETE"'))


@contextmanager
def running_sandbox(folder: Path, *arguments: str, systems: Mapping[str, Any] = MINIMUM_PROFILE) -> Iterator[Sandbox]:
    """A sandbox with the story's deal in it, for as long as the block lasts. `systems` are both systems' settings."""
    settings = folder / "sandbox-settings.json"
    settings.write_text(json.dumps(systems))
    command = ["-m", "sync_pipeline.sandbox.command", "--data", "story", "--settings", str(settings), *arguments]
    environment = harmless_environment()
    if traffic := environment.get("SANDBOX_TRAFFIC_DIR"):
        command += ["--traffic", str(Path(traffic) / f"demo-{os.getpid()}-{folder.name}.jsonl")]
    with ExitStack() as stack:
        process = start(stack, "sandbox", command, environment, folder, stdout=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise StageError(f"the sandbox did not start; see {folder / 'sandbox.log'}")
        yield Sandbox(json.loads(line))


def start(
    stack: ExitStack,
    name: str,
    arguments: list[str],
    environment: Mapping[str, str],
    logs: Path,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """A Python process that ends with the stack, politely first; what it says goes to a log of its name."""
    log = stack.enter_context((logs / f"{name}.log").open("wb"))
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=dict(environment),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=stdout or log,
        stderr=log,
        start_new_session=True,
    )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its children."""
    for how in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
