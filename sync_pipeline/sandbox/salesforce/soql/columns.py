"""What the columns of a query are, for clients that ask with `columns=true` before they read the rows."""

from __future__ import annotations

from typing import Any

from sync_pipeline.sandbox.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field
from sync_pipeline.sandbox.salesforce.soql import ast
from sync_pipeline.sandbox.salesforce.soql.parser import parse
from sync_pipeline.sandbox.salesforce.soql.rows import Session, scope_of
from sync_pipeline.sandbox.salesforce.soql.scope import Scope

_APEX_TYPES = {
    "id": "Id",
    "reference": "Id",
    "boolean": "Boolean",
    "int": "Integer",
    "double": "Double",
    "currency": "Double",
    "percent": "Double",
    "date": "Date",
    "datetime": "Datetime",
}


def describe_columns(session: Session, text: str) -> dict[str, Any]:
    """The body of GET query?q=...&columns=true. Raises SalesforceError as the query itself would."""
    query = parse(text)
    scope = scope_of(session, text, query)
    return {
        "columnMetadata": _columns(session, scope, query),
        "entityName": scope.object.name,
        "groupBy": bool(query.group_by),
        "idSelected": any(isinstance(c, ast.Column) and _is_id(c.what) for c in query.columns),
        "keyPrefix": scope.object.prefix,
    }


def _columns(session: Session, scope: Scope, query: ast.Query) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = []
    unnamed = 0
    for item in query.columns:
        if isinstance(item, ast.Query):
            child = scope.child(item.source)
            visible = session.access.get(child.object.name)
            assert visible is not None
            below = Scope(session.db, session.access, scope.text, visible, item.alias)
            name = child.field.children or ""
            columns.append(_column(name, name, None, aggregate=True, joined=_columns(session, below, item)))
        elif isinstance(item.what, ast.Call) and item.what.function == "FIELDS":
            columns += [_column(f.name, f.name, f) for f in scope.source.readable.values()]
        elif isinstance(item.what, ast.Call):
            f = scope.column(item.what.path).field if item.what.path else None
            name = item.alias or f"expr{unnamed}"
            unnamed += item.alias is None
            shown = f"{item.what.function.lower()}({f.name if f else ''})"
            columns.append(_column(name, shown, f, aggregate=True))
        else:
            _add(columns, scope, item.what)
    return columns


def _add(columns: list[dict[str, Any]], scope: Scope, path: ast.Path) -> None:
    column = scope.column(path)
    here = columns
    for parent in column.parents:
        found = next((c for c in here if c["columnName"] == parent.relationship and c["joinColumns"]), None)
        if found is None:
            found = _column(parent.relationship or "", parent.relationship or "", None)
            here.append(found)
        here = found["joinColumns"]
    here.append(_column(column.field.name, column.field.name, column.field))


def _column(
    name: str, shown: str, f: Field | None, *, aggregate: bool = False, joined: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    kind = f.type if f else ""
    return {
        "aggregate": aggregate,
        "apexType": _APEX_TYPES.get(kind, "String"),
        "booleanType": kind == "boolean",
        "columnName": name,
        "custom": bool(f and f.custom),
        "displayName": shown,
        "foreignKeyName": None,
        "insertable": bool(f and f.createable),
        "joinColumns": joined or [],
        "numberType": kind in NUMBER_TYPES,
        "textType": kind in TEXT_TYPES - {"id", "reference"},
        "updatable": bool(f and f.updateable),
    }


def _is_id(what: ast.Path | ast.Call) -> bool:
    return isinstance(what, ast.Path) and what.names[-1].lower() == "id"
