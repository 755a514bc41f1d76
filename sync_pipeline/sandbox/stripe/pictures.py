"""Pictures: an object at one moment, as references to the rows that it was made of.

Rows never change, so a picture costs next to nothing to take and to keep; it is turned into what Stripe shows only
when somebody looks. Events are kept as pictures. A picture is plain JSON: ``{"row": ..., "parts": {field: part}}``,
where a part is a picture, a list of pictures, or an embedded list ``{"list": pictures, "url": ..., "more": ...}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.resources import RESOURCES

if TYPE_CHECKING:
    from sync_pipeline.sandbox.stripe.world import World

Picture = dict[str, Any]
Parts = Callable[["World", Row], dict[str, Any]]
Finish = Callable[["World", Row], None]
_PARTS: dict[str, Parts] = {}
_FINISH: dict[str, Finish] = {}


def parts(kind: str) -> Callable[[Parts], Parts]:
    """Register what an object shows besides its row: other objects inside it."""

    def register(function: Parts) -> Parts:
        _PARTS[kind] = function
        return function

    return register


def finish(kind: str) -> Callable[[Finish], Finish]:
    """Register a last touch on what is shown, derived from the rest of it."""

    def register(function: Finish) -> Finish:
        _FINISH[kind] = function
        return function

    return register


def take(world: World, row: Row) -> Picture:
    inside = _PARTS.get(row["object"])
    if inside is None or row.get("deleted"):
        return {"row": row}
    return {"row": row, "parts": inside(world, row)}


def page(world: World, rows: list[Row], url: str, limit: int = 10) -> Row:
    """The part that is a list: its first `limit` rows, in the order given."""
    return {"list": [take(world, r) for r in rows[:limit]], "url": url, "more": len(rows) > limit}


def all_of(world: World, kind: str, ids: list[str] | None) -> list[Picture]:
    table = world.store.table(kind)
    return [take(world, table[id]) for id in ids or ()]


def show(world: World, picture: Picture) -> Row:
    """What Stripe shows of it when nothing is expanded."""
    row = picture["row"]
    shown = {k: v for k, v in row.items() if k[0] != "_"}
    if shown.get("deleted"):
        return shown
    for name, part in picture.get("parts", {}).items():
        shown[name] = show_part(world, part)
    kind = row["object"]
    if kind in _FINISH:
        _FINISH[kind](world, shown)
    filled: Row = world.contract.fill(RESOURCES[kind].shape)(shown)
    return filled


def show_part(world: World, part: Any) -> Any:
    if isinstance(part, list):
        return [show(world, p) for p in part]
    if "list" in part:
        data = [show(world, p) for p in part["list"]]
        return {"object": "list", "data": data, "has_more": part["more"], "url": part["url"]}
    return show(world, part)


def alike(one: Any, other: Any) -> bool:
    """Whether two pictures of an object show the same."""
    if one is other:
        return True
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if "row" not in one:
        return bool(one["more"] == other["more"]) and alike(one["list"], other["list"])
    if one["row"] is not other["row"] and _visible(one["row"]) != _visible(other["row"]):
        return False
    inside, theirs = one.get("parts", {}), other.get("parts", {})
    return inside.keys() == theirs.keys() and all(alike(inside[k], theirs[k]) for k in inside)


def _visible(row: Row) -> Row:
    return {k: v for k, v in row.items() if k[0] != "_"}


def difference(before: Row, after: Row) -> Row:
    """Old values of what changed: hashes key by key, arrays and embedded lists whole."""
    previous: Row = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and old.get("object") != "list":
            previous[key] = difference(old, new)
        else:
            previous[key] = old
    return dict(sorted(previous.items()))
