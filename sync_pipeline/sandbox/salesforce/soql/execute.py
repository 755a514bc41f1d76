"""Runs a query and shapes the records of the response, in the order of the SELECT list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.schema import Field
from sync_pipeline.sandbox.salesforce.soql import ast
from sync_pipeline.sandbox.salesforce.soql.aggregate import Result, aggregate
from sync_pipeline.sandbox.salesforce.soql.parser import parse
from sync_pipeline.sandbox.salesforce.soql.rows import (
    Session,
    in_order,
    is_aggregate,
    matching,
    predicate,
    scope_of,
    window,
)
from sync_pipeline.sandbox.salesforce.soql.scope import Column, Scope
from sync_pipeline.sandbox.store import Row

_MAX_UNBOUNDED = 200


def run(session: Session, text: str) -> Result:
    """The records that a query finds. Raises SalesforceError."""
    query = parse(text)
    scope = scope_of(session, text, query)
    if is_aggregate(query):
        return aggregate(session, scope, query, matching(session, scope, query))
    shape = Shape(session, scope, query)
    rows = window(query, in_order(scope, query, matching(session, scope, query)), scope)
    records = [shape.record(row) for row in rows]
    return Result(len(records), [r for r, _ in records], [w for _, w in records], shape.names)


class Shape:
    """Turns rows into the records of a response, in the order of the SELECT list."""

    def __init__(self, session: Session, scope: Scope, query: ast.Query) -> None:
        self._session = session
        self._scope = scope
        self._root: dict[str, Any] = {}
        self.names: list[str] = []
        for item in query.columns:
            if isinstance(item, ast.Query):
                self._add_subquery(item)
            elif isinstance(item.what, ast.Call):
                self._add_all(item.what, query)
            else:
                if item.alias:
                    message = "only aggregate expressions use field aliasing"
                    raise scope.error("MALFORMED_QUERY", message, item.what.at)
                self._add(scope.column(item.what), item.what.at)

    def record(self, row: Row) -> tuple[dict[str, Any], int]:
        """The record and how much of a page it takes."""
        weight = 1
        record: dict[str, Any] = {"attributes": self._attributes(row["Id"])}
        for name, part in self._root.items():
            if isinstance(part, _Children):
                record[name], rows = part.of(row)
                weight += rows
            else:
                record[name] = part(row)
        return record, weight

    def _attributes(self, record_id: str) -> dict[str, str]:
        o = self._session.db.schema.of_id(record_id)
        name = o.name if o else "Name"
        return {"type": name, "url": f"{self._session.base}/sobjects/{name}/{record_id}"}

    def _add(self, column: Column, at: int) -> None:
        here = self._root
        names = [p.relationship or "" for p in column.parents]
        for depth, name in enumerate(names):
            node = here.get(name)
            if node is None:
                node = here[name] = _Parent(self._session.db, column.parents[: depth + 1], self._attributes)
            here = node.parts
        if column.field.name in here:
            raise self._scope.error("INVALID_FIELD", f"duplicate field selected: {column.field.name}", at)
        here[column.field.name] = column.get
        self.names.append(".".join([*names, column.field.name]))

    def _add_all(self, call: ast.Call, query: ast.Query) -> None:
        kind = call.path.names[0].upper() if call.path and len(call.path.names) == 1 else ""
        if kind not in ("ALL", "STANDARD", "CUSTOM"):
            raise self._scope.error("MALFORMED_QUERY", "FIELDS takes ALL, STANDARD or CUSTOM", call.at)
        if kind != "STANDARD" and (query.limit is None or query.limit > _MAX_UNBOUNDED):
            message = "The SOQL FIELDS function must have a LIMIT of at most 200"
            raise self._scope.error("MALFORMED_QUERY", message, call.at)
        for f in self._scope.source.readable.values():
            if kind == "ALL" or f.custom == (kind == "CUSTOM"):
                self._add(self._scope.column(ast.Path((f.name,), call.at)), call.at)

    def _add_subquery(self, query: ast.Query) -> None:
        child = self._scope.child(query.source)
        visible = self._session.access.get(child.object.name)
        assert visible is not None
        if is_aggregate(query):
            raise self._scope.error("MALFORMED_QUERY", "a subquery cannot aggregate", query.at)
        scope = Scope(self._session.db, self._session.access, self._scope.text, visible, query.alias)
        shape = Shape(self._session, scope, query)
        in_order(scope, query, [])
        predicate(self._session, scope, query.where)

        def of(row: Row) -> tuple[dict[str, Any] | None, int]:
            found = scope.db.candidates(child.object, child.field, [row["Id"]])
            rows = window(query, in_order(scope, query, matching(self._session, scope, query, found)), scope)
            if not rows:
                return None, 0
            records = [shape.record(r)[0] for r in rows]
            return {"totalSize": len(records), "done": True, "records": records}, len(records)

        self._root[child.field.children or ""] = _Children(of)


@dataclass(frozen=True)
class _Children:
    of: Callable[[Row], tuple[dict[str, Any] | None, int]]


class _Parent:
    """A parent record nested in a record."""

    def __init__(self, db: Database, parents: tuple[Field, ...], attributes: Callable[[str], dict[str, str]]) -> None:
        self._db = db
        self._keys = [p.name for p in parents]
        self._attributes = attributes
        self.parts: dict[str, Any] = {}

    def __call__(self, row: Row) -> dict[str, Any] | None:
        parent: Row | None = row
        for key in self._keys:
            parent = self._db.by_id(parent.get(key)) if parent else None
        if parent is None:
            return None
        record: dict[str, Any] = {"attributes": self._attributes(parent["Id"])}
        return record | {name: part(row) for name, part in self.parts.items()}
