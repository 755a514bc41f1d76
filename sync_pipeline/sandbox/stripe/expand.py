"""Expansion: replacing ids by the objects they name, and showing what is only shown when asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.contract import Node
from sync_pipeline.sandbox.stripe.errors import StripeError, unsupported
from sync_pipeline.sandbox.stripe.resources import RESOURCES
from sync_pipeline.sandbox.stripe.world import World

MAX_DEPTH = 4
# Every segment of a path counts, also `data` and the hash `payment` of an invoice payment (its intent is a fifth
# level, refused); only lines.data.pricing.price_details.price is known to work in spite of its length.
UNCOUNTED = frozenset(("pricing", "price_details"))
Include = Callable[[World, Row], Any]
# (object, field) -> the value of a field that is absent unless expanded.
INCLUDED: dict[tuple[str, str], Include] = {}


def included(kind: str, field: str) -> Callable[[Include], Include]:
    def register(function: Include) -> Include:
        INCLUDED[kind, field] = function
        return function

    return register


def expand(world: World, answer: Row, paths: list[str], response: Node, *, pinned: bool = True) -> Row:
    """`answer` with these paths expanded. Raises StripeError for one that does not exist, unless the caller speaks
    another API version (not `pinned`): what existed there and has no place in this shape is passed over."""
    for path in paths:
        parts = path.split(".")
        if sum(part not in UNCOUNTED for part in parts) > MAX_DEPTH:
            raise StripeError(
                f"You cannot expand more than {MAX_DEPTH} levels of a property. Property: {path}",
                code="property_expansion_max_depth", param="expand", keep=False,
            )  # fmt: skip
        listed = answer.get("object") in ("list", "search_result")
        if (parts[0] == "data" and not listed) or not _exists(world, response, parts):
            if pinned:
                raise _refused(path)
            continue
        answer = _walk(world, answer, parts, path)
    return answer


def _exists(world: World, node: Node, parts: list[str]) -> bool:
    """Whether the path is in the contract, whatever the objects at hand contain."""
    current = [node]
    for part in parts:
        shapes = [s for n in current for s in _shapes_of(world, n)]
        current = [s["props"][part] for s in shapes if part in s.get("props", {})]
        current = [n.get("list", n) for n in current]
    return bool(current)


def _shapes_of(world: World, node: Node) -> list[Node]:
    if "ref" in node:
        return [world.contract.shape(node["ref"])]
    if "expand" in node:
        return [world.contract.shape(n) for n in node["expand"] if not n.startswith("deleted_")]
    if "inline" in node:
        return [node["inline"]]
    if "map" in node:
        return _shapes_of(world, node["map"])
    return [s for n in node.get("any", ()) for s in _shapes_of(world, n)]


def _walk(world: World, value: Any, parts: list[str], path: str) -> Any:
    if isinstance(value, list):
        return [_walk(world, v, parts, path) for v in value]
    if not isinstance(value, dict) or value.get("deleted"):
        return value
    part, rest = parts[0], parts[1:]
    found = value.get(part)
    include = INCLUDED.get((value.get("object", ""), part))
    if include and found is None:
        found = include(world, value)
    if found is None:
        kind = value.get("object")
        if part not in value and kind in RESOURCES and part in ("tax", "cash_balance"):
            raise unsupported(f"expansion of {path}", "expand")
        return value
    found = _resolve(world, found)
    return {**value, part: _walk(world, found, rest, path) if rest else found}


def _resolve(world: World, value: Any) -> Any:
    """An id, or a list of ids, as the objects they name."""
    if isinstance(value, list):
        return [_resolve(world, v) for v in value]
    if not isinstance(value, str):
        return value
    for kind in _kinds_of(value):
        row = world.store.table(kind).get(value)
        if row is not None:
            return world.render(row)
    return value


def _kinds_of(id: str) -> list[str]:
    prefixed = [k for k, r in RESOURCES.items() if r.prefix and id.startswith(r.prefix)]
    return prefixed + [k for k in ("product", "coupon", "customer") if k not in prefixed]


def _refused(path: str) -> StripeError:
    return StripeError(f"This property cannot be expanded ({path}).", param="expand", keep=False)
