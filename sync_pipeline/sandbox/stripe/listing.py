"""The one list: newest first, cursors, ranges, equality filters, honest `has_more`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.pictures import page, show_part
from sync_pipeline.sandbox.stripe.resources import INDEXED, RESOURCES
from sync_pipeline.sandbox.stripe.world import World

Predicate = Callable[[World, Row, Any], bool]
_PAGING = frozenset(("limit", "starting_after", "ending_before", "expand"))
_REFERENCES = {"customer": "customer", "subscription": "subscription", "invoice": "invoice"}
EVENT_DAYS = 30 * 86_400


def _range(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return bool(value == wanted)
    if value is None:
        return False
    tests = {"gt": value.__gt__, "gte": value.__ge__, "lt": value.__lt__, "lte": value.__le__}
    return all(tests[name](bound) for name, bound in wanted.items())


def _periods(world: World, row: Row, field: str) -> list[int]:
    return [item[field] for item in world.find("subscription_item", subscription=row["id"])]


def _subscription_status(world: World, row: Row, wanted: str) -> bool:
    status = row["status"]
    if wanted == "all":
        return True
    if wanted == "ended":
        return status in ("canceled", "incomplete_expired")
    return bool(status == wanted)


def _has_price(world: World, row: Row, wanted: str) -> bool:
    return any(item["_price"] == wanted for item in world.find("subscription_item", subscription=row["id"]))


def _recurring(world: World, row: Row, wanted: Row) -> bool:
    recurring = row.get("recurring") or {}
    return all(recurring.get(k) == v for k, v in wanted.items())


def _payment(world: World, row: Row, wanted: Row) -> bool:
    return all(row["payment"].get(k) == v for k, v in wanted.items())


def _delivery_success(world: World, row: Row, wanted: bool) -> bool:
    return bool((row["pending_webhooks"] == 0) == wanted)


# Filters that are more than "the field of this name equals the value".
SPECIAL: dict[tuple[str, str], Predicate] = {
    ("subscription", "status"): _subscription_status,
    ("subscription", "price"): _has_price,
    ("subscription", "plan"): _has_price,
    ("subscription", "current_period_end"): lambda w, r, v: _range(min(_periods(w, r, "current_period_end")), v),
    ("subscription", "current_period_start"): lambda w, r, v: _range(max(_periods(w, r, "current_period_start")), v),
    ("invoice", "subscription"): lambda w, r, v: r.get("_subscription") == v,
    ("invoice", "due_date"): lambda w, r, v: _range(r.get("due_date"), v),
    ("invoiceitem", "pending"): lambda w, r, v: ("invoice" not in r) == v,
    ("price", "lookup_keys"): lambda w, r, v: r.get("lookup_key") in v,
    ("price", "recurring"): _recurring,
    ("product", "ids"): lambda w, r, v: r["id"] in v,
    ("event", "types"): lambda w, r, v: r["type"] in v,
    ("event", "delivery_success"): _delivery_success,
    ("event", "type"): lambda w, r, v: r["type"] == v or (v.endswith(".*") and r["type"].startswith(v[:-1])),
    ("invoice_payment", "payment"): _payment,
    ("subscription_schedule", "scheduled"): lambda w, r, v: (r["status"] == "not_started") == v,
    ("promotion_code", "coupon"): lambda w, r, v: r["_coupon"] == v,
}
_ALTERNATIVES = (("starting_after", "ending_before"), ("type", "types"))
_MAX_VALUES = {("price", "lookup_keys"): 10, ("event", "types"): 20}


def list_objects(world: World, kind: str, params: Params, url: str, **fixed: Any) -> Row:
    """Answer a list call. `fixed` are filters that the path implies (``customer=cus_x``)."""
    _check_filters(world, kind, params)
    filters = {k: v for k, v in params.items() if k not in _PAGING and v is not None} | fixed
    limit = _limit(params)
    rows: Iterable[Row]
    if "ending_before" in params:
        cursor = _cursor(world, kind, params["ending_before"], "ending_before")
        found = _take(_matching(world, kind, filters, after=cursor), limit + 1)
        rows = reversed(found[:limit])
    else:
        before = (
            _cursor(world, kind, params["starting_after"], "starting_after") if "starting_after" in params else None
        )
        found = _take(_matching(world, kind, filters, before=before), limit + 1)
        rows = found[:limit]
    return {"object": "list", "data": [world.render(r) for r in rows], "has_more": len(found) > limit, "url": url}


def need_below(world: World, kind: str, owner: str, args: list[str], param: str) -> Row:
    """The object `args[1]` that belongs to the owner `args[0]`. Raises StripeError (404) if it does not."""
    row = world.need(kind, args[1], param, 404)
    if row.get(owner) != args[0]:
        raise errors.missing(RESOURCES[kind].noun, args[1], param, status=404)
    return row


def embedded(world: World, rows: list[Row], url: str, limit: int = 10) -> Row:
    """A list inside an object: its first `limit` rows, in the order given."""
    shown: Row = show_part(world, page(world, rows, url, limit))
    return shown


def list_url(path: str, **query: str) -> str:
    return path + ("?" + "&".join(f"{k}={quote(v)}" for k, v in query.items()) if query else "")


def page_of(rows: list[Row], world: World, params: Params, url: str) -> Row:
    """A page of rows already in order (invoice lines, which Stripe does not sort by creation)."""
    limit, ids = _limit(params), [r["id"] for r in rows]
    for name in ("starting_after", "ending_before"):
        if name in params and params[name] not in ids:
            raise errors.missing("object", params[name], name)
    if "ending_before" in params:
        rows = rows[: ids.index(params["ending_before"])]
        page, more = rows[-limit:], len(rows) > limit
    else:
        rows = rows[ids.index(params["starting_after"]) + 1 :] if "starting_after" in params else rows
        page, more = rows[:limit], len(rows) > limit
    return {"object": "list", "data": [world.render(r) for r in page], "has_more": more, "url": url}


def _limit(params: Params) -> int:
    limit: int = params.get("limit", 10)
    if not 1 <= limit <= 100:
        bound = "less than 1" if limit < 1 else "greater than 100"
        code = "parameter_invalid_integer"
        raise errors.StripeError(f"This value must not be {bound}: limit.", code=code, param="limit", keep=False)
    return limit


def _check_filters(world: World, kind: str, params: Params) -> None:
    for one, other in _ALTERNATIVES:
        if one in params and other in params:
            raise errors.exclusive(one, other)
    for name, value in params.items():
        if name in _PAGING or name in ("created", "test_clock"):
            continue
        if (kind, name) not in SPECIAL and name not in RESOURCES[kind].filters:
            raise errors.unsupported(f"the filter {name} on {RESOURCES[kind].path}", name)
        if (kind, name) in _MAX_VALUES and len(value) > _MAX_VALUES[kind, name]:
            raise errors.StripeError(f"Array must contain at most {_MAX_VALUES[kind, name]} elements.", param=name)
        target = _REFERENCES.get(name)
        if target and value is not None and value not in world.store.table(target):
            raise errors.missing(RESOURCES[target].noun, value, name)


def _cursor(world: World, kind: str, id: str, name: str) -> int:
    row = world.store.table(kind).get(id)
    if row is None:
        raise errors.missing(RESOURCES[kind].noun, id, name)
    seq: int = row["_seq"]
    return seq


def _matching(
    world: World, kind: str, filters: Params, before: int | None = None, after: int | None = None
) -> Iterator[Row]:
    tests = [_test(world, kind, name, value) for name, value in filters.items()]
    hides_clocks = RESOURCES[kind].shows_clock and not filters.keys() - {"created"}
    canceled = kind != "subscription" or "status" in filters
    since = world.clock.now() - EVENT_DAYS if kind == "event" else None
    for row in _candidates(world, kind, filters, before, after):
        if row.get("deleted") or "_gone" in row or (hides_clocks and "_clock" in row):
            continue
        if not canceled and row["status"] == "canceled":
            continue
        if since is not None and row["created"] < since:
            continue
        if all(test(row) for test in tests):
            yield row


def _candidates(world: World, kind: str, filters: Params, before: int | None, after: int | None) -> Iterable[Row]:
    """Through an index where a filter has one, else all rows in order."""
    for name, value in filters.items():
        field = {("invoice", "subscription"): "_subscription"}.get((kind, name), name)
        values = value if (kind, name) == ("price", "lookup_keys") else [value]
        field = "lookup_key" if name == "lookup_keys" else field
        if field in INDEXED.get(kind, ()) and not any(isinstance(v, str) and v.endswith("*") for v in values):
            rows = sorted((r for v in values for r in world.find(kind, **{field: v})), key=lambda r: r["_seq"])
            if after is not None:
                return [r for r in rows if r["_seq"] > after]
            return [r for r in reversed(rows) if before is None or r["_seq"] < before]
    return world.newest_first(kind, before, after)


def _test(world: World, kind: str, name: str, value: Any) -> Callable[[Row], bool]:
    special = SPECIAL.get((kind, name))
    if special:
        return lambda row: special(world, row, value)
    if name == "created":
        dated = "date" if kind == "invoiceitem" else "created"
        return lambda row: _range(row[dated], value)
    if name == "test_clock":
        return lambda row: bool(row.get("_clock") == value)
    return lambda row: bool(row.get(name) == value)


def _take(rows: Iterator[Row], count: int) -> list[Row]:
    found = []
    for row in rows:
        found.append(row)
        if len(found) == count:
            break
    return found
