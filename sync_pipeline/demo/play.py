"""The demo's story: a deal of 45,000 pounds a year is won, billed and paid, and both systems must tell it alike.

People act through the sandbox's control plane; everything else happens by itself, through webhooks, sensors and
drain runs. What must come of it is checked against the truth of both systems; the exit code is the verdict.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from sync_pipeline.demo.show import show_end, show_state, show_verdict
from sync_pipeline.demo.stage import Stage, StageError, built_stage
from sync_pipeline.engine.env import Env, SystemEnv

WAIT_SECONDS = 120
FOUR_DAYS = 4 * 24 * 3600
PLAIN_WIDTH = 110
RATE_CARD = {3_000_000: 1, 60_000: 20, 20_000: 15}
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

    def wait(self, what: str, true_of: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The truth of both systems, as soon as something holds, or when patience ends."""
        began = self.env.wall()
        while True:
            truth: dict[str, Any] = self.stage.control("GET", "/state")
            waited = (self.env.wall() - began) / 1_000_000
            if true_of(truth):
                self.say(f"{what} [dim](after {waited:.1f} s)[/dim]")
                return truth
            if waited > WAIT_SECONDS:
                self.failures.append(f"{what}: not within {WAIT_SECONDS} s")
                self.say(f"[red]still waiting after {WAIT_SECONDS} s: {what}[/red]")
                return truth
            self.env.sleep(0.3)


def say(console: Console, env: Env, started: int, text: str) -> None:
    console.print(f"[dim]{(env.wall() - started) / 1_000_000:7.1f} s[/dim]  {text}")


def play(home: Path | None) -> int:
    """Plays the story and returns the exit code: 0 when both systems agree and every expectation held."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    env = SystemEnv()
    started = env.wall()
    folder = (home or Path(".sync/demo")).absolute()
    console.print("[bold]From Closed Won to collected cash[/bold], on a local Salesforce and Stripe; about a minute.")
    try:
        with built_stage(folder, env, lambda text: say(console, env, started, text)) as stage:
            story = Story(console, env, stage, started)
            _tell(story)
            show_verdict(console, story.failures, story.checked)
            if sys.stdin.isatty() and sys.stdout.isatty():
                show_end(console, stage)
                _until_interrupted(env)
            return 1 if story.failures else 0
    except (StageError, requests.RequestException) as error:
        console.print(f"[red]error:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _tell(story: Story) -> None:
    truth = story.stage.control("GET", "/state")
    before = show_state(story.console, truth, "Before: the deal is being negotiated, Stripe knows nothing")
    opportunity = _only(truth, "salesforce", "Opportunity")
    story.say("[bold]Sales closes the deal[/bold]: the Opportunity becomes Closed Won")
    fields = {"StageName": "Closed Won"}
    body = {"system": "salesforce", "object": "Opportunity", "id": opportunity["Id"], "fields": fields}
    story.stage.control("POST", "/humans", body)
    truth = story.wait("the sync has created the subscription and written the ids back", _is_written_back)
    _check_billed(story, truth)
    story.say("[bold]Four days later[/bold] the customer pays the first invoice by bank transfer")
    story.stage.control("POST", "/clock", {"advance_seconds": FOUR_DAYS})
    customer = _only(truth, "stripe", "customer")
    story.stage.control("POST", "/payments", {"customer": customer["id"], "outcome": "succeed"})
    truth = story.wait("Stripe's webhooks have reached Salesforce", _is_activated)
    _check_paid(story, truth)
    story.say("[bold]Reconcile[/bold]: the nightly job compares both systems in full and materialises every asset")
    _reconcile(story)
    truth = story.stage.control("GET", "/state")
    show_state(story.console, truth, "After: both systems tell the same story", before)


def _is_written_back(truth: dict[str, Any]) -> bool:
    opportunity, contract = _only(truth, "salesforce", "Opportunity"), _only(truth, "salesforce", "Contract")
    account = _only(truth, "salesforce", "Account")
    return all(
        (
            opportunity.get("Stripe_Subscription_Id__c"),
            contract.get("Stripe_Subscription_Id__c"),
            account.get("MRR__c"),
        )
    )


def _is_activated(truth: dict[str, Any]) -> bool:
    opportunity, account = _only(truth, "salesforce", "Opportunity"), _only(truth, "salesforce", "Account")
    return opportunity.get("Activation_Status__c") == "Activated" and bool(account.get("Lifetime_Value__c"))


def _check_billed(story: Story, truth: dict[str, Any]) -> None:
    account, opportunity = _only(truth, "salesforce", "Account"), _only(truth, "salesforce", "Opportunity")
    contract = _only(truth, "salesforce", "Contract")
    customers, subscriptions = truth["stripe"].get("customer", []), truth["stripe"].get("subscription", [])
    story.expect("Stripe customers", len(customers), 1)
    story.expect("Stripe subscriptions", len(subscriptions), 1)
    customer, subscription = customers[0], subscriptions[0]
    tax_ids = [(tax_id["type"], tax_id["value"]) for tax_id in truth["stripe"].get("tax_id", [])]
    story.expect("tax registration at Stripe", tax_ids, [("gb_vat", "GB123456789")])
    items = subscription["items"]["data"]
    rates = {int(item["price"]["unit_amount"]): item["quantity"] for item in items}
    story.expect("negotiated rate card (pence: quantity)", rates, RATE_CARD)
    yearly = {item["price"]["recurring"]["interval"] for item in items}
    story.expect("billing interval", yearly, {"year"})
    story.expect("first invoice, pence", [i["total"] for i in truth["stripe"]["invoice"]], [4_500_000])
    story.expect("Account names the customer", account["Stripe_Customer_Id__c"], customer["id"])
    story.expect("Opportunity names the subscription", opportunity["Stripe_Subscription_Id__c"], subscription["id"])
    story.expect("Contract names the subscription", contract["Stripe_Subscription_Id__c"], subscription["id"])
    lines = {line["Stripe_Subscription_Item_Id__c"] for line in truth["salesforce"]["OpportunityLineItem"]}
    story.expect("lines that name their item", len(lines & {item["id"] for item in items}), 3)
    story.expect("Account MRR", _decimal(account["MRR__c"]), Decimal("3750.00"))
    story.expect("Opportunity waits for the first payment", opportunity["Activation_Status__c"], "Pending")


def _check_paid(story: Story, truth: dict[str, Any]) -> None:
    account, opportunity = _only(truth, "salesforce", "Account"), _only(truth, "salesforce", "Opportunity")
    invoice = _only(truth, "stripe", "invoice")
    story.expect("invoice", invoice["status"], "paid")
    story.expect("Account lifetime value", _decimal(account["Lifetime_Value__c"]), Decimal("45000.00"))
    story.expect("Opportunity", opportunity["Activation_Status__c"], "Activated")
    paid_at = datetime.fromtimestamp(invoice["status_transitions"]["paid_at"], UTC)
    shown = datetime.fromisoformat(opportunity["First_Payment_At__c"])
    story.expect("first payment, as Stripe has it", shown.isoformat(), paid_at.isoformat())
    story.expect("Account MRR", _decimal(account["MRR__c"]), Decimal("3750.00"))


def _reconcile(story: Story) -> None:
    writes_before = _writes(story.stage)
    launched = story.stage.graphql(LAUNCH, {"job": "reconcile"})["launchRun"]
    if "run" not in launched:
        story.failures.append(f"Dagster did not launch the reconcile job: {launched}")
        return
    run_id, began = launched["run"]["runId"], story.env.wall()
    status = "QUEUED"
    while status not in ("SUCCESS", "FAILURE", "CANCELED") and story.env.wall() - began < WAIT_SECONDS * 1_000_000:
        story.env.sleep(0.5)
        status = story.stage.graphql(RUN_STATUS, {"id": run_id})["runOrError"]["status"]
    story.expect("reconcile run in Dagster", status, "SUCCESS")
    story.expect("writes that a full reconcile still had to make", _writes(story.stage) - writes_before, 0)
    runs = story.stage.graphql(DRAIN_RUNS)["runsOrError"]["results"]
    story.expect("drain runs in Dagster that failed", [run for run in runs if run["status"] == "FAILURE"], [])
    story.expect("the sensors started drain runs", bool(runs), True)


def _writes(stage: Stage) -> int:
    """Requests so far that could change either system, without sign-in, queries and composite reads."""
    entries = stage.control("GET", "/requests")["entries"]
    return sum(1 for entry in entries if _is_write(entry))


def _is_write(entry: dict[str, Any]) -> bool:
    if entry["side"] == "stripe":
        return bool(entry["method"] in ("POST", "DELETE"))
    return entry["method"] in ("PATCH", "DELETE") or "PATCH" in str(entry.get("body", ""))


def _only(truth: dict[str, Any], system: str, kind: str) -> dict[str, Any]:
    """The one record of its kind in this story; empty while there is none."""
    records = truth[system].get(kind) or [{}]
    found: dict[str, Any] = records[0]
    return found


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value)).quantize(Decimal("0.01"))


def _until_interrupted(env: Env) -> None:
    try:
        while True:
            env.sleep(1)
    except KeyboardInterrupt:
        return
