"""Query jobs: a SOQL query whose result is read as CSV, page by page."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from sync_pipeline.sandbox.salesforce.bulk import csv_text, jobs
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.soql import ast
from sync_pipeline.sandbox.salesforce.soql.execute import run as run_query
from sync_pipeline.sandbox.salesforce.soql.parser import parse
from sync_pipeline.sandbox.salesforce.soql.rows import Session, is_aggregate
from sync_pipeline.sandbox.store import Row

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org

_PAGES_AT_ONCE = 5


def check(session: Session, soql: str) -> str:
    """The name of the object that the query reads. Raises SalesforceError for what bulk queries cannot do."""
    query = parse(soql)
    problem = None
    if is_aggregate(query):
        problem = "Aggregate Relationships not supported in Bulk Query"
    elif any(isinstance(c, ast.Query) for c in query.columns):
        problem = "Nested Queries not supported in Bulk Query"
    elif query.offset is not None:
        problem = "OFFSET clause not supported in Bulk Query"
    if problem:
        raise SalesforceError("FUNCTIONALITY_NOT_ENABLED", problem)
    columns = run_query(session, soql).columns
    if any(name.endswith("Address") for name in columns):
        raise SalesforceError("FUNCTIONALITY_NOT_ENABLED", "Selecting compound data not supported in Bulk Query")
    access = session.access.get(query.source.names[0])
    return access.object.name if access else query.source.names[0]


def run(org: Org, job: Row) -> None:
    """Runs the query; what it finds now is what every page will show."""
    info = job["info"]
    session = Session(org.db, org.api_actor(job["user"]).access, "", deleted=info["operation"] == "queryAll")
    try:
        result = run_query(session, job["query"])
    except SalesforceError as error:
        jobs.save(org, job, state="Failed", errorMessage=f"{error.code}: {error.message}", numberRecordsProcessed=0)
        return
    rows = [[csv_text.cell(_at(r, name.split("."))) for name in result.columns] for r in result.records]
    results = {"header": result.columns, "rows": rows}
    jobs.save(org, job | {"results": results}, state="JobComplete", numberRecordsProcessed=len(rows))


def page(job: Row, locator: str | None, most: int | None) -> tuple[bytes, int, str]:
    """CSV of one page, its number of records, and the next page's locator: `null` at the end."""
    info, results = job["info"], job["results"]
    start, size = _place(locator) if locator else (0, None)
    count = min((n for n in (most, size) if n), default=len(results["rows"]))
    rows = results["rows"][start : start + count]
    end = start + len(rows)
    body = csv_text.write(results["header"], rows, info["columnDelimiter"], info["lineEnding"])
    return body, len(rows), _locator(end) if end < len(results["rows"]) else "null"


def result_pages(job: Row, url: str, locator: str | None, size: int) -> dict[str, Any]:
    """Up to five addresses of pages of `size` records, to be fetched side by side, and where the next five are."""
    total, start = len(job["results"]["rows"]), _place(locator)[0] if locator else 0
    starts = list(range(start, max(total, 1), size))
    pages = [{"resultUrl": f"{url}/results?locator={_locator(at, size)}"} for at in starts[:_PAGES_AT_ONCE]]
    if len(starts) <= _PAGES_AT_ONCE:
        return {"resultPages": pages, "nextRecordsUrl": None, "done": True}
    following = f"{url}/resultPages?locator={_locator(starts[_PAGES_AT_ONCE])}"
    return {"resultPages": pages, "nextRecordsUrl": following, "done": False}


def _locator(start: int, size: int | None = None) -> str:
    return base64.urlsafe_b64encode(f"{start}-{size or 0}".encode()).decode().rstrip("=")


def _place(locator: str) -> tuple[int, int | None]:
    """Where a page begins, and how many records it has if it says so. Raises SalesforceError."""
    try:
        start, _, size = base64.urlsafe_b64decode(locator + "=" * (-len(locator) % 4)).decode("ascii").partition("-")
        return int(start), int(size or 0) or None
    except (ValueError, binascii.Error):
        raise SalesforceError("INVALID_QUERY_LOCATOR", f"invalid locator {locator}") from None


def _at(record: dict[str, Any], names: list[str]) -> Any:
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
