"""Webhook endpoints and deliveries: what is signed, when it is tried again, what counts as delivered."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox

URL = "http://127.0.0.1:9/webhooks/stripe"


def test_signed_with_the_whole_secret(sandbox: Sandbox) -> None:
    """Facts 4.4, sandbox 1: HMAC over t.body with the whole whsec_ string and the wall clock; the SDK accepts it."""
    endpoint = sandbox.system.register_webhook(URL)
    assert endpoint["secret"].startswith("whsec_")
    customer = sandbox.customer()
    [delivery] = sandbox.system.deliveries_due()
    event = stripe.Webhook.construct_event(delivery.body, delivery.headers["Stripe-Signature"], endpoint["secret"])
    assert (delivery.url, event.type, event.data.object.id) == (URL, "customer.created", customer.id)
    assert event.api_version == "2026-10-28.endive"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(delivery.body + b" ", delivery.headers["Stripe-Signature"], endpoint["secret"])


def test_secret_is_shown_once(sandbox: Sandbox) -> None:
    """Facts 2.7: the secret is only in the answer to the create; unknown events are refused."""
    create = sandbox.v1.webhook_endpoints.create
    made = create({"url": URL, "enabled_events": ["invoice.paid"], "api_version": "2026-10-28.endive"})
    assert made.secret.startswith("whsec_")
    assert "secret" not in sandbox.v1.webhook_endpoints.retrieve(made.id)
    with pytest.raises(stripe.InvalidRequestError):
        create({"url": URL, "enabled_events": ["invoice.invented"]})


def test_only_enabled_events_and_endpoints(sandbox: Sandbox) -> None:
    """Facts 4.1: an endpoint hears what it enabled; disabled or deleted ones hear nothing more."""
    made = sandbox.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["customer.updated"]})
    customer = sandbox.customer()
    assert sandbox.system.deliveries_due() == []
    sandbox.v1.customers.update(customer.id, {"name": "New"})
    assert len(sandbox.system.deliveries_due()) == 1
    sandbox.v1.webhook_endpoints.update(made.id, {"disabled": True})
    assert sandbox.system.deliveries_due() == []
    sandbox.v1.webhook_endpoints.update(made.id, {"disabled": False})
    sandbox.v1.webhook_endpoints.delete(made.id)
    sandbox.v1.customers.update(customer.id, {"name": "Newer"})
    assert sandbox.system.deliveries_due() == []


def test_retries_with_growing_gaps_then_gives_up(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 4.1: anything but 2xx is retried, up to three days; the same event, a new signature time."""
    sandbox = make_sandbox()
    sandbox.system.register_webhook(URL)
    sandbox.customer()
    attempts, start = [], sandbox.clock.now()
    for status in [None, 500, 302, 404] * 5:
        due = sandbox.system.deliveries_due()
        if not due:
            break
        attempts.append(sandbox.clock.now() - start)
        sandbox.system.record_delivery(due[0].id, status)
        nxt = sandbox.system.next_due()
        if nxt is not None:
            sandbox.advance(nxt - sandbox.clock.now())
    gaps = [b - a for a, b in pairwise(attempts)]
    assert len(attempts) == 11
    assert gaps == sorted(gaps)
    assert 2 * DAY < attempts[-1] <= 3 * DAY
    assert sandbox.system.deliveries_due() == []


def test_pending_webhooks_counts_down(sandbox: Sandbox) -> None:
    """Facts 4.1: pending_webhooks counts endpoints that have not answered; delivery_success filters by it."""
    sandbox.system.register_webhook(URL)
    sandbox.system.register_webhook(URL + "2")
    sandbox.customer()
    first, second = sandbox.system.deliveries_due()
    sandbox.system.record_delivery(first.id, 200)
    [event] = sandbox.v1.events.list({"delivery_success": False}).data
    assert event.pending_webhooks == 1
    sandbox.system.record_delivery(second.id, 204)
    assert sandbox.v1.events.list({"delivery_success": False}).data == []
    assert sandbox.system.deliveries_due() == []


def test_payload_is_a_snapshot_of_its_moment(sandbox: Sandbox) -> None:
    """Facts 4.1, 8.6: the body shows the object as it was, unexpanded, whatever happened since."""
    sandbox.system.register_webhook(URL)
    customer = sandbox.customer(name="First", expand=["tax_ids"])
    sandbox.v1.customers.update(customer.id, {"name": "Second"})
    bodies: list[dict[str, Any]] = [json.loads(d.body) for d in sandbox.system.deliveries_due()]
    assert [b["data"]["object"]["name"] for b in bodies] == ["First", "Second"]
    assert bodies[1]["data"]["previous_attributes"] == {"name": "First"}
    assert "tax_ids" not in bodies[0]["data"]["object"]


def test_request_identifies_our_own_writes(sandbox: Sandbox) -> None:
    """Facts 4.1: request.id and idempotency_key of the call that caused the event; null when it came by itself."""
    sandbox.v1.customers.create({"name": "A"}, {"idempotency_key": "sync-1"})
    [event] = sandbox.events()
    assert event.request.idempotency_key == "sync-1"
    assert event.request.id.startswith("req_")


def test_events_are_listed_for_thirty_days(sandbox: Sandbox) -> None:
    """Facts 4.1: GET /v1/events goes back 30 days; types[] up to 20."""
    sandbox.customer()
    sandbox.advance(29 * DAY)
    sandbox.v1.products.create({"name": "P"})
    assert sandbox.event_types() == ["customer.created", "product.created"]
    found = sandbox.v1.events.list({"types": ["product.created", "price.created"]}).data
    assert [e.type for e in found] == ["product.created"]
    sandbox.advance(2 * DAY)
    assert sandbox.event_types() == ["product.created"]
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.events.list({"types": ["invoice.paid"] * 21})


def renewal(sandbox: Sandbox) -> tuple[Any, Callable[[int | None], None]]:
    """A draft of a renewal that was just made, and what answers all deliveries of its `invoice.created`."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    sandbox.advance(31 * DAY - 1)
    sandbox.system.register_webhook(URL)
    sandbox.advance(1)
    [draft] = [i for i in sandbox.v1.invoices.list({"subscription": subscription.id}).data if i.status == "draft"]

    def answer(status: int | None) -> None:
        for delivery in sandbox.system.deliveries_due():
            created = json.loads(delivery.body)["type"] == "invoice.created"
            sandbox.system.record_delivery(delivery.id, status if created else 200)

    return draft, answer


def test_a_delivery_that_outlives_its_event_ends(sandbox: Sandbox) -> None:
    """Facts 4.3: events are kept for 30 days. A simulated seed had an endpoint that was not tried for longer."""
    sandbox.system.register_webhook(URL)
    sandbox.customer()
    sandbox.advance(40 * DAY)
    assert sandbox.system.deliveries_due() == []


def test_a_draft_waits_for_an_endpoint_that_fails_its_event(sandbox: Sandbox) -> None:
    """Facts 3.8: if any endpoint fails invoice.created, finalization is delayed up to 72 h; the hour begins with the
    delivery that succeeds."""
    draft, answer = renewal(sandbox)
    answer(500)
    retrieve = sandbox.v1.invoices.retrieve
    assert retrieve(draft.id).automatically_finalizes_at == START + 34 * DAY
    sandbox.advance(5 * HOUR)
    assert retrieve(draft.id).status == "draft"
    answer(200)
    assert retrieve(draft.id).automatically_finalizes_at == START + 31 * DAY + 6 * HOUR
    sandbox.advance(HOUR - 1)
    assert retrieve(draft.id).status == "draft"
    sandbox.advance(1)
    assert retrieve(draft.id).status == "paid"


def test_a_draft_waits_three_days_at_most(sandbox: Sandbox) -> None:
    """Facts 3.8: finalization is delayed up to 72 hours while an endpoint fails `invoice.created`."""
    draft, answer = renewal(sandbox)
    answer(None)
    sandbox.advance(3 * DAY - 1)
    assert sandbox.v1.invoices.retrieve(draft.id).status == "draft"
    sandbox.advance(1)
    assert sandbox.v1.invoices.retrieve(draft.id).status == "paid"


def test_a_draft_whose_event_is_taken_at_once_does_not_wait(sandbox: Sandbox) -> None:
    """Facts 3.8: about an hour after a successful delivery."""
    draft, answer = renewal(sandbox)
    sandbox.advance(HOUR // 2)
    answer(200)
    sandbox.advance(HOUR // 2)
    assert sandbox.v1.invoices.retrieve(draft.id).status == "paid"


def test_waiting_for_endpoints_can_be_switched_off(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.8: not delayed where nobody is asked to wait."""
    sandbox = make_sandbox(webhook_failure_delay=None)
    draft, answer = renewal(sandbox)
    answer(500)
    sandbox.advance(HOUR)
    assert sandbox.v1.invoices.retrieve(draft.id).status == "paid"
