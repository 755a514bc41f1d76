"""What a call of the sync is about: whether it makes something, of which object it is, which records it writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from sync_pipeline.sandbox.wire import Call

NAMED_BY_US = ("/v1/products", "/v1/prices", "/v1/coupons")
"""Accounts share these and each may make one: Stripe refuses a second of the name (seed 405: two did at a time)."""
JOBS = "/jobs/ingest"


def is_of_a_job(call: Call) -> bool:
    """Whether it is about a bulk job of Salesforce's."""
    return JOBS in call.path


def lets_job_run(call: Call) -> bool:
    """Whether a bulk job's records are written from here on."""
    return is_of_a_job(call) and call.method == "PATCH" and b"UploadComplete" in call.body


def is_create(call: Call) -> bool:
    """At Stripe, by the path: an object's own has its id."""
    return call.path.count("/") == 2


def is_named_by_us(call: Call) -> bool:
    """Whether it makes something that Stripe has once only, by a name that we give it."""
    return is_create(call) and call.path in NAMED_BY_US


def target(call: Call) -> str:
    """What a write to Stripe is about: an object, or the intent by which one is made."""
    if not is_create(call):
        return call.path
    said = parse_qs(call.body.decode())
    names = ("metadata[sf_intent]", "id", "lookup_key")
    return f"{call.path} {next((said[name][0] for name in names if name in said), call.body.decode())}"


def written_records(call: Call, jobs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a write to Salesforce says of records: the call itself, or the upload of the bulk job that it lets run."""
    if not lets_job_run(call):
        return list(composed_records(call))
    job = jobs.get(call.path.rpartition("/")[2])
    return list(records_of_job(job)) if job is not None else []


def composed_records(call: Call) -> Iterator[dict[str, Any]]:
    """The records in a composite's collections and single writes to Salesforce."""
    for part in json.loads(call.body or b"{}").get("compositeRequest", ()):
        body = part.get("body") or {}
        yield from body.get("records", [body] if part["method"] in ("PATCH", "POST") and "attributes" in body else ())


def records_of_job(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The records in what was uploaded to a bulk job, as the sandbox keeps it; every value is text, an empty cell is
    no value."""
    for row in csv.DictReader(io.StringIO(job["data"])):
        values = {name: None if value == "#N/A" else value for name, value in row.items() if value}
        yield {"attributes": {"type": job["info"]["object"]}, "id": values.pop("Id"), **values}


def targets(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Per record that is written to Salesforce, the names that it can have as the target of a command.

    That is its id, or one of its values: the external id by which it is found. A new Task goes with its marker.
    """
    for record in records:
        kind = record.get("attributes", {}).get("type", "")
        keys = [record["id"]] if "id" in record else [value for value in record.values() if isinstance(value, str)]
        if kind != "Task" or "id" in record:
            yield tuple(name for key in keys for name in (f"salesforce/{kind}/{key}", key))
