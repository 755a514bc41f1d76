"""Which path belongs to which resource."""

from __future__ import annotations

from dataclasses import replace

from sync_pipeline.sandbox.salesforce import ids
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, not_found, unsupported
from sync_pipeline.sandbox.salesforce.rest import (
    bulk_jobs,
    collections,
    composite,
    queries,
    records,
    replication,
    tree,
)
from sync_pipeline.sandbox.salesforce.rest.conditional import NotModified
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request


def answer(request: Request) -> Answer:
    """The answer of the resource, its errors included: a failed request leaves nothing behind."""
    try:
        with request.org.store.transaction():
            return _route(request)
    except SalesforceError as error:
        return Answer(error.status, error.as_response())
    except NotModified:
        return Answer(304)


def _route(request: Request) -> Answer:
    instead = request.params.get("_HttpMethod")
    if instead is not None and request.method == "POST":
        request = replace(request, method=instead)
    head, *rest = request.path or ("",)
    match [head.lower(), *rest]:
        case [""]:
            return Answer(200, _resources(request))
        case ["limits"]:
            return Answer(200, request.org.limits.report())
        case ["limits", word] if word.lower() == "recordcount":
            return records.counted(request)
        case ["query"]:
            return queries.query(request)
        case ["queryall"]:
            return queries.query(request, deleted=True)
        case ["query" | "queryall", locator]:
            return queries.more(request, locator)
        case ["sobjects", *tail]:
            return _sobjects(request, tail)
        case ["composite", *tail]:
            return _composite(request, tail)
        case ["jobs", "ingest", *tail]:
            return bulk_jobs.ingest_jobs(request, tail)
        case ["jobs", "query", *tail]:
            return bulk_jobs.queries(request, tail)
        case [known, *_] if known in _RESOURCES or known in _NOT_HERE:
            raise unsupported(f"/{'/'.join(request.path)}")
    raise not_found()


def _sobjects(request: Request, tail: list[str]) -> Answer:
    match tail:
        case []:
            return records.objects(request)
        case [name]:
            return records.collection(request, name)
        case [name, word] if word.lower() == "describe":
            return records.described(request, name)
        case [name, word] if word.lower() == "updated":
            return replication.updated(request, name)
        case [name, word] if word.lower() == "deleted":
            return replication.deleted(request, name)
        case [name, key]:
            return records.record(request, name, key)
        case [_, word, _] if word.lower() in _OBJECT_RESOURCES or ids.normalise(word):
            raise unsupported(f"/{'/'.join(request.path)}")
        case [name, field, value]:
            return records.by_external_id(request, name, field, value)
    raise unsupported(f"/{'/'.join(request.path)}")


def _composite(request: Request, tail: list[str]) -> Answer:
    match [s.lower() if i == 0 else s for i, s in enumerate(tail)]:
        case []:
            return composite.composite(request)
        case ["batch"]:
            return composite.batch(request)
        case ["tree", name]:
            return tree.tree(request, name)
        case ["sobjects"]:
            return collections.collection(request)
        case ["sobjects", name]:
            return collections.retrieve(request, name)
        case ["sobjects", name, field]:
            return collections.upsert(request, name, field)
    raise unsupported(f"/{'/'.join(request.path)}")


# Below an object, and no field: layouts, list views, actions; and relationships below a record.
_OBJECT_RESOURCES = frozenset({"describe", "listviews", "quickactions", "updated", "deleted"})
_RESOURCES = ("composite", "jobs", "limits", "query", "queryAll", "sobjects")
# Resources that Salesforce has and the sandbox has not.
_NOT_HERE = frozenset(
    "actions analytics appmenu async-queries chatter commerce connect consent dedupe eclair event eventschema"
    " externaldatasources flexipage folders graphql identity jobs jsonxform knowledgemanagement licensing"
    " localizedvalue metadata nouns parameterizedsearch payments process quickactions recent sanitizer scheduling"
    " search serviceTemplates smartdatadiscovery support tabs theme tooling ui-api wave".split()
)


def _resources(request: Request) -> dict[str, str]:
    own = request.org.own_url() or f"https://{request.headers.get('host', 'localhost')}"
    identity = {"identity": f"{own}/id/{request.org.org_id}/{request.actor.user_id}"}
    return {name: f"{request.base}/{name}" for name in _RESOURCES} | identity
