"""Stripe's search language over the objects, some seconds behind the truth as the real one is."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.resources import RESOURCES
from sync_pipeline.sandbox.stripe.world import World

_CLAUSE = re.compile(
    r"""\s*(?P<not>-)?(?P<field>[a-z_.]+)(\[(?P<kq>['"])(?P<key>(?:(?!(?P=kq)).)*)(?P=kq)\])?\s*
        (?P<op>:|~|>=|<=|>|<)\s*(?:(?P<q>["'])(?P<text>(?:\\.|(?!(?P=q)).)*)(?P=q)|(?P<bare>[^\s"']+))\s*""",
    re.VERBOSE,
)
_JOIN = re.compile(r"(AND|OR)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clause:
    negated: bool
    field: str
    key: str | None
    op: str
    text: str | None  # None: null
    kind: str


def search_objects(world: World, kind: str, params: Params, url: str) -> Row:
    clauses, every = parse(params["query"], kind)
    limit = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise StripeError("This value must be between 1 and 100: limit.", param="limit", keep=False)
    start = _page(params.get("page"))
    found = []
    for current in world.newest_first(kind):
        row = _indexed(world, current)
        if row is None or row.get("deleted") or "_clock" in row:
            continue
        if (all if every else any)(_holds(world, row, clause) for clause in clauses):
            found.append(row)
    more = len(found) > start + limit
    answer: Row = {
        "object": "search_result", "data": [world.render(r) for r in found[start : start + limit]],
        "has_more": more, "next_page": _token(start + limit) if more else None, "url": url,
    }  # fmt: skip
    if "total_count" in params.get("expand", ()):
        answer["total_count"] = len(found)
    return answer


def _indexed(world: World, row: Row) -> Row | None:
    """The version of an object that the index has caught up with, if any."""
    visible = world.clock.now() - world.settings.search_lag
    if int(row.get("_changed") or row.get("created") or 0) <= visible:
        return row
    return row.get("_older")


def parse(query: str, kind: str) -> tuple[list[Clause], bool]:
    """The clauses, and whether all (AND) or any (OR) must hold."""
    fields = dict(RESOURCES[kind].search)
    clauses: list[Clause] = []
    joins: set[str] = set()
    at = 0
    while at < len(query):
        if clauses:
            join = _JOIN.match(query, at)
            joins.add(join[1].upper() if join else "AND")
            at = join.end() if join else at
        match = _CLAUSE.match(query, at)
        if match is None:
            raise _bad(f"We were unable to parse your search query near '{query[at : at + 20]}'.")
        clauses.append(_clause(match, fields))
        at = match.end()
    if not clauses:
        raise _bad("The search query is empty.")
    if len(clauses) > 10:
        raise _bad("A search query can have at most 10 clauses.")
    if len(joins) > 1:
        raise _bad("You cannot combine AND and OR in one search query.")
    return clauses, "OR" not in joins


def _clause(match: re.Match[str], fields: dict[str, str]) -> Clause:
    field, op = match["field"], match["op"]
    if field not in fields:
        raise _bad(f"Field `{field}` is an unsupported search field for resource. Supported: {', '.join(fields)}.")
    text = match["bare"] if match["q"] is None else re.sub(r"\\(.)", r"\1", match["text"])
    kind = fields[field]
    if (match["key"] is not None) != (kind == "metadata"):
        raise _bad(f"Field `{field}` is used with the wrong syntax.")
    if (op in (">", "<", ">=", "<=") and kind != "number") or (op == "~" and kind not in ("string", "metadata")):
        raise _bad(f"Operator `{op}` is not supported for field `{field}`.")
    null = match["q"] is None and text == "null"
    if op == "~" and len(text) < 3:
        raise _bad("Substring queries must be at least 3 characters long.")
    if kind == "number" and not null and not re.fullmatch(r"-?\d+", text):
        raise _bad(f"Field `{field}` needs a number.")
    return Clause(match["not"] is not None, field, match["key"], op, None if null else text, kind)


def _holds(world: World, row: Row, clause: Clause) -> bool:
    return _matches(_value(row, clause), clause) != clause.negated


def _value(row: Row, clause: Clause) -> Any:
    if clause.key is not None:
        return row.get("metadata", {}).get(clause.key)
    if clause.field == "subscription":
        return row.get("_subscription")
    return row.get(clause.field)


def _matches(value: Any, clause: Clause) -> bool:
    if clause.text is None or value is None:
        return value is None and clause.text is None
    if clause.kind == "number":
        bound = int(clause.text)
        return bool({":": value == bound, ">": value > bound, "<": value < bound, ">=": value >= bound,
                     "<=": value <= bound}[clause.op])  # fmt: skip
    have = str(value).lower()
    text = clause.text.lower()
    if clause.op == "~":
        return text in have
    if clause.kind == "string":  # words of the query, in order, as words of the value
        return have == text or re.search(rf"(?<!\w){re.escape(text)}(?!\w)", have) is not None
    return have == text


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(f"page:{start}".encode()).decode().rstrip("=")


def _page(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().removeprefix("page:"))
    except ValueError:
        raise StripeError("Invalid page token.", param="page", keep=False) from None


def _bad(message: str) -> StripeError:
    return StripeError(message, param="query", keep=False)
