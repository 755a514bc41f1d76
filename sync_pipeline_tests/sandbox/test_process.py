"""The sandbox as a process: start, ready line, wrong use, ends, kept state (facts: sandbox.md 1)."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

COMMAND = [sys.executable, "-m", "sync_pipeline.sandbox.command"]


def test_the_ready_line_says_where_everything_is_and_how_to_sign_in(sandbox: SandboxHandle) -> None:
    assert list(sandbox.ready) == [
        "salesforce_url", "stripe_url", "control_url", "client_id", "client_secret", "access_token", "stripe_key",
        "webhook_secret", "username", "password", "security_token", "refresh_token",
    ]  # fmt: skip
    assert sandbox.ready["stripe_key"].startswith("sk_test_")
    assert sandbox.ready["webhook_secret"].startswith("whsec_")
    assert sandbox.control("GET", "/healthz")["status"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told_to_even_with_a_connection_open(number: signal.Signals) -> None:
    with start_sandbox() as handle:
        connection = http.client.HTTPConnection(urlsplit(handle.ready["stripe_url"]).netloc, timeout=10)
        connection.request("GET", "/v1/account")
        connection.getresponse().read()
        handle.process.send_signal(number)
        assert handle.process.wait(timeout=10) == 0
        connection.close()


def test_a_port_that_is_taken_is_wrong_use_with_one_line_that_says_so(sandbox: SandboxHandle) -> None:
    taken = str(urlsplit(sandbox.ready["stripe_url"]).port)
    ended = subprocess.run([*COMMAND, "--stripe-port", taken], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"--stripe-port {taken}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "novel"], "--data"),
        (["--stripe-port", "70000"], "--stripe-port"),
        (["--accounts", "0"], "--accounts"),
        (["--webhook-url", "localhost:80"], "--webhook-url"),
        (["--now", "yesterday"], "--now"),
        (["--keep", "/"], "--keep"),
        (["--keep", "/nowhere/at/all"], "there is no folder /nowhere/at"),
        (["--settings", "/nowhere.json"], "--settings"),
        (["--traffic", "/nowhere/at/all"], "--traffic"),
        (["--unknown"], "--unknown"),
    ],
)
def test_wrong_options_end_with_2_and_name_the_option(arguments: list[str], said: str) -> None:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_has_an_example_and_lists_the_credentials() -> None:
    ended = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "Example:" in ended.stdout
    assert all(name in ended.stdout for name in ("client_id", "refresh_token", "security_token", "stripe_key"))


def test_a_connection_is_kept_for_further_requests(sandbox: SandboxHandle) -> None:
    connection = http.client.HTTPConnection(urlsplit(sandbox.ready["stripe_url"]).netloc, timeout=10)
    connection.connect()
    local = connection.sock.getsockname()
    for _ in range(3):
        connection.request("GET", "/v1/customers", headers={"Authorization": f"Bearer {sandbox.ready['stripe_key']}"})
        assert json.loads(connection.getresponse().read())["object"] == "list"
        assert connection.sock.getsockname() == local
    connection.close()


def test_kept_state_is_there_after_a_restart(tmp_path: Path) -> None:
    keep = tmp_path / "state.json"
    arguments = ("--keep", str(keep), "--now", str(START))
    with start_sandbox(*arguments) as handle:
        calls.stripe(handle, "POST", "/v1/customers", name="Kept").raise_for_status()
        handle.control("POST", "/clock", {"advance_seconds": 60})
        before = handle.control("GET", "/state")
        assert handle.stop() == 0
    with start_sandbox(*arguments) as handle:
        assert handle.control("GET", "/state") == before
        assert calls.customers(handle) == ["Kept"]


def test_kept_state_survives_a_crash(tmp_path: Path) -> None:
    """No clean stop: what changed was saved by itself, whole, and the clock with it."""
    keep = tmp_path / "state.json"
    arguments = ("--keep", str(keep), "--now", str(START))
    with start_sandbox(*arguments) as handle:
        calls.stripe(handle, "POST", "/v1/customers", name="Kept").raise_for_status()
        handle.control("POST", "/clock", {"advance_seconds": 60})
        before = handle.control("GET", "/state")
        deadline = time.monotonic() + 20
        while not keep.exists() or json.loads(keep.read_text())["clock"]["now"] != START + 60:
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.05)
        handle.process.kill()
        handle.process.wait(timeout=10)
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]
    with start_sandbox(*arguments) as handle:
        assert handle.control("GET", "/state") == before


@contextmanager
def in_folder(folder: Path, *arguments: str) -> Iterator[tuple[dict[str, str], Path]]:
    """A sandbox as the command line starts it: with a ready file. Gives its ready line and what it says to people."""
    said = folder.with_name(f"{folder.name}-{len(list(folder.parent.iterdir()))}.err")
    with said.open("w") as err:
        process = subprocess.Popen(
            [*COMMAND, "--ready-file", str(folder / "sandbox.json"), *arguments],
            stdout=subprocess.PIPE, stderr=err, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline()), said
        finally:
            process.terminate()
            process.wait(timeout=20)
            process.stdout.close()


def test_the_first_sandbox_of_a_folder_is_the_one_that_commands_find(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    ready = folder / "sandbox.json"
    with in_folder(folder) as (first, told):
        assert json.loads(ready.read_text()) == first
        with in_folder(folder) as (second, told_second):
            assert json.loads(ready.read_text()) == first != second
            assert f"({first['control_url']}): commands without credentials go on using" in told_second.read_text()
        assert json.loads(ready.read_text()) == first
    assert not ready.exists()
    assert told.read_text() == ""


def test_who_begins_anew_in_a_folder_with_a_past_is_told(tmp_path: Path) -> None:
    """The sync's own files remember objects that the new sandbox does not have; a kept sandbox has them."""
    folder, keep = tmp_path / "home", tmp_path / "state.json"
    with in_folder(folder, "--keep", str(keep)):
        pass
    with in_folder(folder, "--keep", str(keep)) as (_, told):
        assert told.read_text() == ""
    with in_folder(folder) as (_, told):
        assert f"what the files in {folder} remember of an earlier sandbox is no longer true" in told.read_text()


def test_a_file_that_is_not_a_kept_sandbox_is_wrong_use(tmp_path: Path) -> None:
    keep = tmp_path / "state.json"
    keep.write_text('{"clock": 1}')
    ended = subprocess.run([*COMMAND, "--keep", str(keep)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"--keep {keep}: this is not a snapshot of a sandbox" in ended.stderr


@pytest.mark.parametrize(
    ("salesforce", "said"),
    [
        ({"hidden_fields": ["Account.MMR__c"]}, "there is no field Account.MMR__c"),
        ({"package": "/nowhere"}, "no Salesforce package at /nowhere"),
    ],
)
def test_settings_of_an_org_that_cannot_be_are_wrong_use(
    tmp_path: Path, salesforce: dict[str, object], said: str
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"salesforce": salesforce}))
    command = [*COMMAND, "--settings", str(settings)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"--settings {settings}: " in ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_same_seed_and_calls_give_byte_identical_states() -> None:
    def story() -> str:
        with start_sandbox("--data", "story", "--seed", "3", "--now", str(START)) as handle:
            calls.stripe(handle, "POST", "/v1/customers", name="Twin").raise_for_status()
            handle.control("POST", "/clock", {"advance_seconds": 86_400})
            return json.dumps(handle.control("GET", "/state"))

    assert story() == story()


def test_traffic_goes_to_the_named_file_and_people_do_not(tmp_path: Path) -> None:
    traffic = tmp_path / "traffic.jsonl"
    with start_sandbox("--traffic", str(traffic), "--now", str(START)) as handle:
        calls.stripe(handle, "POST", "/v1/customers", name="Recorded").raise_for_status()
        person = {"system": "stripe", "method": "POST", "path": "/v1/customers", "params": {"name": "By hand"}}
        handle.control("POST", "/humans", person)
    (line,) = (json.loads(text) for text in traffic.read_text().splitlines())
    assert (line["method"], line["path"], line["body"], line["status"]) == (
        "POST",
        "/v1/customers",
        "name=Recorded",
        200,
    )
    assert line["response"]["name"] == "Recorded"
