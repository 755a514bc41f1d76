"""The vendors' own Python clients against the running sandbox, through everything that the shell adds.

Facts: salesforce.md 1.5, 2.5, 3.5; stripe.md 5.4 to 5.6.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
import stripe
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError

from sync_pipeline_tests.sandbox.salesforce.served import Redirect
from sync_pipeline_tests.sandbox_process import SandboxHandle


@pytest.fixture
def salesforce(sandbox: SandboxHandle) -> Any:
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Redirect(sandbox.ready["salesforce_url"]))
    return Salesforce(
        consumer_key=sandbox.ready["client_id"],
        consumer_secret=sandbox.ready["client_secret"],
        domain="sandbox.my",
        session=session,
        version="66.0",
    )


@pytest.fixture
def billing(sandbox: SandboxHandle) -> stripe.StripeClient:
    addresses = {"api": sandbox.ready["stripe_url"]}
    return stripe.StripeClient(sandbox.ready["stripe_key"], base_addresses=addresses, max_network_retries=2)  # type: ignore[arg-type]


def test_salesforce_signs_in_writes_and_queries(salesforce: Any) -> None:
    made = salesforce.Account.create({"Name": "Acme"})
    found = salesforce.query("SELECT Id, Name FROM Account")
    assert [row["Id"] for row in found["records"]] == [made["id"]]


def test_salesforce_signs_in_again_when_its_session_was_ended(sandbox: SandboxHandle, salesforce: Any) -> None:
    """facts/salesforce.md 1.6: the SDK refreshes on exactly the 401 body that the vendor sends."""
    sandbox.control("POST", "/salesforce", {"expire_tokens": True})
    assert salesforce.query("SELECT Id FROM Account")["totalSize"] == 0
    counts = sandbox.control("GET", "/requests")["counts"]["salesforce"]
    assert counts["POST /services/oauth2/token"] == 2
    assert counts["GET /services/data/{v}/query"] == 2


def test_a_locked_row_fails_alone_among_many(sandbox: SandboxHandle, salesforce: Any) -> None:
    ids = [salesforce.Account.create({"Name": name})["id"] for name in ("A", "B", "C")]
    sandbox.control("POST", "/salesforce", {"lock_row": ids[1]})
    rows = [{"attributes": {"type": "Account"}, "Id": record, "Phone": "1"} for record in ids]
    answer = salesforce.restful("composite/sobjects", method="PATCH", json={"allOrNone": False, "records": rows})
    assert [row["success"] for row in answer] == [True, False, True]
    assert answer[1]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    with pytest.raises(SalesforceError):
        salesforce.restful("composite/nonsense")


def test_the_nth_row_of_a_collection_of_new_records_is_locked(sandbox: SandboxHandle, salesforce: Any) -> None:
    """Facts: sandbox 2: UNABLE_TO_LOCK_ROW for the k-th row of a collection; new records have no id to lock."""
    sandbox.control("POST", "/salesforce", {"lock_nth_row": 3})
    rows = [{"attributes": {"type": "Account"}, "Name": name} for name in ("A", "B", "C", "D")]
    answer = salesforce.restful("composite/sobjects", method="POST", json={"allOrNone": False, "records": rows})
    assert [row["success"] for row in answer] == [True, True, False, True]
    assert answer[2]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    assert [r["success"] for r in salesforce.restful("composite/sobjects", method="POST", json={"records": rows})] == [
        True
    ] * 4


def test_a_bulk_job_survives_a_snapshot_that_went_through_json(sandbox: SandboxHandle, salesforce: Any) -> None:
    salesforce.Account.create({"Name": "Before"})
    job = salesforce.restful(
        "jobs/ingest", method="POST", json={"object": "Account", "operation": "insert", "contentType": "CSV"}
    )
    salesforce._call_salesforce(
        "PUT", f"{salesforce.base_url}jobs/ingest/{job['id']}/batches", data="Name\nBulk, 1\n",
        headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    document = sandbox.control("GET", "/snapshot")
    state = sandbox.control("GET", "/state")
    salesforce.Account.create({"Name": "After"})
    sandbox.control("POST", "/snapshot", document)
    assert sandbox.control("GET", "/state") == state
    assert sandbox.control("GET", "/snapshot") == document
    assert salesforce.restful(f"jobs/ingest/{job['id']}")["state"] in ("Open", "UploadComplete")


def test_the_next_bulk_job_can_be_made_to_fail_halfway(sandbox: SandboxHandle, salesforce: Any) -> None:
    sandbox.control("POST", "/salesforce", {"fail_job_after": 1})
    job = salesforce.restful(
        "jobs/ingest", method="POST", json={"object": "Account", "operation": "insert", "contentType": "CSV"}
    )
    address = f"{salesforce.base_url}jobs/ingest/{job['id']}"
    csv = {"Content-Type": "text/csv"}
    salesforce._call_salesforce("PUT", f"{address}/batches", data="Name\nA\nB\nC\n", headers=csv)
    salesforce._call_salesforce("PATCH", address, json={"state": "UploadComplete"})
    sandbox.control("POST", "/clock", {"advance_seconds": 60})
    assert salesforce.restful(f"jobs/ingest/{job['id']}")["state"] == "Failed"
    left = salesforce._call_salesforce("GET", f"{address}/unprocessedrecords/").text
    assert left.splitlines() == ['"Name"', '"B"', '"C"']


def test_stripe_creates_lists_and_pages(billing: stripe.StripeClient) -> None:
    for n in range(5):
        billing.v1.customers.create({"name": f"C{n}"})
    names = [customer.name for customer in billing.v1.customers.list({"limit": 2}).auto_paging_iter()]
    assert names == ["C4", "C3", "C2", "C1", "C0"]


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "stripe_409_in_progress", "stripe_503"])
def test_stripes_own_retries_create_once_whatever_went_wrong(
    sandbox: SandboxHandle, billing: stripe.StripeClient, kind: str
) -> None:
    sandbox.control("POST", "/faults", {"match": {"method": "POST"}, "kind": kind, "times": 1})
    billing.v1.customers.create({"name": "Once"})
    assert [customer.name for customer in billing.v1.customers.list().data] == ["Once"]


def test_stripes_own_retries_meet_a_failure_that_is_kept_under_the_key(
    sandbox: SandboxHandle, billing: stripe.StripeClient
) -> None:
    """facts/stripe.md 5.4: a 500 is saved and replayed, and each try of the SDK has the same key."""
    sandbox.control("POST", "/faults", {"match": {"method": "POST"}, "kind": "stripe_500", "times": 1})
    with pytest.raises(stripe.APIError):
        billing.v1.customers.create({"name": "Once"})
    billing.v1.customers.create({"name": "Once"})
    assert [customer.name for customer in billing.v1.customers.list().data] == ["Once"]


def test_a_rate_limit_reaches_the_caller_with_its_reason(sandbox: SandboxHandle, billing: stripe.StripeClient) -> None:
    sandbox.control("POST", "/faults", {"kind": "stripe_429", "times": 10})
    with pytest.raises(stripe.RateLimitError) as limited:
        billing.v1.customers.list()
    assert limited.value.headers is not None
    assert limited.value.headers["stripe-rate-limited-reason"] == "global-rate"
