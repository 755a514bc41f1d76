"""The stage of the demo: sandbox, receiver and Dagster as real processes, started, watched and stopped together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sync_pipeline.config.settings import harmless_environment, sandbox_environment
from sync_pipeline.engine.env import Env

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_SECONDS = 15
READY_WITHIN_SECONDS = 180
POLL_SECONDS = "2"
LINGER_SECONDS = "6"


class StageError(Exception):
    """Something of the stage did not start or died; the message names it and its log."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The running parts, by address. `environment` is what a command needs to take part."""

    control_url: str
    receiver_url: str
    dagster_url: str
    environment: Mapping[str, str]
    logs: Path

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call the sandbox's control plane."""
        answer = _http().request(method, self.control_url + path, json=body, timeout=120)
        if answer.status_code >= 300:
            raise StageError(f"the sandbox refused {method} {path}: {answer.text[:300]}")
        return answer.json()

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """Ask Dagster's webserver."""
        body = {"query": query, "variables": variables or {}}
        answer = _http().post(self.dagster_url + "/graphql", json=body, timeout=60).json()
        if answer.get("errors"):
            raise StageError(f"Dagster refused a query: {answer['errors'][0]['message']}")
        return answer["data"]


@contextmanager
def built_stage(home: Path, env: Env, say: Callable[[str], None]) -> Iterator[Stage]:
    """All parts up and ready; they end with the block. `home` is emptied first."""
    shutil.rmtree(home, ignore_errors=True)
    logs, dagster_home = home / "logs", home / "dagster"
    logs.mkdir(parents=True)
    dagster_home.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", dagster_home / "dagster.yaml")
    receiver_port, dagster_port = _free_port(), _free_port()
    receiver_url = f"http://127.0.0.1:{receiver_port}"
    with ExitStack() as stack:
        say("starting the sandbox: a Salesforce and a Stripe on this machine")
        ready = _start_sandbox(stack, logs, f"{receiver_url}/webhooks/stripe")
        environment = harmless_environment() | sandbox_environment(ready)
        environment |= {
            "SYNC_HOME": str(home),
            "SYNC_POLL_SECONDS": POLL_SECONDS,
            "SYNC_LINGER_SECONDS": LINGER_SECONDS,
            "DAGSTER_HOME": str(dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }
        say("creating the ledger and starting the webhook receiver")
        upgrade = [sys.executable, "-m", "sync_pipeline.cli", "ledger", "upgrade"]
        subprocess.run(upgrade, env=environment, check=True, capture_output=True)
        command = ["-m", "sync_pipeline.cli", "receiver", "--port", str(receiver_port)]
        receiver = _start(stack, "receiver", command, environment, logs)
        _wait_for(env, receiver, f"{receiver_url}/healthz", logs / "receiver.log")
        say("starting Dagster: webserver, daemon, code location")
        workspace = str(REPOSITORY / "workspace.yaml")
        command = ["-m", "dagster", "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(dagster_port)]
        dagster = _start(stack, "dagster", command, environment, logs)
        dagster_url = f"http://127.0.0.1:{dagster_port}"
        _wait_for(env, dagster, f"{dagster_url}/server_info", logs / "dagster.log")
        yield Stage(ready["control_url"], receiver_url, dagster_url, environment, logs)


def _start_sandbox(stack: ExitStack, logs: Path, webhook_url: str) -> dict[str, str]:
    # The integration user may do what salesforce_package grants and nothing more, as in an org set up by its README.
    settings = logs.parent / "sandbox-settings.json"
    settings.write_text(json.dumps({"salesforce": {"minimum_profile": True}}))
    command = ["-m", "sync_pipeline.sandbox.command", "--data", "story", "--webhook-url", webhook_url]
    command += ["--settings", str(settings)]
    environment = harmless_environment()
    if folder := environment.get("SANDBOX_TRAFFIC_DIR"):
        command += ["--traffic", str(Path(folder) / "demo.jsonl")]
    process = _start(stack, "sandbox", command, environment, logs, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise StageError(f"the sandbox did not start; see {logs / 'sandbox.log'}")
    ready: dict[str, str] = json.loads(line)
    return ready


def _start(
    stack: ExitStack,
    name: str,
    arguments: list[str],
    environment: Mapping[str, str],
    logs: Path,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
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
    """Ends a process and its children, politely first."""
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
