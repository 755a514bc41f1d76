"""The jobs that a person starts: what they do, what they show, and what they say to what somebody mistyped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_pipeline.config.settings import Settings
from sync_pipeline.engine.planning import from_json
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.orchestration.by_hand import JOBS
from sync_pipeline.orchestration.lanes import SCOPE
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import everything_said, failure, failure_metadata, run
from sync_pipeline_tests.sandbox_process import SandboxHandle

REFUSED = {
    "error": {
        "type": "invalid_request_error",
        "message": "Invalid email address: ada@northwind.example",
        "param": "items",
    }
}


@pytest.fixture
def settings(installed: Installed) -> Settings:
    return installed()


def shown(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    """The plain metadata of the run's one step."""
    assert result.success, failure(result)
    (output,) = (event.step_output_data for event in result.all_node_events if event.is_successful_output)
    return {name: value.value for name, value in output.metadata.items()}


def scope(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> str:
    stored = instance.get_run_by_id(result.run_id)
    assert stored is not None
    return stored.tags[SCOPE]


def test_a_plan_is_read_kept_and_written_from_the_launchpad(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    people.win(sandbox)
    account, deal = people.only(sandbox, "Account")["Id"], people.only(sandbox, "Opportunity")["Id"]
    before = people.mark(sandbox)
    planned = run("plan_only", settings, memory)
    found = shown(planned)
    assert people.writes_since(sandbox, before) == []
    assert (found["accounts"], found["accounts_that_differ"]) == (1, 1)
    assert deal in found["plan"]
    assert "GBP 0.00 -> GBP 3,750.00 (+3,750.00)" in found["plan"]
    kept = from_json(Path(found["file"]).read_bytes())
    assert {write.account_id for write in kept.writes} == {account}
    assert scope(planned, memory) == "all accounts"

    written = run("apply_plan", settings, memory, {"plan_run": planned.run_id})
    assert shown(written)["accounts_left"] == 0
    assert (
        people.only(sandbox, "Opportunity")["Stripe_Subscription_Id__c"] == people.only(sandbox, "subscription")["id"]
    )

    again = shown(run("plan_only", settings, memory, {"accounts": [account[:15]]}))
    assert (again["accounts_that_differ"], again["plan"].count("\n")) == (0, 0)

    people.edit(sandbox, "Account", account, MRR__c=1)
    moved = run("apply_plan", settings, memory, {"plan_run": planned.run_id})
    assert shown(moved)["accounts_left"] == 1
    assert "salesforce/Account" in shown(moved)["left_because_it_moved"]


@pytest.mark.parametrize("is_read", [True, False])
def test_accounts_that_a_plan_leaves_are_told_with_the_reason(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance, is_read: bool
) -> None:
    """They were said to be in work elsewhere, and those that could not be read were told nowhere."""
    people.win(sandbox)
    planned = run("plan_only", settings, memory)
    if is_read:
        people.edit(sandbox, "Opportunity", people.only(sandbox, "Opportunity")["Id"], StageName="Prospecting")
    else:
        people.fault(sandbox, "stripe_503", side="stripe", times=1000)
    written = run("apply_plan", settings, memory, {"plan_run": planned.run_id})
    assert shown(written)["accounts_left"] == 1
    said = everything_said(memory, written)
    assert "in work elsewhere" not in said
    assert f"1 accounts are left: {int(is_read)} have changed, {1 - is_read} could not be read" in said


def test_an_account_is_resynced_by_its_link_and_the_run_shows_what_was_written(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    people.win(sandbox)
    account = people.only(sandbox, "Account")["Id"]
    link = f"https://acme.lightning.force.com/lightning/r/Account/{account}/view"
    first = run("resync_accounts", settings, memory, {"accounts": [link]})
    found = shown(first)
    assert (found["accounts"], found["at_rest"], found["refused"]) == (1, 1, 0)
    assert f"| {account} | salesforce/Account/{account} | MRR__c | empty | 3750 |" in found["written"]

    people.edit(sandbox, "Account", account, Name="Northwind Holdings Ltd")
    second = run("resync_accounts", settings, memory, {"accounts": [account]})
    assert "| name | (personal) | (personal) | the Account's name goes on invoices | done |" in shown(second)["written"]
    said = everything_said(memory, first) + everything_said(memory, second)
    assert [text for text in ("Northwind", "Fleet Street", "GB123456789") if text in said] == []
    assert shown(run("resync_accounts", settings, memory, {"accounts": [account]}))["written"] == "Nothing was written."
    assert scope(first, memory) == scope(second, memory), "runs about the same Accounts are found by their tag"
    assert scope(first, memory).startswith("hmac:")
    assert account not in scope(first, memory)

    explained = run("explain_value", settings, memory, {"record": link, "field": "MRR__c"})
    text = shown(explained)["explanation"]
    assert f"Account/{account} MRR__c = 3750" in text
    assert f"run {first.run_id}" in " ".join(text.split()), "the explanation leads to the run that wrote the value"
    assert max(map(len, text.splitlines())) <= 120
    assert scope(explained, memory) == scope(first, memory)


def test_what_a_run_wrote_is_listed_shown_and_set_back(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    people.win(sandbox)
    account, deal = people.only(sandbox, "Account")["Id"], people.only(sandbox, "Opportunity")["Id"]
    written = run("resync_accounts", settings, memory, {"accounts": [account]})
    assert written.success
    assert f"[{written.run_id}](/runs/{written.run_id})" in shown(run("undo_run", settings, memory))["runs"]

    before = people.mark(sandbox)
    seen = shown(run("undo_run", settings, memory, {"run": written.run_id}))
    assert f"| {account} | salesforce/Opportunity/{deal} | Billing_Status__c | Active | empty |" in seen["plan"]
    assert "was made at Stripe, where nothing is undone by itself" in seen["plan"]
    assert people.writes_since(sandbox, before) == []
    done = run("undo_run", settings, memory, {"run": written.run_id, "write": True})
    assert shown(done)["set_back"] == shown(done)["records"] == seen["records"]
    assert people.only(sandbox, "Opportunity").get("Billing_Status__c") is None
    assert scope(done, memory) == scope(written, memory)


def test_a_refused_write_is_listed_with_its_reason_and_tried_again_by_name(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    people.win(sandbox)
    account = people.only(sandbox, "Account")["Id"]
    path = "^/v1/subscriptions$"
    people.fault(sandbox, "http", side="stripe", method="POST", path=path, status=400, body=REFUSED)
    assert shown(run("resync_accounts", settings, memory, {"accounts": [account]}))["refused"] == 1

    listed = run("replay_parked", settings, memory)
    assert shown(listed)["parked"] == 1
    assert "Invalid email address: …" in shown(listed)["parked_writes"]
    assert "ada@northwind.example" not in everything_said(memory, listed)
    assert people.records(sandbox, "subscription") == []

    (row,) = shown(listed)["parked_writes"].splitlines()[2:]
    target = row.split(" | ")[1]
    tried = shown(run("replay_parked", settings, memory, {"records": [target]}))
    assert (tried["parked"], tried["refused"]) == (1, 0)
    assert len(people.records(sandbox, "subscription")) == 1
    assert shown(run("replay_parked", settings, memory, {"everything": True}))["parked_writes"] == "Nothing is parked."


def test_a_guard_holds_here_too_until_a_person_allows_it(
    sandbox: SandboxHandle, installed: Installed, memory: dg.DagsterInstance, tmp_path: Path
) -> None:
    people.win(sandbox)
    rules = tmp_path / "rules.yaml"
    rules.write_text("guards:\n  creates: 0\n", "utf-8")
    settings = installed(SYNC_RULES=str(rules))
    config = {"accounts": [people.only(sandbox, "Account")["Id"]]}
    stopped = run("resync_accounts", settings, memory, config)
    assert "stopped by a guard" in failure(stopped)
    assert people.only(sandbox, "Opportunity")["Id"] in failure_metadata(stopped)["plan"]
    assert people.records(sandbox, "customer") == []
    assert shown(run("resync_accounts", settings, memory, {**config, "allow": True}))["at_rest"] == 1


@pytest.mark.parametrize(
    ("job", "config", "said"),
    [
        ("resync_accounts", {}, "no Account is named: write into `accounts`"),
        ("resync_accounts", {"accounts": ["Northwind"]}, "'Northwind' is no Account: write the Account's id (001...)"),
        ("resync_accounts", {"accounts": ["006Aa0000000001IAA"]}, "'006Aa0000000001IAA' is no Account"),
        ("resync_accounts", {"accounts": ["001Aa0000000009IAA"]}, "knows an Account 001Aa0000000009IAA"),
        ("plan_only", {"accounts": ["001Aa0000000009IAA"]}, "knows an Account 001Aa0000000009IAA"),
        ("replay_parked", {"records": ["stripe/customer/cus_1"]}, "nothing is parked for stripe/customer/cus_1"),
        ("apply_plan", {}, "there is no plan of a run '': start the job plan_only"),
        ("apply_plan", {"plan_run": "../../etc/passwd"}, "there is no plan of a run '../../etc/passwd'"),
        ("undo_run", {"run": "of-yesterday"}, "the audit has no write of a run 'of-yesterday'"),
        ("explain_value", {}, "no record is named: write into `record`"),
        ("explain_value", {"record": "Lead/00Q1"}, "'Lead' is not an object of the sync; use one of"),
        ("explain_value", {"record": "001Aa0000000001IAA", "field": "Phone"}, "neither keeps nor ever wrote Phone"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    settings: Settings, memory: dg.DagsterInstance, job: str, config: Mapping[str, Any], said: str
) -> None:
    text = failure(run(job, settings, memory, config))
    assert said in text
    assert "\n" not in text


def test_every_field_of_the_launchpad_says_what_it_is_for_and_reads_no_variable() -> None:
    repository = build_defs().get_repository_def()
    for name in ("drain_inbox", "reconcile", *(job.name for job in JOBS)):
        job = repository.get_job(name)
        assert job.description, name
        fields = job.config_mapping.config_schema.config_type.fields  # type: ignore[union-attr]
        for field, declared in fields.items():
            assert declared.description, (name, field)
            assert not declared.is_required, (name, field)
        with pytest.raises(dg.DagsterInvalidConfigError):
            dg.validate_run_config(job, {next(iter(fields)): {"env": "STRIPE_API_KEY"}})
