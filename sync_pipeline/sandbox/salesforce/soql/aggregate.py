"""COUNT, SUM, MIN, MAX and AVG, with GROUP BY and HAVING."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sync_pipeline.sandbox.salesforce.schema import NUMBER_TYPES, Field
from sync_pipeline.sandbox.salesforce.soql import ast, conditions
from sync_pipeline.sandbox.salesforce.soql.conditions import Operand, Predicate
from sync_pipeline.sandbox.salesforce.soql.rows import Session, sort_by, sort_key, unsupported_function, window
from sync_pipeline.sandbox.salesforce.soql.scope import Scope
from sync_pipeline.sandbox.salesforce.values import decimal_of, double_of
from sync_pipeline.sandbox.store import Row

Group = tuple[Row, list[Row]]


@dataclass
class Result:
    """`total` counts every match; `weights` says how much of a page each record takes, its children included."""

    total: int
    records: list[dict[str, Any]] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


def aggregate(session: Session, scope: Scope, query: ast.Query, rows: list[Row]) -> Result:
    """One record per group, or one for all rows without GROUP BY; COUNT() alone only counts."""
    only = query.columns[0] if len(query.columns) == 1 else None
    if isinstance(only, ast.Column) and isinstance(only.what, ast.Call) and only.what.path is None:
        if only.what.function != "COUNT" or query.order_by or query.group_by:
            raise unsupported_function(scope, only.what)
        return Result(len(window(query, rows, scope)))
    columns = _columns(scope, query)
    groups = _groups(scope, query, rows)
    if query.having:
        test = _having(scope, query, query.having)
        groups = [g for g in groups if test(g)]  # type: ignore[arg-type]
    for sort in reversed(query.order_by):
        operand = _operand(scope, query, sort.what)
        groups = sort_by(groups, operand.get, sort_key(session.db, operand.field), sort)
    groups = window(query, groups, scope)
    records = [
        {"attributes": {"type": "AggregateResult"}} | {name: get(group) for name, get in columns} for group in groups
    ]
    return Result(len(records), records, [1] * len(records), [name for name, _ in columns])


def _columns(scope: Scope, query: ast.Query) -> list[tuple[str, Callable[[Group], Any]]]:
    columns: list[tuple[str, Callable[[Group], Any]]] = []
    unnamed = 0
    for column in query.columns:
        if isinstance(column, ast.Query):
            raise scope.error("MALFORMED_QUERY", "a subquery cannot stand beside an aggregate", column.at)
        name = column.alias
        if name is None and isinstance(column.what, ast.Call):
            name, unnamed = f"expr{unnamed}", unnamed + 1
        operand = _operand(scope, query, column.what)
        columns.append((name or operand.field.name, operand.get))
    return columns


def _groups(scope: Scope, query: ast.Query, rows: list[Row]) -> list[Group]:
    if not query.group_by:
        return [({}, rows)]
    columns = [scope.column(path) for path in query.group_by]
    for column, path in zip(columns, query.group_by, strict=True):
        if not column.field.groupable:
            message = f"field '{column.field.name}' can not be grouped in a query call"
            raise scope.error("INVALID_FIELD", message, path.at)
    groups: dict[tuple[Any, ...], Group] = {}
    for row in rows:
        key = tuple(c.field.index_key(c.get(row)) for c in columns)
        groups.setdefault(key, (row, []))[1].append(row)
    return list(groups.values())


def _operand(scope: Scope, query: ast.Query, what: ast.Path | ast.Call) -> Operand:
    """A grouped field or an aggregate, read from a group."""
    if isinstance(what, ast.Path):
        column = scope.column(what)
        if column not in [scope.column(path) for path in query.group_by] and not any(
            scope.column(path).field is column.field and scope.column(path).parents == column.parents
            for path in query.group_by
        ):
            message = f"Field must be grouped or aggregated: {column.field.name}"
            raise scope.error("MALFORMED_QUERY", message, what.at)
        return Operand(column.field, lambda group: column.get(group[0]), what.at, scope.error)
    if what.function not in _FUNCTIONS or what.path is None:
        raise unsupported_function(scope, what)
    column = scope.column(what.path)
    f, get = column.field, column.get
    numeric = what.function in ("SUM", "AVG")
    if (numeric and f.type not in NUMBER_TYPES) or f.type in ("boolean", "address", "textarea"):
        message = f"field {f.name} does not support aggregate operator {what.function}"
        raise scope.error("INVALID_FIELD", message, what.at)
    function = _FUNCTIONS[what.function]
    result = Field(f.name, "int") if what.function.startswith("COUNT") else f
    return Operand(
        result, lambda group: function(f, [v for r in group[1] if (v := get(r)) is not None]), what.at, scope.error
    )


def _having(scope: Scope, query: ast.Query, condition: ast.Condition) -> Predicate:
    now = scope.db.clock.now()
    if isinstance(condition, ast.Not):
        inner = _having(scope, query, condition.condition)
        return lambda group: not inner(group)
    if isinstance(condition, ast.Junction):
        tests = [_having(scope, query, c) for c in condition.conditions]
        combine = all if condition.every else any
        return lambda group: combine(test(group) for test in tests)
    if isinstance(condition, ast.SemiJoin):
        raise scope.error("MALFORMED_QUERY", "a semi join is not allowed in HAVING", condition.left.at)
    operand = _operand(scope, query, condition.left)
    if isinstance(condition, ast.Compare):
        return conditions.compare(operand, condition.operator, condition.right, now)
    return conditions.member(operand, condition.operator, condition.values, now)


def _sum(f: Field, values: list[Any]) -> float | None:
    return double_of(sum((decimal_of(v) for v in values), decimal_of(0))) if values else None


def _average(f: Field, values: list[Any]) -> float | None:
    total = sum((decimal_of(v) for v in values), decimal_of(0))
    return double_of(total / len(values)) if values else None


def _least(f: Field, values: list[Any]) -> Any:
    return min(values, key=f.index_key) if values else None


def _greatest(f: Field, values: list[Any]) -> Any:
    return max(values, key=f.index_key) if values else None


_FUNCTIONS: dict[str, Callable[[Field, list[Any]], Any]] = {
    "COUNT": lambda f, values: len(values),
    "COUNT_DISTINCT": lambda f, values: len({f.index_key(v) for v in values}),
    "SUM": _sum,
    "AVG": _average,
    "MIN": _least,
    "MAX": _greatest,
}
