"""What people do at their desks: reading and editing either system from inside the process.

It goes through the systems' own rules, but past faults and the request log: a person clicking in Stripe's
dashboard or in Salesforce is not traffic of the integration under test.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.schema import Field, SObject
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox

STRIPE_VERSION = "2026-10-28.endive"
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class RefusedError(Exception):
    """A system said no: the HTTP `status` of the refusal and the system's own error as `body`."""

    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body
        super().__init__(f"{status}: {self.message}")

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

    @property
    def currency(self) -> str:
        """The Salesforce org's own currency."""
        return self._sandbox.salesforce.org.settings.currency

    @property
    def multi_currency(self) -> bool:
        """Whether Salesforce records carry a currency of their own."""
        return self._sandbox.salesforce.org.settings.multi_currency

    def stripe(self, method: str, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call Stripe with nested parameters: ``stripe("GET", "/v1/invoices", {"limit": 10})``. Raises RefusedError."""
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
        """All records of a SOQL query, without field-level security. Raises RefusedError."""
        try:
            return self._sandbox.salesforce.select(soql)
        except SalesforceError as error:
            raise RefusedError(error.status, error.as_response()) from None

    def details_of(self, kind: str) -> list[tuple[SObject, Field]]:
        """The package's own objects that hang on `kind`, each with the field that says to which record."""
        return [
            (each, own)
            for each in self._sandbox.salesforce.org.schema.objects.values()
            if each.custom
            for own in each.references
            if own.custom and own.to == (kind,)
        ]

    def edit(self, kind: str, record: str | None, fields: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Create (no `record`) or change a Salesforce record as a person; `how`: delete, undelete, user.

        Returns the record as it then is. Raises RefusedError.
        """
        try:
            return self._sandbox.salesforce.edit(object=kind, id=record, fields=fields, **how)
        except SalesforceError as error:
            raise RefusedError(error.status, error.as_response()) from None

    def create(self, kind: str, fields: dict[str, Any]) -> str:
        """Make a Salesforce record as a person; its id. Raises RefusedError."""
        return str(self.edit(kind, None, fields)["Id"])

    def merge(self, kind: str, winner: str, loser: str) -> Any:
        """Merge two Salesforce records as a person. Raises RefusedError."""
        try:
            return self._sandbox.salesforce.merge(object=kind, winner=winner, loser=loser)
        except SalesforceError as error:
            raise RefusedError(error.status, error.as_response()) from None

    def lock_row(self, record: str, times: int) -> None:
        """The next `times` writes to a Salesforce record find it locked. Raises RefusedError."""
        try:
            self._sandbox.salesforce.lock_row(record, times)
        except SalesforceError as error:
            raise RefusedError(error.status, error.as_response()) from None

    def plan_payment(self, customer: str, outcome: Any, **how: Any) -> Any:
        """Decide how a customer's next payments end; `how`: decline_code, invoice, times. Raises RefusedError."""
        try:
            return self._sandbox.stripe.plan_payment(customer, outcome, **how)
        except StripeError as error:
            raise RefusedError(error.status, {"error": error.error}) from None

    def point_webhooks(self, url: str) -> None:
        """Deliver events to `url`, instead of to where they went before. Raises RefusedError."""
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
        raise RefusedError(reply.status, json.loads(reply.body) if reply.body else None)
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
