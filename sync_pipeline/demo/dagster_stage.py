"""Dagster's stage: sandbox, receiver and Dagster as real processes, started, watched and stopped together.

Here the sync works by itself, through webhooks, sensors and drain runs, and a play waits for what it does.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sync_pipeline.config.settings import Settings, harmless_environment, load_settings, sandbox_environment
from sync_pipeline.demo.stage import REPOSITORY, Sandbox, StageError, running_sandbox, start
from sync_pipeline.engine.assembly import open_current_ledger
from sync_pipeline.engine.env import Env
from sync_pipeline.ledger.database import Ledger

READY_WITHIN_SECONDS = 180
PATIENCE_SECONDS = 120
POLL_SECONDS = "2"
LINGER_SECONDS = "6"
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
LAUNCH = """
mutation Launch($job: String!) {
  launchRun(executionParams: {selector: {jobName: $job, repositoryName: "__repository__",
    repositoryLocationName: "sync_pipeline"}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
RUN_STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
DRAIN_RUNS = '{ runsOrError(filter: {pipelineName: "drain_inbox"}) { ... on Runs { results { status } } } }'


@dataclass
class DagsterStage:
    """The running parts. `dagster_url` is the UI, `logs` the folder of what the processes say."""

    sandbox: Sandbox
    settings: Settings
    ledger: Ledger
    env: Env
    dagster_url: str
    logs: Path
    patience_seconds: float = PATIENCE_SECONDS
    alerts: tuple[Mapping[str, Any], ...] = ()

    def settle(self) -> None:
        """It works by itself."""

    def pass_time(self, seconds: int, *, receiving: bool = True) -> None:
        self.sandbox.control("POST", "/clock", {"advance_seconds": seconds})

    def wait(self, seconds: float) -> None:
        self.env.sleep(seconds)

    def reconcile(self) -> list[str]:
        """Runs the nightly job in Dagster, whose checks compare the sums. Raises StageError unless it succeeds."""
        launched = self._graphql(LAUNCH, {"job": "reconcile"})["launchRun"]
        if "run" not in launched:
            raise StageError(f"Dagster did not launch the reconcile job: {launched}")
        run_id, began = launched["run"]["runId"], self.env.wall()
        status = "QUEUED"
        while status not in ENDED and self.env.wall() - began < PATIENCE_SECONDS * 1_000_000:
            self.env.sleep(0.5)
            status = self._graphql(RUN_STATUS, {"id": run_id})["runOrError"]["status"]
        if status != "SUCCESS":
            raise StageError(f"the reconcile run {run_id} is {status}")
        return []

    def drain_runs(self) -> tuple[int, int]:
        """How many drain runs Dagster has seen, and how many of them failed."""
        runs = self._graphql(DRAIN_RUNS)["runsOrError"]["results"]
        return len(runs), sum(run["status"] == "FAILURE" for run in runs)

    def _graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        body = {"query": query, "variables": variables or {}}
        answer = _http().post(self.dagster_url + "/graphql", json=body, timeout=60).json()
        if answer.get("errors"):
            raise StageError(f"Dagster refused a query: {answer['errors'][0]['message']}")
        return answer["data"]


@contextmanager
def dagster_stage(home: Path, env: Env, say: Callable[[str], None]) -> Iterator[DagsterStage]:
    """All parts up and ready; they end with the block. `home` is emptied first."""
    shutil.rmtree(home, ignore_errors=True)
    logs, dagster_home = home / "logs", home / "dagster"
    logs.mkdir(parents=True)
    dagster_home.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", dagster_home / "dagster.yaml")
    receiver_port, dagster_port = _free_port(), _free_port()
    receiver_url, dagster_url = f"http://127.0.0.1:{receiver_port}", f"http://127.0.0.1:{dagster_port}"
    with ExitStack() as stack:
        say("starting the sandbox: a Salesforce and a Stripe on this machine")
        webhooks = ("--webhook-url", f"{receiver_url}/webhooks/stripe")
        sandbox = stack.enter_context(running_sandbox(logs, *webhooks))
        settings = {
            **sandbox_environment(sandbox.ready),
            "SYNC_HOME": str(home),
            "SYNC_POLL_SECONDS": POLL_SECONDS,
            "SYNC_LINGER_SECONDS": LINGER_SECONDS,
        }
        dagster = {"DAGSTER_HOME": str(dagster_home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
        environment = harmless_environment() | settings | dagster
        say("creating the ledger and starting the webhook receiver")
        upgrade = [sys.executable, "-m", "sync_pipeline.cli", "ledger", "upgrade"]
        subprocess.run(upgrade, env=environment, check=True, capture_output=True)
        command = ["-m", "sync_pipeline.cli", "receiver", "--port", str(receiver_port)]
        receiver = start(stack, "receiver", command, environment, logs)
        _wait_for(env, receiver, f"{receiver_url}/healthz", logs / "receiver.log")
        say("starting Dagster: webserver, daemon, code location")
        workspace = str(REPOSITORY / "workspace.yaml")
        command = ["-m", "dagster", "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(dagster_port)]
        server = start(stack, "dagster", command, environment, logs)
        _wait_for(env, server, f"{dagster_url}/server_info", logs / "dagster.log")
        loaded = load_settings(settings)
        ledger = stack.enter_context(open_current_ledger(loaded))
        yield DagsterStage(sandbox, loaded, ledger, env, dagster_url, logs)


def _wait_for(env: Env, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = env.wall() + READY_WITHIN_SECONDS * 1_000_000
    while env.wall() < until:
        if process.poll() is not None:
            raise StageError(f"a part of the demo ended at once; see {log}")
        try:
            if _http().get(url, timeout=5).status_code == 200:
                return
        except requests.RequestException:
            env.sleep(0.3)
    raise StageError(f"{url} did not answer within {READY_WITHIN_SECONDS} s; see {log}")


def _http() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
