"""composite/sobjects: up to 200 records in one call, one result per record in the order of the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from sync_pipeline.sandbox.salesforce import ids, recycle_bin
from sync_pipeline.sandbox.salesforce.access import ObjectAccess
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, bad_json
from sync_pipeline.sandbox.salesforce.rest.records import (
    check_upsert_allowed,
    key_field,
    read_field_names,
    representation,
    visible,
)
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed
from sync_pipeline.sandbox.salesforce.saving import Actor, Saver
from sync_pipeline.sandbox.salesforce.schema import Field, SObject
from sync_pipeline.sandbox.salesforce.values import accept
from sync_pipeline.sandbox.store import Row

_MAX_RECORDS = 200
_MAX_RETRIEVED = 2000
_MAX_CHUNKS = 10
_ROLLED_BACK = SalesforceError(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
)
RowWrite = Callable[[], dict[str, Any]]


def collection(request: Request) -> Answer:
    """POST (create), PATCH (update) or DELETE composite/sobjects"""
    if request.method == "DELETE":
        return _delete(request)
    if request.method not in ("POST", "PATCH"):
        raise method_not_allowed(request, "DELETE", "PATCH", "POST")
    records = _records(request)
    types = [_type_of(r) for r in records]
    chunks = sum(1 for _ in groupby(types, key=str.lower))
    if chunks > _MAX_CHUNKS:
        message = f"Cannot have more than {_MAX_CHUNKS} chunks per operation. Rearrange the data to reduce chunking."
        raise SalesforceError("INVALID_INPUT", message)
    write = _create if request.method == "POST" else _update
    return _run(request, [_bound(write, request, name, r) for name, r in zip(types, records, strict=True)])


def upsert(request: Request, name: str, field_name: str) -> Answer:
    """PATCH composite/sobjects/X/{external id field}"""
    if request.method != "PATCH":
        raise method_not_allowed(request, "PATCH")
    access = visible(request, name)
    f = key_field(access, field_name)
    if f is None:
        message = f"Field name provided, {field_name} is not an External ID or indexed field for {access.object.name}"
        raise SalesforceError("INVALID_FIELD", message)
    records = _records(request)
    for r in records:
        if _type_of(r).lower() != access.object.name.lower():
            raise SalesforceError("INVALID_INPUT", f"all records must be of type {access.object.name}")
    seen: dict[Any, int] = {}
    for r in records:
        key = f.index_key(_value(r, f))
        seen[key] = seen.get(key, 0) + 1
    return _run(
        request, [_bound(_upsert_row, request, access, f, r, seen[f.index_key(_value(r, f))] > 1) for r in records]
    )


def retrieve(request: Request, name: str) -> Answer:
    """GET ?ids=&fields= or POST {"ids", "fields"} composite/sobjects/X"""
    access = visible(request, name)
    if request.method == "GET":
        record_ids, names = request.params.get("ids", "").split(","), request.params.get("fields", "").split(",")
    elif request.method == "POST":
        record_ids, names = request.json_object.get("ids") or [], request.json_object.get("fields") or []
    else:
        raise method_not_allowed(request, "GET", "HEAD", "POST")
    _check_count(len(record_ids), _MAX_RETRIEVED)
    fields = read_field_names(access, [n for n in names if n])
    found: list[Row | None] = []
    for text in record_ids:
        record_id = ids.normalise(text)
        row = request.org.db.live(access.object, record_id)
        found.append(representation(request, access, row, fields) if row is not None else None)
    return Answer(200, found)


def result_of(row: Row, **more: Any) -> dict[str, Any]:
    return {"id": row["Id"], "success": True, "errors": []} | more


def failure(error: SalesforceError) -> dict[str, Any]:
    return {"success": False, "errors": [error.as_row_error()]}


def _run(request: Request, writes: list[RowWrite]) -> Answer:
    """Each write on its own, or all of them or none."""
    all_or_none = request.all_or_none or _all_or_none(request)
    results: list[dict[str, Any]] = []
    try:
        with request.org.store.transaction():
            for write in writes:
                try:
                    with request.org.store.transaction():
                        results.append(write())
                except SalesforceError as error:
                    results.append(failure(error))
            if all_or_none and not all(r["success"] for r in results):
                raise _ROLLED_BACK
    except SalesforceError:
        results = [failure(_ROLLED_BACK) if r["success"] else r for r in results]
    return Answer(200, results)


def _all_or_none(request: Request) -> bool:
    if request.method == "DELETE":
        return request.flag("allOrNone")
    value = request.json_object.get("allOrNone", False)
    if not isinstance(value, bool):
        raise bad_json(f"Cannot deserialize instance of boolean from value {value} at [allOrNone]")
    return value


def _bound(write: Callable[..., dict[str, Any]], *arguments: Any) -> RowWrite:
    return lambda: write(*arguments)


def _create(request: Request, name: str, record: dict[str, Any]) -> dict[str, Any]:
    access = _access(request, name)
    return result_of(request.org.saver.insert(access.object, record, request.actor))


def _update(request: Request, name: str, record: dict[str, Any]) -> dict[str, Any]:
    return result_of(update_record(request.org.saver, _access(request, name), record, request.actor))


def update_record(saver: Saver, access: ObjectAccess, record: dict[str, Any], actor: Actor) -> Row:
    """Updates the record whose id is one of the fields. Raises SalesforceError."""
    record = dict(record)
    given = next((record.pop(k) for k in list(record) if k.lower() == "id"), None)
    if given is None:
        raise SalesforceError("MISSING_ARGUMENT", "Id not specified in an update call", [])
    record_id = ids.normalise(given)
    if record_id is None or saver.db.schema.of_id(record_id) is not access.object:
        message = f"{access.object.label} ID: id value of incorrect type: {given}"
        raise SalesforceError("MALFORMED_ID", message, ["Id"])
    with _missing_is_a_wrong_reference():
        return saver.update(access.object, record_id, record, actor)


def _upsert_row(
    request: Request, access: ObjectAccess, f: Field, record: dict[str, Any], repeated: bool
) -> dict[str, Any]:
    check_upsert_allowed(request, f)
    return upsert_record(request.org.saver, access, f, record, request.actor, repeated)


def upsert_record(
    saver: Saver, access: ObjectAccess, f: Field, record: dict[str, Any], actor: Actor, repeated: bool
) -> dict[str, Any]:
    """Creates or updates the record that holds this external id, or has this id. Raises SalesforceError."""
    if f.type == "id":
        if _value(record, f):
            return result_of(update_record(saver, access, record, actor), created=False)
        others = {k: v for k, v in record.items() if k.lower() != "id"}
        return result_of(saver.insert(access.object, others, actor), created=True)
    if any(k.lower() == "id" for k in record):
        message = "The Id field should not be specified in the sobject data."
        raise SalesforceError("INVALID_FIELD", message, ["Id"])
    value = accept(f, _value(record, f))
    if value is None:
        raise SalesforceError("MISSING_ARGUMENT", f"{f.name} not specified", [])
    if repeated:
        raise SalesforceError("DUPLICATE_VALUE", f"Duplicate external id specified: {value}", [f.name])
    found = saver.db.where(access.object, f, value)
    if len(found) > 1:
        message = f"{f.name}: more than one record found for external id field: [{', '.join(r['Id'] for r in found)}]"
        raise SalesforceError("DUPLICATE_EXTERNAL_ID", message, [f.name])
    if found:
        others = {k: v for k, v in record.items() if k.lower() != f.name.lower()}
        return result_of(saver.update(access.object, found[0]["Id"], others, actor), created=False)
    return result_of(saver.insert(access.object, record, actor), created=True)


def _delete(request: Request) -> Answer:
    texts = [t for t in request.params.get("ids", "").split(",") if t]
    _check_count(len(texts))
    return _run(request, [_bound(_delete_row, request, text) for text in texts])


def _delete_row(request: Request, text: str) -> dict[str, Any]:
    return result_of({"Id": delete_record(request.org.saver, text, request.actor)})


def delete_record(saver: Saver, text: str, actor: Actor, o: SObject | None = None) -> str:
    """Deletes the record (of `o`, if that is given) with this id; returns the id. Raises SalesforceError."""
    record_id = ids.normalise(text)
    found = saver.db.schema.of_id(record_id) if record_id else None
    if record_id is None or found is None or o not in (None, found):
        raise SalesforceError("MALFORMED_ID", f"malformed id {text}", ["Id"])
    with _missing_is_a_wrong_reference():
        recycle_bin.delete(saver, found, record_id, actor)
    return record_id


@contextmanager
def _missing_is_a_wrong_reference() -> Iterator[None]:
    """In a row of many, a missing record is no wrong address."""
    try:
        yield
    except SalesforceError as error:
        if error.code == "NOT_FOUND":
            raise SalesforceError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", []) from None
        raise


def _records(request: Request) -> list[dict[str, Any]]:
    records = request.json_object.get("records")
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise bad_json("The HTTP entity body needs a list of records.")
    _check_count(len(records))
    return records


def _check_count(count: int, most: int = _MAX_RECORDS) -> None:
    if count > most:
        message = f"record limit reached. cannot submit more than {most} records in this call"
        raise SalesforceError("EXCEEDED_ID_LIMIT", message)


def attribute(record: dict[str, Any], name: str) -> Any:
    """What a record in a request says of itself in `attributes`; None if nothing."""
    attributes = record.get("attributes")
    return attributes.get(name) if isinstance(attributes, dict) else None


def _type_of(record: dict[str, Any]) -> str:
    kind = attribute(record, "type")
    if not isinstance(kind, str):
        raise SalesforceError("INVALID_INPUT", "each record needs attributes.type")
    return kind


def _access(request: Request, name: str) -> ObjectAccess:
    access = request.actor.access.get(name)
    if access is None:
        raise SalesforceError("INVALID_TYPE", f"sObject type '{name}' is not supported.", [])
    return access


def _value(record: dict[str, Any], f: Field) -> Any:
    return next((v for k, v in record.items() if k.lower() == f.name.lower()), None)
