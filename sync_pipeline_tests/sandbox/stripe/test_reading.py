"""Lists, cursors, expansion, search and deleted objects."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import START, Sandbox


def test_lists_are_newest_first_with_cursors(sandbox: Sandbox) -> None:
    """Facts 5.5, 8.7: newest first, limit, starting_after, ending_before, honest has_more, url."""
    ids = [sandbox.v1.customers.create({"name": f"C{i}"}).id for i in range(5)][::-1]
    page = sandbox.v1.customers.list({"limit": 2})
    assert ([c.id for c in page.data], page.has_more, page.url) == (ids[:2], True, "/v1/customers")
    rest = sandbox.v1.customers.list({"limit": 3, "starting_after": ids[1]})
    assert ([c.id for c in rest.data], rest.has_more) == (ids[2:], False)
    back = sandbox.v1.customers.list({"limit": 2, "ending_before": ids[3]})
    assert ([c.id for c in back.data], back.has_more) == (ids[1:3], True)
    assert [c.id for c in sandbox.v1.customers.list({"limit": 2}).auto_paging_iter()] == ids


def test_limits_of_pages(sandbox: Sandbox) -> None:
    """Facts 5.5: limit is 1 to 100; an unknown cursor is resource_missing."""
    for limit in (0, 101):
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.customers.list({"limit": limit})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.customers.list({"starting_after": "cus_x"})
    assert caught.value.code == "resource_missing"


@pytest.mark.parametrize(
    "params",
    [
        {"type": "customer.created", "types": ["customer.created"]},
        {"starting_after": "evt_1", "ending_before": "evt_2"},
    ],
)
def test_alternatives_exclude_each_other(sandbox: Sandbox, params: dict[str, Any]) -> None:
    """SDK:params/_event_list_params.py: "You may pass either `type` or `types`, but not both"; pages go one way."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.events.list(params)
    assert (caught.value.code, caught.value.param) == ("parameters_exclusive", next(iter(params)))


def test_created_ranges(sandbox: Sandbox) -> None:
    """Facts 5.5: created accepts an integer or gt, gte, lt, lte."""
    ids = []
    for _ in range(3):
        ids.append(sandbox.customer().id)
        sandbox.advance(10)

    def found(created: Any) -> list[str]:
        return [c.id for c in sandbox.v1.customers.list({"created": created}).data]

    assert found(START + 10) == [ids[1]]
    assert found({"gte": START + 10}) == [ids[2], ids[1]]
    assert found({"gt": START, "lt": START + 20}) == [ids[1]]


def test_email_filter_is_exact_and_case_sensitive(sandbox: Sandbox) -> None:
    """Facts 3: the email filter is case-sensitive and exact."""
    customer = sandbox.customer(email="Billing@Acme.example")
    assert [c.id for c in sandbox.v1.customers.list({"email": "Billing@Acme.example"}).data] == [customer.id]
    assert sandbox.v1.customers.list({"email": "billing@acme.example"}).data == []


def test_subscriptions_list_hides_canceled_ones(sandbox: Sandbox) -> None:
    """Facts 5.5: the default excludes canceled; status=all, canceled and ended show them."""
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    gone = sandbox.subscribe(customer, price)
    sandbox.v1.subscriptions.cancel(gone.id)
    kept = sandbox.subscribe(customer, price)

    def ids(**params: Any) -> list[str]:
        return [s.id for s in sandbox.v1.subscriptions.list(params).data]

    assert ids() == [kept.id]
    assert ids(status="all") == [kept.id, gone.id]
    assert ids(status="canceled") == [gone.id]
    assert ids(status="ended", customer=customer.id) == [gone.id]
    assert ids(price=price.id) == [kept.id]


def test_lookup_keys(sandbox: Sandbox) -> None:
    """Facts 2.3: the filter takes up to ten lookup keys; a key is unique and can be moved."""
    first = sandbox.price(1000, lookup_key="seat")
    second = sandbox.price(2000, lookup_key="base")
    found = sandbox.v1.prices.list({"lookup_keys": ["seat", "base", "none"]}).data
    assert {p.id for p in found} == {first.id, second.id}
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.price(3000, lookup_key="seat")
    third = sandbox.price(3000, lookup_key="seat", transfer_lookup_key=True)
    assert [p.id for p in sandbox.v1.prices.list({"lookup_keys": ["seat"]}).data] == [third.id]
    assert sandbox.v1.prices.retrieve(first.id).lookup_key is None
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.prices.list({"lookup_keys": [f"k{i}" for i in range(11)]})


def test_subscription_items_list_pages_by_its_url(sandbox: Sandbox) -> None:
    """Facts 2.4: the embedded list's url carries ?subscription=, which the SDK merges when paging."""
    customer = sandbox.customer("pm_card_visa")
    items = [{"price": sandbox.price(100 + i).id} for i in range(12)]
    subscription = sandbox.v1.subscriptions.create({"customer": customer.id, "items": items})
    embedded = subscription["items"]
    assert embedded.url == f"/v1/subscription_items?subscription={subscription.id}"
    listed = sandbox.v1.subscription_items.list({"subscription": subscription.id, "limit": 5})
    assert len({i.id for i in listed.auto_paging_iter()}) == 12


def test_expansion(sandbox: Sandbox) -> None:
    """Facts 5.5, 2.1: expand to depth 4, `data.` in lists; what is expand-only is absent before."""
    customer = sandbox.customer("pm_card_visa", tax_id_data=[{"type": "eu_vat", "value": "DE123456789"}])
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    assert "tax_ids" not in customer
    assert isinstance(subscription.latest_invoice, str)
    path = "latest_invoice.payments.data.payment"
    deep = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": [path, "customer.tax_ids"]})
    assert deep.customer.tax_ids.data[0].value == "DE123456789"
    assert deep.latest_invoice.payments.data[0].payment.type == "payment_intent"
    invoice = deep.latest_invoice.id
    payments = sandbox.v1.invoice_payments.list({"invoice": invoice, "expand": ["data.payment.payment_intent"]})
    assert payments.data[0].payment.payment_intent.status == "succeeded"
    listed = sandbox.v1.subscriptions.list({"expand": ["data.latest_invoice.customer"]})
    assert listed.data[0].latest_invoice.customer.name == "Acme Ltd"
    for wrong in ("nonsense", "customer.nonsense", path + ".payment_intent", "data.customer"):
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": [wrong]})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sandbox.v1.subscriptions.list({"expand": ["data.items.data.price.product"]})
    assert refused.value.code == "property_expansion_max_depth"


def test_deleted_and_unknown_objects(sandbox: Sandbox) -> None:
    """Facts 2.1: a deleted customer is 200 {deleted: true}; an unknown id is 404 resource_missing."""
    customer = sandbox.customer()
    stub = sandbox.v1.customers.delete(customer.id)
    assert stub.to_dict() == {"id": customer.id, "object": "customer", "deleted": True}
    assert sandbox.v1.customers.retrieve(customer.id).to_dict() == stub.to_dict()
    assert sandbox.v1.customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.customers.retrieve("cus_nope")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert caught.value.user_message == "No such customer: 'cus_nope'"


def test_search_lags_and_finds(make_sandbox: Any) -> None:
    """Facts 3, 5.5: search is behind the truth; metadata, exact tokens, substrings, negation, null."""
    sandbox = make_sandbox(search_lag=30)
    customer = sandbox.customer(metadata={"sf_account_id": "001A"})
    query = {"query": "metadata['sf_account_id']:'001A'"}
    assert sandbox.v1.customers.search(query).data == []
    sandbox.advance(31)
    page = sandbox.v1.customers.search(query)
    assert (page.object, [c.id for c in page.data]) == ("search_result", [customer.id])

    def found(text: str) -> int:
        return len(sandbox.v1.customers.search({"query": text}).data)

    assert found('email~"acme"') == found('name:"acme ltd"') == found(f"created>{START - 1}") == 1
    assert found('-email~"acme"') == found("metadata['other']:'x'") == 0
    assert found("-metadata['sf_account_id']:null") == found("metadata['other']:null") == 1
    assert found('name:"acme" AND email~"billing"') == found('name:"nobody" OR email~"billing"') == 1
    for wrong in ("nonsense:'x'", "name", 'name:"a" AND email:"b" OR phone:"c"', "created~'1234'"):
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.customers.search({"query": wrong})


def test_search_pages(make_sandbox: Any) -> None:
    """Facts 5.5: search pages with page=next_page."""
    sandbox = make_sandbox(search_lag=0)
    for i in range(5):
        sandbox.customer(name=f"Acme {i}")
    first = sandbox.v1.customers.search({"query": 'name:"acme"', "limit": 2})
    assert first.has_more
    assert len(list(first.auto_paging_iter())) == 5


@pytest.mark.parametrize("name", ["payouts", "transfers", "checkout.sessions", "quotes", "terminal.readers"])
def test_lists_of_what_cannot_exist_are_empty(sandbox: Sandbox, name: str) -> None:
    """Facts: sandbox 3: for other people's clients an honest empty list is enough."""
    service = sandbox.v1
    for part in name.split("."):
        service = getattr(service, part)
    page = service.list({"limit": 100})
    assert (page.data, page.has_more) == ([], False)


def get(sandbox: Sandbox, path: str, **params: str) -> requests.Response:
    return requests.get(sandbox.url + path, params=params, auth=(sandbox.system.secret_key, ""), timeout=10)


def test_every_list_is_there_before_anything_is(sandbox: Sandbox) -> None:
    """Sandbox facts 3: an honest empty list, with the url of the contract and the parameters checked, of everything
    that nobody can make here. Refused is what Stripe fills by itself, and what only such a thing could be asked for."""
    contract = sandbox.system.world.contract
    empty = []
    for path in contract.templates:
        operation, _, _ = contract.route("GET", path)
        if operation is None or not operation.lists or operation.required or "{" in path:
            continue
        found = get(sandbox, path, limit="3")
        if found.status_code == 501:
            continue
        assert found.json() == {"object": "list", "data": [], "has_more": False, "url": path}
        assert error_of(get(sandbox, path, limit="0")) == (400, "parameter_invalid_integer", "limit"), path
        assert error_of(get(sandbox, path, nonsense="1")) == (400, "parameter_unknown", "nonsense"), path
        empty.append(path.removeprefix("/v1/"))
    assert set(empty) >= set(
        "apple_pay/domains billing/meters billing_portal/configurations customers financial_connections/accounts"
        " forwarding/requests invoices payment_method_domains quotes reporting/report_runs tax/registrations"
        " terminal/readers treasury/financial_accounts".split()
    )
    for name in ("country_specs", "exchange_rates", "tax_codes", "balance/history", "payment_method_configurations"):
        assert get(sandbox, f"/v1/{name}").status_code == 501


def error_of(response: requests.Response) -> tuple[int, Any, Any]:
    told = response.json()["error"]
    return response.status_code, told.get("code"), told.get("param")


def test_lists_that_must_be_asked_for_by_something(sandbox: Sandbox) -> None:
    """Sandbox facts 3 and 1: it is named in the refusal, must exist, and where it cannot exist here the list is 501."""
    assert error_of(get(sandbox, "/v1/apps/secrets")) == (400, "parameter_missing", "scope")
    assert get(sandbox, "/v1/apps/secrets", **{"scope[type]": "account"}).json()["data"] == []
    unknown = get(sandbox, "/v1/setup_attempts", setup_intent="seti_1")
    assert error_of(unknown) == (400, "resource_missing", "setup_intent")
    account = get(sandbox, "/v1/treasury/transactions", financial_account="fa_1")
    assert error_of(account) == (501, "sandbox_unsupported", None)
    below = f"/v1/customers/{sandbox.customer().id}/cash_balance_transactions"
    assert get(sandbox, below).json() == {"object": "list", "data": [], "has_more": False, "url": below}
    assert get(sandbox, "/v1/transfers/tr_1/reversals").status_code == 404


def test_search_shows_what_was_before(make_sandbox: Any) -> None:
    """Facts 3: search is eventually consistent for changes too: for some seconds it finds the old value."""
    sandbox = make_sandbox(search_lag=30)
    customer = sandbox.customer(metadata={"k": "old"})
    sandbox.advance(60)
    sandbox.v1.customers.update(customer.id, {"metadata": {"k": "new"}})
    sandbox.v1.customers.update(customer.id, {"metadata": {"k": "newest"}})

    def found(value: str) -> int:
        return len(sandbox.v1.customers.search({"query": f"metadata['k']:'{value}'"}).data)

    assert (found("old"), found("new"), found("newest")) == (1, 0, 0)
    sandbox.advance(31)
    assert (found("old"), found("new"), found("newest")) == (0, 0, 1)


def test_what_belongs_to_one_owner_is_listed_below_it(sandbox: Sandbox) -> None:
    """Appendix C: the same lists under a customer or a charge; what is another's is not there (404)."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    owner, other = subscription.customer, sandbox.customer("pm_card_visa")
    charge = sandbox.v1.charges.list({"customer": owner}).data[0].id
    made = {
        f"/v1/customers/{owner}/tax_ids": sandbox.v1.customers.tax_ids.create(
            owner, {"type": "gb_vat", "value": "GB123456789"}
        ),
        f"/v1/customers/{owner}/balance_transactions": sandbox.v1.customers.balance_transactions.create(
            owner, {"amount": -500, "currency": "gbp"}
        ),
        f"/v1/customers/{owner}/subscriptions": subscription,
        f"/v1/charges/{charge}/refunds": sandbox.v1.refunds.create({"charge": charge, "amount": 100}),
        f"/v1/customers/{owner}/payment_methods": sandbox.v1.payment_methods.list({"customer": owner}).data[0],
    }

    def get(path: str) -> Any:
        return sandbox.client.deserialize(sandbox.client.raw_request("get", path), api_mode="V1")

    for path, row in made.items():
        listed = get(path)
        assert ([r.id for r in listed.data], listed.url, get(f"{path}/{row.id}").id) == ([row.id], path, row.id)
        if "customers" in path:
            with pytest.raises(stripe.InvalidRequestError) as caught:
                get(f"{path.replace(owner, other.id)}/{row.id}")
            assert caught.value.http_status == 404
