"""WHERE and HAVING as Python predicates, with Salesforce's rules for null, case and types.

Two-valued logic: comparing null with <, <=, > or >= is false, != is true, and NOT turns that round.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from sync_pipeline.sandbox.salesforce import ids
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field
from sync_pipeline.sandbox.salesforce.soql import ast, dates
from sync_pipeline.sandbox.salesforce.values import parse_date, parse_datetime
from sync_pipeline.sandbox.store import Row

Predicate = Callable[[Row], bool]
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_MAX_STRING = 4000
_LIKE = re.DOTALL | re.IGNORECASE


class Operand:
    """The left side of a comparison: a field (or an aggregate that acts as one), how to read it, where it stands."""

    def __init__(self, field: Field, get: Callable[[Any], Any], at: int, error: Callable[..., SalesforceError]) -> None:
        self.field = field
        self.get = get
        self.at = at
        self.error = error


def compare(left: Operand, sign: str, literal: ast.Literal, now: int) -> Predicate:
    """A comparison with one literal. Raises SalesforceError when the types do not fit."""
    get, f = left.get, left.field
    if sign == "like":
        return _like(left, literal)
    if literal.kind == "named":
        return _named(left, sign, literal, now)
    value = kept(left, literal)
    if value is None:
        if sign not in ("=", "!="):
            raise left.error("INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on null: {sign}", left.at)
        equal = _is_null(left)
        return equal if sign == "=" else lambda row: not equal(row)
    key = f.index_key
    if sign in ("=", "!="):
        wanted = key(value)
        same: Predicate = lambda row: (v := get(row)) is not None and key(v) == wanted  # noqa: E731
        if f.type in NUMBER_TYPES or f.type in ("datetime", "date", "boolean"):
            same = lambda row: get(row) == value  # noqa: E731
        return same if sign == "=" else lambda row: not same(row)
    if f.type == "boolean":
        raise left.error("INVALID_QUERY_FILTER_OPERATOR", "invalid operator on boolean field", left.at)
    order = _ORDER[sign]
    if f.type in TEXT_TYPES - {"id", "reference"}:
        bound = key(value)
        return lambda row: (v := get(row)) is not None and order(key(v), bound)
    return lambda row: (v := get(row)) is not None and order(v, value)


def member(left: Operand, sign: str, literals: tuple[ast.Literal, ...], now: int) -> Predicate:
    """IN, NOT IN, INCLUDES or EXCLUDES with a list of literals."""
    get, f = left.get, left.field
    if sign in ("includes", "excludes"):
        return _includes(left, sign, literals)
    if any(literal.kind == "named" for literal in literals):
        any_of = [compare(left, "=", literal, now) for literal in literals]
        inside: Predicate = lambda row: any(test(row) for test in any_of)  # noqa: E731
    else:
        wanted = {f.index_key(kept(left, literal)) for literal in literals}
        empty = _is_null(left) if None in wanted else lambda row: False
        wanted.discard(None)
        key = f.index_key
        inside = lambda row: ((v := get(row)) is not None and key(v) in wanted) or empty(row)  # noqa: E731
    return inside if sign == "in" else lambda row: not inside(row)


def among(left: Operand, sign: str, values: set[Any]) -> Predicate:
    """IN or NOT IN with the result of a subquery."""
    get, key = left.get, left.field.index_key
    wanted = {key(v) for v in values if v is not None}
    if sign == "in":
        return lambda row: key(get(row)) in wanted
    return lambda row: key(get(row)) not in wanted


def _is_null(left: Operand) -> Predicate:
    get = left.get
    if left.field.type == "boolean":
        return lambda row: not get(row)
    return lambda row: get(row) is None


def kept(left: Operand, literal: ast.Literal) -> Any:
    """The literal in the form in which the field's values are kept. Raises SalesforceError on a wrong type."""
    f = left.field
    if literal.kind == "null" or (literal.kind == "string" and literal.value == ""):
        return None
    if literal.kind == "string" and len(literal.value) > _MAX_STRING:
        raise left.error(
            "MALFORMED_QUERY", f"a string in a WHERE clause has at most {_MAX_STRING} characters", literal.at
        )
    if f.type in ("id", "reference") and literal.kind == "string":
        record_id = ids.normalise(literal.value)
        if record_id is None:
            raise left.error("INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {literal.value}", left.at)
        return record_id
    if f.type in TEXT_TYPES and literal.kind == "string":
        return literal.value
    if f.type in NUMBER_TYPES and literal.kind in ("integer", "decimal"):
        return literal.value
    if f.type == "boolean" and literal.kind == "boolean":
        return literal.value
    if f.type == "datetime" and literal.kind == "datetime" and (moment := parse_datetime(literal.value)):
        return moment
    if f.type == "date" and literal.kind == "date" and (day := parse_date(literal.value)):
        return day
    raise _wrong_type(left)


def _wrong_type(left: Operand) -> SalesforceError:
    f = left.field
    kind = "string" if f.type in TEXT_TYPES else "dateTime" if f.type == "datetime" else f.type
    quotes = "should" if f.type in TEXT_TYPES else "should not"
    message = (
        f"value of filter criterion for field '{f.name}' must be of type {kind} and {quotes} be enclosed in quotes"
    )
    return left.error("INVALID_FIELD", message, left.at)


def _like(left: Operand, literal: ast.Literal) -> Predicate:
    f, get = left.field, left.get
    if f.type not in TEXT_TYPES or f.type in ("id", "reference"):
        kind = "id" if f.type in ("id", "reference") else f.type
        raise left.error("INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {kind} field", left.at)
    if literal.kind != "string":
        raise _wrong_type(left)
    # Escapes of \% and \_ survive the string's own unescaping.
    parts = re.findall(r"\\[%_]|.", literal.value, flags=re.DOTALL)
    pattern = "".join(re.escape(p[1]) if len(p) == 2 else {"%": ".*", "_": "."}.get(p, re.escape(p)) for p in parts)
    flags = re.DOTALL if f.case_sensitive else _LIKE
    match = re.compile(pattern, flags).fullmatch
    return lambda row: (v := get(row)) is not None and match(v) is not None


def _named(left: Operand, sign: str, literal: ast.Literal, now: int) -> Predicate:
    """A date literal is a stretch of time: equal means within, less means before it begins."""
    f, get = left.field, left.get
    name, n = literal.value
    found = dates.bounds(name, n, datetime.fromtimestamp(now, UTC).date())
    if found is None:
        raise left.error("MALFORMED_QUERY", f"unexpected token: '{literal.text}'", literal.at)
    if f.type not in ("date", "datetime"):
        raise _wrong_type(left)
    start, end = (_as_kept(f, day) for day in found)
    tests: dict[str, Predicate] = {
        "=": lambda row: (v := get(row)) is not None and start <= v < end,
        "!=": lambda row: (v := get(row)) is None or not start <= v < end,
        "<": lambda row: (v := get(row)) is not None and v < start,
        "<=": lambda row: (v := get(row)) is not None and v < end,
        ">": lambda row: (v := get(row)) is not None and v >= end,
        ">=": lambda row: (v := get(row)) is not None and v >= start,
    }
    return tests[sign]


def _as_kept(f: Field, day: date) -> str:
    return day.isoformat() if f.type == "date" else f"{day.isoformat()}T00:00:00.000+0000"


def _includes(left: Operand, sign: str, literals: tuple[ast.Literal, ...]) -> Predicate:
    if left.field.type != "multipicklist":
        raise left.error("INVALID_QUERY_FILTER_OPERATOR", "includes and excludes need a multi-select picklist", left.at)
    sets = [frozenset(str(kept(left, literal)).lower().split(";")) for literal in literals]
    get = left.get

    def includes(row: Row) -> bool:
        chosen = set((get(row) or "").lower().split(";"))
        return any(wanted <= chosen for wanted in sets)

    return includes if sign == "includes" else lambda row: not includes(row)
