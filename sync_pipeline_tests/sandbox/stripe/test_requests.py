"""How requests are read and refused, through the real SDK and, where the SDK cannot misbehave, raw HTTP."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, Sandbox


def raw(sandbox: Sandbox, method: str, path: str, body: str = "", **headers: str) -> requests.Response:
    headers.setdefault("Authorization", f"Bearer {sandbox.system.secret_key}")
    headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return requests.request(method, sandbox.url + path, data=body or None, headers=headers, timeout=10)


def error(response: requests.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def test_unknown_parameter(sandbox: Sandbox) -> None:
    """Facts 8.2: an unknown parameter is 400 parameter_unknown with its path in `param`."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.customers.create({"nam": "x"})
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, "parameter_unknown", "nam")
    nested = raw(sandbox, "POST", "/v1/customers", "address[lineone]=x")
    assert error(nested)["param"] == "address[lineone]"


def test_missing_parameter(sandbox: Sandbox) -> None:
    """Facts 8.2: a missing parameter is parameter_missing, also inside an array."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.prices.create({"unit_amount": 5})
    assert (caught.value.code, caught.value.param) == ("parameter_missing", "currency")
    nested = raw(sandbox, "POST", "/v1/customers", "tax_id_data[0][value]=x")
    assert (error(nested)["code"], error(nested)["param"]) == ("parameter_missing", "tax_id_data[0][type]")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ("balance=abc", "balance", "parameter_invalid_integer"),
        ("tax_exempt=maybe", "tax_exempt", None),
        ("address=x", "address", None),
        ("preferred_locales=x", "preferred_locales", None),
        ("expand[]=", "expand", "parameter_invalid_empty"),
    ],
)
def test_mistyped_parameters(sandbox: Sandbox, body: str, param: str, code: str | None) -> None:
    """Facts 8.2: bad integers, enums, hashes and arrays are 400 and name the parameter."""
    response = raw(sandbox, "POST", "/v1/customers", body)
    assert (response.status_code, error(response)["param"], error(response).get("code")) == (400, param, code)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/test_helpers/test_clocks", "frozen_time=1767225600000", "frozen_time"),
        ("/v1/test_helpers/test_clocks", "frozen_time=-1", "frozen_time"),
        ("/v1/subscriptions", "customer=x&cancel_at=99999999999999", "cancel_at"),
        ("/v1/subscriptions", "customer=x&backdate_start_date=-99999999999999", "backdate_start_date"),
        ("/v1/subscriptions", "customer=x&days_until_due=-3", "days_until_due"),
        ("/v1/subscriptions", "customer=x&items[0][quantity]=-1", "items[0][quantity]"),
        ("/v1/subscription_schedules", "customer=x&start_date=99999999999999", "start_date"),
        ("/v1/coupons", "amount_off=-5&currency=gbp", "amount_off"),
        ("/v1/coupons", "percent_off=5&max_redemptions=0", "max_redemptions"),
    ],
)
def test_numbers_out_of_range(sandbox: Sandbox, path: str, body: str, param: str) -> None:
    """Facts 2: times are unix seconds, and 8.2: a bad integer is 400, not milliseconds for an age in which nothing
    happens, and no count below what can be counted."""
    response = raw(sandbox, "POST", path, body)
    assert (response.status_code, error(response).get("code")) == (400, "parameter_invalid_integer")
    assert error(response)["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        "preferred_locales[]=en&preferred_locales[]=de",
        "preferred_locales[0]=en&preferred_locales[1]=de",
        "preferred_locales%5B0%5D=en&preferred_locales%5B1%5D=de",
    ],
)
def test_both_encodings_of_arrays(sandbox: Sandbox, body: str) -> None:
    """Facts 5.5: indexed, `[]` and percent-encoded brackets mean the same."""
    assert raw(sandbox, "POST", "/v1/customers", body).json()["preferred_locales"] == ["en", "de"]


def test_empty_string_unsets(sandbox: Sandbox) -> None:
    """Facts 3: an empty string unsets; a required one cannot be unset."""
    customer = sandbox.customer(description="old", address={"city": "Leeds"}, metadata={"a": "1", "b": "2"})
    body = "description=&address=&metadata[a]="
    changed = raw(sandbox, "POST", f"/v1/customers/{customer.id}", body).json()
    assert (changed["description"], changed["address"], changed["metadata"]) == (None, None, {"b": "2"})
    cleared = raw(sandbox, "POST", f"/v1/customers/{customer.id}", "metadata=").json()
    assert cleared["metadata"] == {}
    refused = raw(sandbox, "POST", "/v1/products", "name=")
    assert error(refused)["code"] == "parameter_invalid_empty"


def test_metadata_limits(sandbox: Sandbox) -> None:
    """Facts 5.5: 50 keys, keys of 40, values of 500 characters."""
    for metadata in ({"k" * 41: "v"}, {"k": "v" * 501}, {f"k{i}": "v" for i in range(51)}):
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.customers.create({"metadata": metadata})
    kept = sandbox.v1.customers.create({"metadata": {f"k{i}": "v" * 500 for i in range(50)}})
    assert len(kept.metadata.to_dict()) == 50


def test_delete_takes_query_parameters(sandbox: Sandbox) -> None:
    """Facts 3: DELETE sends its parameters in the query string."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    canceled = sandbox.v1.subscriptions.cancel(subscription.id, {"cancellation_details": {"comment": "bye"}})
    assert (canceled.status, canceled.cancellation_details.comment) == ("canceled", "bye")


def test_authentication(sandbox: Sandbox) -> None:
    """Facts 5.2: any other key is 401; HTTP basic with the key as user works as with curl -u."""
    stranger = stripe.StripeClient("sk_test_wrong", base_addresses={"api": sandbox.url})
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.customers.list()
    basic = requests.get(sandbox.url + "/v1/customers", auth=(sandbox.system.secret_key, ""), timeout=10)
    assert basic.status_code == 200


def test_unknown_url_is_404_and_unimplemented_is_501(sandbox: Sandbox) -> None:
    """Issue B: what is not implemented answers 501 sandbox_unsupported, never a plausible guess."""
    assert raw(sandbox, "GET", "/v1/nothing").status_code == 404
    unsupported = raw(sandbox, "POST", "/v1/topups", "amount=1&currency=gbp")
    assert (unsupported.status_code, error(unsupported)["code"]) == (501, "sandbox_unsupported")
    parameter = raw(sandbox, "POST", "/v1/customers", "cash_balance[settings][reconciliation_mode]=manual")
    assert (parameter.status_code, error(parameter)["param"]) == (501, "cash_balance")


def test_headers(sandbox: Sandbox) -> None:
    """Facts 5.3: Request-Id always, the echo of the key, Stripe-Should-Retry, Stripe-Version."""
    response = raw(sandbox, "POST", "/v1/customers", "name=A", **{"Idempotency-Key": "k1"})
    assert response.headers["Request-Id"].startswith("req_")
    assert response.headers["Idempotency-Key"] == "k1"
    assert response.headers["Stripe-Should-Retry"] == "false"
    assert response.headers["Stripe-Version"] == "2026-10-28.endive"


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("2022-11-15", 200),
        ("2024-09-30.acacia", 200),
        ("2025-08-27.basil", 200),
        ("2026-10-28.endive", 200),
        ("banana", 400),
        ("2019-2-19", 400),
        ("2019-05-16, 2019-12-03", 400),
        ("2024-09-30", 400),
        ("2025-09-30.acacia", 400),
        ("2026-11-25.endive", 400),
    ],
)
def test_versions(sandbox: Sandbox, version: str, status: int) -> None:
    """Facts 8.13, sandbox 3: an old version is answered in the pinned shape, one that Stripe never had is 400."""
    response = raw(sandbox, "GET", "/v1/customers", **{"Stripe-Version": version})
    assert response.status_code == status
    if status == 400:
        assert error(response)["message"] == f"Invalid Stripe API version: {version}"


def test_the_account_of_a_call(sandbox: Sandbox) -> None:
    """Facts 5.3: `Stripe-Account` may name the key's own account; without Connect there is no other (403)."""
    own = sandbox.v1.accounts.retrieve_current().id
    assert raw(sandbox, "GET", "/v1/customers", **{"Stripe-Account": own}).status_code == 200
    other = raw(sandbox, "GET", "/v1/customers", **{"Stripe-Account": "acct_other"})
    assert (other.status_code, error(other)["type"]) == (403, "invalid_request_error")
    assert error(other)["message"].startswith("Only Stripe Connect platforms can work with other accounts.")


@pytest.mark.parametrize(
    ("kind", "status", "begins"),
    [
        ("application/x-www-form-urlencoded; charset=utf-8", 200, ""),
        ("application/json", 400, "Invalid request (check that your POST content type is application/x-www-form"),
        ("text/plain; charset=utf-8", 400, "Invalid request: unsupported Content-Type text/plain; charset=utf-8."),
        ("multipart/form-data; boundary=x", 501, "The sandbox does not implement bodies in multipart/form-data"),
    ],
)
def test_bodies_are_forms(sandbox: Sandbox, kind: str, status: int, begins: str) -> None:
    """Facts 3: all v1 writes are form-encoded; anything else is refused and not read as one odd parameter."""
    response = raw(sandbox, "POST", "/v1/customers", "name=A", **{"Content-Type": kind})
    assert response.status_code == status
    if status != 200:
        assert error(response)["message"].startswith(begins)


@pytest.mark.parametrize("written", ["gold%20plan%2F1", "gold+plan%2F1"])
def test_ids_are_encoded_in_paths(sandbox: Sandbox, written: str) -> None:
    """SDKs of different languages write a blank in a path in different ways; Salesforce's codes become product ids.

    Facts 2.3.
    """
    sandbox.v1.products.create({"id": "gold plan/1", "name": "Gold"})
    assert sandbox.v1.products.retrieve("gold plan/1").name == "Gold"
    assert raw(sandbox, "GET", f"/v1/products/{written}").json()["name"] == "Gold"


def test_a_slash_too_many(sandbox: Sandbox) -> None:
    """Stripe answers an empty id with what is wrong with it. Facts 5.2."""
    response = raw(sandbox, "GET", "/v1/customers/")
    assert response.status_code == 404
    assert "make sure you passed a valid (non-empty) identifier" in error(response)["message"]


def test_replay_of_an_idempotency_key(sandbox: Sandbox) -> None:
    """Facts 5.4: the same key and body give the first answer again, and nothing is done twice."""
    first = raw(sandbox, "POST", "/v1/customers", "name=A", **{"Idempotency-Key": "k"})
    again = raw(sandbox, "POST", "/v1/customers", "name=A", **{"Idempotency-Key": "k"})
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert len(sandbox.v1.customers.list().data) == 1


def test_idempotency_key_with_other_parameters(sandbox: Sandbox) -> None:
    """Facts 5.4: another body under the same key is 400 idempotency_error."""
    sandbox.v1.customers.create({"name": "A"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError) as caught:
        sandbox.v1.customers.create({"name": "B"}, {"idempotency_key": "k"})
    assert caught.value.http_status == 400


def test_validation_failures_do_not_use_up_a_key(sandbox: Sandbox) -> None:
    """Facts 5.4: validation failures and 401 are not saved; failures of execution are."""
    headers = {"Idempotency-Key": "k"}
    assert raw(sandbox, "POST", "/v1/customers", "nope=1", **headers).status_code == 400
    assert raw(sandbox, "POST", "/v1/customers", "name=A", **headers).status_code == 200
    body = "customer=cus_missing&items[0][price]=price_x"
    failed = raw(sandbox, "POST", "/v1/subscriptions", body, **{"Idempotency-Key": "k2"})
    again = raw(sandbox, "POST", "/v1/subscriptions", body, **{"Idempotency-Key": "k2"})
    assert failed.status_code == 400
    assert again.headers["Idempotent-Replayed"] == "true"


def test_idempotency_keys_are_forgotten_after_a_day(sandbox: Sandbox) -> None:
    """Facts 5.4: reuse after 24 hours executes anew."""
    sandbox.v1.customers.create({"name": "A"}, {"idempotency_key": "k"})
    sandbox.advance(DAY + 1)
    sandbox.v1.customers.create({"name": "B"}, {"idempotency_key": "k"})
    assert len(sandbox.v1.customers.list().data) == 2


def test_a_failed_request_leaves_nothing_behind(sandbox: Sandbox) -> None:
    """One transaction per request: the subscription that could not be made left no item, invoice or event.

    Sandbox facts 1.
    """
    customer, price = sandbox.customer(), sandbox.price(1000)
    before = sandbox.system.truth()
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.subscribe(customer, price)  # no payment method
    assert sandbox.system.truth() == before


def test_rate_limits(make_sandbox: Any) -> None:
    """Facts 5.1: over the limit is 429 with the reason header; the next second is free again."""
    sandbox = make_sandbox(requests_per_second=3)
    codes = [raw(sandbox, "GET", "/v1/customers").status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    refused = raw(sandbox, "GET", "/v1/customers")
    assert refused.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert error(refused)["code"] == "rate_limit"
    sandbox.advance(1)
    assert raw(sandbox, "GET", "/v1/customers").status_code == 200
    sandbox.advance(1)
