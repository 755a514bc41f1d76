"""Webhook endpoints, and the queue of deliveries to them: signed per attempt, retried over three days.

Sending is the HTTP shell's work: it asks what is due, posts it, and records the answer.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.finalization import heed_delivery
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.thin_events import thin
from sync_pipeline.sandbox.stripe.world import DESTINATION, World, timer

EVENT_LIFE = 30 * 86_400
ROLLED_SECRET_LIFE = 86_400


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to be made now. `headers` carry a signature of exactly `body`."""

    id: str
    url: str
    body: bytes
    headers: dict[str, str]


@operation("POST /v1/webhook_endpoints", "url enabled_events api_version description metadata")
def create_endpoint(world: World, params: Params, args: list[str]) -> Row:
    _check_events(world, params["enabled_events"])
    if not params["url"].startswith(("http://", "https://")):
        raise errors.StripeError("Invalid URL: An explicit scheme (such as https) must be provided.",
                                 code="url_invalid", param="url")  # fmt: skip
    version = params.get("api_version")
    if version not in (None, world.contract.version):
        raise errors.unsupported(f"api_version={version}: its events have the shapes of {world.contract.version}",
                                 "api_version")  # fmt: skip
    row = world.create("webhook_endpoint", {
        **pick(params, "url enabled_events api_version description"), "status": "enabled",
        "metadata": merge_metadata(None, params), "_secret": world.new_id("whsec_", 32),
    })  # fmt: skip
    # The secret is shown once, in the answer to the create.
    return world.render(row) | {"secret": row["_secret"]}


def register(world: World, url: str, secret: str | None) -> Row:
    """An endpoint for every event, with a secret of the caller's choice."""
    row = world.create("webhook_endpoint", {
        "url": url, "enabled_events": ["*"], "api_version": world.contract.version, "status": "enabled",
        "metadata": {}, "_secret": secret or world.new_id("whsec_", 32),
    })  # fmt: skip
    return world.render(row) | {"secret": row["_secret"]}


@action("POST /v1/webhook_endpoints/{webhook_endpoint}", "url enabled_events disabled description metadata")
def update_endpoint(world: World, params: Params, row: Row) -> Row:
    if params.get("enabled_events"):
        _check_events(world, params["enabled_events"])
    changes = pick(params, "url enabled_events description")
    if "disabled" in params:
        changes["status"] = "disabled" if params["disabled"] else "enabled"
    return world.update(row, changes | {"metadata": merge_metadata(row, params)})


@action("DELETE /v1/webhook_endpoints/{webhook_endpoint}")
def delete_endpoint(world: World, params: Params, row: Row) -> Row:
    return world.delete(row)


def roll_secret(world: World, endpoint: str) -> str:
    """A new secret for the endpoint. The old one goes on signing beside it until a day of sandbox time has passed."""
    row = world.need("webhook_endpoint", endpoint, status=404)
    fresh = world.new_id("whsec_", 32)
    world.put({**row, "_secret": fresh, "_rolled": [row["_secret"], world.clock.now() + ROLLED_SECRET_LIFE]})
    return fresh


def _active_secrets(world: World, endpoint: Row) -> list[str]:
    rolled, until = endpoint.get("_rolled") or ("", 0)
    return [endpoint["_secret"], *([rolled] if world.clock.now() < until else [])]


def _check_events(world: World, names: list[str]) -> None:
    for i, name in enumerate(names):
        if name != "*" and name not in world.contract.event_types:
            raise errors.StripeError(f"Invalid enabled_events[{i}]: {name} is not a type of event.",
                                     param=f"enabled_events[{i}]", keep=False)  # fmt: skip


def due(world: World, wall: Callable[[], float] = time.time) -> list[Delivery]:
    """Attempts that wait to be made, oldest first. Signed with the wall clock, as receivers compare with theirs."""
    found = []
    for key, row in list(world.store.table("delivery").items()):
        if not row["ready"]:
            continue
        endpoint = (
            world.store.get("webhook_endpoint", row["endpoint"]) or world.store.table(DESTINATION)[row["endpoint"]]
        )
        event = world.store.get("event", row["event"])
        if event is None or endpoint.get("deleted") or endpoint["status"] != "enabled":
            _settle(world, key, row)
            continue
        shown = thin(event) if endpoint.get("event_payload") == "thin" else world.render(event)
        body = msgspec.json.format(msgspec.json.encode(shown), indent=2)
        found.append(
            Delivery(key, endpoint["url"], body, _headers(body, _active_secrets(world, endpoint), int(wall())))
        )
    return found


def _headers(body: bytes, secrets: list[str], at: int) -> dict[str, str]:
    signed = f"{at}.".encode() + body
    signatures = [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets]
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": ",".join([f"t={at}", *signatures]),
    }


def record(world: World, key: str, status: int | None) -> None:
    """What came of an attempt. Anything but a 2xx is tried again after the next gap, until they are used up."""
    row = world.store.get("delivery", key)
    if row is None:
        return
    event = world.store.table("event")[row["event"]]
    taken = status is not None and 200 <= status < 300
    if taken:
        event = world.put({**event, "pending_webhooks": max(0, event["pending_webhooks"] - 1)})
        _settle(world, key, row)
    if event["type"] == "invoice.created" and (not taken or ("_failed" in event and not event["pending_webhooks"])):
        world.put({**event, "_failed": True})
        heed_delivery(world, event["_now"]["row"]["id"], taken=taken)
    if taken:
        return
    if row["attempts"] >= len(world.settings.webhook_gaps):
        _settle(world, key, row)
    else:
        gap = world.settings.webhook_gaps[row["attempts"]]
        world.store.put("delivery", key, {**row, "attempts": row["attempts"] + 1, "ready": False})
        with world.at(None):
            world.set_timer("delivery", key, world.clock.now() + gap)


def _settle(world: World, key: str, row: Row) -> None:
    world.store.delete("delivery", key)


@timer("delivery")
def make_ready(world: World, key: str) -> None:
    row = world.store.get("delivery", key)
    if row:
        world.store.put("delivery", key, {**row, "ready": True})


def prune_events(world: World) -> None:
    """Forget events older than Stripe keeps them."""
    table = world.store.table("event")
    while table:
        id = next(iter(table))
        if table[id]["created"] > world.clock.now() - EVENT_LIFE:
            return
        world.store.delete("event", id)
