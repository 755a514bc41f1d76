"""composite/tree: parents with their children in one insert, all or nothing."""

from __future__ import annotations

from typing import Any

from sync_pipeline.sandbox.salesforce.access import ObjectAccess
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, bad_json
from sync_pipeline.sandbox.salesforce.rest.collections import attribute
from sync_pipeline.sandbox.salesforce.rest.records import visible
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed

_MAX_RECORDS, _MAX_TYPES, _MAX_LEVELS = 200, 5, 5


class _Refused(Exception):
    """Some record of the tree was refused, so none stays."""


class _Planting:
    """One request: what was created so far, and what was refused."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.results: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.types: set[str] = set()
        self.references: set[str] = set()

    def plant(self, access: ObjectAccess, records: Any, link: dict[str, str], level: int) -> None:
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise bad_json("The HTTP entity body needs a list of records.")
        self.types.add(access.object.name)
        if level > _MAX_LEVELS or len(self.types) > _MAX_TYPES:
            raise SalesforceError("INVALID_INPUT", f"a tree has at most {_MAX_LEVELS} levels and {_MAX_TYPES} types")
        for record in records:
            self._plant_one(access, record, link, level)

    def _plant_one(self, access: ObjectAccess, record: dict[str, Any], link: dict[str, str], level: int) -> None:
        reference = attribute(record, "referenceId")
        if not isinstance(reference, str) or reference in self.references:
            raise SalesforceError("INVALID_INPUT", f"each record needs a referenceId of its own, not {reference!r}")
        self.references.add(reference)
        if len(self.references) > _MAX_RECORDS:
            raise SalesforceError("INVALID_INPUT", f"a tree has at most {_MAX_RECORDS} records")
        branches = {k: v for k, v in record.items() if isinstance(v, dict) and "records" in v}
        fields = {k: v for k, v in record.items() if k not in branches}
        try:
            row = self.request.org.saver.insert(access.object, fields | link, self.request.actor)
        except SalesforceError as error:
            self.errors.append({"referenceId": reference, "errors": [error.as_row_error()]})
            return
        self.results.append({"referenceId": reference, "id": row["Id"]})
        for name, branch in branches.items():
            child = self.request.org.schema.child(access.object.name, name)
            if child is None:
                message = f"No such relationship '{name}' on entity '{access.object.name}'"
                raise SalesforceError("INVALID_FIELD", message, [name])
            below = visible(self.request, child.object.name)
            self.plant(below, branch["records"], {child.field.name: row["Id"]}, level + 1)


def tree(request: Request, name: str) -> Answer:
    """POST composite/tree/X"""
    if request.method != "POST":
        raise method_not_allowed(request, "POST")
    planting = _Planting(request)
    try:
        with request.org.store.transaction():
            planting.plant(visible(request, name), request.json_object.get("records"), {}, 1)
            if planting.errors:
                raise _Refused
    except _Refused:
        return Answer(400, {"hasErrors": True, "results": planting.errors})
    return Answer(201, {"hasErrors": False, "results": planting.results})
