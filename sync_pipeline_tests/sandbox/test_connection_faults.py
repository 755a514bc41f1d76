"""Faults as a client meets them: on the socket, with what was committed and what was not (facts: sandbox.md 2)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox_process import SandboxHandle

POSTS = {"side": "stripe", "method": "POST", "path": "^/v1/customers$"}


def put_fault(handle: SandboxHandle, **rule: Any) -> None:
    handle.control("POST", "/faults", {"match": POSTS, "times": 1} | rule)


def create(handle: SandboxHandle, name: str, **options: Any) -> requests.Response:
    return calls.stripe(handle, "POST", "/v1/customers", name=name, **options)


def test_drop_before_closes_the_connection_and_nothing_was_done(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 2: drop_before: nothing committed."""
    put_fault(sandbox, kind="drop_before")
    with pytest.raises(requests.ConnectionError):
        create(sandbox, "Lost")
    assert calls.customers(sandbox) == []


def test_drop_after_closes_the_connection_though_the_work_was_done(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 2: drop_after: committed, then the connection closed."""
    put_fault(sandbox, kind="drop_after")
    with pytest.raises(requests.ConnectionError):
        create(sandbox, "Done", key="k1")
    assert calls.customers(sandbox) == ["Done"]


def test_the_same_idempotency_key_commits_once_under_drop_after(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 4, item 4: the same idempotency key never commits twice, also under drop_after."""
    put_fault(sandbox, kind="drop_after")
    with pytest.raises(requests.ConnectionError):
        create(sandbox, "Once", key="k1")
    again = create(sandbox, "Once", key="k1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert calls.customers(sandbox) == ["Once"]


def test_truncate_announces_the_whole_body_and_sends_half(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 2: truncate: half a JSON body."""
    put_fault(sandbox, kind="truncate")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        create(sandbox, "Half")
    assert calls.customers(sandbox) == ["Half"]


def test_withhold_outlasts_the_clients_patience_though_the_work_was_done(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 2: committed, and the response withheld past the timeout of the client."""
    put_fault(sandbox, kind="withhold", seconds=3)
    with pytest.raises(requests.ReadTimeout):
        create(sandbox, "Waiting", timeout=0.5)
    assert calls.customers(sandbox) == ["Waiting"]


def test_delay_holds_the_work_itself_back(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 2: delay."""
    put_fault(sandbox, kind="delay", seconds=3)
    with pytest.raises(requests.ReadTimeout):
        create(sandbox, "Later", timeout=0.5)
    assert calls.customers(sandbox) == []


@contextmanager
def held_back(handle: SandboxHandle, path: str, **form: Any) -> Iterator[Future[requests.Response]]:
    """A write that a fault holds back for a while."""
    put_fault(handle, kind="delay", seconds=1.5, match=POSTS | {"path": f"^{path}$"})
    with ThreadPoolExecutor() as pool:
        held = pool.submit(calls.stripe, handle, "POST", path, **form)
        while not handle.control("GET", "/faults")["rules"][-1]["hits"]:
            pass
        yield held


def test_a_call_under_way_has_its_key_and_its_objects_to_itself(sandbox: SandboxHandle) -> None:
    """facts/stripe.md 5.4: a key in use is 409; 5.1: contention for an object is `lock_timeout`, no reason given."""
    path = f"/v1/customers/{create(sandbox, 'Held').json()['id']}"
    with held_back(sandbox, path, name="Slow", key="k1") as held:
        same_key = calls.stripe(sandbox, "POST", path, name="Slow", key="k1")
        same_object = calls.stripe(sandbox, "POST", path, name="Other", key="k2")
        elsewhere, seen = create(sandbox, "Free"), calls.stripe(sandbox, "GET", path)
        assert held.result().json()["name"] == "Slow"
    assert (same_key.status_code, same_key.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert (same_object.status_code, same_object.json()["error"]["code"]) == (429, "lock_timeout")
    assert "stripe-rate-limited-reason" not in same_object.headers
    assert (elsewhere.status_code, seen.json()["name"]) == (200, "Held")
    again = calls.stripe(sandbox, "POST", path, name="Slow", key="k1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert calls.stripe(sandbox, "POST", path, name="Other", key="k2").json()["name"] == "Other"


def test_clearing_the_faults_clears_the_way(sandbox: SandboxHandle) -> None:
    path = f"/v1/customers/{create(sandbox, 'Held').json()['id']}"
    with held_back(sandbox, path, name="Slow", key="k1") as held:
        sandbox.control("DELETE", "/faults")
        assert calls.stripe(sandbox, "POST", path, name="Between", key="k2").json()["name"] == "Between"
        assert held.result().json()["name"] == "Slow"


def test_an_http_fault_answers_as_told_and_commits_only_if_told(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 2: http(status, body, headers)."""
    put_fault(sandbox, kind="http", status=502, body="<h1>Bad Gateway</h1>", headers={"X-Edge": "eu"})
    answer = create(sandbox, "Never")
    assert (answer.status_code, answer.text, answer.headers["x-edge"]) == (502, "<h1>Bad Gateway</h1>", "eu")
    assert calls.customers(sandbox) == []
    put_fault(sandbox, kind="http", status=500, body={"error": {"type": "api_error", "message": "?"}}, commit=True)
    assert create(sandbox, "Unseen").json()["error"]["type"] == "api_error"
    assert calls.customers(sandbox) == ["Unseen"]


@pytest.mark.parametrize(
    ("kind", "status", "code", "reason"),
    [
        ("stripe_401", 401, None, None),
        ("stripe_409_in_progress", 409, "idempotency_key_in_use", None),
        ("stripe_429", 429, "rate_limit", "global-rate"),
        ("stripe_lock_timeout", 429, "lock_timeout", None),
        ("stripe_500", 500, None, None),
        ("stripe_503", 503, None, None),
    ],
)
def test_stripes_faults_speak_as_stripe_does(
    sandbox: SandboxHandle, kind: str, status: int, code: str | None, reason: str | None
) -> None:
    """facts/sandbox.md 2: 429, 409, 5xx; facts/stripe.md 5.1: the reason in a header."""
    put_fault(sandbox, kind=kind)
    answer = create(sandbox, "Refused")
    assert answer.status_code == status
    assert answer.json()["error"].get("code") == code
    assert answer.headers.get("stripe-rate-limited-reason") == reason
    assert calls.customers(sandbox) == []


@pytest.mark.parametrize("commit", [True, False])
def test_a_failure_after_the_work_has_begun_is_kept_under_its_key(sandbox: SandboxHandle, commit: bool) -> None:
    """facts/stripe.md 5.4: the first answer is saved and replayed, a 500 too, whatever has come of the work."""
    put_fault(sandbox, kind="stripe_500", commit=commit)
    first, again = (create(sandbox, "Broken", key="k1") for _ in range(2))
    assert (first.status_code, "idempotent-replayed" in first.headers) == (500, False)
    assert (again.status_code, again.text, again.headers["idempotent-replayed"]) == (500, first.text, "true")
    assert calls.customers(sandbox) == ["Broken"] * commit
    assert create(sandbox, "Whole", key="k2").status_code == 200
    put_fault(sandbox, kind="stripe_500")
    create(sandbox, "Whole", key="k2")
    assert create(sandbox, "Whole", key="k2").status_code == 200


@pytest.mark.parametrize("kind", ["stripe_429", "stripe_409_in_progress", "stripe_401"])
def test_what_is_refused_before_the_work_begins_leaves_the_key_unused(sandbox: SandboxHandle, kind: str) -> None:
    """facts/stripe.md 5.4: 401 and 429 are not saved."""
    put_fault(sandbox, kind=kind)
    create(sandbox, "Refused", key="k1")
    assert create(sandbox, "Refused", key="k1").status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("salesforce_expired_session", 401, "INVALID_SESSION_ID"),
        ("salesforce_limit", 403, "REQUEST_LIMIT_EXCEEDED"),
        ("salesforce_concurrent_limit", 403, "REQUEST_LIMIT_EXCEEDED"),
        ("salesforce_row_lock", 400, "UNABLE_TO_LOCK_ROW"),
        ("salesforce_query_timeout", 400, "QUERY_TIMEOUT"),
        ("salesforce_503", 503, "SERVER_UNAVAILABLE"),
    ],
)
def test_salesforces_faults_speak_as_salesforce_does(sandbox: SandboxHandle, kind: str, status: int, code: str) -> None:
    """facts/salesforce.md 2.8: a list with errorCode; the SDK refreshes its session on exactly this 401 body."""
    sandbox.control("POST", "/faults", {"kind": kind, "times": 1})
    with pytest.raises(requests.HTTPError) as refused:
        calls.soql(sandbox, "SELECT Id FROM Account")
    assert refused.value.response.status_code == status
    assert refused.value.response.json()[0]["errorCode"] == code
    if kind == "salesforce_limit":
        assert refused.value.response.headers["sforce-limit-info"] == "api-usage=100000/100000"
    assert calls.soql(sandbox, "SELECT Id FROM Account") == []


def test_hits_are_counted_and_rules_can_be_cleared(sandbox: SandboxHandle) -> None:
    put_fault(sandbox, kind="stripe_500", times=5)
    create(sandbox, "Refused")
    (rule,) = sandbox.control("GET", "/faults")["rules"]
    assert (rule["kind"], rule["matched"], rule["hits"]) == ("stripe_500", 1, 1)
    assert sandbox.control("DELETE", "/faults") == {"rules": []}
    assert create(sandbox, "Allowed").status_code == 200


def test_the_log_shows_what_the_client_never_saw(sandbox: SandboxHandle) -> None:
    """facts/sandbox.md 1: the request log names the fault."""
    put_fault(sandbox, kind="drop_before")
    with pytest.raises(requests.ConnectionError):
        create(sandbox, "Lost")
    put_fault(sandbox, kind="drop_after")
    with pytest.raises(requests.ConnectionError):
        create(sandbox, "Done")
    lost, done = sandbox.control("GET", "/requests?side=stripe")["entries"]
    assert (lost["fault"], lost["status"]) == ("drop_before", None)
    assert (done["fault"], done["status"], done["response"]["name"]) == ("drop_after", 200, "Done")
