"""One REST call on its way through the resources, and what a resource answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from sync_pipeline.sandbox.salesforce.errors import SalesforceError, bad_json, unsupported
from sync_pipeline.sandbox.salesforce.rest import versions
from sync_pipeline.sandbox.salesforce.saving import Actor
from sync_pipeline.sandbox.salesforce.soql.rows import Session

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org


@dataclass
class Answer:
    """`body` is JSON to be, bytes as they are, or None for an empty response."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """`path` is what follows /services/data/vXX.X, in segments still percent-encoded where they were."""

    org: Org
    actor: Actor
    method: str
    version: str
    path: tuple[str, ...]
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    parsed: Any = None
    all_or_none: bool = False
    dispatch: Callable[[Request], Answer] | None = None

    @property
    def base(self) -> str:
        return f"/services/data/v{self.version}"

    @cached_property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @cached_property
    def json(self) -> Any:
        """The body as JSON. Raises SalesforceError JSON_PARSER_ERROR."""
        if self.parsed is not None:
            return self.parsed
        kind = self.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind in ("application/xml", "text/xml"):
            raise unsupported("bodies in XML")
        if kind not in ("application/json", "text/json", ""):
            raise SalesforceError("UNSUPPORTED_MEDIA_TYPE", f"Content type {kind} not supported.", status=415)
        try:
            return json.loads(self.raw)
        except ValueError as problem:
            raise bad_json(f"The HTTP entity body is not valid JSON: {problem}") from None

    @property
    def json_object(self) -> dict[str, Any]:
        if not isinstance(self.json, dict):
            raise bad_json("The HTTP entity body is required to be a JSON object.")
        return self.json

    def session(self, *, deleted: bool = False) -> Session:
        return Session(self.org.db, self.actor.access, self.base, deleted)

    def flag(self, name: str) -> bool:
        return self.params.get(name, "").lower() == "true"

    def sub(self, method: str, url: str, headers: dict[str, str], body: Any) -> Answer:
        """Answers a subrequest, as a composite makes them."""
        parts = urlsplit(url)
        segments = [s for s in parts.path.split("/") if s]
        if len(segments) < 3 or segments[:2] != ["services", "data"] or self.dispatch is None:
            raise SalesforceError("INVALID_INPUT", f"the url of a subrequest must begin with /services/data/: {url}")
        try:
            version = versions.check(segments[2])
        except SalesforceError as error:
            return Answer(error.status, error.as_response())
        return self.dispatch(
            replace(
                self,
                method=method.upper(),
                version=version,
                path=tuple(segments[3:]),
                query=parts.query,
                headers=self.headers | headers,
                raw=b"",
                parsed=body,
            )
        )


def method_not_allowed(request: Request, *allowed: str) -> SalesforceError:
    message = f"HTTP Method '{request.method}' not allowed. Allowed are {','.join(allowed)}"
    return SalesforceError("METHOD_NOT_ALLOWED", message, status=405)
