"""Ingest jobs: rows of CSV inserted, updated, upserted or deleted, each on its own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sync_pipeline.sandbox.salesforce.access import ObjectAccess
from sync_pipeline.sandbox.salesforce.bulk import csv_text, jobs
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.rest.collections import delete_record, update_record, upsert_record
from sync_pipeline.sandbox.salesforce.rest.records import key_field
from sync_pipeline.sandbox.salesforce.saving import Actor
from sync_pipeline.sandbox.store import Row

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org

_NULL = "#N/A"


class BatchError(Exception):
    """The whole file is refused."""


def run(org: Org, job: Row) -> None:
    """Processes the upload. Committed rows stay, whatever happens after them."""
    info = job["info"]
    actor = org.api_actor(job["user"])
    try:
        header, rows = csv_text.read(job["data"], info["columnDelimiter"], info["lineEnding"])
    except csv_text.CsvError as error:
        _finish(org, job, [], [], [], header=[], failure=f"ClientInputError : {error}")
        return
    try:
        write = _writer(org, actor, info, header, rows)
    except BatchError as error:
        _finish(org, job, [], [], _readable(header, rows), header=header, failure=f"InvalidBatch : {error}")
        return
    stop = org.fail_job_after if org.fail_job_after is not None else len(rows)
    good: list[list[str]] = []
    bad: list[list[str]] = []
    for row in rows[:stop]:
        cells = row if isinstance(row, list) else [""] * len(header)
        try:
            if isinstance(row, str):
                raise SalesforceError("INVALID_CSV", row, [])
            with org.store.transaction():
                record_id, created = write(row)
            good.append([record_id, str(created).lower(), *cells])
        except SalesforceError as error:
            bad.append([_given_id(header, cells), _error_text(error), *cells])
    unprocessed = _readable(header, rows[stop:])
    failure = "TooManyLockFailure : the job gave up after too many retries" if unprocessed else None
    _finish(org, job, good, bad, unprocessed, header=header, failure=failure)


def _readable(header: list[str], rows: list[list[str] | str]) -> list[list[str]]:
    return [row if isinstance(row, list) else [""] * len(header) for row in rows]


def _finish(
    org: Org,
    job: Row,
    good: list[list[str]],
    bad: list[list[str]],
    unprocessed: list[list[str]],
    *,
    header: list[str],
    failure: str | None,
) -> None:
    order = random.Random(job["info"]["id"])
    order.shuffle(good)
    order.shuffle(bad)
    results = {"header": header, "successful": good, "failed": bad, "unprocessed": unprocessed}
    org.fail_job_after = None
    jobs.save(
        org,
        job | {"results": results, "data": ""},
        state="Failed" if failure else "JobComplete",
        numberRecordsProcessed=len(good) + len(bad),
        numberRecordsFailed=len(bad),
        errorMessage=failure,
    )


def _writer(
    org: Org, actor: Actor, info: Row, header: list[str], rows: list[list[str] | str]
) -> Callable[[list[str]], tuple[str, bool]]:
    """How one row is written; returns the id and whether it was created. Raises BatchError."""
    access = actor.access.get(info["object"])
    if access is None:
        raise BatchError(f"Object not found: {info['object']}")
    operation = info["operation"]
    twice = next((n for i, n in enumerate(header) if n.lower() in {h.lower() for h in header[:i]}), None)
    if twice is not None:
        raise BatchError(f"Field name provided more than once : {twice}")
    columns = [_column(org, access, name) for name in header]
    if operation in ("delete", "hardDelete"):
        if [name.lower() for name in header] != ["id"]:
            raise BatchError("delete batch must contain only 'Id'")
        return lambda row: _delete(org, access, row[0], actor, hard=operation == "hardDelete")
    if operation == "insert":
        return lambda row: (org.saver.insert(access.object, _fields(columns, row), actor)["Id"], True)
    if operation == "update":
        return lambda row: (update_record(org.saver, access, _fields(columns, row), actor)["Id"], False)
    return _upserter(org, access, info, columns, rows, actor)


def _upserter(
    org: Org, access: ObjectAccess, info: Row, columns: list[list[str]], rows: list[list[str] | str], actor: Actor
) -> Callable[[list[str]], tuple[str, bool]]:
    f = key_field(access, info.get("externalIdFieldName") or "")
    if f is None:
        raise BatchError(f"Field name not found : {info.get('externalIdFieldName')}")
    if f.external_id and not f.unique and not org.may_view_all_data(actor):
        raise BatchError(f"{f.name} is not unique: upsert by it needs the View All Data permission")
    at = next((i for i, c in enumerate(columns) if c == [f.name]), None)
    if at is None:
        raise BatchError(f"External ID field {f.name} is missing from the header")
    given = Counter(f.index_key(r[at]) for r in rows if isinstance(r, list) and r[at])

    def write(row: list[str]) -> tuple[str, bool]:
        repeated = given[f.index_key(row[at])] > 1
        result = upsert_record(org.saver, access, f, _fields(columns, row), actor, repeated)
        return result["id"], result["created"]

    return write


def _delete(org: Org, access: ObjectAccess, text: str, actor: Actor, *, hard: bool) -> tuple[str, bool]:
    record_id = delete_record(org.saver, text, actor, access.object)
    if hard:
        org.db.remove(access.object, record_id)
    return record_id, False


def _column(org: Org, access: ObjectAccess, name: str) -> list[str]:
    """A header name as a path: a field, or relationship and key field, or type, relationship and key field."""
    kind, _, path = name.rpartition(":")
    names = path.split(".")
    if len(names) == 1 and not kind:
        f = access.readable.get(name.lower())
        if f is not None:
            return [f.name]
    elif len(names) == 2:
        reference = access.object.by_relationship.get(names[0].lower())
        if reference is not None and bool(kind) == (len(reference.to) > 1):
            target = org.schema.get(kind or reference.to[0])
            key = target.by_name.get(names[1].lower()) if target else None
            if target is not None and key is not None and (key.external_id or key.id_lookup or key.type == "id"):
                return [reference.relationship or "", key.name, *([target.name] if kind else [])]
    raise BatchError(f"Field name not found : {name}")


def _fields(columns: list[list[str]], row: list[str]) -> dict[str, Any]:
    """A row as the fields of a record: an empty cell says nothing, #N/A says null."""
    fields: dict[str, Any] = {}
    for column, text in zip(columns, row, strict=True):
        if text == "":
            continue
        value = None if text == _NULL else text
        if len(column) == 1:
            fields[column[0]] = value
        else:
            fields[column[0]] = {column[1]: value} | ({"attributes": {"type": column[2]}} if len(column) > 2 else {})
    return fields


def _given_id(header: list[str], row: list[str]) -> str:
    return next((v for n, v in zip(header, row, strict=True) if n.lower() == "id"), "")


def _error_text(error: SalesforceError) -> str:
    # A cell has no JSON type: what cannot be read as the field's type has a code of its own here.
    code = "INVALID_TYPE_ON_FIELD_IN_RECORD" if error.code == "JSON_PARSER_ERROR" else error.code
    return f"{code}:{error.message}:{','.join(error.fields or [])} --"
