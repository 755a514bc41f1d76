"""The control plane: clock, requests, snapshots, people's edits and payments, and its one kind of error.

Facts: sandbox.md 2.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import ControlError, SandboxHandle


def test_the_clock_moves_by_seconds_or_to_a_moment(sandbox: SandboxHandle) -> None:
    assert sandbox.control("GET", "/clock") == {"now": START, "frozen": True}
    assert sandbox.control("POST", "/clock", {"advance_seconds": 90})["now"] == START + 90
    assert sandbox.control("POST", "/clock", {"now": START + 200})["now"] == START + 200
    created = calls.stripe(sandbox, "POST", "/v1/customers", name="A").json()["created"]
    assert created == START + 200


def test_the_clock_can_be_let_go_and_frozen_again(sandbox: SandboxHandle) -> None:
    assert sandbox.control("POST", "/clock", {"frozen": False})["frozen"] is False
    assert sandbox.control("POST", "/clock", {"frozen": True, "advance_seconds": 10})["frozen"] is True
    assert sandbox.control("GET", "/clock")["now"] >= START + 10


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/clock", {}, ""),
        ("/clock", {"advance_seconds": "60"}, "advance_seconds"),
        ("/clock", {"advance_seconds": -1}, "advance_seconds"),
        ("/clock", {"advance_seconds": 1.5}, "advance_seconds"),
        ("/clock", {"advance_seconds": 1, "now": START + 5}, "advance_seconds"),
        ("/clock", {"now": START - 1}, "now"),
        ("/clock", {"frozen": "yes"}, "frozen"),
        ("/clock", {"advance": 1}, "advance"),
        ("/clock", [1], ""),
        ("/faults", {"kind": "explode"}, "rules[0].kind"),
        ("/faults", {"rules": "all"}, "rules"),
        ("/snapshot", {"restore": "never saved"}, "restore"),
        ("/snapshot", {}, "clock"),
        ("/snapshot", {"clock": {}, "salesforce": {}, "stripe": {}}, ""),
        ("/humans", {}, "system"),
        ("/humans", {"system": "excel"}, "system"),
        ("/humans", {"system": "stripe", "method": "PATCH", "path": "/v1/customers"}, "method"),
        ("/humans", {"system": "stripe", "method": "POST", "path": "customers"}, "path"),
        ("/humans", {"system": "stripe", "method": "POST", "path": "/v1/customers", "params": []}, "params"),
        ("/humans", {"system": "salesforce", "fields": {}}, "object"),
        ("/humans", {"system": "salesforce", "object": "Account", "fields": 5}, "fields"),
        ("/humans", {"system": "salesforce", "object": "Account", "delete": True}, "id"),
        ("/humans", {"system": "salesforce", "object": "Account", "merge": {"winner": "001"}}, "merge.loser"),
        ("/humans", {"system": "salesforce", "object": "Account", "fields": {"Name": "A"}, "user": "Sam"}, "user"),
        ("/payments", {"outcome": "fail"}, "customer"),
        ("/payments", {"customer": "cus_1", "outcome": "explode"}, "outcome"),
        ("/payments", {"customer": "cus_1", "outcome": "fail", "times": 0}, "times"),
        ("/webhooks", {"url": "nowhere"}, "url"),
        ("/webhooks", {"conditions": {"drop": 2}}, "conditions.drop"),
        ("/webhooks", {"conditions": {"dorp": 0.5}}, "conditions.dorp"),
        ("/webhooks", {"url": "http://127.0.0.1:9/", "conditions": {"drop": -1}}, "conditions.drop"),
        ("/webhooks", {"replay": "evt_1"}, "replay"),
        ("/salesforce", {}, ""),
        ("/salesforce", {"lock_row": "001Aa0000000001IAA", "times": 0}, "times"),
    ],
)
def test_bad_input_is_400_and_names_the_field(sandbox: SandboxHandle, path: str, body: Any, field: str) -> None:
    before = sandbox.control("GET", "/state")
    with pytest.raises(ControlError) as refused:
        sandbox.control("POST", path, body)
    assert refused.value.status == 400
    assert refused.value.body["error"]["field"] == field
    assert refused.value.body["error"]["message"]
    assert sandbox.control("GET", "/state") == before


def test_a_body_that_is_not_json_is_400(sandbox: SandboxHandle) -> None:
    answer = requests.post(sandbox.ready["control_url"] + "/clock", data="{advance", timeout=10)
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("query", ["side=both", "since=x", "entries=x"])
def test_a_bad_filter_of_requests_is_400(sandbox: SandboxHandle, query: str) -> None:
    with pytest.raises(ControlError) as refused:
        sandbox.control("GET", f"/requests?{query}")
    assert (refused.value.status, refused.value.body["error"]["field"]) == (400, query.split("=")[0])


def test_requests_are_counted_per_side_and_endpoint_and_can_be_filtered(sandbox: SandboxHandle) -> None:
    customer = calls.stripe(sandbox, "POST", "/v1/customers", name="A").json()["id"]
    mark = sandbox.control("GET", "/requests")["last"]
    calls.stripe(sandbox, "GET", f"/v1/customers/{customer}")
    calls.soql(sandbox, "SELECT Id FROM Account")
    found = sandbox.control("GET", "/requests")
    assert found["counts"] == {
        "stripe": {"POST /v1/customers": 1, "GET /v1/customers/{id}": 1},
        "salesforce": {"GET /services/data/{v}/query": 1},
    }
    assert sandbox.control("GET", f"/requests?since={mark}&side=stripe")["counts"] == {
        "stripe": {"GET /v1/customers/{id}": 1}
    }
    assert [entry["status"] for entry in found["entries"]] == [200, 200, 200]
    assert sandbox.control("GET", "/requests?entries=0")["entries"] == []


def test_a_named_snapshot_brings_everything_back(sandbox: SandboxHandle) -> None:
    calls.stripe(sandbox, "POST", "/v1/customers", name="Before").raise_for_status()
    sandbox.control("POST", "/snapshot", {"save": "here"})
    before = sandbox.control("GET", "/state")
    calls.stripe(sandbox, "POST", "/v1/customers", name="After").raise_for_status()
    sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Account", "fields": {"Name": "After"}})
    sandbox.control("POST", "/clock", {"advance_seconds": 1000})
    assert sandbox.control("GET", "/state") != before
    sandbox.control("POST", "/snapshot", {"restore": "here"})
    assert sandbox.control("GET", "/state") == before
    assert calls.customers(sandbox) == ["Before"]


def test_a_snapshot_document_can_be_put_back_even_with_ids_going_on_as_before(sandbox: SandboxHandle) -> None:
    calls.stripe(sandbox, "POST", "/v1/customers", name="Before", key="k1").raise_for_status()
    document = sandbox.control("GET", "/snapshot")
    first = calls.stripe(sandbox, "POST", "/v1/customers", name="Next").json()["id"]
    sandbox.control("POST", "/snapshot", document)
    assert calls.stripe(sandbox, "POST", "/v1/customers", name="Next").json()["id"] == first
    again = calls.stripe(sandbox, "POST", "/v1/customers", name="Before", key="k1")
    assert again.headers["Idempotent-Replayed"] == "true"


def test_requests_tell_which_version_of_stripe_was_asked_for(sandbox: SandboxHandle) -> None:
    calls.stripe(sandbox, "GET", "/v1/customers").raise_for_status()
    (entry,) = sandbox.control("GET", "/requests")["entries"]
    assert entry["stripe_version"] == calls.VERSION


def test_reset_goes_back_to_the_first_state(sandbox: SandboxHandle) -> None:
    before = sandbox.control("GET", "/state")
    calls.stripe(sandbox, "POST", "/v1/customers", name="Gone").raise_for_status()
    sandbox.control("POST", "/faults", {"kind": "stripe_500"})
    sandbox.control("POST", "/clock", {"advance_seconds": 5})
    sandbox.control("POST", "/reset", {})
    assert sandbox.control("GET", "/state") == before
    assert sandbox.control("GET", "/faults") == {"rules": []}
    assert sandbox.control("GET", "/requests")["counts"] == {}


def test_a_persons_edit_in_salesforce_changes_the_record_and_is_not_traffic(sandbox: SandboxHandle) -> None:
    made = sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Account", "fields": {"Name": "Acme"}})
    account = made["result"]["Id"]
    assert calls.soql(sandbox, "SELECT Name FROM Account")[0]["Name"] == "Acme"
    change = {"system": "salesforce", "object": "Account", "id": account}
    sandbox.control("POST", "/humans", change | {"fields": {"Name": "Acme Ltd"}})
    assert calls.soql(sandbox, "SELECT Name FROM Account")[0]["Name"] == "Acme Ltd"
    sandbox.control("POST", "/humans", change | {"delete": True})
    assert calls.soql(sandbox, "SELECT Name FROM Account") == []
    sandbox.control("POST", "/humans", change | {"undelete": True})
    assert len(calls.soql(sandbox, "SELECT Name FROM Account")) == 1
    assert sandbox.control("GET", "/requests")["counts"] == {"salesforce": {"GET /services/data/{v}/query": 4}}


def test_a_person_can_merge_accounts(sandbox: SandboxHandle) -> None:
    edit = {"system": "salesforce", "object": "Account"}
    winner, loser = (
        sandbox.control("POST", "/humans", edit | {"fields": {"Name": name}})["result"]["Id"]
        for name in ("Kept", "Merged")
    )
    sandbox.control("POST", "/humans", edit | {"merge": {"winner": winner, "loser": loser}})
    assert [row["Id"] for row in calls.soql(sandbox, "SELECT Id FROM Account")] == [winner]


def test_a_persons_edit_in_stripe_goes_through_its_rules(sandbox: SandboxHandle) -> None:
    edit = {"system": "stripe", "method": "POST", "path": "/v1/customers"}
    made = sandbox.control("POST", "/humans", edit | {"params": {"name": "By hand", "metadata": {"a": "1"}}})
    assert made["result"]["metadata"] == {"a": "1"}
    assert calls.customers(sandbox) == ["By hand"]
    with pytest.raises(ControlError) as refused:
        sandbox.control("POST", "/humans", edit | {"params": {"nonsense": 1}})
    assert refused.value.status == 422
    assert refused.value.body["error"]["refused"]["error"]["param"] == "nonsense"


def test_what_salesforce_refuses_a_person_is_passed_on(sandbox: SandboxHandle) -> None:
    with pytest.raises(ControlError) as refused:
        sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Account", "fields": {"Nonsense__c": 1}})
    assert refused.value.status == 422
    assert refused.value.body["error"]["refused"][0]["errorCode"] == "INVALID_FIELD"


def test_the_payment_of_an_unknown_customer_cannot_be_planned(sandbox: SandboxHandle) -> None:
    with pytest.raises(ControlError) as refused:
        sandbox.control("POST", "/payments", {"customer": "cus_none", "outcome": "fail"})
    assert refused.value.status == 422
    assert "cus_none" in refused.value.body["error"]["message"]


def test_an_unknown_address_is_404(sandbox: SandboxHandle) -> None:
    with pytest.raises(ControlError) as refused:
        sandbox.control("GET", "/snapshots")
    assert refused.value.status == 404
