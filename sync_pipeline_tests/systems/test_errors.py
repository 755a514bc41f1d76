"""What a vendor's answer means, as total functions: every status and code has exactly one word."""

from __future__ import annotations

import socket
from typing import Any, get_args

import pytest
import requests
import stripe
from hypothesis import given
from hypothesis import strategies as st
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError

from sync_pipeline.systems.outcomes import State
from sync_pipeline.systems.salesforce import errors as salesforce
from sync_pipeline.systems.stripe import errors

STATES = get_args(State)


def stripe_error(
    status: int | None, code: str | None = None, *, param: str | None = None, **more: Any
) -> stripe.StripeError:
    body = {"error": {"code": code, "param": param, "message": "said Stripe"}}
    kind: Any = stripe.InvalidRequestError
    headers = more.get("headers", {})
    return kind("said Stripe", param, code=code, http_status=status, json_body=body, headers=headers)


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (400, "parameter_invalid_integer", "rejected"),
        (400, "tax_id_invalid", "rejected"),
        (400, "resource_already_exists", "stale"),
        (401, None, "denied"),
        (402, "card_declined", "rejected"),
        (403, None, "denied"),
        (404, "resource_missing", "stale"),
        (409, "idempotency_key_in_use", "throttled"),
        (429, "lock_timeout", "throttled"),
        (429, "rate_limit", "throttled"),
        (500, None, "ambiguous"),
        (502, None, "ambiguous"),
        (503, None, "ambiguous"),
        (None, None, "ambiguous"),
    ],
)
def test_stripes_answers(status: int | None, code: str | None, state: str) -> None:
    found = errors.outcome_of(stripe_error(status, code))
    assert (found.state, found.http_status) == (state, status)


def test_a_lookup_key_that_is_taken_means_look_again() -> None:
    assert errors.outcome_of(stripe_error(400, None, param="lookup_key")).state == "stale"


@given(
    st.none() | st.integers(100, 599),
    st.none() | st.text(),
    st.sampled_from([None, {}, {"error": None}, {"error": "x"}, "text"]),
)
def test_every_stripe_error_has_a_word(status: int | None, code: str | None, body: Any) -> None:
    error = stripe.APIError("x", http_status=status, json_body=body, headers={}, code=code)
    assert errors.outcome_of(error).state in STATES


def test_a_lost_connection_is_ambiguous_and_says_no_address() -> None:
    lost: Any = stripe.APIConnectionError
    found = errors.outcome_of(lost("HTTPSConnectionPool(host='api.stripe.com') key sk_test_canary"))
    assert found.state == "ambiguous"
    assert "canary" not in found.message
    assert "canary" not in str(errors.read_failure(lost("sk_test_canary")))


@pytest.mark.parametrize(
    ("kind", "access"), [(stripe.AuthenticationError, True), (stripe.PermissionError, True), (stripe.APIError, False)]
)
def test_a_failed_read_says_whether_access_is_missing(kind: Any, access: bool) -> None:
    assert errors.read_failure(kind("no", http_status=401)).access is access


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "rejected"),
        (400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "rejected"),
        (400, "INVALID_FIELD", "rejected"),
        (400, "UNABLE_TO_LOCK_ROW", "throttled"),
        (400, "ENTITY_IS_DELETED", "stale"),
        (400, "INVALID_CROSS_REFERENCE_KEY", "stale"),
        (400, "INSUFFICIENT_ACCESS_OR_READONLY", "rejected"),
        (401, "INVALID_SESSION_ID", "denied"),
        (403, "REQUEST_LIMIT_EXCEEDED", "throttled"),
        (403, "API_DISABLED_FOR_ORG", "denied"),
        (404, "NOT_FOUND", "stale"),
        (429, None, "throttled"),
        (500, "UNKNOWN_EXCEPTION", "ambiguous"),
        (500, None, "ambiguous"),
        (502, None, "ambiguous"),
        (503, "SERVER_UNAVAILABLE", "throttled"),
    ],
)
def test_salesforces_answers(status: int, code: str | None, state: str) -> None:
    assert salesforce.state_of(status, code) == state


@given(st.integers(100, 599), st.none() | st.text())
def test_every_salesforce_answer_has_a_word(status: int, code: str | None) -> None:
    assert salesforce.state_of(status, code) in STATES


def test_a_rows_error_names_its_fields() -> None:
    rows = [{"statusCode": "STRING_TOO_LONG", "message": "too long", "fields": ["Billing_Message__c"]}]
    found = salesforce.outcome_of_errors(400, rows)
    assert (found.code, found.message) == ("STRING_TOO_LONG", "too long (Billing_Message__c)")


@pytest.mark.parametrize("body", [[], None, {}, {"message": "x"}, "<html>", ["text"], [None]])
@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_body_that_is_no_error_list_still_has_a_word(status: int, body: Any) -> None:
    assert salesforce.outcome_of_errors(status, body).state in STATES
    assert salesforce.outcome_of_call(SalesforceError("https://x", status, "composite", body)).state in STATES


def test_a_refused_sign_in_is_denied() -> None:
    error = SalesforceAuthenticationFailed("invalid_client", "bad secret canary")
    assert salesforce.outcome_of_call(error).state == "denied"
    assert "canary" not in str(salesforce.read_failure(error))
    assert salesforce.read_failure(error).access


def test_a_lost_connection_to_salesforce_is_ambiguous_and_says_no_address() -> None:
    error = requests.ConnectionError("https://acme.my.salesforce.com/canary?token=canary")
    assert salesforce.outcome_of_call(error).state == "ambiguous"
    assert "canary" not in salesforce.outcome_of_call(error).message
    assert not salesforce.read_failure(error).access


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_what_nobody_took_a_connection_for_has_not_happened(host: str) -> None:
    """It held records for ten minutes, as what Salesforce may still be working on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(requests.ConnectionError) as refused:
        requests.post(f"http://{host}:{port}/", timeout=5)
    assert salesforce.outcome_of_call(refused.value).state == "throttled"


@pytest.mark.parametrize("code", [*errors.ADVICE, "a_code_of_tomorrow"])
def test_what_stripe_refuses_tells_a_person_what_to_do(code: str) -> None:
    found = errors.outcome_of(stripe_error(400, code))
    assert found.advice
    assert (found.in_words() or "").endswith(found.advice)


@pytest.mark.parametrize("code", [*salesforce.ADVICE, "A_CODE_OF_TOMORROW"])
def test_what_salesforce_refuses_tells_a_person_what_to_do(code: str) -> None:
    found = salesforce.outcome_of_errors(400, [{"statusCode": code, "message": "no"}])
    assert found.state == "rejected"
    assert (found.in_words() or "").startswith(f"{code} no - ")


@pytest.mark.parametrize(
    ("error", "burden"),
    [
        (stripe_error(500), "failed"),
        (stripe_error(503), "failed"),
        (stripe_error(None), "failed"),
        (stripe_error(400, "parameter_missing"), "worked"),
        (stripe_error(401), "worked"),
        (stripe_error(409, "idempotency_key_in_use"), "worked"),
        (stripe_error(429, "lock_timeout"), "worked"),
        (stripe_error(429, "rate_limit", headers={"Stripe-Rate-Limited-Reason": "global-rate"}), "throttled"),
        (stripe_error(429, "rate_limit", headers={"Stripe-Rate-Limited-Reason": "resource-specific"}), "worked"),
    ],
)
def test_what_a_call_says_of_stripe_itself(error: stripe.StripeError, burden: str) -> None:
    assert errors.burden_of(error) == burden
