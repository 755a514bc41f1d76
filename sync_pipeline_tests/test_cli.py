"""The command line as a person meets it: real processes, their words, and their exit codes."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from sync_pipeline.cli import main
from sync_pipeline.config.settings import CREDENTIALS, sandbox_environment
from sync_pipeline_tests.engine.people import (
    at_stripe,
    edit,
    fault,
    hits,
    mark,
    only,
    records,
    requests_since,
    win,
    writes_since,
)
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

FINE, FAILED, MISUSED = 0, 1, 2


@pytest.fixture(scope="module")
def running_sandbox() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "story") as handle:
        yield handle


@pytest.fixture
def sandbox(running_sandbox: SandboxHandle) -> SandboxHandle:
    running_sandbox.control("POST", "/reset")
    return running_sandbox


@pytest.fixture
def environment(sandbox: SandboxHandle, tmp_path: Path) -> dict[str, str]:
    return {**sandbox_environment(sandbox.ready), "SYNC_HOME": str(tmp_path / "home")}


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "NO_PROXY") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "sync_pipeline.cli", *arguments],
        env=inherited | dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
    )


def check_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One clear line on stderr, nothing that looks like a program's insides."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "rror" in line]
    assert all(word in line for word in words), line


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("command", sorted(_commands(main)), ids=" ".join)
def test_every_commands_help_has_an_example_that_names_it(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert shown.exit_code == FINE
    assert "Example" in shown.output
    assert f"sync-pipeline {' '.join(command)}" in shown.output


@pytest.mark.parametrize("arguments", [["--help"], ["ledger", "--help"], ["--version"]])
def test_help_and_version_are_fine(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == FINE


@pytest.mark.slow
def test_the_story_from_the_command_line(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    first = run(environment, "worker", "--once")
    assert first.returncode == FINE, first.stderr
    win(sandbox)
    worked = run(environment, "worker", "--once")
    assert worked.returncode == FINE, worked.stderr
    summary = json.loads(worked.stdout.splitlines()[-1])
    assert (summary["parked"], summary["deferred"], summary["problems"]) == (0, 0, [])
    assert summary["writes"] >= 9
    assert only(sandbox, "Account")["MRR__c"] == 3750.0
    certificate = run(environment, "reconcile", "--json")
    assert certificate.returncode == FINE
    agreed = json.loads(certificate.stdout)
    assert (agreed["agrees"], agreed["accounts"], agreed["writes"], agreed["left"]) == (True, 1, 0, [])
    totals = {total["measure"]: total for total in agreed["totals"]}
    assert totals["mrr"] == {
        "measure": "mrr",
        "currency": "GBP",
        "salesforce_minor": 375_000,
        "stripe_minor": 375_000,
        "difference_minor": 0,
    }
    text = run(environment, "reconcile")
    assert "Salesforce and Stripe agree" in text.stdout
    assert "MRR GBP: Salesforce 3,750.00, Stripe 3,750.00, difference 0.00" in text.stdout
    status = json.loads(run(environment, "ledger", "status", "--json").stdout)
    assert status["work"]["dirty"] == 0
    assert (status["parked"], status["reviews"], status["workers_alive"]) == ([], [], 0)
    assert status["links"] == 2
    assert status["audit_rows"] == status["attempts"]


@pytest.mark.slow
def test_a_matter_for_a_person_is_exit_code_1_and_named(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], Term_Months__c=None)
    win(sandbox)
    assert run(environment, "worker", "--once").returncode == FINE
    left = run(environment, "reconcile")
    assert left.returncode == FAILED
    assert "the term in months is empty" in left.stdout
    status = run(environment, "ledger", "status")
    assert "the term in months is empty" in status.stdout


def test_a_new_org_is_begun_with_once_and_mended_by_line(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    """A deal that closed before the day of the beginning is nothing that the sync may bill."""
    heard = ["customer.updated", "invoice.paid"]
    endpoint = at_stripe(
        sandbox, "POST", "/v1/webhook_endpoints", url="https://sync.example/webhooks/stripe", enabled_events=heard
    )
    start = mark(sandbox)
    begun = run(environment, "init")
    assert begun.returncode == FINE, begun.stdout + begun.stderr
    rules = Path(environment["SYNC_HOME"]) / "rules.yaml"
    told = dict(line.strip().split("=", 1) for line in begun.stdout.splitlines() if "=" in line)
    assert told == {
        "SYNC_RULES": str(rules),
        "SYNC_EXPECT_ORG_ID": "00DAa0000000001",
        "SYNC_EXPECT_STRIPE_ACCOUNT": at_stripe(sandbox, "GET", "/v1/account")["id"],
    }
    assert writes_since(sandbox, start) == []
    bound = {**environment, **told}
    looked = run(bound, "doctor")
    assert f"{endpoint['id']} does not send charge.dispute.closed, charge.dispute.created" in looked.stdout
    assert f"{endpoint['id']} sends the shapes of the account's own version" in looked.stdout
    at_stripe(sandbox, "DELETE", f"/v1/webhook_endpoints/{endpoint['id']}")
    assert "Stripe webhook endpoint: none is enabled at Stripe" in run(bound, "doctor").stdout
    version = "2026-10-28.endive"
    whole = {"url": endpoint["url"], "enabled_events": ["*"], "api_version": version}
    at_stripe(sandbox, "POST", "/v1/webhook_endpoints", **whole)
    looked = run(bound, "doctor", "--json")
    assert looked.returncode == FINE, looked.stdout
    findings = json.loads(looked.stdout)
    assert {finding["verdict"] for finding in findings} == {"ok"}, findings
    edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], CloseDate="2020-01-01", StageName="Closed Won")
    assert run(bound, "worker", "--once").returncode == FINE
    assert records(sandbox, "customer") == []

    rules.write_text(rules.read_text("utf-8") + "  won_stage: Closed Wonn\n", "utf-8")
    line = len(rules.read_text("utf-8").splitlines())
    again = run(bound, "init")
    assert (again.returncode, again.stderr) == (FAILED, "")
    assert f"kept {rules}" in again.stdout
    assert f"{rules}:{line}: " in again.stdout
    assert "did you mean Closed Won?" in again.stdout
    looked = run(bound, "doctor")
    assert looked.returncode == FINE
    assert "warning  Salesforce fields: " in looked.stdout


def test_resolve_names_a_conflict_that_there_is(environment: dict[str, str]) -> None:
    assert run(environment, "ledger", "upgrade").returncode == FINE
    check_refused(run(environment, "resolve", "5f0c9a17", "--keep", "stripe"), MISUSED, "names 0 conflicts", "status")
    check_refused(run(environment, "resolve", "", "--keep", "stripe"), MISUSED, "no conflict is named", "status")


def test_a_rules_file_that_is_not_there_is_made_by_init_and_by_nothing_else(
    environment: dict[str, str], tmp_path: Path
) -> None:
    mine = {**environment, "SYNC_RULES": str(tmp_path / "mine" / "rules.yaml")}
    check_refused(run(mine, "worker", "--once"), MISUSED, "no file", "mine/rules.yaml", "sync-pipeline init")
    assert run(mine, "init").returncode == FINE
    assert run(mine, "worker", "--once").returncode == FINE


def test_a_ledger_is_moved_to_another_org_only_by_naming_it(
    sandbox: SandboxHandle, environment: dict[str, str]
) -> None:
    assert run(environment, "worker", "--once").returncode == FINE
    own = json.loads(run(environment, "ledger", "status", "--json").stdout)["belongs_to"]
    file = Path(environment["SYNC_HOME"]) / "ledger.db"
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE cursor SET value = '00DZz0000000009:production' WHERE name = 'bound.org'")
    check_refused(run(environment, "worker", "--once"), MISUSED, "00DZz0000000009", own["org_id"], "ledger rebind")
    looked = run(environment, "doctor")
    assert looked.returncode == FAILED
    (told,) = [line for line in looked.stdout.splitlines() if line.startswith("failed")]
    assert told.startswith(
        "failed   ledger: belongs to Salesforce org 00DZz0000000009 (production), but the credentials"
    )
    assert f"lead to Salesforce org {own['org_id']}" in told
    assert "ledger rebind" in told
    wrong = run(environment, "ledger", "rebind", "--org", "00DZz0000000009", "--stripe-account", own["stripe_account"])
    check_refused(wrong, MISUSED, "nothing was changed", own["org_id"])
    moved = run(environment, "ledger", "rebind", "--org", own["org_id"], "--stripe-account", own["stripe_account"])
    assert moved.returncode == FINE, moved.stderr
    assert run(environment, "worker", "--once").returncode == FINE


def test_a_refused_key_is_one_line_and_exit_code_1(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    done = run({**environment, "STRIPE_API_KEY": "sk_test_wrong"}, "worker", "--once")
    check_refused(done, FAILED, "Stripe", "API")
    assert "sk_test_wrong" not in done.stderr + done.stdout


def test_a_refused_sign_in_is_one_line_and_exit_code_1(environment: dict[str, str]) -> None:
    done = run({**environment, "SALESFORCE_CLIENT_SECRET": "wrong-secret"}, "worker", "--once")
    check_refused(done, FAILED, "Salesforce", "sign-in")
    assert "wrong-secret" not in done.stderr + done.stdout


def test_the_audit_is_verified_and_a_changed_row_shows(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    win(sandbox)
    assert run(environment, "worker", "--once").returncode == FINE
    account = only(sandbox, "Account")["Id"]
    link = f"https://northwind.lightning.force.com/lightning/r/Account/{account}/view"
    for named in (f"Account/{account}", f"Account/{account[:15]}", account, link):
        explained = run(environment, "explain", named, "MRR__c")
        assert explained.returncode == FINE
        assert explained.stdout.startswith(f"Account/{account} MRR__c = 3750\n")
    kept = run(environment, "ledger", "retain")
    assert (kept.returncode, kept.stdout) == (
        FINE,
        "removed 0 audit rows of 0 chains, 0 commands, 0 attempts, 0 events, 0 dead workers\n",
    )
    heads = Path(environment["SYNC_HOME"]) / "heads.json"
    whole = run(environment, "ledger", "verify", "--json", "--heads", str(heads))
    assert (whole.returncode, json.loads(whole.stdout)["problems"]) == (FINE, [])
    kept_heads = heads.read_text()
    assert account in kept_heads
    with sqlite3.connect(Path(environment["SYNC_HOME"]) / "ledger.db") as database:
        database.execute("DROP TRIGGER audit_append_only_update")
        database.execute("UPDATE audit SET reason = 'another' WHERE seq = 3")
    database.close()
    tampered = run(environment, "ledger", "verify", "--heads", str(heads))
    assert tampered.returncode == FAILED
    assert "the trigger audit_append_only_update is gone" in tampered.stdout
    assert (heads.read_text(), f"{heads} is as it was" in tampered.stdout) == (kept_heads, True)
    changed = f"{account} row 3: was changed after it was written"
    assert changed in tampered.stdout
    # Also by the 15 characters of the id that Salesforce's reports show.
    for name in (account, account[:15]):
        of_one = run(environment, "ledger", "verify", "--account", name)
        assert (of_one.returncode, changed in of_one.stdout) == (FAILED, True)
    check_refused(run(environment, "ledger", "verify", "--account", "junk"), MISUSED, "'junk' is not an Account id")
    unknown = run(environment, "ledger", "verify", "--account", "001Aa0000000999IAA")
    check_refused(unknown, MISUSED, "knows no Account 001Aa0000000999IAA")


def test_a_plan_is_kept_and_written_as_it_was_shown(
    sandbox: SandboxHandle, environment: dict[str, str], tmp_path: Path
) -> None:
    win(sandbox)
    kept = tmp_path / "plan.json"
    shown = run(environment, "plan", "--out", str(kept))
    assert shown.returncode == FAILED
    assert "GBP 0.00 -> GBP 3,750.00" in shown.stdout
    assert f"sync-pipeline apply {kept}" in shown.stdout
    assert run(environment, "plan", "--markdown").stdout.startswith("| Account | Step |")
    assert json.loads(run(environment, "plan", "--json").stdout)["accounts"] == 1
    refused = run(environment, "apply", str(tmp_path / "other.json"))
    check_refused(refused, MISUSED, "other.json")
    (tmp_path / "other.json").write_text("{}")
    check_refused(run(environment, "apply", str(tmp_path / "other.json")), MISUSED, "other.json", "not a plan")
    applied = run(environment, "apply", str(kept))
    assert applied.returncode == FINE, applied.stdout + applied.stderr
    assert "1 of 1 accounts at rest" in applied.stdout
    again = run(environment, "apply", str(kept))
    assert again.returncode == FAILED
    assert "is not to be written any more" in again.stdout
    assert run(environment, "plan").returncode == FINE


def test_a_run_is_found_shown_and_undone(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    win(sandbox)
    assert "no run in the audit has written anything" in run(environment, "undo").stdout
    assert run(environment, "reconcile").returncode == FINE
    (line,) = run(environment, "undo").stdout.splitlines()
    name = next(word for word in line.split() if word.startswith("reconcile-"))
    assert line.endswith("writes to 1 accounts")
    shown = run(environment, "undo", name)
    assert shown.returncode == FINE
    assert "MRR__c: 3750 -> empty" in shown.stdout
    assert "the rules would write it again" in shown.stdout
    assert "was made at Stripe" in shown.stdout
    assert only(sandbox, "Account")["MRR__c"] == 3750
    assert run(environment, "undo", name, "--write").returncode == FINE
    assert "MRR__c" not in only(sandbox, "Account")
    check_refused(run(environment, "undo", "nothing"), MISUSED, "no write of a run 'nothing'")


def test_a_guard_stops_a_run_until_it_is_allowed(
    sandbox: SandboxHandle, environment: dict[str, str], tmp_path: Path
) -> None:
    win(sandbox)
    rules = tmp_path / "mine.yaml"
    rules.write_text("guards:\n  creates: 1\n")
    ours = environment | {"SYNC_RULES": str(rules)}
    for arguments in (["reconcile"], ["worker", "--once"]):
        done = run(ours, *arguments)
        assert done.returncode == FAILED
        assert "2 customers and subscriptions made at Stripe within an hour, at most 1 are allowed" in done.stderr
        assert "Traceback" not in done.stderr
    check_refused(run(ours, "worker", "--allow"), MISUSED, "--once")
    assert "nothing is written: stopped by a guard" in run(ours, "ledger", "status").stdout
    assert run(ours, "reconcile", "--allow").returncode == FINE
    newest = run(ours, "undo").stdout.splitlines()[0]
    assert f"reconcile-allowed-by-{getpass.getuser()}-" in newest
    assert "stopped" not in run(ours, "ledger", "status").stdout


def test_a_system_that_does_not_answer_is_exit_code_1(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    assert run(environment, "worker", "--once").returncode == FINE
    win(sandbox)
    fault(sandbox, "stripe_503", side="stripe", times=1000)
    done = run(environment, "worker", "--once")
    assert done.returncode == FAILED
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert any("Stripe" in problem and "503" in problem for problem in summary["problems"])


@pytest.mark.parametrize(
    ("changed", "arguments", "words"),
    [
        ({"SALESFORCE_CLIENT_ID": "", "STRIPE_API_KEY": ""}, ["worker", "--once"], ["SALESFORCE_CLIENT_ID is not set"]),
        (dict.fromkeys(CREDENTIALS, ""), ["worker", "--once"], ["no credentials", "sandbox"]),
        ({"STRIPE_BASE_URL": "ftp://x"}, ["worker", "--once"], ["STRIPE_BASE_URL"]),
        ({"SYNC_POLL_SECONDS": "often"}, ["worker", "--once"], ["SYNC_POLL_SECONDS", "often"]),
        ({"SYNC_RULES": "/nowhere/rules.yaml"}, ["worker", "--once"], ["/nowhere/rules.yaml"]),
        ({"SYNC_DATABASE_URL": "nonsense"}, ["ledger", "status"], ["SYNC_DATABASE_URL"]),
        ({"SYNC_DATABASE_URL": "mysql://x/y"}, ["ledger", "upgrade"], ["mysql"]),
        ({"SYNC_DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}, ["worker", "--once"], ["127.0.0.1"]),
        ({"SYNC_EXPECT_ORG_ID": "00DZz0000000009"}, ["worker", "--once"], ["00DZz0000000009", "SYNC_EXPECT_ORG_ID"]),
        ({"SYNC_EXPECT_STRIPE_ACCOUNT": "acct_other"}, ["reconcile"], ["acct_other"]),
        ({"STRIPE_WEBHOOK_SECRETS": ""}, ["receiver"], ["STRIPE_WEBHOOK_SECRETS"]),
        ({}, ["resync", "006Aa0000000001IAA"], ["006Aa0000000001IAA"]),
        ({}, ["explain", "Northwind"], ["OBJECT/ID"]),
        ({}, ["explain", "https://dashboard.stripe.com/customers/cus_1"], ["OBJECT/ID"]),
        ({}, ["plan", "--out", "/nowhere/x.json"], ["/nowhere/x.json cannot be written: No such file or directory"]),
        ({}, ["plan", "--json", "--markdown"], ["--json", "--markdown", "one of them"]),
        ({}, ["rules", "show", "--json", "--markdown"], ["--json", "--markdown", "one of them"]),
        ({}, ["explain", "Acount/001Aa0000000001IAA"], ["Acount", "Account"]),
        ({}, ["worker", "--twice"], ["--twice"]),
        ({}, ["wrker"], ["wrker"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, (list, dict)) else None,
)
def test_wrong_use_is_one_line_and_exit_code_2(
    environment: dict[str, str], changed: dict[str, str], arguments: list[str], words: list[str]
) -> None:
    done = run(environment | changed, *arguments)
    check_refused(done, MISUSED, *words)
    assert "secret@" not in done.stderr


@pytest.mark.parametrize("content", [b"this is not a database at all, not even nearly" * 50, b""])
def test_a_ledger_file_that_is_none(environment: dict[str, str], tmp_path: Path, content: bytes) -> None:
    """An empty file becomes a ledger; anything else is refused in one line."""
    file = tmp_path / "ledger.db"
    file.write_bytes(content)
    done = run(environment | {"SYNC_DATABASE_URL": f"sqlite:///{file}"}, "ledger", "upgrade")
    if content:
        check_refused(done, MISUSED, "ledger.db")
    else:
        assert done.returncode == FINE, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["ledger", "status"], ["ledger", "verify"], ["ledger", "retain"], ["resync", "001Aa0000000001IAA"]],
    ids=" ".join,
)
def test_a_mistyped_path_makes_no_ledger(environment: dict[str, str], tmp_path: Path, arguments: list[str]) -> None:
    """An empty new ledger would look like one in which nothing waits."""
    file = tmp_path / "nowhere" / "ledgr.db"
    done = run(environment | {"SYNC_DATABASE_URL": f"sqlite:///{file}"}, *arguments)
    check_refused(done, MISUSED, "no ledger", "ledgr.db", "SYNC_DATABASE_URL")
    assert not file.parent.exists()


def test_an_empty_file_is_no_ledger_whose_audit_is_whole(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.touch()
    done = run(environment | {"SYNC_DATABASE_URL": f"sqlite:///{file}"}, "ledger", "verify")
    check_refused(done, MISUSED, "no ledger", "ledger.db")


def test_the_state_of_the_ledger_needs_no_credentials(tmp_path: Path) -> None:
    alone = {"SYNC_HOME": str(tmp_path)}
    assert run(alone, "ledger", "upgrade").returncode == FINE
    status = run(alone, "ledger", "status", "--json")
    assert status.returncode == FINE, status.stderr
    assert json.loads(status.stdout)["work"]["dirty"] == 0
    whole = run(alone, "ledger", "verify")
    assert (whole.returncode, whole.stdout) == (FINE, "0 audit rows in 0 chains, 0 problems\n")


@pytest.mark.parametrize("command", [["resync"], ["plan", "--account"]], ids=" ".join)
def test_an_account_that_does_not_exist_is_refused(environment: dict[str, str], command: list[str]) -> None:
    assert run(environment, "ledger", "upgrade").returncode == FINE
    done = run(environment, *command, "001Aa0000000999IAA")
    check_refused(done, MISUSED, "001Aa0000000999IAA", "neither Salesforce nor the ledger")


def test_the_rules_in_force_are_shown(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text("commercial: {days_until_due: 14}\nfields: [{target: account.seats, kind: none}]\n")
    shown = run({"SYNC_RULES": str(rules)}, "rules", "show", "--json")
    assert shown.returncode == FINE, shown.stderr
    table = json.loads(shown.stdout)
    assert table["commercial"]["days_until_due"] == 14
    fields = {row["target"]: row["field"] for row in table["fields"]}
    assert fields["account.mrr"] == "Account.MRR__c"
    assert "account.seats" not in fields
    text = run({"SYNC_RULES": str(rules)}, "rules", "show").stdout
    assert "Account.MRR__c" in text
    assert "days_until_due: 14" in text


def test_rules_that_do_not_fit_the_org_stop_it_with_every_fault_and_its_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text("salesforce:\n  account:\n    fields:\n      mrr: MMR__c\n      name: Nam\n")
    ours = environment | {"SYNC_RULES": str(rules)}
    for command, code in ((["worker", "--once"], MISUSED), (["rules", "check"], FAILED)):
        done = run(ours, *command)
        assert done.returncode == code
        assert "mine.yaml:4: the org has no field Account.MMR__c" in done.stdout + done.stderr
        assert "mine.yaml:5: " in done.stdout + done.stderr
        assert "did you mean Name?" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert run(environment, "rules", "check").returncode == FINE


def test_what_only_single_writes_will_meet_is_a_warning(environment: dict[str, str]) -> None:
    rules = Path(environment["SYNC_HOME"]).parent / "mine.yaml"
    rules.write_text("commercial:\n  renewal_stage: Prospectin\n  renewal_record_type: Renewal\n")
    done = run(environment | {"SYNC_RULES": str(rules)}, "worker", "--once")
    assert done.returncode == FINE, done.stderr
    assert "warning: " in done.stderr
    assert (
        "mine.yaml:2: renewal_stage: the org has no active stage 'Prospectin'; did you mean Prospecting?" in done.stderr
    )
    assert "mine.yaml:3: renewal_record_type: Opportunity has no record type 'Renewal'" in done.stderr


def test_a_home_that_cannot_be_written_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(environment | {"SYNC_HOME": str(tmp_path / "file" / "home")}, "ledger", "upgrade")
    check_refused(done, MISUSED, "file/home")


def test_a_rules_file_names_every_mistake_with_its_line(environment: dict[str, str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("salesforce: {}\nfields:\n  - {target: account.mrr, kind: miror}\n")
    done = run(environment | {"SYNC_RULES": str(rules)}, "worker", "--once")
    assert done.returncode == MISUSED
    assert "rules.yaml:3" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_receiver_says_where_it_listens_and_ends_without_a_traceback(environment: dict[str, str]) -> None:
    inherited = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sync_pipeline.cli", "receiver", "--port", "0"],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url.rstrip('/')}/healthz", timeout=30) as answer:
            health: dict[str, Any] = json.load(answer)
        assert health == {"ok": True, "accounts_due": 0}
        taken = run(environment, "receiver", "--port", url.rpartition(":")[2])
        check_refused(taken, MISUSED, "cannot listen", "in use")
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()


def _resident(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sync_pipeline.cli", "worker"],
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "SYNC_POLL_SECONDS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def _worker_in_a_call(sandbox: SandboxHandle, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A resident worker that has just asked Stripe for a price and waits for the answer."""
    assert run(environment, "worker", "--once").returncode == FINE
    win(sandbox)
    fault(sandbox, "delay", side="stripe", method="POST", path="^/v1/prices$", seconds=2)
    process = _resident(environment)
    try:
        while process.poll() is None and not hits(sandbox):
            time.sleep(0.03)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_finishes_its_call_and_gives_back_what_it_had(
    sandbox: SandboxHandle, environment: dict[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    """Otherwise nobody may touch its Accounts until its leases are over, two minutes after every new version."""
    with _worker_in_a_call(sandbox, environment) as process:
        process.send_signal(number)
        told, errors = process.communicate(timeout=30)
        assert process.returncode == FINE, errors
        assert "Traceback" not in errors
        summary = json.loads(told)
        assert (summary["problems"], summary["with_others"]) == ([], 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as ledger:
        assert ledger.execute("select count(*) from work where lease_until_wall > 0").fetchone() == (0,)
        assert ledger.execute("select count(*) from attempt where outcome is null").fetchone() == (0,)
        assert ledger.execute("select count(*) from worker").fetchone() == (0,)
    assert (len(records(sandbox, "customer")), len(records(sandbox, "subscription"))) == (1, 0)


def test_a_resident_worker_waits_for_a_system_that_does_not_answer(
    sandbox: SandboxHandle, environment: dict[str, str]
) -> None:
    fault(sandbox, "drop_before", side="salesforce", times=10)
    once = run(environment, "worker", "--once")
    check_refused(once, FAILED, "Salesforce")
    process = _resident(environment)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting: Salesforce")
        sandbox.control("DELETE", "/faults")
        since = mark(sandbox)
        while process.poll() is None and not requests_since(sandbox, since, "stripe"):
            time.sleep(0.1)
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == FINE
    finally:
        process.kill()
        process.communicate()


def test_what_a_dead_worker_had_is_told(sandbox: SandboxHandle, environment: dict[str, str]) -> None:
    with _worker_in_a_call(sandbox, environment) as process:
        process.kill()
        process.communicate()
    left = json.loads(run(environment, "worker", "--once").stdout)
    assert (left["accounts"], left["with_others"]) == (0, 1)


def test_demo_lists_its_stories_and_plays_one_by_name(tmp_path: Path) -> None:
    listed = run({}, "demo", "--list")
    assert listed.returncode == FINE
    assert "deal-lost" in listed.stdout
    played = run({}, "demo", "deal-lost", "--keep", str(tmp_path / "demo"))
    assert played.returncode == FINE, played.stdout
    assert "sales edits: Opportunity StageName Closed Lost" in played.stdout
    check_refused(run({}, "demo", "deal-lots"), MISUSED, "deal-lots", "deal-lost", "demo --list")
    (tmp_path / "file").touch()
    no_folder = run({}, "demo", "deal-lost", "--keep", str(tmp_path / "file" / "demo"))
    check_refused(no_folder, MISUSED, "file/demo cannot be written: Not a directory")


def test_demo_plays_stories_of_ones_own(tmp_path: Path) -> None:
    own, head = tmp_path / "own.yaml", "topic: Ours\nstories:\n  ours: {title: A lost deal, shows: nothing, timeline: "
    own.write_text(head + "[expect: {customer: 1}]}\n")
    options = ("--stories", str(own), "--keep", str(tmp_path / "demo"))
    assert "A lost deal" in run({}, "demo", "--list", *options).stdout
    played = run({}, "demo", "ours", *options)
    assert played.returncode == FAILED, played.stdout
    assert "customer: found 0, expected 1" in played.stdout
    own.write_text(head + "[sales close the deal]}\n")
    check_refused(run({}, "demo", "--list", *options), MISUSED, "own.yaml:3", "did you mean 'sales closes the deal'?")
    check_refused(run({}, "demo", "--stories", str(tmp_path / "none.yaml")), MISUSED, "none.yaml")
