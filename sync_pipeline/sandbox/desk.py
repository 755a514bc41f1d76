"""What people do at their desks: reading and editing either system from inside the process.

It goes through the systems' own rules, but past faults and the request log: a person clicking in Stripe's
dashboard or in Salesforce is not traffic of the integration under test.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox

API_VERSION = "v66.0"
STRIPE_VERSION = "2026-10-28.endive"
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class Refused(Exception):
    """A system said no: `status` and its own error as `body`."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.body: Any = json.loads(reply.body) if reply.body else None
        super().__init__(f"{reply.status}: {self.body}")

    @property
    def message(self) -> str:
        """The vendor's sentence."""
        if isinstance(self.body, list) and self.body:
            return str(self.body[0].get("message", self.body[0]))
        error = self.body.get("error", self.body) if isinstance(self.body, dict) else self.body
        return str(error.get("message", error)) if isinstance(error, dict) else str(error)


class Desk:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def stripe(self, method: str, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call Stripe with nested parameters, e.g. ``stripe("GET", "/v1/invoices", {"limit": 10})``. Raises Refused."""
        form = urlencode(list(_flatten(params or {})))
        key = {"authorization": f"Bearer {self._sandbox.stripe.secret_key}", "stripe-version": STRIPE_VERSION}
        if method == "POST":
            call = Call(method, path, headers=key | _FORM, body=form.encode())
        else:
            call = Call(method, path, query=form, headers=key)
        answer: dict[str, Any] = _read(self._sandbox.stripe.handle(call))
        return answer

    def stripe_all(self, path: str, params: dict[str, Any] | None = None, most: int = 100) -> list[dict[str, Any]]:
        """The newest `most` objects of a list, which may take several pages."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"has_more": True}
        while page["has_more"] and len(found) < most:
            after = {"starting_after": found[-1]["id"]} if found else {}
            page = self.stripe("GET", path, {**(params or {}), **after, "limit": min(100, most - len(found))})
            found += page["data"]
        return found

    def query(self, soql: str) -> list[dict[str, Any]]:
        """The first page of a SOQL query's records. Raises Refused."""
        call = Call(
            "GET",
            f"/services/data/{API_VERSION}/query",
            query=f"q={quote(soql)}",
            headers={"authorization": f"Bearer {self._sandbox.salesforce.access_token}"},
        )
        records: list[dict[str, Any]] = _read(self._sandbox.salesforce.handle(call))["records"]
        return records

    def point_webhooks(self, url: str) -> None:
        """Deliver events to `url`, instead of to where they went before. Raises Refused."""
        known = self._sandbox.webhook_endpoint
        if known is not None:
            self.stripe("POST", f"/v1/webhook_endpoints/{known}", {"url": url})
        else:
            endpoint = self._sandbox.stripe.register_webhook(url, self._sandbox.webhook_secret)
            self._sandbox.webhook_endpoint = endpoint["id"]


def soql_text(value: str) -> str:
    """A SOQL string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _read(reply: Reply) -> Any:
    if reply.status >= 300:
        raise Refused(reply)
    return json.loads(reply.body) if reply.body else {}


def _flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Stripe's form encoding of nested parameters: ``items[0][price]=...``."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flatten(item, f"{name}[{key}]" if name else key)]
    if isinstance(value, list):
        return [pair for i, item in enumerate(value) for pair in _flatten(item, f"{name}[{i}]")]
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    return [(name, "" if value is None else str(value))]
