"""Bulk API 2.0 ingest: the calls of one job that updates records, and what its answers mean for each of them.

Nothing happens at Salesforce before a job is closed (UploadComplete): until then it can be given up without a trace.
Rows come back in any order, so they are told by their Id. The SDK's own bulk client aborts a job when one look at it
fails, and is not used.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, cast

import requests

from sync_pipeline.core import canonical
from sync_pipeline.systems.outcomes import DeadlinePassed, Guard, NotNow, Outcome, ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.errors import (
    CALL_ERRORS,
    outcome_of_call,
    outcome_of_errors,
    read_failure,
)
from sync_pipeline.systems.wire import guarded

NULL = "#N/A"
"""What clears a field; an empty cell leaves it as it is."""
LEAST_CALLS = 5
"""Make, upload, close, one look, what succeeded."""
MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\+0000")
OPERATION = "bulk"
State = Literal["Open", "UploadComplete", "InProgress", "JobComplete", "Failed", "Aborted"]
ENDED: tuple[State, ...] = ("JobComplete", "Failed", "Aborted")


@dataclass(frozen=True, slots=True)
class JobInfo:
    """How far a job is; `why` is Salesforce's reason for a failed one."""

    state: State
    processed: int
    failed: int
    why: str

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def upload_text(updates: Iterable[Mapping[str, Any]]) -> str:
    """Bodies of updates ({id, fields}) as the CSV of one job; what a record does not set stays empty, as it is."""
    rows = [{"Id": each["id"], **{name: cell(value) for name, value in each["fields"].items()}} for each in updates]
    columns = ["Id", *sorted({name for row in rows for name in row} - {"Id"})]
    text = io.StringIO()
    # Both characters end lines, so that a text with either is quoted.
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def can_say(fields: Mapping[str, Any]) -> bool:
    """Whether a CSV can hold these values: the text that means nothing cannot be told from nothing."""
    return NULL not in fields.values()


def cell(value: Any) -> str:
    if value is None or value == "":
        return NULL
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    return MOMENT.sub(r"\1Z", str(value))


class BulkUpdate:
    """Jobs of one org that update records. Every method is one call, except `outcomes`, which is two or three."""

    def __init__(self, salesforce: Salesforce) -> None:
        self._org = salesforce

    def make(self, kind: str) -> Outcome:
        """A job for updates of an object; done with its id, and nothing happens yet."""
        body = {"object": kind, "operation": "update", "contentType": "CSV", "lineEnding": "CRLF"}
        return self._change("POST", "jobs/ingest", canonical.encode(body))

    def upload(self, job_id: str, text: str) -> Outcome:
        """The rows of a job, once; still nothing happens."""
        return self._change("PUT", f"jobs/ingest/{job_id}/batches", text, "text/csv; charset=UTF-8")

    def close(self, job_id: str, guard: Guard) -> Outcome:
        """Lets the job run. `guard` is asked right before bytes leave."""
        try:
            with guarded(guard):
                return self._change("PATCH", f"jobs/ingest/{job_id}", canonical.encode({"state": "UploadComplete"}))
        except DeadlinePassed:
            return Outcome("throttled", message="it was not sent in time")

    def abort(self, job_id: str) -> Outcome:
        """Gives the job up: what is not processed never will be. Rejected for one that has ended."""
        return self._change("PATCH", f"jobs/ingest/{job_id}", canonical.encode({"state": "Aborted"}))

    def look(self, job_id: str) -> JobInfo | None:
        """How far the job is; None when Salesforce does not know it (any more). Raises ReadFailed."""
        try:
            answer = canonical.decode(self._call("GET", f"jobs/ingest/{job_id}").content)
        except NotNow as error:
            raise ReadFailed("Salesforce", str(error)) from None
        except CALL_ERRORS as error:
            if getattr(error, "status", None) == 404:
                return None
            raise read_failure(error) from None
        return JobInfo(
            state=cast(State, answer["state"]),
            processed=answer.get("numberRecordsProcessed", 0),
            failed=answer.get("numberRecordsFailed", 0),
            why=answer.get("errorMessage") or "",
        )

    def outcomes(self, job_id: str, info: JobInfo) -> dict[str, Outcome]:
        """By record id what became of each row of a job that has ended. Raises ReadFailed.

        Rows that the job never came to are not in it: nothing happened to them.
        """
        found: dict[str, Outcome] = {}
        if info.processed > info.failed:
            for row in self._rows(f"jobs/ingest/{job_id}/successfulResults"):
                found[row["sf__Id"]] = Outcome("done", row["sf__Id"], http_status=200, request_id=job_id)
        if info.failed:
            for row in self._rows(f"jobs/ingest/{job_id}/failedResults"):
                found[row["Id"]] = _refusal(row["sf__Error"], job_id)
        return found

    def _rows(self, path: str) -> Iterator[dict[str, str]]:
        try:
            answer = self._call("GET", path)
        except NotNow as error:
            raise ReadFailed("Salesforce", str(error)) from None
        except CALL_ERRORS as error:
            raise read_failure(error) from None
        # newline="": a cell may hold line breaks of its own.
        return csv.DictReader(io.StringIO(answer.content.decode("utf-8"), newline=""))

    def _change(self, method: str, path: str, body: str, content_type: str = "application/json") -> Outcome:
        try:
            answer = self._call(method, path, body, content_type)
        except NotNow as error:
            return Outcome("throttled", message=str(error))
        except CALL_ERRORS as error:
            return outcome_of_call(error)
        made = canonical.decode(answer.content)["id"] if answer.content else None
        return Outcome("done", made, http_status=answer.status_code)

    def _call(
        self, method: str, path: str, body: str | None = None, content_type: str = "application/json"
    ) -> requests.Response:
        """One call, counted as one that writes: all calls of a job are there for its write."""
        before = self._org.calls
        try:
            return self._org.raw(OPERATION, method, path, body, content_type)
        finally:
            self._org.write_calls += self._org.calls - before


def _refusal(text: str, job_id: str) -> Outcome:
    """A cell sf__Error: CODE:message:Field1,Field2 --"""
    code, _, rest = text.partition(":")
    message, _, fields = rest.rpartition(":")
    named = [name for name in fields.removesuffix("--").strip().split(",") if name]
    outcome = outcome_of_errors(400, [{"statusCode": code, "message": message, "fields": named}])
    return replace(outcome, request_id=job_id)
