"""Events of v2: thin, listed by pages, and sent to event destinations (facts: stripe.md 2.7, 4.4, 8.14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, START, Sandbox


def core(sandbox: Sandbox) -> Any:
    return sandbox.client.v2.core


def destination(sandbox: Sandbox, *types: str, payload: str = "thin", **more: Any) -> Any:
    return core(sandbox).event_destinations.create({
        "name": "Here", "type": "webhook_endpoint", "event_payload": payload, "enabled_events": list(types),
        "webhook_endpoint": {"url": "http://127.0.0.1:1/hooks"}, "include": ["webhook_endpoint.signing_secret"], **more,
    })  # fmt: skip


def test_a_thin_event_leads_to_its_event_and_its_object(sandbox: Sandbox) -> None:
    """Facts 4.4: the notification is signed like a snapshot; the SDK fetches the event and the object that it names."""
    made = destination(sandbox, "v1.customer.created")
    customer = sandbox.v1.customers.create({"name": "Acme"}, {"idempotency_key": "k1"})
    sandbox.v1.products.create({"name": "Seats"})
    (delivery,) = sandbox.system.deliveries_due()
    notice: Any = sandbox.client.parse_event_notification(
        delivery.body, delivery.headers["Stripe-Signature"], made.webhook_endpoint.signing_secret
    )
    assert type(notice).__name__ == "V1CustomerCreatedEventNotification"
    assert (notice.related_object.id, notice.reason.request.idempotency_key) == (customer.id, "k1")
    assert notice.fetch_related_object().name == "Acme"
    event = notice.fetch_event()
    assert (event.id, event.type, event.created) == (notice.id, "v1.customer.created", "2026-01-01T00:00:00.000Z")
    snapshot = sandbox.v1.events.retrieve(event.snapshot_event)
    assert (snapshot.type, snapshot.data.object.id) == ("customer.created", customer.id)


def test_events_are_listed_by_pages(sandbox: Sandbox) -> None:
    """Facts 5.5: v2 lists use `next_page_url` verbatim; filters are kept on the way."""
    ids = [sandbox.customer().id for _ in range(5)]
    sandbox.advance(DAY)
    late = sandbox.customer().id
    sandbox.v1.products.create({"name": "Seats"})
    created = {"types": ["v1.customer.created"], "limit": 2}
    events = list(core(sandbox).events.list(created).auto_paging_iter())
    assert [e.related_object.id for e in events] == [late, *ids[::-1]]
    first = core(sandbox).events.list({**created, "created": {"lt": "2026-01-02T00:00:00Z"}})
    assert len(list(first.auto_paging_iter())) == 5
    second = json.loads(sandbox.client.raw_request("get", str(first.next_page_url)).body)
    back = json.loads(sandbox.client.raw_request("get", second["previous_page_url"]).body)
    assert [e["id"] for e in back["data"]] == [e.id for e in first.data]
    assert core(sandbox).events.list({"object_id": late}).data[0].related_object.id == late


def test_a_destination_can_be_changed_stopped_and_removed(sandbox: Sandbox) -> None:
    """Facts 2.7: the signing secret is shown once and only when asked for; a disabled destination gets nothing."""
    service = core(sandbox).event_destinations
    made = destination(sandbox, "v1.customer.created", metadata={"a": "b"})
    assert made.webhook_endpoint.signing_secret.startswith("whsec_")
    assert (made.webhook_endpoint.url, made.events_from, made.status) == (None, ["@self"], "enabled")
    shown: Any = service.retrieve(made.id, {"include": ["webhook_endpoint.url"]})
    assert (shown.webhook_endpoint.url, shown.webhook_endpoint.signing_secret) == ("http://127.0.0.1:1/hooks", None)
    assert service.update(made.id, {"name": "There", "metadata": {"c": "d"}}).name == "There"
    assert [d.id for d in service.list().data] == [made.id]
    assert sandbox.v1.webhook_endpoints.list().data == []
    off: Any = service.disable(made.id)
    assert (off.status, off.status_details.disabled.reason) == ("disabled", "user")
    sandbox.customer()
    assert sandbox.system.deliveries_due() == []
    service.enable(made.id)
    sandbox.customer()
    assert len(sandbox.system.deliveries_due()) == 1
    assert service.delete(made.id).id == made.id
    with pytest.raises(stripe.InvalidRequestError) as caught:
        service.retrieve(made.id)
    assert caught.value.http_status == 404


def test_a_destination_may_take_snapshots(sandbox: Sandbox) -> None:
    """Facts 2.7: `event_payload` is snapshot or thin."""
    made = destination(sandbox, "customer.created", payload="snapshot")
    assert made.snapshot_api_version == "2026-10-28.endive"
    sandbox.customer()
    (delivery,) = sandbox.system.deliveries_due()
    event = sandbox.client.construct_event(
        delivery.body, delivery.headers["Stripe-Signature"], made.webhook_endpoint.signing_secret
    )
    assert (event.type, event.created) == ("customer.created", START)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"type": "amazon_eventbridge"}, 501),
        ({"enabled_events": ["v1.customer.subscription.active"]}, 501),  # the finer types of thin events
        ({"webhook_endpoint": {}}, 400),
        ({"name": None}, 400),
    ],
)
def test_what_a_destination_cannot_be(sandbox: Sandbox, change: dict[str, Any], status: int) -> None:
    """Facts 2.7: the types and fields of an event destination."""
    with pytest.raises(stripe.StripeError) as caught:
        destination(sandbox, "v1.customer.created", **change)
    assert caught.value.http_status == status
