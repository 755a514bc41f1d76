"""Stripe's v2 of events: thin ones, which only name their object, and the destinations that they are sent to.

Every event of v1 is also a thin one, under ``v1.`` and its type. Delivery is `webhooks`, as for endpoints of v1.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.resources import RESOURCES
from sync_pipeline.sandbox.stripe.world import DESTINATION, THIN, World

_LIMIT = 20
_PATH = "/v2/core"


def moment(at: int) -> str:
    """A time as v2 writes it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def thin(event: Row, *, fetched: bool = False) -> Row:
    """An event as v2 shows it; `fetched` events also name the snapshot of v1."""
    row, request = event["_now"]["row"], event["request"]
    path = RESOURCES[row["object"]].path
    shown: Row = {
        "id": "evt_test_" + event["id"].removeprefix("evt_"), "object": "v2.core.event", "type": THIN + event["type"],
        "created": moment(event["created"]), "livemode": False,
    }  # fmt: skip
    if path and event["type"] != "invoice.upcoming":  # a preview cannot be retrieved
        shown["related_object"] = {"id": row["id"], "type": row["object"], "url": f"{path}/{row['id']}"}
    if request["id"]:
        shown["reason"] = {"type": "request", "request": dict(request)}
    return shown | ({"snapshot_event": event["id"]} if fetched else {})


@operation(f"GET {_PATH}/events/{{id}}")
def get_event(world: World, params: Params, args: list[str]) -> Row:
    event = world.get("event", "evt_" + args[0].removeprefix("evt_test_"))
    if event is None or not args[0].startswith("evt_test_"):
        raise errors.missing("event", args[0], status=404)
    return thin(event, fetched=True)


@operation(f"GET {_PATH}/events", "created limit object_id page types")
def list_events(world: World, params: Params, args: list[str]) -> Row:
    def wanted(event: Row) -> bool:
        at = moment(event["created"])
        tests = {"gt": at.__gt__, "gte": at.__ge__, "lt": at.__lt__, "lte": at.__le__}
        return (
            params.get("object_id") in (None, event["_now"]["row"]["id"])
            and ("types" not in params or THIN + event["type"] in params["types"])
            and all(
                tests[name](_normal(bound, f"created[{name}]")) for name, bound in (params.get("created") or {}).items()
            )
        )

    rows = [event for event in world.newest_first("event") if wanted(event)]
    return _page(rows, params, "events", lambda event: thin(event, fetched=True))


def _normal(text: str, param: str) -> str:
    try:
        return moment(int(datetime.fromisoformat(text).timestamp()))
    except ValueError:
        raise StripeError(f"Invalid timestamp: {text}; must be in RFC 3339.", param=param, keep=False) from None


def _page(rows: list[Row], params: Params, name: str, show: Callable[[Row], Row]) -> Row:
    """A page of v2: `page` is the id after which it begins, or with a dash the one before which it ends."""
    limit, ids, token = params.get("limit", _LIMIT), [r["id"] for r in rows], params.get("page", "")
    if not 1 <= limit <= 100:
        raise StripeError("The limit must be between 1 and 100.", param="limit", keep=False)
    if token and token.removeprefix("-") not in ids:
        raise StripeError(f"Invalid page token: {token}", param="page", keep=False)
    at = ids.index(token.removeprefix("-")) if token else -1
    start = max(0, at - limit) if token.startswith("-") else at + 1
    shown = rows[start : start + limit]

    def url(token: str) -> str:
        kept = [(k, v) for k, v in _flat(pick(params, "created limit object_id types include"))]
        return f"{_PATH}/{name}?{urlencode([*kept, ('page', token)])}"

    return {
        "data": [show(r) for r in shown],
        "next_page_url": url(shown[-1]["id"]) if start + limit < len(rows) else None,
        "previous_page_url": url("-" + shown[0]["id"]) if start > 0 and shown else None,
    }


def _flat(params: Params) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in params.items():
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        found += [(name, value)] if inner is None else [(f"{name}[{k}]", v) for k, v in inner]
    return found


@operation(
    f"POST {_PATH}/event_destinations",
    "description enabled_events event_payload events_from include metadata name snapshot_api_version type"
    " webhook_endpoint",
)
def create_destination(world: World, params: Params, args: list[str]) -> Row:
    if params["type"] != "webhook_endpoint":
        raise errors.unsupported(f"event destinations of type {params['type']}", "type")
    if params.get("events_from", ["@self"]) != ["@self"]:
        raise errors.unsupported("events of other accounts", "events_from")
    if params.get("snapshot_api_version", world.contract.version) != world.contract.version:
        raise errors.unsupported(f"snapshot_api_version={params['snapshot_api_version']}", "snapshot_api_version")
    url = (params.get("webhook_endpoint") or {}).get("url")
    if not url:
        raise errors.required("webhook_endpoint[url]")
    _check_types(world, params["event_payload"], params["enabled_events"])
    row = world.create(DESTINATION, {
        **pick(params, "description enabled_events event_payload name type"), "status": "enabled", "url": url,
        "metadata": merge_metadata(None, params), "_secret": world.new_id("whsec_", 32), "_updated": world.now(),
    })  # fmt: skip
    return _shown(world, row, params, row["_secret"])


def _check_types(world: World, payload: str, names: list[str]) -> None:
    for i, name in enumerate(names):
        known = name.removeprefix(THIN) if payload == "thin" else name
        if (payload == "thin" and not name.startswith(THIN)) or known not in world.contract.event_types:
            raise errors.unsupported(f"{payload} events of the type {name}", f"enabled_events[{i}]")


def _shown(world: World, row: Row, params: Params, secret: str | None = None) -> Row:
    included = params.get("include") or ()
    endpoint = {
        "signing_secret": secret if "webhook_endpoint.signing_secret" in included else None,
        "url": row["url"] if "webhook_endpoint.url" in included else None,
    }
    off = row["status"] == "disabled"
    return {
        "id": row["id"], "object": DESTINATION, "created": moment(row["created"]), "updated": moment(row["_updated"]),
        "description": row.get("description", ""), "events_from": ["@self"], "livemode": False,
        **pick(row, "enabled_events event_payload metadata name status type"),
        "snapshot_api_version": world.contract.version if row["event_payload"] == "snapshot" else None,
        "status_details": {"disabled": {"reason": "user"}} if off else None, "webhook_endpoint": endpoint,
    }  # fmt: skip


@operation(f"GET {_PATH}/event_destinations", "include limit page")
def list_destinations(world: World, params: Params, args: list[str]) -> Row:
    rows = [row for row in world.newest_first(DESTINATION) if not row.get("deleted")]
    return _page(rows, params, "event_destinations", lambda row: _shown(world, row, params))


@operation(f"GET {_PATH}/event_destinations/{{id}}", "include")
def get_destination(world: World, params: Params, args: list[str]) -> Row:
    return _shown(world, world.need(DESTINATION, args[0], status=404), params)


@operation(
    f"POST {_PATH}/event_destinations/{{id}}", "description enabled_events include metadata name webhook_endpoint"
)
def update_destination(world: World, params: Params, args: list[str]) -> Row:
    row = world.need(DESTINATION, args[0], status=404)
    _check_types(world, row["event_payload"], params.get("enabled_events") or [])
    changes = pick(params, "description enabled_events name") | {"metadata": merge_metadata(row, params)}
    changes |= pick(params.get("webhook_endpoint") or {}, "url")
    return _shown(world, world.update(row, changes | {"_updated": world.now()}), params)


@operation(f"POST {_PATH}/event_destinations/{{id}}/disable")
def disable(world: World, params: Params, args: list[str]) -> Row:
    return _set_status(world, args[0], "disabled")


@operation(f"POST {_PATH}/event_destinations/{{id}}/enable")
def enable(world: World, params: Params, args: list[str]) -> Row:
    return _set_status(world, args[0], "enabled")


def _set_status(world: World, id: str, status: str) -> Row:
    row = world.need(DESTINATION, id, status=404)
    return _shown(world, world.update(row, {"status": status, "_updated": world.now()}), {})


@operation(f"DELETE {_PATH}/event_destinations/{{id}}")
def delete_destination(world: World, params: Params, args: list[str]) -> Row:
    stub = world.delete(world.need(DESTINATION, args[0], status=404))
    return pick(stub, "id object")
