"""`dagster dev` as a process of its own, as a user starts it, and its GraphQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_SECONDS = 150
STOP_SECONDS = 20
RUNS = '{ runsOrError(filter: {pipelineName: "%s"}) { ... on Runs { results { runId status } } } }'
LAUNCH = """mutation Launch($job: String!, $config: RunConfigData) {
  launchRun(executionParams: {runConfigData: $config, selector: {
    jobName: $job, repositoryName: "__repository__", repositoryLocationName: "sync_pipeline"
  }}) { ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
TICKS = """{
  sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "sync_pipeline"}) {
    ... on Sensors { results { name sensorState { ticks(limit: 20) { status error { message } } } } }
  }
}"""


@dataclass(frozen=True)
class Dagster:
    """A running webserver with its daemon."""

    url: str
    log: Path

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url + "/graphql", body, {"Content-Type": "application/json"})
        with _opener().open(request, timeout=60) as answer:
            found = json.load(answer)
        assert not found.get("errors"), found
        return found["data"]

    def runs(self, job: str) -> dict[str, str]:
        """Run id -> status of a job's runs."""
        return {run["runId"]: run["status"] for run in self.graphql(RUNS % job)["runsOrError"]["results"]}

    def launch(self, job: str, **config: Any) -> str:
        """Starts a job as the launchpad does, and waits until it has succeeded; the run's id."""
        launched = self.graphql(LAUNCH, job=job, config=config)["launchRun"]
        run: str = launched["run"]["runId"]

        def succeeded() -> bool:
            status = self.runs(job)[run]
            assert status not in ("FAILURE", "CANCELED"), (job, status, self.log.read_text()[-4000:])
            return status == "SUCCESS"

        self.wait(f"{job} succeeds", succeeded)
        return run

    def sensor_ticks(self) -> dict[str, list[dict[str, Any]]]:
        """Sensor -> its latest ticks."""
        return {each["name"]: each["sensorState"]["ticks"] for each in self.graphql(TICKS)["sensorsOrError"]["results"]}

    def wait(self, what: str, true: Callable[[], Any]) -> Any:
        """What `true` returns, as soon as that is something."""
        until = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < until:
            if found := true():
                return found
            time.sleep(0.5)
        raise AssertionError(f"not within {READY_WITHIN_SECONDS} s: {what}\n{self.log.read_text()[-4000:]}")


@contextmanager
def dagster_dev(folder: Path, environment: Mapping[str, str]) -> Iterator[Dagster]:
    """Webserver, daemon and code location with this repository's dagster.yaml and workspace.yaml."""
    home = folder / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    port = _free_port()
    dagster = Dagster(f"http://127.0.0.1:{port}", folder / "dagster.log")
    with dagster.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=ROOT,
            env={**os.environ, **environment, "DAGSTER_HOME": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            dagster.wait("the webserver answers", lambda: _answers(process, dagster.url))
            yield dagster
        finally:
            _stop(process)


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "dagster dev ended"
    try:
        with _opener().open(url + "/server_info", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process with its webserver, daemon and code servers."""
    for how in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
