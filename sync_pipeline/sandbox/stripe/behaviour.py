"""Puts the machine together: loads every module that registers behaviour, and adds the generic reads.

Each resource of the table with a path gets a list, a get and, where Stripe has one, a search, unless a module has
registered its own. What Stripe lists beyond that is empty here.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.contract import Operation, load_contract
from sync_pipeline.sandbox.stripe.listing import list_objects, need_below, page_of
from sync_pipeline.sandbox.stripe.operations import IMPLEMENTED, Handler, operation, param_of
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.resources import RESOURCES
from sync_pipeline.sandbox.stripe.search import search_objects
from sync_pipeline.sandbox.stripe.world import World

_MODULES = (
    "account balances catalog charges coupons credit_notes customers cycles disputes dunning finalization holds"
    " invoice_items invoice_lines invoice_operations payment_intents payment_methods plans previews refunds schedules"
    " setup_intents subscription_items subscription_operations tax_ids test_clocks thin_events webhooks"
).split()
# What is listed below its owner, by the last part of the path.
_BELOW = {
    "balance_transactions": "customer_balance_transaction", "payment_methods": "payment_method", "refunds": "refund",
    "subscriptions": "subscription", "tax_ids": "tax_id",
}  # fmt: skip


@cache
def load() -> None:
    for name in _MODULES:
        importlib.import_module(f"{__package__}.{name}")
    templates = load_contract().templates
    for owner in ("customer", "charge"):
        for name, kind in _BELOW.items():
            _add_below(f"{RESOURCES[owner].path}/{{{owner}}}/{name}", kind, owner)
    for kind, resource in RESOURCES.items():
        if resource.path is None:
            continue
        filters = " ".join(load_contract().route("GET", resource.path)[0].props)  # type: ignore[union-attr]
        _add(f"GET {resource.path}", _lister(kind, resource.path), filters)
        if resource.search:
            _add(f"GET {resource.path}/search", _searcher(kind, f"{resource.path}/search"), "query limit page")
        for path in templates:
            if path.startswith(resource.path + "/{") and path.count("/") == resource.path.count("/") + 1:
                _add(f"GET {path}", _getter(kind, _param(path)), "")
    for path in templates:
        listed = load_contract().route("GET", path)[0] if "GET" in templates[path] else None
        if listed and listed.lists:
            _add_empty(path, listed)


def _add_empty(path: str, listed: Operation) -> None:
    """The list of what nobody can make here: it is empty, and says so truthfully.

    Not where it is asked for by something that cannot be here either: what is said of that is Stripe's to say.
    """
    kept = {resource.shape for resource in RESOURCES.values()}
    named = [n for n in listed.required if listed.props[n].get("t") == "str" and "enum" not in listed.props[n]]
    owner = load_contract().route("GET", path.rpartition("/")[0])[0] if "{" in path else None
    if not kept.isdisjoint(listed.lists) or not kept.issuperset(named):
        return
    if "{" not in path or (owner and owner.key in IMPLEMENTED):
        _add(f"GET {path}", _no_objects(path, owner, named), " ".join(listed.props))


def _add_below(path: str, kind: str, owner: str) -> None:
    """The list of what belongs to one owner, and each of it."""
    contract = load_contract()
    listed = contract.route("GET", path)[0]
    if listed is None:
        return

    def list_(world: World, params: Params, args: list[str]) -> Row:
        world.need(owner, args[0], owner, 404)
        return list_objects(world, kind, params, path.replace(f"{{{owner}}}", args[0]), **{owner: args[0]})

    _add(f"GET {path}", list_, " ".join(listed.props))
    for each in contract.templates:
        if each.startswith(path + "/{") and each.count("/") == path.count("/") + 1:
            _add(f"GET {each}", _getter_below(kind, owner, _param(each)), "")


def _getter_below(kind: str, owner: str, param: str) -> Handler:
    return lambda world, params, args: need_below(world, kind, owner, args, param)


def _param(path: str) -> str:
    """What the last argument of a path is called in errors."""
    name = path.rsplit("{", 1)[1].rstrip("}")
    return "id" if name == "charge" else param_of(name)


def _add(key: str, handler: Handler, accepts: str) -> None:
    if key not in IMPLEMENTED:
        operation(key, accepts)(handler)


def _lister(kind: str, url: str) -> Handler:
    def list_(world: World, params: Params, args: list[str]) -> Row:
        return list_objects(world, kind, params, url)

    return list_


def _no_objects(path: str, owner: Operation | None, named: list[str]) -> Handler:
    """Below an owner, or of something that the call must name: only if that exists."""

    def list_(world: World, params: Params, args: list[str]) -> Row:
        url = path
        if owner:
            *_, collection, _, name = path.split("/")
            url = f"/v1/{collection}/{IMPLEMENTED[owner.key].handler(world, {}, args)['id']}/{name}"
        for kind in named:
            world.need(kind, params[kind], kind)
        return page_of([], world, params, url)

    return list_


def _searcher(kind: str, url: str) -> Handler:
    def search(world: World, params: Params, args: list[str]) -> Row:
        return search_objects(world, kind, params, url)

    return search


def _getter(kind: str, param: str) -> Handler:
    def get(world: World, params: Params, args: list[str]) -> Row:
        row: Any = world.store.table(kind).get(args[0])
        if row is None or "_gone" in row or (row.get("deleted") and not RESOURCES[kind].deleted_visible):
            raise errors.missing(RESOURCES[kind].noun, args[0], param, status=404)
        found: Row = row
        return found

    return get
