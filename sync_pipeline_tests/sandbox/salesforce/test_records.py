"""Single records: statuses, external ids, field errors, conditional requests (facts: salesforce.md 2.1, 2.2, 2.8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simple_salesforce.exceptions import (
    SalesforceGeneralError,
    SalesforceMalformedRequest,
    SalesforceMoreThanOneRecord,
    SalesforceResourceNotFound,
)
from simple_salesforce.format import format_external_id

from sync_pipeline.sandbox.salesforce import ids
from sync_pipeline_tests.sandbox.salesforce.served import BASE, START, Org, errors


def refusal(org: Org, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str, list[str] | None]:
    answer = org.call(method, path, body, **options)
    error = answer.json()[0]
    return answer.status_code, error["errorCode"], error.get("fields")


def test_create_read_update_delete(org: Org) -> None:
    """2.2: 201 with Location, 204 without a body; 2.1: objects and fields in any case, ids of 15 characters too."""
    made = org.call("POST", "sobjects/Account/", {"Name": "Café"})
    record_id = made.json()["id"]
    assert (made.status_code, made.json()) == (201, {"id": record_id, "success": True, "errors": []})
    assert made.headers["Location"] == f"{BASE}/sobjects/Account/{record_id}"
    changed = org.call("PATCH", f"sobjects/account/{record_id[:15]}", {"phone": "1"})
    assert (changed.status_code, changed.content) == (204, b"")
    got = org.sf.Account.get(record_id)
    assert (got["Name"], got["Phone"], got["Industry"]) == ("Café", "1", None)
    assert got["attributes"] == {"type": "Account", "url": f"{BASE}/sobjects/Account/{record_id}"}
    assert got["CreatedDate"] == "2026-09-21T14:13:20.000+0000"
    gone = org.call("DELETE", f"sobjects/Account/{record_id}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert refusal(org, "GET", f"sobjects/Account/{record_id}") == (404, "ENTITY_IS_DELETED", [])


def test_fields_parameter(org: Org) -> None:
    """2.2: `?fields=`, where one that does not exist is 400."""
    record_id = org.person("Account", Name="A")
    got = org.call("GET", f"sobjects/Account/{record_id}?fields=name,MRR__c").json()
    assert {k: got[k] for k in got if k != "attributes"} == {"Name": "A", "MRR__c": None, "Id": record_id}
    assert refusal(org, "GET", f"sobjects/Account/{record_id}?fields=Name,Nope__c")[:2] == (400, "INVALID_FIELD")


def test_upsert_by_external_id(org: Org) -> None:
    """2.2: 201 with created true, then 200 with created false; 204 and no body before version 46."""
    path = "sobjects/Account/Stripe_Customer_Id__c/cus_1"
    made = org.call("PATCH", path, {"Name": "A"})
    assert (made.status_code, made.json()["created"]) == (201, True)
    again = org.call("PATCH", path, {"Name": "B"})
    assert (again.status_code, again.json()) == (
        200,
        {"id": made.json()["id"], "success": True, "errors": [], "created": False},
    )
    assert org.call("PATCH", f"/services/data/v45.0/{path}", {"Name": "C"}).status_code == 204
    assert org.sf.Account.get_by_custom_id("Stripe_Customer_Id__c", "cus_1")["Name"] == "C"
    assert org.sf.Account.upsert(format_external_id("Stripe_Customer_Id__c", "a/b?c d"), {"Name": "D"}) == 201
    assert org.query("SELECT Stripe_Customer_Id__c FROM Account WHERE Name = 'D'") == [
        {"Stripe_Customer_Id__c": "a/b?c d"}
    ]


def test_upsert_refusals(org: Org) -> None:
    """2.2: updateOnly, the matched field in the body, a field that is no external id."""
    path = "sobjects/Account/Stripe_Customer_Id__c/cus_1"
    assert refusal(org, "PATCH", f"{path}?updateOnly=true", {"Name": "A"})[:2] == (404, "NOT_FOUND")
    assert refusal(org, "PATCH", path, {"Name": "A", "Stripe_Customer_Id__c": "cus_1"})[:2] == (400, "INVALID_FIELD")
    assert refusal(org, "PATCH", "sobjects/Account/Nope__c/1", {"Name": "A"})[:2] == (404, "NOT_FOUND")
    assert refusal(org, "PATCH", "sobjects/Account/Name/1", {"Phone": "1"})[:2] == (404, "NOT_FOUND")


def test_ambiguous_external_id_is_300_with_urls(org: Org) -> None:
    """2.2: an external id that is not unique; nothing is written."""
    made = [
        org.person(
            "Opportunity", Name=n, StageName="Prospecting", CloseDate="2026-10-01", Stripe_Subscription_Id__c="sub_1"
        )
        for n in "AB"
    ]
    answer = org.call("PATCH", "sobjects/Opportunity/Stripe_Subscription_Id__c/sub_1", {"Name": "C"})
    assert answer.status_code == 300
    assert answer.json() == [f"{BASE}/sobjects/Opportunity/{i}" for i in made]
    with pytest.raises(SalesforceMoreThanOneRecord):
        org.sf.Opportunity.get_by_custom_id("Stripe_Subscription_Id__c", "sub_1")
    assert [o["Name"] for o in org.query("SELECT Name FROM Opportunity ORDER BY Name")] == ["A", "B"]


def test_unique_minds_case_only_where_the_field_does(org: Org) -> None:
    """8.1, 2.8: Stripe ids differ by case; the message shows the 15-character id."""
    first = org.person("Account", Name="A", Stripe_Customer_Id__c="cus_a")
    org.person("Account", Name="B", Stripe_Customer_Id__c="cus_A")
    answer = org.call("POST", "sobjects/Account", {"Name": "C", "Stripe_Customer_Id__c": "cus_a"})
    assert answer.status_code == 400
    assert answer.json()[0]["errorCode"] == "DUPLICATE_VALUE"
    assert answer.json()[0]["message"] == (
        f"duplicate value found: Stripe_Customer_Id__c duplicates value on record with id: {first[:15]}"
    )
    org.sf.Account.delete(first)
    assert org.call("POST", "sobjects/Account", {"Name": "C", "Stripe_Customer_Id__c": "cus_a"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        ({}, "REQUIRED_FIELD_MISSING", ["Name"]),
        ({"Name": None}, "REQUIRED_FIELD_MISSING", ["Name"]),
        ({"Name": "A", "Nope__c": 1}, "INVALID_FIELD", ["Nope__c"]),
        (
            {"Name": "A", "SystemModstamp": "2026-01-01T00:00:00Z"},
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            ["SystemModstamp"],
        ),
        (
            {"Name": "A", "Billing_Status__c": "active"},
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            ["Billing_Status__c"],
        ),
        ({"Name": "x" * 256}, "STRING_TOO_LONG", ["Name"]),
        ({"Name": "A", "OwnerId": "001000000000001AAA"}, "MALFORMED_ID", ["OwnerId"]),
        ({"Name": "A", "OwnerId": "short"}, "MALFORMED_ID", ["OwnerId"]),
        ({"Name": "A", "ParentId": "001000000000009AAA"}, "INVALID_CROSS_REFERENCE_KEY", []),
        ({"Name": "A", "MRR__c": "lots"}, "JSON_PARSER_ERROR", None),
        ({"Name": "A", "MRR__c": 1e17}, "NUMBER_OUTSIDE_VALID_RANGE", ["MRR__c"]),
        ({"Name": 5}, "JSON_PARSER_ERROR", None),
    ],
)
def test_field_errors(org: Org, body: dict[str, Any], code: str, fields: list[str] | None) -> None:
    """2.8: one code for each kind of mistake, and nothing is saved."""
    assert refusal(org, "POST", "sobjects/Account", body) == (400, code, fields)
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0


def test_wrong_paths_and_methods(org: Org) -> None:
    """2.8: NOT_FOUND, METHOD_NOT_ALLOWED, JSON_PARSER_ERROR."""
    assert refusal(org, "POST", "sobjects/Nope", {"Name": "A"})[:2] == (404, "NOT_FOUND")
    assert refusal(org, "GET", "sobjects/Account/001000000000009AAA")[:2] == (404, "NOT_FOUND")
    assert refusal(org, "PUT", "sobjects/Account")[:2] == (405, "METHOD_NOT_ALLOWED")
    answer = org.session.post(
        f"{org.url}{BASE}/sobjects/Account",
        data="{no",
        timeout=30,
        headers={"Authorization": f"Bearer {org.system.access_token}"},
    )
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "JSON_PARSER_ERROR")
    with pytest.raises(SalesforceResourceNotFound):
        org.sf.Account.get("001000000000009AAA")


def test_post_may_stand_for_patch(org: Org) -> None:
    """2.1: ?_HttpMethod=PATCH on POST."""
    record_id = org.person("Account", Name="A")
    assert org.call("POST", f"sobjects/Account/{record_id}?_HttpMethod=PATCH", {"Name": "B"}).status_code == 204


def test_parent_by_external_id(org: Org) -> None:
    """2.2: {"Account": {"Stripe_Customer_Id__c": ...}} stands for AccountId."""
    account = org.person("Account", Name="A", Stripe_Customer_Id__c="cus_1")
    deal = {"Name": "D", "StageName": "Prospecting", "CloseDate": "2026-10-01"}
    made = org.call("POST", "sobjects/Opportunity", deal | {"Account": {"Stripe_Customer_Id__c": "cus_1"}}).json()["id"]
    assert org.query(f"SELECT AccountId FROM Opportunity WHERE Id = '{made}'") == [{"AccountId": account}]
    both = deal | {
        "Account": {"Stripe_Customer_Id__c": "cus_1"},
        "AccountId": org.query("SELECT Id FROM Account")[0]["Id"],
    }
    assert "Cannot specify both" in org.call("POST", "sobjects/Opportunity", both).json()[0]["message"]
    unknown = deal | {"Account": {"Stripe_Customer_Id__c": "cus_2"}}
    assert refusal(org, "POST", "sobjects/Opportunity", unknown)[:2] == (400, "INVALID_FIELD")


def test_every_write_moves_the_stamps(org: Org) -> None:
    """5.2: SystemModstamp on every write; who wrote shows in LastModifiedById."""
    record_id = org.person("Account", Name="A")
    org.clock.move_to(START + 5)
    org.sf.Account.update(record_id, {"Name": "A"})
    row = org.sf.Account.get(record_id)
    me = org.call("GET", "/services/oauth2/userinfo").json()["user_id"]
    assert (row["LastModifiedById"], row["CreatedById"]) != (row["CreatedById"], row["CreatedById"])
    assert row["LastModifiedById"] == me
    assert row["SystemModstamp"] == row["LastModifiedDate"] == "2026-09-21T14:13:25.000+0000"
    assert row["CreatedDate"] == "2026-09-21T14:13:20.000+0000"


def test_values_come_back_as_salesforce_shows_them(org: Org) -> None:
    """6.8, 2.1: currencies unrounded, whole currencies with .0, dateTimes in UTC to the second, empty text is null."""
    record_id = org.sf.Account.create(
        {"Name": "A", "MRR__c": 1.234, "Seats__c": 10, "NumberOfEmployees": 5, "Phone": ""}
    )["id"]
    text = org.call("GET", f"sobjects/Account/{record_id}?fields=MRR__c,Seats__c,NumberOfEmployees,Phone").text
    assert '"MRR__c":1.234,"Seats__c":10.0,"NumberOfEmployees":5,"Phone":null' in text
    deal = org.person(
        "Opportunity",
        Name="D",
        StageName="Prospecting",
        CloseDate="2026-10-01",
        First_Payment_At__c="2026-01-01T02:30:40.987+02:00",
    )
    assert org.sf.Opportunity.get(deal)["First_Payment_At__c"] == "2026-01-01T00:30:40.000+0000"


def test_conditional_requests(org: Org) -> None:
    """2.1: modification dates on every object, 304 and 412."""
    record_id = org.person("Account", Name="A")
    path = f"sobjects/Account/{record_id}"
    now = format_datetime(datetime.fromtimestamp(START, UTC), usegmt=True)
    before = format_datetime(datetime.fromtimestamp(START, UTC) - timedelta(seconds=1), usegmt=True)
    assert org.call("GET", path, headers={"If-Modified-Since": now}).status_code == 304
    assert org.call("GET", path, headers={"If-Modified-Since": before}).status_code == 200
    assert org.call("PATCH", path, {"Name": "B"}, headers={"If-Unmodified-Since": before}).status_code == 412
    assert org.call("PATCH", path, {"Name": "B"}, headers={"If-Unmodified-Since": now}).status_code == 204
    with pytest.raises(SalesforceGeneralError):
        org.sf.Account.get(record_id, headers={"If-Modified-Since": now})


@pytest.mark.parametrize("path", ["sobjects", "sobjects/Account/describe"])
def test_describe_is_conditional(org: Org, path: str) -> None:
    """2.1: If-Modified-Since holds for Describe and Describe Global; a permission that is taken away is a change."""
    now = {"If-Modified-Since": format_datetime(datetime.fromtimestamp(START, UTC), usegmt=True)}
    assert org.call("GET", path, headers=now).status_code == 304
    org.clock.move_to(START + 1)
    org.system.configure(hidden_fields=("Account.MRR__c",))
    assert org.call("GET", path, headers=now).status_code == 200


def test_ids_have_the_published_checksum() -> None:
    """5.1: 18 = 15 + checksum (ids from the facts)."""
    assert ids.to18("00D7F00000107Xs") == "00D7F00000107XsUAI"
    assert ids.to18("04k7F0000008V3h") == "04k7F0000008V3hQAE"
    assert ids.normalise("04K7F0000008V3HQAE") == "04k7F0000008V3hQAE"
    assert ids.normalise("04k7F0000008V3hQAB") is None


@given(st.text("0123456789ABCXYZabcxyz", min_size=15, max_size=15))
def test_an_id_that_lost_its_case_is_restored(short: str) -> None:
    """5.1: the three characters of the checksum tell the case of the other fifteen."""
    assert ids.normalise(ids.to18(short).lower()) == ids.to18(short) == ids.normalise(short)


def test_malformed_request_reaches_the_sdk_as_its_own_error(org: Org) -> None:
    """2.8: 400 is SalesforceMalformedRequest, with the text of INVALID_FIELD for a write."""
    with pytest.raises(SalesforceMalformedRequest) as caught:
        org.sf.Account.create({"Nope__c": 1})
    assert errors(caught.value) == [
        {
            "message": "No such column 'Nope__c' on sobject of type Account",
            "errorCode": "INVALID_FIELD",
            "fields": ["Nope__c"],
        }
    ]


def test_account_versions(org: Org) -> None:
    """2.1: ETag and its conditions exist for Account only."""
    record_id = org.person("Account", Name="A")
    path = f"sobjects/Account/{record_id}"
    tag = org.call("GET", path).headers["ETag"]
    assert org.call("GET", path, headers={"If-None-Match": tag}).status_code == 304
    org.clock.move_to(START + 1)
    assert org.call("PATCH", path, {"Name": "B"}, headers={"If-Match": tag}).status_code == 204
    assert org.call("PATCH", path, {"Name": "C"}, headers={"If-Match": tag}).status_code == 412
    contact = org.person("Contact", LastName="C")
    assert "ETag" not in org.call("GET", f"sobjects/Contact/{contact}").headers


def test_limits_of_a_request(org: Org) -> None:
    """2.1, 2.8: a URI of more than 16,384 bytes is 414; a form is no JSON body."""
    long = org.call("GET", f"query?q=SELECT+Id+FROM+Account+WHERE+Name='{'x' * 16_400}'")
    assert long.status_code == 414
    form = org.session.post(
        f"{org.url}{BASE}/sobjects/Account",
        data={"Name": "A"},
        headers={"Authorization": f"Bearer {org.system.access_token}"},
        timeout=30,
    )
    assert (form.status_code, form.json()[0]["errorCode"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
