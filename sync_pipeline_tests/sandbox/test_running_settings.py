"""Settings that change while the sandbox runs, and signing secrets that are rolled.

Facts: sandbox.md 2; stripe.md 4.1.
"""

from __future__ import annotations

import pytest
import requests
import stripe

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.receiver import receiving
from sync_pipeline_tests.sandbox_process import ControlError, SandboxHandle


def accepted(body: bytes, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body.decode(), signature, secret, tolerance=300)
    except stripe.SignatureVerificationError:
        return False
    return True


def found(sandbox: SandboxHandle) -> list[str]:
    answer = calls.stripe(sandbox, "GET", "/v1/customers/search", query="name:'Late'").json()
    return [each["id"] for each in answer["data"]]


def test_search_can_be_made_to_lag_while_everything_runs(sandbox: SandboxHandle) -> None:
    """Search may lag by an hour (docs.stripe.com/search, data freshness); lists do not."""
    sandbox.control("POST", "/settings", {"stripe": {"search_lag": 3600}})
    made = calls.stripe(sandbox, "POST", "/v1/customers", name="Late").json()["id"]
    sandbox.control("POST", "/clock", {"advance_seconds": 3500})
    assert found(sandbox) == []
    assert calls.customers(sandbox) == ["Late"]
    sandbox.control("POST", "/clock", {"advance_seconds": 200})
    assert found(sandbox) == [made]


def test_an_administrator_hides_a_field_and_it_is_as_if_it_did_not_exist(sandbox: SandboxHandle) -> None:
    query = "SELECT Id, MRR__c FROM Account"
    assert calls.soql(sandbox, query) == []
    sandbox.control("POST", "/settings", {"salesforce": {"hidden_fields": ["Account.MRR__c"]}})
    with pytest.raises(requests.HTTPError, match="400"):
        calls.soql(sandbox, query)
    sandbox.control("POST", "/reset")
    assert calls.soql(sandbox, query) == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"stripe": {"lag": 1}}, "stripe.lag is not a setting"),
        ({"stripe": {"search_lag": "soon"}}, "stripe: Expected `int`"),
        ({"stripe": {"requests_per_second": -1}}, "requests_per_second: must be 0 or more"),
        ({"salesforce": {"multi_currency": True}}, "multi_currency cannot be changed in a running org"),
        ({"salesforce": {"hidden_fields": ["Account.MMR__c"]}}, "there is no field Account.MMR__c"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_changes(
    sandbox: SandboxHandle, said: dict[str, object], message: str
) -> None:
    with pytest.raises(ControlError, match=message) as refused:
        sandbox.control("POST", "/settings", said)
    assert refused.value.status == 400


def test_a_rolled_secret_signs_beside_the_new_one_for_a_day(sandbox: SandboxHandle) -> None:
    """docs.stripe.com/webhooks: one v1 signature per active secret; the old one expires within 24 hours."""
    with receiving() as receiver:
        before = sandbox.control("POST", "/webhooks", {"url": receiver.url})["secret"]
        after = sandbox.control("POST", "/webhooks", {"roll_secret": True})["secret"]
        calls.stripe(sandbox, "POST", "/v1/customers", name="On the day")
        sandbox.control("POST", "/clock", {"advance_seconds": 86_400})
        calls.stripe(sandbox, "POST", "/v1/customers", name="The day after")
        sandbox.control("POST", "/webhooks", {"flush": True})
    verdicts = {
        event["data"]["object"]["name"]: (accepted(body, signature, before), accepted(body, signature, after))
        for event, (body, signature) in zip(receiver.events, receiver.received, strict=True)
        if event["type"] == "customer.created"
    }
    assert before != after
    assert verdicts == {"On the day": (True, True), "The day after": (False, True)}


def test_without_an_endpoint_there_is_no_secret_to_roll(sandbox: SandboxHandle) -> None:
    with pytest.raises(ControlError, match="no webhook URL is registered"):
        sandbox.control("POST", "/webhooks", {"roll_secret": True})
