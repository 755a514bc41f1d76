"""The request log: templates, counts, what is kept and what must never be (facts: sandbox.md 1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_pipeline.sandbox.request_log import RequestLog, endpoint
from sync_pipeline.sandbox.wire import Call, Reply

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        ("POST", "/v1/customers", "/v1/customers"),
        ("POST", "/v1/customers/cus_1", "/v1/customers/{id}"),
        ("GET", "/v1/customers/search", "/v1/customers/search"),
        ("GET", "/v1/customers/cus_1/tax_ids/txi_1", "/v1/customers/{id}/tax_ids/{id}"),
        ("POST", "/v1/invoices/create_preview", "/v1/invoices/create_preview"),
        ("POST", "/v1/invoices/in_1/finalize", "/v1/invoices/{id}/finalize"),
        ("POST", "/v1/test_helpers/test_clocks/clock_1/advance", "/v1/test_helpers/test_clocks/{id}/advance"),
        ("GET", "/v1/account", "/v1/account"),
    ],
)
def test_a_stripe_endpoint_is_the_call_without_its_ids(method: str, path: str, template: str) -> None:
    assert endpoint("stripe", method, path) == f"{method} {template}"


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("query/", "query"),
        ("query/01gX-500", "query/{locator}"),
        ("composite", "composite"),
        ("composite/sobjects", "composite/sobjects"),
        ("sobjects/Account/describe", "sobjects/Account/describe"),
        ("sobjects/Account/001x", "sobjects/Account/{id}"),
        ("sobjects/Account/Stripe_Customer_Id__c/cus_1", "sobjects/Account/Stripe_Customer_Id__c/{value}"),
        ("jobs/ingest/750x/batches", "jobs/ingest/{id}/batches"),
    ],
)
def test_a_salesforce_endpoint_is_the_call_without_ids_and_version(path: str, template: str) -> None:
    assert endpoint("salesforce", "GET", f"/services/data/v66.0/{path}") == f"GET /services/data/{{v}}/{template}"


def test_sign_in_and_identity_are_endpoints_too() -> None:
    assert endpoint("salesforce", "POST", "/services/oauth2/token") == "POST /services/oauth2/token"
    assert endpoint("salesforce", "GET", "/id/00Dx/005x") == "GET /id/{id}/{id}"


def test_counts_are_kept_per_side_and_can_start_from_a_given_entry() -> None:
    log = RequestLog()
    log.record("stripe", 1, 0.1, Call("POST", "/v1/customers"), Reply(200, b"{}"), None)
    mark = log.last_seq
    log.record("stripe", 1, 0.1, Call("POST", "/v1/customers"), Reply(200, b"{}"), None)
    log.record("salesforce", 1, 0.1, Call("GET", "/services/data"), Reply(200, b"[]"), None)
    assert log.counts() == {"stripe": {"POST /v1/customers": 2}, "salesforce": {"GET /services/data": 1}}
    assert log.counts(since=mark, side="stripe") == {"stripe": {"POST /v1/customers": 1}}
    log.clear()
    assert log.counts() == {}
    assert log.last_seq == 3


def test_traffic_lines_have_the_contracts_shape_and_each_kind_its_own_file(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "traffic.jsonl")
    call = Call("POST", "/v1/customers", headers={"authorization": "Bearer sk_test_secret"}, body=b"name=A%20B")
    log.record("stripe", 9, 0.1, call, Reply(200, b'{"id": "cus_1"}', JSON), None)
    log.record("salesforce", 9, 0.1, Call("GET", "/services/data", "a=b"), Reply(200, b"[1]", JSON), None)
    log.record_webhook(b'{"object": "event"}')
    log.close()
    (line,) = (json.loads(text) for text in (tmp_path / "traffic.jsonl").read_text().splitlines())
    assert {key: line[key] for key in ("method", "path", "query", "body", "status", "response", "side")} == {
        "method": "POST",
        "path": "/v1/customers",
        "query": "",
        "body": "name=A%20B",
        "status": 200,
        "response": {"id": "cus_1"},
        "side": "stripe",
    }
    salesforce = json.loads((tmp_path / "traffic.jsonl.salesforce.jsonl").read_text())
    assert (salesforce["side"], salesforce["query"], salesforce["response"]) == ("salesforce", "a=b", [1])
    assert json.loads((tmp_path / "traffic.jsonl.webhooks.jsonl").read_text()) == {"object": "event"}
    assert "sk_test_secret" not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_the_version_that_a_client_of_stripe_asked_for_is_shown_but_not_recorded(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "t")
    old = Call("GET", "/v1/customers", headers={"stripe-version": "2022-11-15"})
    shown = log.record("stripe", 1, 0.1, old, Reply(200, b"{}", JSON), None).shown()
    assert shown["stripe_version"] == "2022-11-15"
    assert log.record("stripe", 1, 0.1, Call("GET", "/v1/customers"), None, None).shown()["stripe_version"] is None
    assert "stripe_version" not in log.record("salesforce", 1, 0.1, Call("GET", "/x"), None, None).shown()
    log.close()
    assert json.loads((tmp_path / "t").read_text().splitlines()[0]) == {
        name: value for name, value in shown.items() if name != "stripe_version"
    }


def test_sign_in_secrets_are_not_kept() -> None:
    log = RequestLog()
    body = b"grant_type=client_credentials&client_secret=hush"
    entry = log.record(
        "salesforce",
        1,
        0.1,
        Call("POST", "/services/oauth2/token", body=body),
        Reply(200, b'{"access_token":"hush"}'),
        None,
    )
    assert "hush" not in json.dumps(entry.line())


def test_what_a_fault_made_up_is_not_recorded_as_the_vendors_word(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "t")
    log.record("stripe", 1, 0.1, Call("GET", "/v1/customers"), Reply(502, b"<html>"), "http")
    log.record("stripe", 1, 0.1, Call("GET", "/v1/customers"), Reply(200, b'{"id": 5}'), "http")
    log.record("stripe", 1, 0.1, Call("POST", "/v1/customers"), None, "drop_before")
    log.close()
    assert (tmp_path / "t").read_text() == ""
    assert log.counts() == {"stripe": {"GET /v1/customers": 2, "POST /v1/customers": 1}}


def test_of_long_answers_only_the_beginning_is_remembered_but_all_of_it_recorded(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "t")
    body = json.dumps({"data": "x" * 100_000}).encode()
    log.record("stripe", 1, 0.1, Call("GET", "/v1/customers"), Reply(200, body), None)
    (entry,) = log.entries()
    assert entry.reply is not None
    assert len(entry.reply.body) == 20_000
    log.close()
    assert json.loads((tmp_path / "t").read_text())["response"] == json.loads(body)
