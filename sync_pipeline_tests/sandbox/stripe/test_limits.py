"""Rate limits of one endpoint, of searches, and of one subscription: what is refused, why, and until when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import HOUR, Sandbox
from sync_pipeline_tests.sandbox.stripe.test_requests import error, raw

Make = Callable[..., Sandbox]
REASON = "Stripe-Rate-Limited-Reason"


def test_one_endpoint(make_sandbox: Make) -> None:
    """Facts 5.1: each named operation has a rate of its own, with all ids pooled; the reason says so."""
    sandbox = make_sandbox(endpoint_requests_per_second=2)
    ids = [sandbox.customer().id for _ in range(2)]
    for id in ids:
        assert raw(sandbox, "GET", f"/v1/customers/{id}").status_code == 200
    refused = raw(sandbox, "GET", f"/v1/customers/{ids[0]}")
    assert (refused.status_code, refused.headers[REASON], error(refused)["code"]) == (
        429, "endpoint-rate", "rate_limit")  # fmt: skip
    assert raw(sandbox, "GET", "/v1/customers").status_code == 200
    sandbox.advance(1)
    assert raw(sandbox, "GET", f"/v1/customers/{ids[0]}").status_code == 200
    sandbox.advance(1)


def test_searches_of_all_resources_together(make_sandbox: Make) -> None:
    """Facts 5.1: so many searches each second, whatever they search; other reads are not counted."""
    sandbox = make_sandbox(searches_per_second=2)
    paths = [f"/v1/{kind}/search?query=created%3E0" for kind in ("customers", "invoices", "subscriptions")]
    answers = [raw(sandbox, "GET", path) for path in paths]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[2].headers[REASON] == "endpoint-rate"
    assert raw(sandbox, "GET", "/v1/customers").status_code == 200
    sandbox.advance(1)
    assert raw(sandbox, "GET", paths[2]).status_code == 200


def test_quantity_updates_of_one_subscription(make_sandbox: Make) -> None:
    """Facts 5.1: so many quantity updates each hour and subscription; what is refused changes nothing."""
    sandbox = make_sandbox(subscription_quantity_updates_per_hour=2)
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    first, second = sandbox.subscribe(customer, price), sandbox.subscribe(customer, price)
    item = first["items"].data[0].id

    def change(quantity: int) -> Any:
        return sandbox.v1.subscriptions.update(first.id, {"items": [{"id": item, "quantity": quantity}]})

    change(2)
    sandbox.v1.subscription_items.update(item, {"quantity": 3})
    with pytest.raises(stripe.RateLimitError) as caught:
        change(4)
    assert (caught.value.headers or {})[REASON.lower()] == "resource-specific"
    assert change(3)["items"].data[0].quantity == 3  # not a change
    other = sandbox.v1.subscription_items.update(second["items"].data[0].id, {"quantity": 9})
    assert other.quantity == 9
    sandbox.advance(HOUR - 1)
    with pytest.raises(stripe.RateLimitError):
        change(4)
    sandbox.advance(1)
    assert change(4)["items"].data[0].quantity == 4


def test_invoices_of_one_subscription_in_a_day(make_sandbox: Make) -> None:
    """Facts 5.1: so many new invoices per subscription and day, however far apart."""
    sandbox = make_sandbox(subscription_invoices_per_day=2)
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    item = subscription["items"].data[0].id

    def change(quantity: int) -> Any:
        return sandbox.v1.subscription_items.update(
            item, {"quantity": quantity, "proration_behavior": "always_invoice"}
        )

    sandbox.advance(12 * HOUR)
    change(2)
    sandbox.advance(12 * HOUR - 1)
    with pytest.raises(stripe.RateLimitError) as caught:
        change(3)
    assert (caught.value.headers or {})[REASON.lower()] == "resource-specific"
    tried = sandbox.v1.invoices.create_preview({"subscription": subscription.id, "subscription_details": {
        "items": [{"id": item, "quantity": 3}], "proration_behavior": "always_invoice",
    }})  # fmt: skip
    assert tried.lines.data  # a preview makes no invoice, so it is not refused
    sandbox.advance(1)
    assert change(3).quantity == 3
