"""The simulated Stripe as one `wire.System`: authentication, routing, idempotency, and one transaction per call."""

from __future__ import annotations

import json
import logging
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import (
    behaviour,
    errors,
    headers,
    idempotency,
    limits,
    planned_payments,
    webhooks,
)
from sync_pipeline.sandbox.stripe.contract import Operation
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import expand
from sync_pipeline.sandbox.stripe.operations import IMPLEMENTED, refuse_unmodelled
from sync_pipeline.sandbox.stripe.parameters import Params, check, decode, from_json
from sync_pipeline.sandbox.stripe.references import check_named
from sync_pipeline.sandbox.stripe.resources import RESOURCES
from sync_pipeline.sandbox.stripe.settings import StripeSettings
from sync_pipeline.sandbox.stripe.test_clocks import refuse_while_advancing
from sync_pipeline.sandbox.stripe.webhooks import Delivery
from sync_pipeline.sandbox.stripe.world import World
from sync_pipeline.sandbox.wire import Call, Reply

_LOG = logging.getLogger(__name__)
_BROKEN = "An unknown error occurred in the sandbox; its log has the traceback."
_TRAILING_SLASH = (
    " If you are trying to list objects, remove the trailing slash. If you are trying to retrieve an object, make sure"
    " you passed a valid (non-empty) identifier in your code."
)
_OF_ANOTHER_FORM = ("Invalid object", "Invalid array")
_OWNERS = ("subscription", "invoice", "customer", "schedule", "payment_intent", "charge")


class StripeSystem:
    """Implements `wire.System`. All state is in `world`; ids and keys follow from the seed."""

    compresses = False

    def __init__(self, clock: Clock, *, seed: int = 0, settings: StripeSettings | None = None) -> None:
        behaviour.load()
        self.world = World(clock, seed, settings or StripeSettings())
        self.secret_key = "sk_test_" + self.world.token("secret key", 24)
        self._requests = 0
        self._limits = limits.Limits()

    def handle(self, call: Call) -> Reply:
        self._requests += 1
        request_id = "req_" + self.world.token(f"request{self._requests}", 14)
        try:
            status, body, told = self._answer(call, request_id)
        except StripeError as error:
            status, body, told = error.status, _dump({"error": error.error}), dict(error.headers)
        except Exception:
            _LOG.exception("%s %s failed", call.method, call.path)
            status, body, told = 500, _dump({"error": {"type": "api_error", "message": _BROKEN}}), {}
        told |= {
            "Content-Type": "application/json", "Request-Id": request_id, "Stripe-Version": self.world.contract.version,
        }  # fmt: skip
        told.setdefault("Stripe-Should-Retry", "true" if status in (409, 429) or status >= 500 else "false")
        key = call.headers.get("idempotency-key")
        if key:
            told["Idempotency-Key"] = key
        return Reply(status, body, told)

    def keep_failure(self, call: Call, failure: Reply, done: Reply | None) -> None:
        """Keeps the failure of a call under its key, as any answer is kept.

        `done` is the answer that it takes the place of; None where the work was not done. What an earlier call has left
        under the key stays.
        """
        key = call.headers.get("idempotency-key") if call.method == "POST" else None
        if key is None:
            return
        kept = self.world.store.get("idempotency", key)
        request_id = "" if done is None else done.headers["Request-Id"]
        if kept is None or kept["request"] == request_id:
            print_ = idempotency.fingerprint(call.method, call.path, call.query, call.body)
            idempotency.remember(self.world, key, print_, failure.status, failure.body, request_id)

    def _answer(self, call: Call, request_id: str) -> tuple[int, bytes, dict[str, str]]:
        headers.check(call, self.secret_key, self.world.account_id, self.world.contract.version)
        self._limits.check(self.world, call)
        operation, args, names = self.world.contract.route(call.method, call.path)
        if operation is None:
            slash = _TRAILING_SLASH if call.path.endswith("/") else ""
            raise StripeError(
                f"Unrecognized request URL ({call.method}: {call.path}).{slash} Please see https://stripe.com/docs or "
                "we can help at https://support.stripe.com/.", status=404, keep=False,
            )  # fmt: skip
        key = call.headers.get("idempotency-key") if call.method == "POST" else None
        print_ = idempotency.fingerprint(call.method, call.path, call.query, call.body) if key else ""
        if key:
            seen = idempotency.recall(self.world, key, print_)
            if seen:
                return seen[0], seen[1], {"Idempotent-Replayed": "true", "Original-Request": seen[2]}
        try:
            status, body = 200, _dump(self._execute(operation, call, args, names, (request_id, key)))
        except StripeError as error:
            if not error.keep or not key:
                raise
            status, body = error.status, _dump({"error": error.error})
        if key:
            idempotency.prune(self.world)
            idempotency.remember(self.world, key, print_, status, body, request_id)
        return status, body, {}

    def _execute(
        self, operation: Operation, call: Call, args: list[str], names: list[str], request: tuple[str, str | None]
    ) -> Row:
        implementation = IMPLEMENTED.get(operation.key)
        if implementation is None:
            raise errors.unsupported(f"{call.method} {call.path}")
        params = self._params(operation, call)
        refuse_unmodelled(params, implementation.accepts)
        world = self.world
        if call.method != "GET":
            check_named(world, params)
        declined: StripeError | None = None
        answer: Row = {}
        with world.store.transaction():
            world.request = request
            owner = self._owner(params, args)
            with world.living_with(owner):
                try:
                    if call.method != "GET" and owner is not None:
                        refuse_while_advancing(world.get("test_helpers.test_clock", owner.get("_clock")))
                    answer = implementation.handler(world, params, args)
                except StripeError as error:
                    if not error.commits:
                        raise
                    declined = error
            if declined is None:
                if "_seq" in answer:
                    answer = world.render(answer)
                if params.get("expand") and operation.response:
                    pinned = call.headers.get("stripe-version", world.contract.version) == world.contract.version
                    answer = expand(world, answer, params["expand"], operation.response, pinned=pinned)
        if declined is not None:
            raise declined
        return answer

    def _params(self, operation: Operation, call: Call) -> Params:
        """The checked parameters. What the pinned version has not, or in another form, may well be right in the version
        that the client names: that is no mistake of the client's, but something that the sandbox does not do."""
        pinned = self.world.contract.version
        version = call.headers.get("stripe-version", pinned)
        try:
            return check(operation, _given(call))
        except StripeError as error:
            if version == pinned or not (error.code == "parameter_unknown" or str(error) in _OF_ANOTHER_FORM):
                raise
            what = f"Stripe {version}, and {pinned} has no parameter {error.param} of that form"
            raise errors.unsupported(what, error.param) from None

    def _owner(self, params: Params, args: list[str]) -> Row | None:
        """The object whose test clock, if any, tells the time of this call."""
        values = [*args[:1], *(params[n] for n in _OWNERS if isinstance(params.get(n), str))]
        for value in values:
            for kind in ("customer", "subscription", "invoice", "subscription_schedule", "subscription_item",
                         "invoiceitem", "payment_intent", "charge"):  # fmt: skip
                row = self.world.store.table(kind).get(value)
                if row is not None and "_clock" in row:
                    return row
        return None

    # the clock's side

    @property
    def settings(self) -> StripeSettings:
        return self.world.settings

    def configure(self, settings: StripeSettings) -> None:
        """Changes how the running account is set up."""
        self.world.settings = settings

    def roll_secret(self, endpoint: str) -> str:
        """A new signing secret for a webhook endpoint; the old one signs along for a day, as after a roll in the
        Dashboard."""
        return webhooks.roll_secret(self.world, endpoint)

    def next_due(self) -> int | None:
        return self.world.next_due()

    def run_due(self) -> None:
        self.world.run_due()
        webhooks.prune_events(self.world)

    # webhooks

    def register_webhook(self, url: str, secret: str | None = None) -> Row:
        with self.world.store.transaction():
            return webhooks.register(self.world, url, secret)

    def deliveries_due(self) -> list[Delivery]:
        return webhooks.due(self.world)

    def record_delivery(self, delivery_id: str, status: int | None) -> None:
        with self.world.store.transaction():
            webhooks.record(self.world, delivery_id, status)

    # the control plane

    def plan_payment(
        self, customer: str, outcome: planned_payments.Outcome, *, decline_code: str | None = None,
        invoice: str | None = None, times: int = 1,
    ) -> Row:  # fmt: skip
        """Make the next payments of a customer end as told. Raises StripeError where that makes no sense."""
        with self.world.store.transaction():
            self.world.request = None
            row = self.world.need("customer", customer, "customer")
            with self.world.living_with(row):
                return planned_payments.plan(self.world, row, outcome, decline_code, invoice, times)

    # state

    def truth(self) -> dict[str, Any]:
        shown = {}
        for kind in sorted(RESOURCES):
            if kind == "event":
                continue
            rows = sorted(self.world.store.table(kind).values(), key=lambda r: r["id"])
            if rows:
                shown[kind] = [self.world.render(r) for r in rows]
        return shown

    def snapshot(self) -> dict[str, Any]:
        return {"tables": self.world.store.snapshot(), "requests": self._requests}

    def restore(self, state: dict[str, Any]) -> None:
        self.world.store.restore(state["tables"])
        self._requests = state["requests"]
        self.world.reindex()


def _given(call: Call) -> Params:
    """The parameters of a call as they were written: in the query, and in a form or, for v2, in JSON."""
    text = call.body.decode("utf-8", "replace")
    if call.path.startswith("/v2/"):
        return decode(call.query) | (from_json(text) if text else {})
    return decode("&".join(filter(None, (call.query, text))))


def _dump(value: Row) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
