"""A play in progress: what people do in it, what it waits for, and which expectations held.

People act through the sandbox's control plane; everything else happens by itself, through webhooks, sensors and
drain runs. Expectations are checked against the truth of both systems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from sync_pipeline.demo.stage import Stage
from sync_pipeline.engine.env import Env

WAIT_SECONDS = 120
DAY = 86_400
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

Truth = dict[str, Any]


@dataclass(slots=True)
class Story:
    """The play so far: the expectations with their verdicts, and the timeline."""

    console: Console
    env: Env
    stage: Stage
    started: int
    failures: list[str] = field(default_factory=list)
    checked: int = 0

    def say(self, text: str) -> None:
        say(self.console, self.env, self.started, text)

    def expect(self, what: str, found: Any, wanted: Any) -> None:
        self.checked += 1
        if found == wanted:
            self.console.print(f"           [green]ok[/green]  {what}: {found}")
        else:
            self.failures.append(f"{what}: found {found!r}, expected {wanted!r}")
            self.console.print(f"           [red]no[/red]  {what}: found {found!r}, expected {wanted!r}")

    def truth(self) -> Truth:
        """Both systems as they are."""
        found: Truth = self.stage.control("GET", "/state")
        return found

    def wait(self, what: str, true_of: Callable[[Truth], bool]) -> Truth:
        """The truth of both systems, as soon as something holds, or when patience ends."""
        began = self.env.wall()
        while True:
            truth = self.truth()
            waited = (self.env.wall() - began) / 1_000_000
            if true_of(truth):
                self.say(f"{what} [dim](after {waited:.1f} s)[/dim]")
                return truth
            if waited > WAIT_SECONDS:
                self.failures.append(f"{what}: not within {WAIT_SECONDS} s")
                self.say(f"[red]still waiting after {WAIT_SECONDS} s: {what}[/red]")
                return truth
            self.env.sleep(0.3)

    def edit(self, kind: str, record_id: str, **fields: Any) -> None:
        """Somebody edits a Salesforce record."""
        body = {"system": "salesforce", "object": kind, "id": record_id, "fields": fields}
        self.stage.control("POST", "/humans", body)

    def at_stripe(self, path: str, **params: Any) -> None:
        """Somebody works in Stripe's dashboard."""
        self.stage.control("POST", "/humans", {"system": "stripe", "method": "POST", "path": path, "params": params})

    def pay(self, customer: str) -> None:
        """The customer pays the open invoice by bank transfer."""
        self.stage.control("POST", "/payments", {"customer": customer, "outcome": "succeed"})

    def days_pass(self, days: float) -> None:
        self.stage.control("POST", "/clock", {"advance_seconds": int(days * DAY)})

    def reconcile(self) -> None:
        """Runs the nightly job in Dagster."""
        launched = self.stage.graphql(LAUNCH, {"job": "reconcile"})["launchRun"]
        if "run" not in launched:
            self.failures.append(f"Dagster did not launch the reconcile job: {launched}")
            return
        run_id, began = launched["run"]["runId"], self.env.wall()
        status = "QUEUED"
        while status not in ("SUCCESS", "FAILURE", "CANCELED") and self.env.wall() - began < WAIT_SECONDS * 1_000_000:
            self.env.sleep(0.5)
            status = self.stage.graphql(RUN_STATUS, {"id": run_id})["runOrError"]["status"]
        self.expect("reconcile run in Dagster", status, "SUCCESS")

    def failed_drains(self) -> tuple[int, int]:
        """How many drain runs Dagster has seen, and how many of them failed."""
        runs = self.stage.graphql(DRAIN_RUNS)["runsOrError"]["results"]
        return len(runs), sum(run["status"] == "FAILURE" for run in runs)

    def writes(self) -> int:
        """Requests so far that could change either system: not sign-in, queries or composite reads."""
        return sum(map(_is_write, self.stage.control("GET", "/requests")["entries"]))


def say(console: Console, env: Env, started: int, text: str) -> None:
    """One line of the timeline."""
    console.print(f"[dim]{(env.wall() - started) / 1_000_000:7.1f} s[/dim]  {text}")


def _is_write(entry: dict[str, Any]) -> bool:
    if entry["side"] == "stripe":
        return bool(entry["method"] in ("POST", "DELETE"))
    return entry["method"] in ("PATCH", "DELETE") or "PATCH" in str(entry.get("body", ""))
