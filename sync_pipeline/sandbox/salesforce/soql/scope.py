"""What the names in a query mean to the user who asks: objects, fields, paths to parents, children.

A name that does not exist and one that the user may not see give the same error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sync_pipeline.sandbox.salesforce.access import Access, ObjectAccess
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.schema import Child, Field, SObject
from sync_pipeline.sandbox.salesforce.soql import ast
from sync_pipeline.sandbox.salesforce.soql.parser import error
from sync_pipeline.sandbox.store import Row

_HINT = " Please reference your WSDL or the describe call for the appropriate names."
_MAX_PARENTS = 5
Getter = Callable[[Row], Any]


@dataclass(frozen=True)
class Column:
    """A field reached from the query's object over `parents`; `get` reads it from a row of that object."""

    field: Field
    object: SObject
    parents: tuple[Field, ...]
    get: Getter


class Scope:
    """Names within one FROM."""

    def __init__(self, db: Database, access: Access, text: str, source: ObjectAccess, alias: str | None) -> None:
        self.db = db
        self.access = access
        self.text = text
        self.source = source
        self.object = source.object
        self._prefixes = {self.object.name.lower()} | ({alias.lower()} if alias else set())

    def error(self, code: str, message: str, at: int) -> SalesforceError:
        return error(code, message, self.text, at)

    def column(self, path: ast.Path) -> Column:
        """The field at the end of a path. Raises SalesforceError INVALID_FIELD."""
        names = path.names
        if len(names) > 1 and names[0].lower() in self._prefixes and names[0].lower() not in self._parents(self.source):
            names = names[1:]
        here, parents = self.source, []
        for name in names[:-1]:
            reference = self._parents(here).get(name.lower())
            target = self._target(reference) if reference else None
            if reference is None or target is None:
                message = (
                    f"Didn't understand relationship '{name}' in field path. If you are attempting to use a "
                    "custom relationship, be sure to append the '__r' after the custom relationship name." + _HINT
                )
                raise self.error("INVALID_FIELD", message, path.at)
            parents.append(reference)
            here = target
        if len(parents) > _MAX_PARENTS:
            raise self.error("INVALID_FIELD", "a relationship path can cross at most 5 parents", path.at)
        f = here.readable.get(names[-1].lower())
        if f is None and parents and len(parents[-1].to) > 1 and names[-1].lower() == "type":
            f = Field("Type", "string", "Type")
        if f is None:
            message = (
                f"No such column '{names[-1]}' on entity '{here.object.name}'. If you are attempting to use a "
                "custom field, be sure to append the '__c' after the custom field name." + _HINT
            )
            raise self.error("INVALID_FIELD", message, path.at)
        return Column(f, here.object, tuple(parents), self._getter(tuple(parents), f))

    def child(self, path: ast.Path) -> Child:
        """The relationship that a subquery's FROM names. Raises SalesforceError INVALID_TYPE."""
        child = self.db.schema.child(self.object.name, path.names[-1])
        visible = self.access.get(child.object.name) if child else None
        if child is None or visible is None or child.field.name.lower() not in visible.readable:
            message = (
                f"Didn't understand relationship '{path.names[-1]}' in FROM part of query call. If you are "
                "attempting to use a custom relationship, be sure to append the '__r' after the custom "
                "relationship name." + _HINT
            )
            raise self.error("INVALID_TYPE", message, path.at)
        return child

    def _parents(self, access: ObjectAccess) -> dict[str, Field]:
        found = access.object.by_relationship
        return {name: f for name, f in found.items() if f.name.lower() in access.readable}

    def _target(self, reference: Field) -> ObjectAccess | None:
        """The object on the other end; a reference to several objects shows only what they all are: a Name."""
        if len(reference.to) == 1:
            return self.access.get(reference.to[0])
        return _NAME

    def _getter(self, parents: tuple[Field, ...], f: Field) -> Getter:
        if f.type == "address":
            return _address_of(parents, f.name, self.db)
        name = f.name
        if not parents:
            return lambda row: row.get(name)
        keys = [p.name for p in parents]
        by_id = self.db.by_id

        def through_parents(row: Row) -> Any:
            parent: Row | None = row
            for key in keys:
                parent = by_id(parent.get(key)) if parent else None
            if parent is None:
                return None
            if name == "Type" and len(parents[-1].to) > 1:
                o = self.db.schema.of_id(parent["Id"])
                return o.name if o else None
            if name == "Name":
                o = self.db.schema.of_id(parent["Id"])
                return parent.get(o.name_field.name) if o and o.name_field else None
            return parent.get(name)

        return through_parents


def source_of(access: Access, text: str, path: ast.Path) -> ObjectAccess:
    """The object that FROM names. Raises SalesforceError INVALID_TYPE."""
    found = access.get(path.names[0]) if len(path.names) == 1 else None
    if found is None:
        message = (
            f"sObject type '{'.'.join(path.names)}' is not supported. If you are attempting to use a custom "
            "object, be sure to append the '__c' after the entity name." + _HINT
        )
        raise error("INVALID_TYPE", message, text, path.at)
    return found


def address(row: Row, name: str) -> dict[str, Any] | None:
    """A compound address from its components, null when they all are."""
    prefix = name.removesuffix("Address")
    parts = ("City", "Country", "GeocodeAccuracy", "Latitude", "Longitude", "PostalCode", "State", "Street")
    value = {p[0].lower() + p[1:]: row.get(f"{prefix}{p}") for p in parts}
    return value if any(v is not None for v in value.values()) else None


def _address_of(parents: tuple[Field, ...], name: str, db: Database) -> Getter:
    def get(row: Row) -> Any:
        holder: Row | None = row
        for parent in parents:
            holder = db.by_id(holder.get(parent.name)) if holder else None
        return address(holder, name) if holder else None

    return get


def _name_object() -> ObjectAccess:
    fields = {"Id": Field("Id", "id"), "Name": Field("Name", "string", length=255)}
    o = SObject("Name", "", "Name", "Names", fields)
    return ObjectAccess(o, o.by_name, frozenset(), frozenset(), False, False, False)


_NAME = _name_object()
