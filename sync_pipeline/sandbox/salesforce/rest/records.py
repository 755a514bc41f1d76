"""Single records: create, read, update, delete, and the same by external id."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sync_pipeline.sandbox.salesforce import ids, recycle_bin
from sync_pipeline.sandbox.salesforce.access import ObjectAccess
from sync_pipeline.sandbox.salesforce.describe import describe, describe_global
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, not_found
from sync_pipeline.sandbox.salesforce.rest.conditional import check_dates, check_preconditions, etag
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed
from sync_pipeline.sandbox.salesforce.schema import Field
from sync_pipeline.sandbox.salesforce.soql.scope import address
from sync_pipeline.sandbox.salesforce.values import accept
from sync_pipeline.sandbox.store import Row


def objects(request: Request) -> Answer:
    """GET sobjects"""
    if request.method != "GET":
        raise method_not_allowed(request, "GET", "HEAD")
    check_dates(request, request.org.configured_at)
    return Answer(200, describe_global(request.actor.access, request.base))


def collection(request: Request, name: str) -> Answer:
    """GET (what the object is) or POST (create) sobjects/X"""
    access = visible(request, name)
    if request.method == "GET":
        summary = describe_global(request.actor.access, request.base)["sobjects"]
        return Answer(
            200, {"objectDescribe": next(s for s in summary if s["name"] == access.object.name), "recentItems": []}
        )
    if request.method != "POST":
        raise method_not_allowed(request, "GET", "HEAD", "POST")
    row = request.org.saver.insert(access.object, request.json_object, request.actor)
    return created(request, access, row)


def described(request: Request, name: str) -> Answer:
    access = visible(request, name)
    check_dates(request, request.org.configured_at)
    return Answer(200, describe(request.org.db, request.actor.access, access, request.base))


def counted(request: Request) -> Answer:
    """GET limits/recordCount?sObjects=A,B: how many records there are; without names, of every object."""
    if request.method != "GET":
        raise method_not_allowed(request, "GET", "HEAD")
    named = [n.strip() for n in request.params.get("sObjects", "").split(",") if n.strip()]
    seen = request.actor.access
    found = [seen.get(name) for name in named] if named else seen.objects.values()
    counts = {each.object.name: sum(1 for row in request.org.db.scan(each.object) if not row.get("IsDeleted"))
              for each in found if each is not None}  # fmt: skip
    return Answer(200, {"sObjects": [{"count": n, "name": name} for name, n in sorted(counts.items())]})


def record(request: Request, name: str, key: str) -> Answer:
    """GET, PATCH or DELETE sobjects/X/{id}; POST sobjects/X/Id creates."""
    access = visible(request, name)
    if request.method == "POST" and key.lower() == "id":
        return created(request, access, request.org.saver.insert(access.object, request.json_object, request.actor))
    record_id = ids.normalise(key)
    if record_id is None or request.org.db.schema.of_id(record_id) is not access.object:
        raise not_found()
    if request.method == "GET":
        row = request.org.saver.existing(access.object, record_id)
        check_preconditions(request, access.object, row)
        headers = {"ETag": etag(row)} if access.object.name == "Account" else {}
        return Answer(200, representation(request, access, row, fields_asked(request, access)), headers)
    if request.method == "PATCH":
        check_preconditions(request, access.object, request.org.saver.existing(access.object, record_id))
        body = request.json_object
        if any(k.lower() == "id" for k in body):
            message = "The Id field should not be specified in the sobject data."
            raise SalesforceError("INVALID_FIELD", message, ["Id"])
        request.org.saver.update(access.object, record_id, body, request.actor)
        return Answer(204)
    if request.method == "DELETE":
        recycle_bin.delete(request.org.saver, access.object, record_id, request.actor)
        return Answer(204)
    raise method_not_allowed(request, "DELETE", "GET", "HEAD", "PATCH")


def by_external_id(request: Request, name: str, field_name: str, value: str) -> Answer:
    """GET, PATCH (upsert) or DELETE sobjects/X/{field}/{value}"""
    access = visible(request, name)
    f = key_field(access, field_name)
    if f is None:
        raise not_found()
    if f.type == "id" and request.method != "PATCH":
        return record(request, name, value)
    wanted = accept(f, unquote(value))
    found = request.org.db.where(access.object, f, wanted)
    if len(found) > 1:
        return Answer(300, [f"{request.base}/sobjects/{access.object.name}/{row['Id']}" for row in found])
    if request.method == "PATCH":
        check_upsert_allowed(request, f)
        return _upsert(request, access, f, wanted, found[0] if found else None)
    if not found:
        raise not_found()
    if request.method == "GET":
        check_preconditions(request, access.object, found[0])
        return Answer(200, representation(request, access, found[0], fields_asked(request, access)))
    if request.method == "DELETE":
        recycle_bin.delete(request.org.saver, access.object, found[0]["Id"], request.actor)
        return Answer(204)
    raise method_not_allowed(request, "DELETE", "GET", "HEAD", "PATCH")


def _upsert(request: Request, access: ObjectAccess, f: Field, wanted: Any, found: Row | None) -> Answer:
    body = request.json_object
    for name in body:
        if name.lower() in ("id", f.name.lower()):
            message = f"The {name} field should not be specified in the sobject data."
            raise SalesforceError("INVALID_FIELD", message, [name])
    if found is not None:
        request.org.saver.update(access.object, found["Id"], body, request.actor)
        if float(request.version) < 46:
            return Answer(204)
        return Answer(200, {"id": found["Id"], "success": True, "errors": [], "created": False})
    if request.flag("updateOnly") or f.type == "id":
        raise not_found()
    row = request.org.saver.insert(access.object, body | {f.name: wanted}, request.actor)
    answer = created(request, access, row)
    if float(request.version) >= 46:
        answer.body |= {"created": True}
    return answer


def visible(request: Request, name: str) -> ObjectAccess:
    access = request.actor.access.get(name)
    if access is None:
        raise not_found()
    return access


def key_field(access: ObjectAccess, name: str) -> Field | None:
    """The field by which records may be named, None if it is no such field."""
    f = access.readable.get(name.lower())
    return f if f is not None and (f.external_id or f.id_lookup or f.type == "id") else None


def check_upsert_allowed(request: Request, f: Field) -> None:
    """An external id that is not unique is matched only by users who can see all data."""
    if f.external_id and not f.unique and not request.org.may_view_all_data(request.actor):
        message = f"{f.name} is not unique: upsert by it needs the View All Data permission"
        raise SalesforceError("INSUFFICIENT_ACCESS_OR_READONLY", message, [f.name], status=403)


def created(request: Request, access: ObjectAccess, row: Row) -> Answer:
    location = f"{request.base}/sobjects/{access.object.name}/{row['Id']}"
    return Answer(201, {"id": row["Id"], "success": True, "errors": []}, {"Location": location})


def fields_asked(request: Request, access: ObjectAccess) -> list[Field] | None:
    names = request.params.get("fields")
    return read_field_names(access, names.split(",")) if names else None


def read_field_names(access: ObjectAccess, names: list[str]) -> list[Field]:
    fields = []
    for name in names:
        f = access.readable.get(name.strip().lower())
        if f is None:
            message = f"No such column '{name.strip()}' on sobject of type {access.object.name}"
            raise SalesforceError("INVALID_FIELD", message)
        fields.append(f)
    return fields


def representation(request: Request, access: ObjectAccess, row: Row, fields: list[Field] | None = None) -> Row:
    """The record as the API shows it, with every readable field when none are named."""
    name = access.object.name
    shown: Row = {"attributes": {"type": name, "url": f"{request.base}/sobjects/{name}/{row['Id']}"}}
    for f in access.readable.values() if fields is None else fields:
        shown[f.name] = address(row, f.name) if f.type == "address" else row.get(f.name)
    if "Id" not in shown:
        shown["Id"] = row["Id"]
    return shown
