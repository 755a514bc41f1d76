"""query, queryAll and the further pages of their results."""

from __future__ import annotations

import re
from typing import Any

from sync_pipeline.sandbox.salesforce.errors import SalesforceError, unsupported
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed
from sync_pipeline.sandbox.salesforce.soql.columns import describe_columns
from sync_pipeline.sandbox.salesforce.soql.execute import run

_CURSORS = "_cursors"
_CURSOR_LIFE = 2 * 86400
_SMALLEST_PAGE, _LARGEST_PAGE = 200, 2000


def query(request: Request, *, deleted: bool = False) -> Answer:
    """GET query?q=... or queryAll?q=..."""
    if request.method != "GET":
        raise method_not_allowed(request, "GET", "HEAD")
    if "explain" in request.params:
        raise unsupported("query plans")
    if "q" not in request.params:
        raise SalesforceError("MALFORMED_QUERY", "A query string has to be specified")
    if request.flag("columns"):
        return Answer(200, describe_columns(request.session(), request.params["q"]))
    result = run(request.session(deleted=deleted), request.params["q"])
    answer: dict[str, Any] = {"totalSize": result.total, "done": True, "records": result.records}
    ends = page_ends(result.weights, _page_size(request))
    if len(ends) > 1:
        _forget_expired(request)
        locator = request.org.db.ids.new("01g")
        row = {"records": result.records, "ends": ends, "until": request.org.clock.now() + _CURSOR_LIFE}
        request.org.store.put(_CURSORS, locator, row)
        answer["records"] = result.records[: ends[0]]
        answer |= {"done": False, "nextRecordsUrl": f"{request.base}/query/{locator}-{ends[0]}"}
    return Answer(200, answer)


def more(request: Request, locator: str) -> Answer:
    """GET query/{locator}"""
    if request.method != "GET":
        raise method_not_allowed(request, "GET", "HEAD")
    cursor_id, _, start_text = locator.partition("-")
    cursor = request.org.store.get(_CURSORS, cursor_id)
    start = int(start_text) if re.fullmatch(r"\d+", start_text) else -1
    if cursor is None or cursor["until"] <= request.org.clock.now() or not 0 <= start < len(cursor["records"]):
        raise SalesforceError("INVALID_QUERY_LOCATOR", "invalid query locator")
    records = cursor["records"]
    end = next(e for e in cursor["ends"] if e > start)
    answer: dict[str, Any] = {"totalSize": len(records), "done": end == len(records), "records": records[start:end]}
    if end < len(records):
        answer["nextRecordsUrl"] = f"{request.base}/query/{cursor_id}-{end}"
    return Answer(200, answer)


def _forget_expired(request: Request) -> None:
    now, cursors = request.org.clock.now(), request.org.store.table(_CURSORS)
    for locator in [k for k, cursor in cursors.items() if cursor["until"] <= now]:
        request.org.store.delete(_CURSORS, locator)


def page_ends(weights: list[int], size: int) -> list[int]:
    """Where each page ends: a page holds `size` rows, children included, and at least one record."""
    ends, used = [], 0
    for i, weight in enumerate(weights):
        if used and used + weight > size:
            ends.append(i)
            used = 0
        used += weight
    return [*ends, len(weights)]


def _page_size(request: Request) -> int:
    """The server's choice within what the client asks: it may always give less."""
    match = re.search(r"batchSize=(\d+)", request.headers.get("sforce-query-options", ""))
    asked = min(max(int(match[1]), _SMALLEST_PAGE), _LARGEST_PAGE) if match else _LARGEST_PAGE
    return min(asked, request.org.settings.page_size)
