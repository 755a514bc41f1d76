"""updated and deleted: which records changed in a stretch of time, to the minute."""

from __future__ import annotations

from sync_pipeline.sandbox.salesforce import recycle_bin
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.rest.records import visible
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed
from sync_pipeline.sandbox.salesforce.values import datetime_text, epoch_of, parse_datetime

_DAY = 86400
_UPDATED_DAYS, _DELETED_DAYS = 30, 15


def updated(request: Request, name: str) -> Answer:
    """GET sobjects/X/updated/?start=&end="""
    o = visible(request, name).object
    start, end, covered = _window(request, _UPDATED_DAYS)
    ids = sorted(
        row["Id"] for row in request.org.db.scan(o) if not row.get("IsDeleted") and start <= row["SystemModstamp"] < end
    )
    return Answer(200, {"ids": ids, "latestDateCovered": covered})


def deleted(request: Request, name: str) -> Answer:
    """GET sobjects/X/deleted/?start=&end="""
    o = visible(request, name).object
    start, end, covered = _window(request, _DELETED_DAYS)
    found = [
        {"id": entry["id"], "deletedDate": entry["deletedDate"]}
        for entry in request.org.store.table(recycle_bin.LOG).values()
        if entry["object"] == o.name and start <= entry["deletedDate"] < end
    ]
    return Answer(
        200,
        {
            "deletedRecords": sorted(found, key=lambda e: e["id"]),
            "earliestDateAvailable": datetime_text(request.org.clock.now() - _DELETED_DAYS * _DAY),
            "latestDateCovered": covered,
        },
    )


def _window(request: Request, days: int) -> tuple[str, str, str]:
    """Start and end, cut to the minute and to what is covered by now, and the latest date covered."""
    if request.method != "GET":
        raise method_not_allowed(request, "GET", "HEAD")
    now = request.org.clock.now()
    start, end = (_minute(request, name) for name in ("start", "end"))
    if end - start < 60:
        message = "endDate must be at least one minute greater than startDate"
        raise SalesforceError("INVALID_REPLICATION_DATE", message)
    if start < now - days * _DAY:
        message = f"startDate cannot be more than {days} days ago"
        raise SalesforceError("INVALID_REPLICATION_DATE", message)
    covered = min(end, (now - request.org.settings.replication_lag) // 60 * 60)
    return datetime_text(start), datetime_text(min(end, max(covered, start))), datetime_text(covered)


def _minute(request: Request, name: str) -> int:
    # A plus sign in a query string that was not percent-encoded arrives as a space.
    kept = parse_datetime(request.params.get(name, "").replace(" ", "+"))
    if kept is None:
        raise SalesforceError("INVALID_REPLICATION_DATE", f"{name} must be a dateTime with a time zone")
    return epoch_of(kept) // 60 * 60
