"""scripts/check_contract.py judges recordings: what Stripe would not accept or not answer is found, the rest is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "check_contract.py"
REFUSAL = {"error": {"type": "invalid_request_error", "message": "Received unknown parameter: nonsense"}}
GONE = {"id": "cus_1", "object": "customer", "deleted": True}


def exchange(method: str, path: str, status: int, response: dict[str, Any], body: str = "") -> dict[str, Any]:
    return {"method": method, "path": path, "query": "", "body": body, "status": status, "response": response}


def check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *options], capture_output=True, text=True, check=False
    )


def record(folder: Path, *lines: dict[str, Any], name: str = "1.jsonl", tail: str = "") -> None:
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines) + tail, encoding="utf-8")


@pytest.mark.contract
def test_what_stripe_says_itself_passes(tmp_path: Path, contract: Path) -> None:
    """A deletion, a refusal, an unsupported call, and the half line of a process that was killed."""
    unsupported = exchange("POST", "/v1/customers", 501, {"error": {"type": "sandbox_unsupported", "message": "no"}})
    refused = exchange("POST", "/v1/customers", 400, REFUSAL, body="nonsense=1")
    record(tmp_path, exchange("DELETE", "/v1/customers/cus_1", 200, GONE), refused, unsupported, tail='{"method": "PO')
    done = check(tmp_path, "--contract", str(contract))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.contract
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (exchange("DELETE", "/v1/customers/cus_1", 200, GONE, body="nonsense=1"), "unknown-param"),
        (exchange("DELETE", "/v1/customers/cus_1", 200, GONE | {"nonsense": 1}), "unknown-prop"),
        (exchange("DELETE", "/v1/customers/cus_1", 200, {"id": "cus_1", "object": "customer"}), "missing-prop"),
        (exchange("POST", "/v1/customers", 400, {"error": {"message": "no type"}}), "bad-enum"),
        (exchange("GET", "/v1/nonsense", 200, {}), "unknown-operation"),
    ],
)
def test_what_stripe_would_not_say_fails(tmp_path: Path, contract: Path, wrong: dict[str, Any], code: str) -> None:
    record(tmp_path, wrong)
    done = check(tmp_path, "--contract", str(contract))
    assert done.returncode == 1, done.stdout + done.stderr
    assert code in done.stdout


@pytest.mark.contract
def test_webhooks_are_checked(tmp_path: Path, contract: Path) -> None:
    record(tmp_path, exchange("DELETE", "/v1/customers/cus_1", 200, GONE))
    record(tmp_path, {"object": "event", "type": "customer.invented"}, name="1.jsonl.webhooks.jsonl")
    done = check(tmp_path, "--contract", str(contract))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unknown-event-type" in done.stdout


@pytest.mark.contract
def test_an_empty_recording_is_no_success(tmp_path: Path, contract: Path) -> None:
    done = check(tmp_path, "--contract", str(contract))
    assert done.returncode == 2
    assert "no Stripe exchange" in done.stderr


def test_without_the_contract_nothing_is_checked_and_it_says_so(tmp_path: Path) -> None:
    done = check(tmp_path, "--contract", str(tmp_path / "absent"))
    assert done.returncode == 0
    assert "nothing checked" in done.stdout
