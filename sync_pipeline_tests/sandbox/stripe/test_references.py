"""What calls name must be there, and be of one customer (facts: stripe.md 5.2)."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox


def refusal(sandbox: Sandbox, service: str, call: str, *arguments: Any) -> tuple[int, str | None, str | None]:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        getattr(getattr(sandbox.v1, service), call)(*arguments)
    return caught.value.http_status or 0, caught.value.code, caught.value.param


def test_what_is_named_must_be_there(sandbox: Sandbox) -> None:
    """Facts 5.2: 400 resource_missing with the name of the parameter, whatever the operation."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    charge = sandbox.v1.charges.list().data[0].id
    intent = sandbox.v1.payment_intents.create({"amount": 500, "currency": "gbp"}).id
    invoice = sandbox.v1.invoices.create({"customer": customer.id}).id
    other = sandbox.v1.payment_methods.list({"customer": sandbox.customer("pm_card_visa").id}).data[0].id
    for service, call, *arguments in (
        ("payment_intents", "update", intent, {"customer": "cus_none"}),
        ("charges", "update", charge, {"customer": "cus_none"}),
        ("setup_intents", "create", {"customer": "cus_none"}),
        ("invoices", "update", invoice, {"default_payment_method": "pm_none"}),
        ("invoices", "update", invoice, {"default_payment_method": other}),
        ("invoices", "create", {"customer": customer.id, "default_payment_method": other}),
        ("subscriptions", "update", subscription.id, {"default_payment_method": other}),
    ):
        name = next(iter(set(arguments[-1]) - {"customer"}), "customer")
        assert refusal(sandbox, service, call, *arguments) == (400, "resource_missing", name)


def test_what_is_named_must_be_of_one_customer(sandbox: Sandbox) -> None:
    """Facts 2.6 and 3.5: an invoice, an item, a preview is of one customer, and so is what pays it."""
    customer, other = sandbox.customer("pm_card_visa"), sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000)).id
    method = sandbox.v1.payment_methods.list({"customer": other.id}).data[0].id
    sandbox.v1.invoice_items.create({"customer": customer.id, "amount": 500, "currency": "gbp"})
    invoice = sandbox.v1.invoices.create({"customer": customer.id, "pending_invoice_items_behavior": "include"}).id
    intent = sandbox.v1.payment_intents.create({"amount": 500, "currency": "gbp", "customer": customer.id}).id
    nobodys = sandbox.v1.payment_intents.create({"amount": 500, "currency": "gbp"}).id
    both = {"customer": other.id, "subscription": subscription}
    assert refusal(sandbox, "invoices", "create", both) == (400, None, "subscription")
    assert refusal(sandbox, "invoices", "create_preview", both) == (400, None, "subscription")
    item = {"amount": 500, "currency": "gbp"}
    assert refusal(sandbox, "invoice_items", "create", both | item) == (400, None, "subscription")
    on_invoice = {"customer": other.id, "invoice": invoice}
    assert refusal(sandbox, "invoice_items", "create", on_invoice | item) == (400, None, "invoice")
    paying = {"payment_method": method}
    assert refusal(sandbox, "invoices", "pay", invoice, paying) == (400, None, "payment_method")
    for each in (intent, nobodys):
        assert refusal(sandbox, "payment_intents", "confirm", each, paying) == (400, None, "payment_method")
    assert len(sandbox.v1.charges.list().data) == 1


def test_prices_of_products(sandbox: Sandbox) -> None:
    """Facts 5.2: product_inactive. The contract: a product's default price is one of its own."""
    price, other = sandbox.price(1000), sandbox.v1.products.create({"name": "Other"}).id
    assert refusal(sandbox, "products", "update", other, {"default_price": price.id}) == (400, None, "default_price")
    sandbox.v1.products.update(price.product, {"default_price": price.id, "active": False})
    new = {"customer": sandbox.customer("pm_card_visa").id, "items": [{"price": price.id}]}
    assert refusal(sandbox, "subscriptions", "create", new) == (400, "product_inactive", "items[0][price]")
