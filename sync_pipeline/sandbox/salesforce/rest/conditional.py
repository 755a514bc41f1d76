"""Conditional requests: ETag on Accounts only, modification dates on every record and on describe."""

from __future__ import annotations

import base64
import hashlib
from email.utils import parsedate_to_datetime

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.rest.request import Request
from sync_pipeline.sandbox.salesforce.schema import SObject
from sync_pipeline.sandbox.salesforce.values import epoch_of
from sync_pipeline.sandbox.store import Row


class NotModified(Exception):
    """304: the client has this version."""


def etag(row: Row) -> str:
    digest = hashlib.sha1(f"{row['Id']}{row['SystemModstamp']}".encode(), usedforsecurity=False).digest()
    return f'"{base64.b64encode(digest).decode()}"'


def check_preconditions(request: Request, o: SObject, row: Row) -> None:
    """Raises SalesforceError 412, or NotModified."""
    if o.name == "Account":
        _check_etag(request, row)
    check_dates(request, epoch_of(row["SystemModstamp"]))


def check_dates(request: Request, modified: float) -> None:
    """Raises SalesforceError 412, or NotModified, for what was last changed at `modified` (epoch seconds)."""
    since = _moment(request, "if-modified-since")
    if since is not None and request.method == "GET" and modified <= since:
        raise NotModified
    until = _moment(request, "if-unmodified-since")
    if until is not None and modified > until:
        raise _failed()


def _check_etag(request: Request, row: Row) -> None:
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted != "*" and etag(row) not in _tags(wanted):
        raise _failed()
    unwanted = request.headers.get("if-none-match")
    if unwanted is not None and (unwanted == "*" or etag(row) in _tags(unwanted)):
        if request.method == "GET":
            raise NotModified
        raise _failed()


def _tags(header: str) -> list[str]:
    return [
        tag.strip().removesuffix('-gzip"') + ('"' if tag.strip().endswith('-gzip"') else "")
        for tag in header.split(",")
    ]


def _moment(request: Request, name: str) -> float | None:
    text = request.headers.get(name)
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        raise SalesforceError("INVALID_HTTP_HEADER", f"{name} is not an HTTP date: {text}") from None


def _failed() -> SalesforceError:
    return SalesforceError("PRECONDITION_FAILED", "The request's conditional headers do not hold.", status=412)
