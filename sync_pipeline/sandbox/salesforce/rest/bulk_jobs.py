"""jobs/ingest and jobs/query: the life of bulk jobs over HTTP. What the jobs do is in `bulk`."""

from __future__ import annotations

import re
from dataclasses import replace
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

from sync_pipeline.sandbox.salesforce.bulk import csv_text, ingest, jobs, query_jobs
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, not_found, unsupported
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed
from sync_pipeline.sandbox.store import Row

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org

_CSV = "text/csv; charset=UTF-8"
_OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")
_RESULT_PAGES_VERSION = 58
_INGEST, _QUERY = "V2Ingest", "V2Query"
_MOST_CHARACTERS, _MOST_CHARACTERS_WITH_JOB = 100 * 1024 * 1024, 100_000


def ingest_jobs(request: Request, tail: list[str]) -> Answer:
    """Everything below jobs/ingest"""
    match [request.method, *tail]:
        case ["POST"] if request.headers.get("content-type", "").startswith("multipart/"):
            return Answer(200, _create_with_content(request)["info"])
        case ["POST"]:
            return Answer(200, _create_ingest(request, request.json_object)["info"])
        case ["GET"]:
            return Answer(200, jobs.listing(request, _INGEST))
        case [_, job_id]:
            return _job(request, jobs.find(request, job_id, _INGEST))
        case ["PUT", job_id, "batches"]:
            return _upload(request, jobs.find(request, job_id, _INGEST))
        case ["GET", job_id, kind]:
            return _results(request, jobs.find(request, job_id, _INGEST), kind.lower())
    raise method_not_allowed(request, "GET", "POST")


def queries(request: Request, tail: list[str]) -> Answer:
    """Everything below jobs/query"""
    match [request.method, *tail]:
        case ["POST"]:
            return Answer(200, _create_query(request)["info"])
        case ["GET"]:
            return Answer(200, jobs.listing(request, _QUERY))
        case [_, job_id]:
            return _job(request, jobs.find(request, job_id, _QUERY))
        case ["GET", job_id, "results"]:
            return _page(request, jobs.find(request, job_id, _QUERY))
        case ["GET", job_id, "resultPages"]:
            return _pages(request, jobs.find(request, job_id, _QUERY))
    raise unsupported(f"/{'/'.join(request.path)}")


def run_ready(org: Org) -> None:
    """Runs every job whose time has come."""
    for job in list(org.store.table(jobs.TABLE).values()):
        if jobs.is_ready(org, job):
            _run(org, job)


def _run(org: Org, job: Row) -> Row:
    run = ingest.run if job["info"]["jobType"] == _INGEST else query_jobs.run
    run(org, job)
    return org.store.table(jobs.TABLE)[job["info"]["id"]]


def _create_with_content(request: Request) -> Row:
    """Job and rows in one request, for little of them; the upload is then complete."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parts = {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
        for part in message_from_bytes(head + request.raw).walk()
        if not part.is_multipart()
    }
    job, content = (parts.get(name) for name in ("job", "content"))
    if not isinstance(job, bytes) or not isinstance(content, bytes):
        raise SalesforceError("InvalidJob", "a multipart request needs the parts job and content")
    if len(content) > _MOST_CHARACTERS_WITH_JOB:
        raise SalesforceError("ExceededQuota", "the part content is larger than 100,000 characters")
    made = _create_ingest(request, replace(request, headers={}, raw=job).json_object)
    return jobs.start(request.org, _take(request, made, content), contentUrl=None)


def _create_ingest(request: Request, body: dict[str, Any]) -> Row:
    operation, name = body.get("operation"), str(body.get("object"))
    access = request.actor.access.get(name)
    if operation not in _OPERATIONS:
        raise SalesforceError("InvalidJob", f"Unknown operation {operation}")
    if access is None:
        raise SalesforceError("InvalidJob", f"The entity '{name}' is not supported by the Bulk API.")
    if body.get("contentType", "CSV") != "CSV":
        raise SalesforceError("InvalidJob", "only contentType CSV is supported")
    if (operation == "upsert") != bool(body.get("externalIdFieldName")):
        raise SalesforceError("InvalidJob", "externalIdFieldName goes with upsert, and upsert with it")
    fields = {"operation": operation, "object": access.object.name, "state": "Open", **_format(body)}
    if operation == "upsert":
        fields["externalIdFieldName"] = body["externalIdFieldName"]
    job = jobs.create(request, _INGEST, fields, data="", uploaded=False)
    url = f"{request.base.lstrip('/')}/jobs/ingest/{job['info']['id']}/batches"
    return jobs.save(request.org, job, contentUrl=url)


def _create_query(request: Request) -> Row:
    body = request.json_object
    operation, soql = body.get("operation"), body.get("query")
    if operation not in ("query", "queryAll") or not isinstance(soql, str):
        raise SalesforceError("InvalidJob", "a query job needs operation (query or queryAll) and query")
    name = query_jobs.check(request.session(deleted=operation == "queryAll"), soql)
    fields = {"operation": operation, "object": name, **_format(body)}
    job = jobs.create(request, _QUERY, fields, query=soql)
    return jobs.start(request.org, job)


def _format(body: dict[str, Any]) -> dict[str, str]:
    delimiter, ending = body.get("columnDelimiter", "COMMA"), body.get("lineEnding", "LF")
    if delimiter not in csv_text.DELIMITERS or ending not in csv_text.LINE_ENDINGS:
        raise SalesforceError("InvalidJob", f"unknown columnDelimiter {delimiter} or lineEnding {ending}")
    return {"columnDelimiter": delimiter, "lineEnding": ending}


def _job(request: Request, job: Row) -> Answer:
    org = request.org
    if request.method == "GET":
        job = jobs.look(org, job)
        return Answer(200, (_run(org, job) if jobs.is_ready(org, job) else job)["info"] | _TIMES)
    if request.method == "DELETE":
        jobs.remove(org, job)
        return Answer(204)
    if request.method != "PATCH":
        raise method_not_allowed(request, "DELETE", "GET", "PATCH")
    state = request.json_object.get("state")
    if state == "Aborted":
        return Answer(200, jobs.abort(org, job)["info"])
    if state != "UploadComplete" or job["info"]["state"] != "Open":
        message = f"a job that is {job['info']['state']} cannot become {state}"
        raise SalesforceError("InvalidJobState", message)
    return Answer(200, jobs.start(org, job, contentUrl=None)["info"])


_TIMES = {"retries": 0, "totalProcessingTime": 0, "apiActiveProcessingTime": 0, "apexProcessingTime": 0}


def _upload(request: Request, job: Row) -> Answer:
    if job["info"]["state"] != "Open" or job["uploaded"]:
        raise SalesforceError("InvalidJobState", "a job takes one upload, while it is open")
    if len(request.raw) > _MOST_CHARACTERS:
        raise SalesforceError("ExceededQuota", "the upload is larger than 100 MB")
    _take(request, job, request.raw)
    return Answer(201)


def _take(request: Request, job: Row, upload: bytes) -> Row:
    try:
        text = upload.decode()
    except UnicodeDecodeError:
        raise SalesforceError("InvalidBatch", "the upload is not UTF-8") from None
    return request.org.store.put(jobs.TABLE, job["info"]["id"], job | {"data": text, "uploaded": True})


def _results(request: Request, job: Row, kind: str) -> Answer:
    names = {"successfulresults": "successful", "failedresults": "failed", "unprocessedrecords": "unprocessed"}
    if kind not in names:
        raise not_found()
    results = job.get("results") or {"header": [], "successful": [], "failed": [], "unprocessed": []}
    first = {"successful": ["sf__Id", "sf__Created"], "failed": ["sf__Id", "sf__Error"], "unprocessed": []}[names[kind]]
    rows = results[names[kind]]
    info = job["info"]
    body = csv_text.write(first + results["header"], rows, info["columnDelimiter"], info["lineEnding"])
    return Answer(200, body, {"Content-Type": _CSV, "Sforce-NumberOfRecords": str(len(rows))})


def _check_complete(request: Request, info: Row) -> None:
    if info["apiVersion"] != float(request.version):
        message = f"the job was created with version {info['apiVersion']}"
        raise SalesforceError("INVALID_API_VERSION", message, status=409)
    if info["state"] != "JobComplete":
        raise SalesforceError("InvalidJobState", f"the job is {info['state']}: there are no results")


def _pages(request: Request, job: Row) -> Answer:
    _check_complete(request, job["info"])
    if float(request.version) < _RESULT_PAGES_VERSION:
        raise not_found()
    url = f"{request.base}/jobs/query/{job['info']['id']}"
    size = request.org.settings.page_size
    return Answer(200, query_jobs.result_pages(job, url, request.params.get("locator"), size))


def _page(request: Request, job: Row) -> Answer:
    _check_complete(request, job["info"])
    most = request.params.get("maxRecords")
    if most is not None and (not re.fullmatch(r"[0-9]{1,9}", most) or int(most) == 0):
        raise SalesforceError("INVALID_REQUEST_PARAMETER", f"maxRecords must be a positive number, not {most}")
    body, count, locator = query_jobs.page(job, request.params.get("locator"), int(most) if most else None)
    headers = {"Content-Type": _CSV, "Sforce-NumberOfRecords": str(count), "Sforce-Locator": locator}
    return Answer(200, body, headers)
