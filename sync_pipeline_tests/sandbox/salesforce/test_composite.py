"""Collections, composite and batch (facts: salesforce.md 2.5, 2.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline_tests.sandbox.salesforce.served import BASE, Org, Server, new_org

UPSERT = "composite/sobjects/Account/Stripe_Customer_Id__c"


def typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": kind}} | fields


def part(reference: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    return {"method": method, "url": f"{BASE}/{path}", "referenceId": reference} | ({"body": body} if body else {})


def composite(org: Org, *parts: dict[str, Any], **flags: bool) -> dict[str, dict[str, Any]]:
    answer = org.call("POST", "composite", {"compositeRequest": list(parts)} | flags)
    assert answer.status_code == 200, answer.text
    return {p["referenceId"]: p for p in answer.json()["compositeResponse"]}


def test_partial_success_keeps_the_order(org: Org) -> None:
    """2.5: HTTP 200, one result per record in order, `statusCode` as the key of the error."""
    body = {"records": [typed("Account", Name="A"), typed("Account"), typed("Contact", LastName="C")]}
    answer = org.call("POST", "composite/sobjects", body)
    first, second, third = answer.json()
    assert answer.status_code == 200
    assert (first["success"], first["errors"], set(first)) == (True, [], {"id", "success", "errors"})
    assert second == {
        "success": False,
        "errors": [
            {
                "statusCode": "REQUIRED_FIELD_MISSING",
                "message": "Required fields are missing: [Name]",
                "fields": ["Name"],
            }
        ],
    }
    assert third["id"].startswith("003")
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 1


def test_all_or_none_rolls_back_with_the_documented_text(org: Org) -> None:
    """2.5: ALL_OR_NONE_OPERATION_ROLLED_BACK and its message, on the rows that were good."""
    body = {"allOrNone": True, "records": [typed("Account", Name="A"), typed("Account")]}
    good, bad = org.call("POST", "composite/sobjects", body).json()
    assert good["errors"] == [
        {
            "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
            "message": "Record rolled back because not all records were valid and the request was using AllOrNone "
            "header",
            "fields": [],
        }
    ]
    assert bad["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0


def test_limits_of_a_collection(org: Org) -> None:
    """2.5: 200 records, 10 chunks of consecutive types, 400 when exceeded."""
    many = {"records": [typed("Account", Name="A")] * 201}
    assert org.call("POST", "composite/sobjects", many).json()[0]["errorCode"] == "EXCEEDED_ID_LIMIT"
    mixed = [typed("Account", Name="A"), typed("Contact", LastName="B")]
    assert org.call("POST", "composite/sobjects", {"records": mixed * 5}).status_code == 200
    answer = org.call("POST", "composite/sobjects", {"records": [*mixed * 5, mixed[0]]})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_INPUT")
    for untyped in ({"Name": "A"}, {"attributes": 5, "Name": "A"}):
        for path in ("composite/sobjects", "composite/tree/Account"):
            answer = org.call("POST", path, {"records": [untyped]})
            assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_INPUT")


def test_update_and_delete_collections(org: Org) -> None:
    """2.5, 2.8: one result per row in order, with the code of each mistake."""
    made = [org.person("Account", Name=n) for n in "AB"]
    body = {
        "records": [
            typed("Account", id=made[1], Name="b"),
            typed("Account", id="001000000000009AAA", Name="x"),
            typed("Account", Name="y"),
            typed("Account", id="rubbish", Name="y"),
        ]
    }
    results = org.call("PATCH", "composite/sobjects", body).json()
    assert results[0] == {"id": made[1], "success": True, "errors": []}
    assert [r["errors"][0]["statusCode"] for r in results[1:]] == [
        "INVALID_CROSS_REFERENCE_KEY",
        "MISSING_ARGUMENT",
        "MALFORMED_ID",
    ]
    gone = org.call("DELETE", f"composite/sobjects?ids={made[0]},{made[0]}&allOrNone=false").json()
    assert gone[0] == {"id": made[0], "success": True, "errors": []}
    assert gone[1]["errors"][0]["statusCode"] == "ENTITY_IS_DELETED"
    assert org.query("SELECT Name FROM Account") == [{"Name": "b"}]


def test_upsert_collection(org: Org) -> None:
    """2.5: `created` per row; a value given twice is refused in each of its rows; only one object type."""
    org.person("Account", Name="old", Stripe_Customer_Id__c="cus_1")
    records = [
        typed("Account", Name="new", Stripe_Customer_Id__c="cus_2"),
        typed("Account", Name="older", Stripe_Customer_Id__c="cus_1"),
        typed("Account", Name="x", Stripe_Customer_Id__c="cus_3"),
        typed("Account", Name="y", Stripe_Customer_Id__c="cus_3"),
        typed("Account", Name="z"),
    ]
    results = org.call("PATCH", UPSERT, {"records": records}).json()
    assert [r.get("created") for r in results[:2]] == [True, False]
    assert [r["errors"][0]["message"] for r in results[2:4]] == ["Duplicate external id specified: cus_3"] * 2
    assert results[4]["errors"][0]["statusCode"] == "MISSING_ARGUMENT"
    wrong = org.call("PATCH", UPSERT, {"records": [typed("Contact", LastName="C")]})
    assert wrong.status_code == 400


def test_upsert_collection_by_id(org: Org) -> None:
    """2.2, 2.5: `Id` is a key like an external id; a record without one is new, a strange one is refused in its row."""
    made = org.person("Account", Name="old")
    records = [
        typed("Account", Id=made[:15], Name="older"),
        typed("Account", Name="new"),
        typed("Account", Id="", Name="newer"),
        typed("Account", Id="001000000000009AAA", Name="nobody"),
        typed("Account", Id="rubbish", Name="nobody"),
    ]
    results = org.call("PATCH", "composite/sobjects/Account/Id", {"records": records}).json()
    assert results[0] == {"id": made, "success": True, "errors": [], "created": False}
    assert [r.get("created") for r in results[1:3]] == [True, True]
    assert [r["errors"][0]["statusCode"] for r in results[3:]] == ["INVALID_CROSS_REFERENCE_KEY", "MALFORMED_ID"]
    assert sorted(r["Name"] for r in org.query("SELECT Name FROM Account")) == ["new", "newer", "older"]


def test_upsert_of_one_record_by_id(org: Org) -> None:
    """2.2: what was there is updated, and the answer says so; an id cannot be chosen."""
    made = org.person("Account", Name="old")
    answer = org.call("PATCH", f"sobjects/Account/Id/{made}", {"Name": "older"})
    assert (answer.status_code, answer.json()) == (200, {"id": made, "success": True, "errors": [], "created": False})
    assert org.call("GET", f"sobjects/Account/Id/{made}").json()["Name"] == "older"
    assert org.call("PATCH", "sobjects/Account/Id/001000000000009AAA", {"Name": "x"}).status_code == 404
    assert org.call("DELETE", f"sobjects/Account/Id/{made}").status_code == 204


def test_upsert_by_a_shared_external_id_needs_view_all_data(org_with: Callable[..., Org]) -> None:
    """2.2: an external id that is not unique can be matched only with View All Data."""
    org = org_with(minimum_profile=True)
    answer = org.call("PATCH", "sobjects/Opportunity/Stripe_Subscription_Id__c/sub_1", {"Name": "x"})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (403, "INSUFFICIENT_ACCESS_OR_READONLY")


def test_retrieve_collection(org: Org) -> None:
    """2.5, 5.1: GET and POST; null where there is no record; ids of 15 characters are as good."""
    made = [org.person("Account", Name=n) for n in "AB"]
    body = {"ids": [made[1], "001000000000009AAA", made[0][:15]], "fields": ["Name"]}
    got = org.call("POST", "composite/sobjects/Account", body).json()
    assert [r and r["Name"] for r in got] == ["B", None, "A"]
    assert org.call("GET", f"composite/sobjects/Account?ids={made[0]}&fields=Name").json()[0]["Name"] == "A"
    too_many = org.call("POST", "composite/sobjects/Account", {"ids": [made[0]] * 2001, "fields": ["Name"]})
    assert too_many.json()[0]["errorCode"] == "EXCEEDED_ID_LIMIT"  # REST67: a POST retrieves up to 2,000


def test_composite_references(org: Org) -> None:
    """2.6: `id` of a create, `Id` of a read; status, headers and reference of each part."""
    found = composite(
        org,
        part("account", "POST", "sobjects/Account", {"Name": "A"}),
        part("contact", "POST", "sobjects/Contact", {"LastName": "C", "AccountId": "@{account.id}"}),
        part("read", "GET", "sobjects/Account/@{account.id}?fields=Name"),
        part("query", "GET", "query?q=SELECT+Id,AccountId+FROM+Contact"),
        part("change", "PATCH", "sobjects/Contact/@{query.records[0].Id}", {"Title": "of @{read.Name}"}),
    )
    assert [p["httpStatusCode"] for p in found.values()] == [201, 201, 200, 200, 204]
    account = found["account"]["body"]["id"]
    assert found["account"]["httpHeaders"] == {"Location": f"{BASE}/sobjects/Account/{account}"}
    assert found["change"]["body"] is None
    assert org.query("SELECT AccountId, Title FROM Contact") == [{"AccountId": account, "Title": "of A"}]


def test_composite_is_case_sensitive_about_references(org: Org) -> None:
    """2.6: `@{ref.Id}` of a create, whose key is `id`, fails."""
    found = composite(
        org, part("a", "POST", "sobjects/Account", {"Name": "A"}), part("b", "GET", "sobjects/Account/@{a.Id}")
    )
    assert found["b"]["httpStatusCode"] == 400
    assert found["b"]["body"][0]["errorCode"] == "PROCESSING_HALTED"
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 1


def test_composite_all_or_none(org: Org) -> None:
    """2.6: the culprit shows its error, all others 400 PROCESSING_HALTED; nothing stays, not even ids."""
    found = composite(
        org,
        part("good", "POST", "sobjects/Account", {"Name": "A"}),
        part("bad", "POST", "sobjects/Account", {"Nope": "A"}),
        part("never", "POST", "sobjects/Account", {"Name": "B"}),
        allOrNone=True,
    )
    assert [p["httpStatusCode"] for p in found.values()] == [400, 400, 400]
    assert [p["body"][0]["errorCode"] for p in found.values()] == [
        "PROCESSING_HALTED",
        "INVALID_FIELD",
        "PROCESSING_HALTED",
    ]
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0
    assert org.call("POST", "sobjects/Account", {"Name": "A"}).json()["id"].startswith("001")


def test_outer_all_or_none_overrides_the_collection(org: Org) -> None:
    """2.6: true outside rules inside; false outside leaves the inner flag as it is."""
    rows = {"allOrNone": False, "records": [typed("Account", Name="A"), typed("Account")]}
    outer = composite(
        org,
        part("first", "POST", "sobjects/Account", {"Name": "F"}),
        part("rows", "POST", "composite/sobjects", rows),
        allOrNone=True,
    )
    assert outer["first"]["body"][0]["errorCode"] == "PROCESSING_HALTED"
    assert [r["success"] for r in outer["rows"]["body"]] == [False, False]
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0
    inner = composite(org, part("rows", "POST", "composite/sobjects", rows), allOrNone=False)
    assert [r["success"] for r in inner["rows"]["body"]] == [True, False]
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 1


def test_limits_of_a_composite(org: Org) -> None:
    """2.6: 25 subrequests, 5 of them queries or collections, references of letters, digits and underscores."""
    create = [part(f"r{i}", "POST", "sobjects/Account", {"Name": "A"}) for i in range(26)]
    query = [part(f"q{i}", "GET", "query?q=SELECT+Id+FROM+Account") for i in range(6)]
    headers = part("h", "GET", "limits") | {"httpHeaders": {"Authorization": "x"}}
    for parts in (create, query, [part("a-b", "GET", "limits")], create[:1] * 2, [headers], []):
        answer = org.call("POST", "composite", {"compositeRequest": parts})
        assert answer.status_code == 400, parts
    assert len(composite(org, *create[:20], *query[:5])) == 25


def test_a_composite_is_one_call_a_batch_is_many(org: Org) -> None:
    """2.6, 4: each part of a batch counts against the limit."""
    parts = [part(f"q{i}", "GET", "limits") for i in range(4)]
    answer = org.call("POST", "composite", {"compositeRequest": parts})
    assert answer.headers["Sforce-Limit-Info"] == "api-usage=1/100000"
    batch = {"batchRequests": [{"method": "GET", "url": "v64.0/limits"}] * 3}
    assert org.call("POST", "composite/batch", batch).headers["Sforce-Limit-Info"] == "api-usage=5/100000"


@pytest.mark.parametrize("version", ["v99.0", "v30.0", "64.0", "v64", "vX"])
def test_a_subrequest_to_a_version_that_is_not_there_fails_as_the_outer_call_would(org: Org, version: str) -> None:
    """2.1, 2.6"""
    url = f"/services/data/{version}/limits"
    sent = {"method": "GET", "url": url, "referenceId": "r"}
    (inner,) = org.call("POST", "composite", {"compositeRequest": [sent]}).json()["compositeResponse"]
    expected = 410 if version == "v30.0" else 404
    assert inner["httpStatusCode"] == expected
    batch = {"batchRequests": [{"method": "GET", "url": f"{version}/limits"}]}
    (part_of_batch,) = org.call("POST", "composite/batch", batch).json()["results"]
    assert part_of_batch == {"statusCode": expected, "result": inner["body"]}
    outer = org.call("GET", url)
    if outer.status_code != 501:  # a path outside /services/data/vXX.X is some other API to the outer call
        assert (outer.status_code, outer.json()) == (expected, inner["body"])


def test_a_batch_that_meets_the_daily_limit_keeps_what_came_before(org_with: Callable[..., Org]) -> None:
    """2.6, 4: each subrequest counts by itself, and earlier commits are not rolled back."""
    org = org_with(daily_requests=3)
    create = [{"method": "POST", "url": "v64.0/sobjects/Account", "richInput": {"Name": n}} for n in "ABCD"]
    results = org.call("POST", "composite/batch", {"batchRequests": create}).json()["results"]
    assert [r["statusCode"] for r in results] == [201, 201, 403, 403]
    assert results[2]["result"][0]["errorCode"] == "REQUEST_LIMIT_EXCEEDED"
    assert sorted(a["Name"] for a in org.system.select("SELECT Name FROM Account")) == ["A", "B"]


def test_batch_halts_on_request(org: Org) -> None:
    """2.6: with haltOnError what comes later is 412 BATCH_PROCESSING_HALTED; without it all parts run."""
    parts: list[dict[str, Any]] = [
        {"method": "POST", "url": "v64.0/sobjects/Account", "richInput": {"Name": "A"}},
        {"method": "POST", "url": "v64.0/sobjects/Account", "richInput": {}},
        {"method": "GET", "url": "v64.0/query?q=SELECT+COUNT()+FROM+Account"},
    ]
    free = org.call("POST", "composite/batch", {"batchRequests": parts}).json()
    assert free["hasErrors"]
    assert [r["statusCode"] for r in free["results"]] == [201, 400, 200]
    assert free["results"][2]["result"]["totalSize"] == 1
    halted = org.call("POST", "composite/batch", {"batchRequests": parts, "haltOnError": True}).json()
    assert [r["statusCode"] for r in halted["results"]] == [201, 400, 412]
    assert halted["results"][2]["result"][0]["errorCode"] == "BATCH_PROCESSING_HALTED"


def test_row_locks_hit_one_row_and_pass(org: Org) -> None:
    """4, 9.11: a locked parent refuses the write to its child; the retry succeeds."""
    parent = org.person("Account", Name="A")
    org.system.lock_row(parent)
    rows = {"records": [typed("Contact", LastName="C", AccountId=parent), typed("Contact", LastName="D")]}
    results = org.call("POST", "composite/sobjects", rows).json()
    assert results[0]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    assert results[1]["success"]
    assert org.call("POST", "composite/sobjects", rows).json()[0]["success"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=12))
def test_results_stand_in_the_order_of_the_records(server: Server, rows: list[tuple[str, bool]]) -> None:
    """2.5, for any mixture of good, bad and repeated rows: row i of the answer is row i of the request."""
    org = new_org(server)
    records = [
        typed("Account", Stripe_Customer_Id__c=f"cus_{key}{i if fresh else ''}", Name=f"{i}")
        for i, (key, fresh) in enumerate(rows)
    ]
    keys = [r["Stripe_Customer_Id__c"] for r in records]
    results = org.call("PATCH", UPSERT, {"records": records}).json()
    assert [r["success"] for r in results] == [keys.count(k) == 1 for k in keys]
    written = {r["Id"]: r["Name"] for r in org.query("SELECT Id, Name FROM Account")}
    assert written == {r["id"]: f"{i}" for i, r in enumerate(results) if r["success"]}


def test_a_collated_composite_runs_in_an_order_of_its_own(org: Org) -> None:
    """2.6: collateSubrequests defaults to true from v49: only references make sure that one runs before another."""
    account = org.person("Account", Name="Before")
    row = f"{BASE}/sobjects/Account/{account}"
    parts: list[dict[str, Any]] = [
        {"method": "GET", "url": f"{row}?fields=Name", "referenceId": "first"},
        {"method": "PATCH", "url": row, "referenceId": "write", "body": {"Name": "After"}},
        {"method": "GET", "url": f"{row}?fields=Name", "referenceId": "again"},
        {"method": "GET", "url": f"{BASE}/sobjects/Account/@{{again.Id}}?fields=Name", "referenceId": "last"},
    ]

    def names(path: str = "composite", **options: Any) -> list[str | None]:
        org.call("PATCH", f"sobjects/Account/{account}", {"Name": "Before"})
        answer = org.call("POST", path, {"compositeRequest": parts, **options}).json()["compositeResponse"]
        assert [part["referenceId"] for part in answer] == ["first", "write", "again", "last"]
        return [part["body"]["Name"] if part["body"] else None for part in answer]

    assert names() == ["Before", None, "Before", "After"]
    assert names(collateSubrequests=False) == ["Before", None, "After", "After"]
    assert names("/services/data/v48.0/composite") == ["Before", None, "After", "After"]
    late = [
        {"method": "GET", "url": f"{BASE}/sobjects/Account/@{{b.Id}}", "referenceId": "a"},
        {**parts[0], "referenceId": "b"},
    ]
    answer = org.call("POST", "composite", {"compositeRequest": late}).json()["compositeResponse"]
    assert [part["httpStatusCode"] for part in answer] == [400, 200]
