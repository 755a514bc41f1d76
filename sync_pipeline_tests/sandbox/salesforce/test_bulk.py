"""Bulk API 2.0 through the SDK's bulk2 and plain HTTP (facts: salesforce.md 3)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simple_salesforce.exceptions import SalesforceBulkV2LoadError, SalesforceOperationError

from sync_pipeline.sandbox.salesforce.schema import Field
from sync_pipeline_tests.sandbox.salesforce.served import BASE, START, Org, Server, new_org


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


class Job:
    """One ingest job over plain HTTP."""

    def __init__(self, org: Org, operation: str, data: str, **options: Any) -> None:
        self.org = org
        body = {"object": "Account", "operation": operation} | options
        self.created = org.call("POST", "jobs/ingest", body).json()
        self.path = f"jobs/ingest/{self.created['id']}"
        headers = {"Authorization": f"Bearer {org.system.access_token}", "Content-Type": "text/csv"}
        url = f"{org.url}/{self.created['contentUrl']}"
        self.uploaded = org.session.put(url, data=data.encode(), headers=headers, timeout=30)
        self.closed = org.call("PATCH", self.path, {"state": "UploadComplete"}).json()

    def finish(self) -> dict[str, Any]:
        self.org.clock.move_to(self.org.clock.now() + 10)
        self.org.system.run_due()
        return dict(self.org.call("GET", self.path).json())

    def results(self, kind: str) -> list[dict[str, str]]:
        answer = self.org.call("GET", f"{self.path}/{kind}")
        assert answer.headers["Content-Type"] == "text/csv; charset=UTF-8"
        return rows_of(answer.text)


def test_states_over_time(org: Org) -> None:
    """3.1: Open, UploadComplete, InProgress, JobComplete; 201 and empty on upload; contentUrl without a slash."""
    job = Job(org, "insert", "Name\nA\n")
    info = job.created
    assert (info["state"], info["apiVersion"], info["jobType"]) == ("Open", 64.0, "V2Ingest")
    assert info["contentUrl"] == f"services/data/v64.0/jobs/ingest/{info['id']}/batches"
    assert (job.uploaded.status_code, job.uploaded.content) == (201, b"")
    assert job.closed["state"] == "UploadComplete"
    assert org.call("GET", job.path).json()["state"] == "InProgress"
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0
    assert org.system.next_due() == START + 2
    done = job.finish()
    assert (done["state"], done["numberRecordsProcessed"], done["numberRecordsFailed"]) == ("JobComplete", 1, 0)
    assert org.system.next_due() is None
    assert org.query("SELECT Name FROM Account") == [{"Name": "A"}]


def test_job_and_rows_in_one_request(org: Org) -> None:
    """3.1: the multipart variant, parts `job` and `content`, completes the upload by itself."""
    job = json.dumps({"object": "Account", "operation": "insert", "contentType": "CSV", "lineEnding": "LF"})
    parts = {
        "job": ("", job, "application/json"),
        "content": ("content", 'Name,Description\n"Ümläut, Ltd","one\ntwo"\n'.encode(), "text/csv"),
    }
    made = org.call("POST", "jobs/ingest", files=parts).json()
    assert (made["state"], made["contentUrl"]) == ("UploadComplete", None)
    org.clock.move_to(START + 10)
    assert org.call("GET", f"jobs/ingest/{made['id']}").json()["state"] == "JobComplete"
    assert org.query("SELECT Name, Description FROM Account") == [{"Name": "Ümläut, Ltd", "Description": "one\ntwo"}]
    too_much = parts | {"content": ("content", b"Name\n" + b"x" * 100_000, "text/csv")}
    assert org.call("POST", "jobs/ingest", files=too_much).json()[0]["errorCode"] == "ExceededQuota"


def test_polling_a_standing_clock_gets_ahead(org: Org) -> None:
    """3.5: the SDK polls until the job is over, also where the clock of the sandbox stands."""
    results = org.sf.bulk2.Account.insert(records=[{"Name": "A"}, {"Name": "B"}], wait=0.01)
    assert [(r["numberRecordsProcessed"], r["numberRecordsFailed"]) for r in results] == [(2, 0)]
    assert [a["Name"] for a in org.query("SELECT Name FROM Account ORDER BY Name")] == ["A", "B"]


def test_finding_the_keys_given_twice_takes_as_long_as_the_file_is(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upsert of n rows compares keys some n times, not n * n times. 3.4: a file may have millions of rows."""
    compared = 0

    class Key(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    index_key = Field.index_key

    def counting(field: Field, value: Any) -> Any:
        found = index_key(field, value)
        return Key(found) if field.name == "Stripe_Customer_Id__c" and isinstance(found, str) else found

    monkeypatch.setattr(Field, "index_key", counting)
    data = "Name,Stripe_Customer_Id__c\n" + "".join(f"A,cus_{n}\n" for n in [*range(300), 7])
    done = Job(org, "upsert", data, externalIdFieldName="Stripe_Customer_Id__c").finish()
    assert (done["numberRecordsProcessed"], done["numberRecordsFailed"]) == (301, 2)
    assert compared < 20 * 301


def test_success_and_failure_in_one_job(org: Org) -> None:
    """3.2: sf__Id and sf__Created, sf__Id and sf__Error, with the columns as they were sent."""
    org.person("Account", Name="old", Stripe_Customer_Id__c="cus_1")
    text = "Stripe_Customer_Id__c,Name,MRR__c\ncus_1,new,1.5\ncus_2,,2\ncus_3,Three,x\ncus_4,Four,4\n"
    job = Job(org, "upsert", text, externalIdFieldName="Stripe_Customer_Id__c")
    done = job.finish()
    assert (done["state"], done["numberRecordsFailed"]) == ("JobComplete", 2)
    good = {r["Stripe_Customer_Id__c"]: r for r in job.results("successfulResults/")}
    assert {k: r["sf__Created"] for k, r in good.items()} == {"cus_1": "false", "cus_4": "true"}
    assert good["cus_4"]["MRR__c"] == "4"
    bad = {r["Stripe_Customer_Id__c"]: r["sf__Error"] for r in job.results("failedResults")}
    assert bad["cus_2"] == "REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --"
    assert bad["cus_3"].startswith("INVALID_TYPE_ON_FIELD_IN_RECORD:")
    assert job.results("unprocessedRecords") == job.results("unprocessedrecords/") == []


def test_empty_cells_and_na(org: Org) -> None:
    """3.2: an empty cell leaves the field alone, #N/A clears it."""
    record_id = org.person("Account", Name="A", Phone="1", Website="w")
    Job(org, "update", f"Id,Phone,Website\n{record_id},,#N/A\n").finish()
    assert org.query("SELECT Phone, Website FROM Account") == [{"Phone": "1", "Website": None}]


def test_relationship_columns(org: Org) -> None:
    """3.2: a parent by its external id; a polymorphic one needs its type."""
    account = org.person("Account", Name="A", Stripe_Customer_Id__c="cus_1")
    Job(org, "insert", "Subject,Account:What.Stripe_Customer_Id__c\nCall,cus_1\n", object="Task").finish()
    assert org.query("SELECT WhatId FROM Task") == [{"WhatId": account}]
    untyped = Job(org, "insert", "Subject,What.Stripe_Customer_Id__c\nCall,cus_1\n", object="Task").finish()
    assert untyped["state"] == "Failed"
    Job(org, "insert", "LastName,Account.Stripe_Customer_Id__c\nC,cus_1\n", object="Contact").finish()
    assert org.query("SELECT AccountId FROM Contact") == [{"AccountId": account}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("Nope__c\n1\n", "InvalidBatch : Field name not found : Nope__c"),
        ("Nope__c,nope__c\n1,2\n", "InvalidBatch : Field name provided more than once : nope__c"),
        ("Name\r\nA\r\n", "ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is LF"),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_job(org: Org, data: str, message: str) -> None:
    """3.2; what was not read is unprocessed, as far as its rows can be told apart."""
    job = Job(org, "insert", data)
    done = job.finish()
    assert (done["state"], done["errorMessage"]) == ("Failed", message)
    unread = [{"Nope__c": "1"} if "," not in data else {"Nope__c": "1", "nope__c": "2"}]
    assert job.results("unprocessedrecords") == (unread if "Nope__c" in data else [])


def test_rows_that_name_no_record_say_why(org: Org) -> None:
    """2.8, as in a collection: MALFORMED_ID for what is no id, INVALID_CROSS_REFERENCE_KEY for one of nothing."""
    job = Job(org, "update", "Id,Name\nbad,A\n001000000000000AAA,B\n,C\n")
    assert job.finish()["numberRecordsFailed"] == 3
    codes = {row["Name"]: row["sf__Error"].split(":")[0] for row in job.results("failedResults")}
    assert codes == {"A": "MALFORMED_ID", "B": "INVALID_CROSS_REFERENCE_KEY", "C": "MISSING_ARGUMENT"}


def test_delete_and_hard_delete(org: Org) -> None:
    """3.1, 3.5: hardDelete leaves nothing in the recycle bin; the only column is Id."""
    first, second = (org.person("Account", Name=n) for n in "AB")
    Job(org, "delete", f"Id\n{first}\n").finish()
    Job(org, "hardDelete", f"Id\n{second}\n").finish()
    everything = org.sf.query("SELECT Id FROM Account", include_deleted=True)["records"]
    assert [r["Id"] for r in everything] == [first]
    with pytest.raises(SalesforceBulkV2LoadError):
        org.sf.bulk2.Account.delete(records=[{"Id": first, "Name": "A"}], wait=0.01)


def test_a_job_that_gives_up_keeps_what_it_did(org: Org) -> None:
    """3.1: Failed keeps committed rows; the rest is unprocessed."""
    org.system.fail_next_job(1)
    job = Job(org, "insert", "Name\nA\nB\nC\n")
    assert job.finish()["state"] == "Failed"
    assert org.query("SELECT Name FROM Account") == [{"Name": "A"}]
    assert [r["Name"] for r in job.results("unprocessedRecords")] == ["B", "C"]
    org.system.fail_next_job(0)
    with pytest.raises(SalesforceOperationError):
        org.sf.bulk2.Account.insert(records=[{"Name": "D"}], wait=0.01)


def test_abort_and_delete(org: Org) -> None:
    """3.1: an aborted job does nothing and can be deleted; the error body of a job that is not there."""
    job = Job(org, "insert", "Name\nA\n")
    assert org.call("PATCH", job.path, {"state": "Aborted"}).json()["state"] == "Aborted"
    assert job.finish()["state"] == "Aborted"
    assert org.call("DELETE", job.path).status_code == 204
    gone = org.call("GET", job.path)
    assert (gone.status_code, gone.json()) == (
        404,
        [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}],
    )
    assert org.query("SELECT Id FROM Account") == []


def test_query_job_by_the_sdk(org: Org) -> None:
    """3.3: column order of the SELECT, null as empty, parents as dotted columns, pages with their header."""
    for name in ("A", 'B "b", ✓', "C\nc"):
        org.person("Account", Name=name, MRR__c=1)
    pages = list(
        org.sf.bulk2.Account.query(
            "SELECT Name, MRR__c, Phone, Owner.Name, IsDeleted, CreatedDate FROM Account ORDER BY Name",
            max_records=2,
            wait=0.01,
        )
    )
    assert [len(rows_of(p)) for p in pages] == [2, 1]
    first = rows_of(pages[0])[0]
    assert first == {
        "Name": "A",
        "MRR__c": "1.0",
        "Phone": "",
        "Owner.Name": "Sam Sales",
        "IsDeleted": "false",
        "CreatedDate": "2026-09-21T14:13:20.000Z",
    }
    assert [r["Name"] for p in pages for r in rows_of(p)] == ["A", 'B "b", ✓', "C\nc"]


def test_query_job_headers(org: Org) -> None:
    """3.3: Sforce-Locator is the text `null` at the end; the same API version as the creation, else 409."""
    org.person("Account", Name="A")
    body = {"operation": "query", "query": "SELECT Id FROM Account"}
    job = org.call("POST", "jobs/query", body, headers={"Accept": "text/csv"}).json()
    assert job["state"] == "UploadComplete"
    early = org.call("GET", f"jobs/query/{job['id']}/results")
    assert (early.status_code, early.json()[0]["errorCode"]) == (400, "InvalidJobState")
    org.clock.move_to(START + 5)
    org.system.run_due()
    answer = org.call("GET", f"jobs/query/{job['id']}/results")
    assert (answer.headers["Sforce-Locator"], answer.headers["Sforce-NumberOfRecords"]) == ("null", "1")
    assert org.call("GET", f"/services/data/v63.0/jobs/query/{job['id']}/results").status_code == 409
    for most in ("0", "-1", "all"):
        assert org.call("GET", f"jobs/query/{job['id']}/results?maxRecords={most}").status_code == 400


@pytest.mark.parametrize(
    "soql",
    [
        "SELECT COUNT(Id) FROM Account",
        "SELECT Id, (SELECT Id FROM Contacts) FROM Account",
        "SELECT Id FROM Account OFFSET 1",
    ],
)
def test_bulk_queries_refuse(org: Org, soql: str) -> None:
    """3.3: no GROUP BY, OFFSET, aggregates or subqueries in a query job."""
    assert org.call("POST", "jobs/query", {"operation": "query", "query": soql}).status_code == 400


cells = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.sampled_from('",\n;|\t'), min_size=1, max_size=40
)


@given(
    st.lists(
        cells.filter(lambda t: t != "#N/A" and not t.startswith(" ") and "\r" not in t and t.strip()),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["COMMA", "TAB", "PIPE", "SEMICOLON"]),
    st.sampled_from(["LF", "CRLF"]),
)
def test_csv_round_trip(server: Server, values: list[str], delimiter: str, ending: str) -> None:
    """Sandbox facts 4.4: quotes, delimiters, line breaks and any character survive ingest, results and query."""
    org = new_org(server)
    out = io.StringIO()
    signs = {"COMMA": ",", "TAB": "\t", "PIPE": "|", "SEMICOLON": ";"}
    writer = csv.writer(out, delimiter=signs[delimiter], lineterminator="\n" if ending == "LF" else "\r\n")
    writer.writerow(["Name", "AccountNumber"])
    writer.writerows([value, str(i)] for i, value in enumerate(values))
    job = Job(org, "insert", out.getvalue(), columnDelimiter=delimiter, lineEnding=ending)
    assert job.finish()["numberRecordsFailed"] == 0
    stored = {r["AccountNumber"]: r["Name"] for r in org.query("SELECT AccountNumber, Name FROM Account")}
    assert stored == {str(i): value for i, value in enumerate(values)}
    text = org.call("GET", f"{job.path}/successfulResults").content.decode()
    shown = csv.DictReader(io.StringIO(text, newline=""), delimiter=signs[delimiter])
    assert {r["AccountNumber"]: r["Name"] for r in shown} == stored


def test_results_come_in_no_particular_order(org_with: Callable[..., Org]) -> None:
    """3.2: row order is not guaranteed, and the same seed gives the same order."""
    orders = []
    for _ in range(2):
        org = org_with()
        job = Job(org, "insert", "Name\n" + "".join(f"A{i:02}\n" for i in range(30)))
        job.finish()
        orders.append([r["Name"] for r in job.results("successfulResults")])
    assert orders[0] == orders[1] != sorted(orders[0])


def test_results_of_a_query_side_by_side(org_with: Callable[..., Org]) -> None:
    """3.3: `resultPages` (v58) gives up to five addresses at a time; together they are the whole result."""
    org = org_with(page_size=3)
    for n in range(20):
        org.person("Account", Name=f"A{n:02d}")
    job = org.call("POST", "jobs/query", {"operation": "query", "query": "SELECT Name FROM Account"}).json()["id"]
    org.clock.move_to(org.clock.now() + 5)
    org.system.run_due()
    names: list[str] = []
    url: str | None = f"{BASE}/jobs/query/{job}/resultPages"
    sizes = []
    while url:
        pages = org.call("GET", url).json()
        sizes.append(len(pages["resultPages"]))
        for page in pages["resultPages"]:
            names += org.call("GET", page["resultUrl"]).text.splitlines()[1:]
        url = pages["nextRecordsUrl"]
        assert pages["done"] is (url is None)
    assert (sizes, sorted(names)) == ([5, 2], [f'"A{n:02d}"' for n in range(20)])
    assert org.call("GET", f"/services/data/v57.0/jobs/query/{job}/resultPages").status_code == 409
