"""A `stale` rule: chosen searches and queries do not know yet what has just been written (facts: sandbox.md 2)."""

from __future__ import annotations

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import SandboxHandle


def found_by_search(handle: SandboxHandle) -> list[str]:
    query = 'email:"a@example.com"'
    answer = calls.stripe(handle, "GET", "/v1/customers/search", query=query)
    return [customer["name"] for customer in answer.json()["data"]]


def names(handle: SandboxHandle) -> list[str]:
    return [row["Name"] for row in calls.soql(handle, "SELECT Name FROM Account")]


def account(handle: SandboxHandle, **edit: object) -> str:
    made = handle.control("POST", "/humans", {"system": "salesforce", "object": "Account"} | edit)
    return str(made["result"]["Id"])


def test_every_second_query_misses_the_last_minute(sandbox: SandboxHandle) -> None:
    old = account(sandbox, fields={"Name": "Old"})
    rule = {"kind": "stale", "seconds": 60, "every": 2, "match": {"path": "/query"}}
    sandbox.control("POST", "/faults", rule)
    calls.soql(sandbox, "SELECT Id FROM Account")
    sandbox.control("POST", "/clock", {"now": START + 100})
    calls.soql(sandbox, "SELECT Id FROM Account")
    account(sandbox, fields={"Name": "New"})
    account(sandbox, id=old, fields={"Name": "Renamed"})
    assert [sorted(names(sandbox)), names(sandbox)] == [["New", "Renamed"], ["Old"]]
    sandbox.control("POST", "/clock", {"now": START + 160})
    assert [sorted(names(sandbox)), sorted(names(sandbox))] == [["New", "Renamed"]] * 2


def test_the_first_query_misses_what_a_person_has_changed_before_it(sandbox: SandboxHandle) -> None:
    old = account(sandbox, fields={"Name": "Old"})
    sandbox.control("POST", "/clock", {"now": START + 100})
    sandbox.control("POST", "/faults", {"kind": "stale", "seconds": 60, "match": {"path": "/query"}})
    account(sandbox, id=old, fields={"Name": "Renamed"})
    assert names(sandbox) == ["Old"]


def test_one_search_misses_a_customer_made_and_changed_within_the_minute(sandbox: SandboxHandle) -> None:
    sandbox.control("POST", "/faults", {"kind": "stale", "seconds": 60, "nth": 2, "match": {"path": "/search"}})
    made = calls.stripe(sandbox, "POST", "/v1/customers", name="A", email="a@example.com").json()["id"]
    sandbox.control("POST", "/clock", {"now": START + 10})
    calls.stripe(sandbox, "POST", f"/v1/customers/{made}", name="B").raise_for_status()
    sandbox.control("POST", "/clock", {"now": START + 20})
    assert [found_by_search(sandbox) for _ in range(3)] == [["B"], [], ["B"]]
