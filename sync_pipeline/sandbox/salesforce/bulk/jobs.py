"""What ingest and query jobs share: their record, their states over time, who may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_pipeline.sandbox.salesforce import ids
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, not_found
from sync_pipeline.sandbox.store import Row

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org
    from sync_pipeline.sandbox.salesforce.rest.request import Request

TABLE = "_jobs"
DONE = ("JobComplete", "Failed", "Aborted")
# A client that polls a standing clock must get ahead too: this many looks at a running job are enough.
_LOOKS = 2


def create(request: Request, kind: str, fields: Row, **inside: Any) -> Row:
    """A new job; `inside` is what clients do not see."""
    now = request.org.db.now()
    info = {
        "id": request.org.db.ids.new("750"),
        "operation": fields.pop("operation"),
        "object": fields.pop("object"),
        "createdById": request.actor.user_id,
        "createdDate": now,
        "systemModstamp": now,
        "concurrencyMode": "Parallel",
        "contentType": "CSV",
        "apiVersion": float(request.version),
        "jobType": kind,
    } | fields
    return save(request.org, {"info": info, "due": None, "looks": 0, "user": request.actor.user_id} | inside)


def save(org: Org, job: Row, **changes: Any) -> Row:
    """Keeps the job with changes to what clients see."""
    info = job["info"] | changes
    if changes:
        info["systemModstamp"] = org.db.now()
    return org.store.put(TABLE, info["id"], job | {"info": info})


def find(request: Request, job_id: str, kind: str) -> Row:
    job = request.org.store.get(TABLE, ids.normalise(job_id) or job_id)
    if job is None or job["info"]["jobType"] != kind:
        raise not_found()
    return job


def start(org: Org, job: Row, **changes: Any) -> Row:
    """The upload is complete: the job will run when its time has come."""
    job = save(org, job, state="UploadComplete", **changes)
    return org.store.put(TABLE, job["info"]["id"], job | {"due": org.clock.now() + org.settings.bulk_seconds})


def look(org: Org, job: Row) -> Row:
    """A client asks for the state: a waiting job is then in progress, and later done."""
    state = job["info"]["state"]
    if state == "UploadComplete":
        job = save(org, job, state="InProgress")
    if state in ("UploadComplete", "InProgress"):
        job = org.store.put(TABLE, job["info"]["id"], job | {"looks": job["looks"] + 1})
    return job


def is_ready(org: Org, job: Row) -> bool:
    if job["due"] is None or job["info"]["state"] in DONE:
        return False
    return bool(job["due"] <= org.clock.now() or job["looks"] > _LOOKS)


def next_due(org: Org) -> int | None:
    waiting = (j["due"] for j in org.store.table(TABLE).values() if j["due"] and j["info"]["state"] not in DONE)
    return min(waiting, default=None)


def abort(org: Org, job: Row) -> Row:
    if job["info"]["state"] in DONE:
        raise SalesforceError("InvalidJobState", f"Aborting a job that is {job['info']['state']} is not allowed")
    return save(org, job, state="Aborted")


def remove(org: Org, job: Row) -> None:
    if job["info"]["state"] not in (*DONE, "UploadComplete"):
        raise SalesforceError("InvalidJobState", f"Deleting a job that is {job['info']['state']} is not allowed")
    org.store.delete(TABLE, job["info"]["id"])


def listing(request: Request, kind: str) -> Row:
    found = [j["info"] for j in request.org.store.table(TABLE).values() if j["info"]["jobType"] == kind]
    return {"done": True, "records": found, "nextRecordsUrl": None}
