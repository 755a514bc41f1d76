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
    start = _offset(locator) if locator else 0
    rows = results["rows"][start : start + most if most else None]
    end = start + len(rows)
    body = csv_text.write(results["header"], rows, info["columnDelimiter"], info["lineEnding"])
    following = "null"
    if end < len(results["rows"]):
        following = base64.urlsafe_b64encode(str(end).encode()).decode().rstrip("=")
    return body, len(rows), following


def _offset(locator: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(locator + "=" * (-len(locator) % 4)).decode("ascii"))
    except (ValueError, binascii.Error):
        raise SalesforceError("INVALID_QUERY_LOCATOR", f"invalid locator {locator}") from None


def _at(record: dict[str, Any], names: list[str]) -> Any:
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
