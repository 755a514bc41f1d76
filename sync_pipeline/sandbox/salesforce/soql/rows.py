"""Which rows a query finds, in which order: WHERE, ORDER BY, LIMIT and OFFSET."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sync_pipeline.sandbox.salesforce.access import Access
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.schema import TEXT_TYPES, Field
from sync_pipeline.sandbox.salesforce.soql import ast, conditions
from sync_pipeline.sandbox.salesforce.soql.conditions import Operand, Predicate
from sync_pipeline.sandbox.salesforce.soql.parser import parse
from sync_pipeline.sandbox.salesforce.soql.scope import Scope, source_of
from sync_pipeline.sandbox.store import Row

_MAX_OFFSET = 2000


@dataclass(frozen=True)
class Session:
    """What one query runs in: the records, the user's access, the version's base path for record urls."""

    db: Database
    access: Access
    base: str
    deleted: bool = False


def matches(session: Session, object_name: str, where: str) -> Predicate:
    """The WHERE part of a query as a predicate on rows. Raises SalesforceError."""
    text = f"SELECT Id FROM {object_name} WHERE {where}"
    query = parse(text)
    return predicate(session, scope_of(session, text, query), query.where)


def matching(session: Session, scope: Scope, query: ast.Query, rows: Iterable[Row] | None = None) -> list[Row]:
    """The rows that meet WHERE, in order of id."""
    test = predicate(session, scope, query.where)
    if rows is None:
        rows = _candidates(scope, query.where)
    if session.deleted:
        return sorted((r for r in rows if test(r)), key=lambda r: r["Id"])
    return sorted((r for r in rows if not r.get("IsDeleted") and test(r)), key=lambda r: r["Id"])


def _candidates(scope: Scope, where: ast.Condition | None) -> Iterable[Row]:
    """The rows worth testing: those that an index finds for one of the conditions that must hold, else all."""
    if scope.db.visibility_delay:
        return scope.db.scan(scope.object)
    must = where.conditions if isinstance(where, ast.Junction) and where.every else (where,)
    for condition in must:
        literals: tuple[ast.Literal, ...]
        if isinstance(condition, ast.Compare) and condition.operator == "=" and isinstance(condition.left, ast.Path):
            path, literals = condition.left, (condition.right,)
        elif isinstance(condition, ast.Member) and condition.operator == "in":
            path, literals = condition.left, condition.values
        else:
            continue
        column = scope.column(path)
        if column.parents or any(literal.kind != "string" or not literal.value for literal in literals):
            continue
        operand = Operand(column.field, column.get, path.at, scope.error)
        values = [conditions.kept(operand, literal) for literal in literals]
        if column.field.indexed or column.field.type == "id":
            return scope.db.candidates(scope.object, column.field, values)
    return scope.db.scan(scope.object)


def predicate(session: Session, scope: Scope, where: ast.Condition | None) -> Predicate:
    if where is None:
        return lambda row: True
    semijoins = _semijoins(where, under_or=False, scope=scope)
    if len(semijoins) > 2:
        raise scope.error("MALFORMED_QUERY", "maximum 2 semi join sub-selects are allowed", semijoins[2].left.at)
    return _condition(session, scope, where)


def _condition(session: Session, scope: Scope, condition: ast.Condition) -> Predicate:
    now = scope.db.clock.now()
    if isinstance(condition, ast.Not):
        inner = _condition(session, scope, condition.condition)
        return lambda row: not inner(row)
    if isinstance(condition, ast.Junction):
        tests = [_condition(session, scope, c) for c in condition.conditions]
        if condition.every:
            return lambda row: all(test(row) for test in tests)
        return lambda row: any(test(row) for test in tests)
    operand = _operand(scope, condition.left)
    if isinstance(condition, ast.Compare):
        return conditions.compare(operand, condition.operator, condition.right, now)
    if isinstance(condition, ast.Member):
        return conditions.member(operand, condition.operator, condition.values, now)
    return conditions.among(operand, condition.operator, _semijoin_values(session, scope, condition))


def _operand(scope: Scope, left: ast.Path | ast.Call) -> Operand:
    if isinstance(left, ast.Call):
        raise scope.error("MALFORMED_QUERY", f"unexpected token: '{left.function}'", left.at)
    column = scope.column(left)
    if not column.field.filterable:
        message = f"field '{column.field.name}' can not be filtered in a query call"
        raise scope.error("INVALID_FIELD", message, left.at)
    return Operand(column.field, column.get, left.at, scope.error)


def _semijoins(where: ast.Condition, under_or: bool, scope: Scope) -> list[ast.SemiJoin]:
    if isinstance(where, ast.SemiJoin):
        if under_or:
            message = "Semi join sub-selects are not allowed with the 'OR' operator"
            raise scope.error("MALFORMED_QUERY", message, where.left.at)
        return [where]
    if isinstance(where, ast.Not):
        return _semijoins(where.condition, under_or, scope)
    if isinstance(where, ast.Junction):
        return [s for c in where.conditions for s in _semijoins(c, under_or or not where.every, scope)]
    return []


def _semijoin_values(session: Session, scope: Scope, join: ast.SemiJoin) -> set[Any]:
    inner = join.query
    source = source_of(session.access, scope.text, inner.source)
    nested = Scope(session.db, session.access, scope.text, source, inner.alias)
    problem = None
    if source.object is scope.object:
        problem = "The inner and outer selects should not be on the same object type"
    elif len(join.left.names) > 1:
        problem = "The left operand of a semi join cannot be a relationship path"
    elif len(inner.columns) != 1 or not isinstance(inner.columns[0], ast.Column) or is_aggregate(inner):
        problem = "A semi join sub-select must select exactly one field"
    elif inner.where is not None and _semijoins(inner.where, False, nested):
        problem = "Nesting of semi join sub-selects is not supported"
    elif join.operator not in ("in", "not in"):
        problem = f"unexpected token: '{join.operator}'"
    if problem:
        raise scope.error("MALFORMED_QUERY", problem, inner.at)
    selected = inner.columns[0].what  # type: ignore[union-attr]
    column = nested.column(selected)  # type: ignore[arg-type]
    if column.field.type not in ("id", "reference"):
        message = f"The selected field '{column.field.name}' in the subquery must be an id or a reference"
        raise scope.error("MALFORMED_QUERY", message, inner.at)
    rows = window(inner, in_order(nested, inner, matching(session, nested, inner)), nested)
    return {column.get(row) for row in rows}


def window(query: ast.Query, rows: list[Any], scope: Scope) -> list[Any]:
    offset = query.offset or 0
    if offset > _MAX_OFFSET:
        raise scope.error("NUMBER_OUTSIDE_VALID_RANGE", f"Maximum SOQL offset allowed is {_MAX_OFFSET}", query.at)
    if offset < 0 or (query.limit or 0) < 0:
        raise scope.error("MALFORMED_QUERY", "LIMIT and OFFSET must not be negative", query.at)
    return rows[offset : None if query.limit is None else offset + query.limit]


def in_order(scope: Scope, query: ast.Query, rows: list[Row]) -> list[Row]:
    for sort in reversed(query.order_by):
        if isinstance(sort.what, ast.Call):
            raise scope.error("MALFORMED_QUERY", "ORDER BY with a function needs GROUP BY", sort.what.at)
        column = scope.column(sort.what)
        if not column.field.filterable:
            message = f"field '{column.field.name}' can not be sorted in a query call"
            raise scope.error("INVALID_FIELD", message, sort.what.at)
        rows = sort_by(rows, column.get, sort_key(scope.db, column.field), sort)
    return rows


def sort_key(db: Database, f: Field) -> Callable[[Any], Any]:
    """How values of a field compare: text without case, picklists in the order of their set-up."""
    choices = {v.lower(): i for i, v in enumerate(db.choices(f))} if f.type == "picklist" else {}
    if choices:
        return lambda v: (choices.get(v.lower(), len(choices)), v.lower())
    return str.lower if f.type in TEXT_TYPES and f.type not in ("id", "reference") else lambda v: v


def sort_by(rows: list[Any], get: Callable[[Any], Any], key: Callable[[Any], Any], sort: ast.Sort) -> list[Any]:
    """Stable; nulls first unless the query says otherwise, also when descending."""
    nulls = [r for r in rows if get(r) is None]
    rest = sorted((r for r in rows if get(r) is not None), key=lambda r: key(get(r)), reverse=sort.descending)
    return rest + nulls if sort.nulls_last else nulls + rest


def scope_of(session: Session, text: str, query: ast.Query) -> Scope:
    return Scope(session.db, session.access, text, source_of(session.access, text, query.source), query.alias)


def is_aggregate(query: ast.Query) -> bool:
    calls = [c.what for c in query.columns if isinstance(c, ast.Column) and isinstance(c.what, ast.Call)]
    return bool(query.group_by) or any(c.function != "FIELDS" for c in calls)


def unsupported_function(scope: Scope, call: ast.Call) -> SalesforceError:
    return scope.error("MALFORMED_QUERY", f"unexpected token: '{call.function}'", call.at)
