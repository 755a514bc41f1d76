"""What connectors and taps written years ago do, and vendors' SDKs do not: each case was found by running one.

Facts: sandbox.md 4.5.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sync_pipeline.sandbox.stripe.contract import load_contract
from sync_pipeline_tests.sandbox.calls import stripe
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import SandboxHandle

_OLD_VERSION = "2022-11-15"


def lists_with_a_created_filter() -> list[str]:
    """The paths of all top-level lists that can be asked for a range of `created`."""
    contract = load_contract()
    return [
        path
        for path in sorted(contract.templates)
        if "{" not in path
        and (operation := contract.route("GET", path)[0]) is not None
        and {"created", "starting_after"} <= set(operation.props)
    ]


def populate(sandbox: SandboxHandle) -> str:
    """One customer with a pending item, a subscription that renewed once and a refund; its id."""

    def post(path: str, params: dict[str, Any]) -> str:
        answer = stripe(sandbox, "POST", path, **params)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    card = {"payment_method": "pm_card_visa", "invoice_settings[default_payment_method]": "pm_card_visa"}
    customer = post("/v1/customers", {"name": "Acme", **card})
    monthly = {"recurring[interval]": "month", "product_data[name]": "Seat"}
    price = post("/v1/prices", {"currency": "gbp", "unit_amount": 1000, **monthly})
    post("/v1/subscriptions", {"customer": customer, "items[0][price]": price})
    sandbox.control("POST", "/clock", {"advance_seconds": 32 * 86_400})
    post("/v1/invoiceitems", {"customer": customer, "amount": 500, "currency": "gbp"})
    charge = stripe(sandbox, "GET", "/v1/charges", customer=customer).json()["data"][0]["id"]
    post("/v1/refunds", {"charge": charge, "amount": 100})
    return customer


def as_of_old(sandbox: SandboxHandle, path: str, **params: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Authorization": f"Bearer {sandbox.ready['stripe_key']}", "Stripe-Version": _OLD_VERSION}
        return session.get(sandbox.ready["stripe_url"] + path, params=params, headers=headers, timeout=30)


def test_every_list_can_be_walked_by_windows_of_created(sandbox: SandboxHandle) -> None:
    """Singer taps ask every list for consecutive windows of `created`: together they are the whole list."""
    populate(sandbox)
    filled = 0
    for path in lists_with_a_created_filter():
        whole = stripe(sandbox, "GET", path, limit=100)
        if whole.status_code in (400, 501):  # it needs an owner, or is not simulated
            continue
        middle = START + 16 * 86_400
        early: dict[str, Any] = {"created[lt]": middle}
        late: dict[str, Any] = {"created[gte]": middle}
        before = stripe(sandbox, "GET", path, limit=100, **early)
        after = stripe(sandbox, "GET", path, limit=100, **late)
        assert (before.status_code, after.status_code) == (200, 200), path
        ids = [row["id"] for row in after.json()["data"] + before.json()["data"]]
        assert ids == [row["id"] for row in whole.json()["data"]], path
        filled += bool(ids)
    assert filled >= 8


@pytest.mark.parametrize(
    ("path", "expand"),
    [
        ("/v1/customers", "data.sources"),
        ("/v1/customers", "data.subscriptions"),
        ("/v1/customers", "data.tax_ids"),
        ("/v1/charges", "data.refunds"),
        ("/v1/plans", "data.tiers"),
        ("/v1/invoiceitems", "data.plan.tiers"),
        ("/v1/subscriptions", "data.plan.tiers"),
    ],
)
def test_expansions_of_an_older_version_are_no_errors(sandbox: SandboxHandle, path: str, expand: str) -> None:
    """What has no place in the pinned shape is passed over for a client that speaks another version."""
    populate(sandbox)
    found = as_of_old(sandbox, path, **{"expand[]": expand})
    assert found.status_code == 200, found.text
    assert len(found.json()["data"]) >= 1


def test_a_customers_sources_are_an_empty_list(sandbox: SandboxHandle) -> None:
    customer = populate(sandbox)
    expanded: dict[str, Any] = {"expand[]": "sources"}
    found = stripe(sandbox, "GET", f"/v1/customers/{customer}", **expanded).json()["sources"]
    assert found == {"object": "list", "data": [], "has_more": False, "url": f"/v1/customers/{customer}/sources"}
    for name in ("sources", "cards", "bank_accounts"):
        url = f"/v1/customers/{customer}/{name}"
        assert stripe(sandbox, "GET", url, limit=3).json() == found | {"url": url}


@pytest.mark.parametrize("name", ["external_accounts", "persons"])
def test_what_an_account_without_connect_has_not(sandbox: SandboxHandle, name: str) -> None:
    """Airbyte asks for the bank accounts, cards and persons of the account that its user names."""
    own = stripe(sandbox, "GET", "/v1/account").json()["id"]
    found = stripe(sandbox, "GET", f"/v1/accounts/{own}/{name}", limit=100)
    assert found.json() == {"object": "list", "data": [], "has_more": False, "url": f"/v1/accounts/{own}/{name}"}
    assert stripe(sandbox, "GET", f"/v1/accounts/acct_other/{name}").status_code == 404


@pytest.mark.parametrize(
    ("path", "param", "value"),
    [
        ("/v1/payment_intents", "payment_method_types[0]", "card"),
        ("/v1/promotion_codes", "coupon", "SAVE10"),
        ("/v1/subscriptions/{subscription}/resume", "billing_cycle_anchor", "now"),
        ("/v1/subscription_schedules", "phases[0][iterations]", "12"),
    ],
)
def test_parameters_of_an_older_version_are_not_called_unknown(
    sandbox: SandboxHandle, path: str, param: str, value: str
) -> None:
    """stripe-node 17 and 18 send what their version has. Facts 8.2: who speaks the pinned version, or names none, is
    told that it is wrong. Sandbox facts 1: who speaks another is told that the sandbox does not."""
    subscription = stripe(sandbox, "GET", "/v1/subscriptions", customer=populate(sandbox)).json()["data"][0]["id"]
    url = sandbox.ready["stripe_url"] + path.replace("{subscription}", subscription)
    needed = {"amount": "1000", "currency": "gbp"} if "payment_intents" in path else {}
    told = []
    for version in (None, "2026-10-28.endive", "2024-12-18.acacia"):
        headers = {"Authorization": f"Bearer {sandbox.ready['stripe_key']}"}
        headers |= {"Stripe-Version": version} if version else {}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(url, data=needed | {param: value}, headers=headers, timeout=30)
        told.append((answer.status_code, answer.json()["error"]))
    assert [status for status, _ in told] == [400, 400, 501]
    assert told[0] == told[1]
    named = param.removesuffix("[0]")
    assert {error["param"] for _, error in told} == {named}
    assert told[2][1]["code"] == "sandbox_unsupported"
    assert "2024-12-18.acacia" in told[2][1]["message"]
    assert named in told[2][1]["message"]
