"""The control plane: JSON over HTTP for scripts and tests, on its own port. The pages for people hang on it too.

Every answer is JSON; bad input is 400 ``{"error": {"field", "message"}}``. A system's own refusal of a person's
edit is passed on as 422 with its body under ``error.refused``.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_pipeline.sandbox.connections import Application
from sync_pipeline.sandbox.courier import Conditions, Courier
from sync_pipeline.sandbox.desk import Desk, RefusedError
from sync_pipeline.sandbox.faults import SIDES
from sync_pipeline.sandbox.inputs import BadInputError, Fields
from sync_pipeline.sandbox.pages.site import Site
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.stripe.settings import StripeSettings
from sync_pipeline.sandbox.vendor_settings import amended
from sync_pipeline.sandbox.world import Sandbox

_OUTCOMES = ("fail", "succeed", "action_required")


def control_application(sandbox: Sandbox, courier: Courier, urls: dict[str, str]) -> Application:
    control = Control(sandbox, courier, urls)
    return Starlette(
        routes=[
            Route("/healthz", control.health),
            Route("/clock", control.show_clock, methods=["GET"]),
            Route("/clock", control.set_clock, methods=["POST"]),
            Route("/faults", control.show_faults, methods=["GET"]),
            Route("/faults", control.add_faults, methods=["POST"]),
            Route("/faults", control.clear_faults, methods=["DELETE"]),
            Route("/requests", control.show_requests, methods=["GET"]),
            Route("/reset", control.reset, methods=["POST"]),
            Route("/snapshot", control.show_snapshot, methods=["GET"]),
            Route("/snapshot", control.use_snapshot, methods=["POST"]),
            Route("/state", control.state, methods=["GET"]),
            Route("/humans", control.human, methods=["POST"]),
            Route("/payments", control.payment, methods=["POST"]),
            Route("/salesforce", control.salesforce, methods=["POST"]),
            Route("/webhooks", control.webhooks, methods=["POST"]),
            Route("/deliveries", control.deliveries, methods=["GET"]),
            Route("/settings", control.settings, methods=["POST"]),
            *Site(sandbox, courier).routes(),
        ],
        exception_handlers={BadInputError: _bad_input, RefusedError: _refused, HTTPException: _no_route},
    )


def sign_in(sandbox: Sandbox) -> dict[str, str]:
    """How the integration user signs in: by name (password grant, SOAP login, subject of a JWT) or refresh token."""
    org = sandbox.salesforce
    return {name: getattr(org, name) for name in ("username", "password", "security_token", "refresh_token")}


class Control:
    """The handlers, and what they keep between calls: the first state, for `reset`, and named snapshots."""

    def __init__(self, sandbox: Sandbox, courier: Courier, urls: dict[str, str]) -> None:
        self._sandbox, self._courier, self._urls = sandbox, courier, urls
        self._desk = Desk(sandbox)
        self._first = sandbox.snapshot()
        self._first_secret = sandbox.webhook_secret
        self._first_settings = (sandbox.salesforce.settings, sandbox.stripe.settings)
        self._named: dict[str, dict[str, Any]] = {}

    async def health(self, _: Request) -> Response:
        clock = self._sandbox.clock.snapshot()
        return JSONResponse({"status": "ok", **self._urls, **clock, **sign_in(self._sandbox)})

    async def show_clock(self, _: Request) -> Response:
        return JSONResponse(self._sandbox.clock.snapshot())

    async def set_clock(self, request: Request) -> Response:
        """``{"advance_seconds": n}`` or ``{"now": epoch}``, and/or ``{"frozen": bool}``.

        Webhooks that fall due on the way are delivered (or have failed) before the clock moves on,
        unless ``{"deliver": false}``: then time passes as if the receiver could not be reached.
        """
        fields = await _fields(request)
        clock = self._sandbox.clock
        frozen, deliver = fields.flag("frozen", default=None), fields.flag("deliver", default=True)
        seconds, now = fields.integer("advance_seconds", default=None, least=0), fields.integer("now", default=None)
        fields.done()
        if seconds is not None and now is not None:
            raise BadInputError("advance_seconds", "cannot be given together with now")
        if seconds is None and now is None and frozen is None:
            raise BadInputError("", "needs advance_seconds, now or frozen")
        if now is not None and now < clock.now():
            raise BadInputError("now", f"cannot go back: the clock is at {clock.now()}")
        if frozen is True:
            clock.freeze()
        if seconds is not None or now is not None:
            await self._courier.move_to(now if now is not None else clock.now() + (seconds or 0), deliver=deliver)
        if frozen is False:
            clock.unfreeze()
        return JSONResponse(clock.snapshot())

    async def show_faults(self, _: Request) -> Response:
        return JSONResponse({"rules": self._sandbox.faults.listing()})

    async def add_faults(self, request: Request) -> Response:
        """A rule, a list of rules, or ``{"rules": [...]}``."""
        data = await _json(request)
        if isinstance(data, dict):
            data = data.get("rules", [data])
        if not isinstance(data, list):
            raise BadInputError("rules", "must be a list of fault rules")
        self._sandbox.add_faults(data)
        return JSONResponse({"rules": self._sandbox.faults.listing()})

    async def clear_faults(self, _: Request) -> Response:
        self._sandbox.faults.clear()
        return JSONResponse({"rules": []})

    async def show_requests(self, request: Request) -> Response:
        """``?since=SEQ&side=stripe&entries=0``: counts per endpoint, and the entries themselves."""
        since, side = _whole_number(request, "since", 0), request.query_params.get("side")
        if side is not None and side not in SIDES:
            raise BadInputError("side", f"must be one of {', '.join(SIDES)}, not {side!r}")
        log = self._sandbox.log
        entries = log.entries(since=since, side=side) if _whole_number(request, "entries", 1) else ()
        return JSONResponse(
            {
                "last": log.last_seq,
                "counts": log.counts(since=since, side=side),
                "entries": [entry.shown() for entry in entries],
            }
        )

    async def reset(self, _: Request) -> Response:
        """Back to the first state: data, clock, settings, faults and request log."""
        await self._courier.put_back(self._first)
        self._sandbox.faults.clear()
        self._sandbox.log.clear()
        self._courier.set_conditions(Conditions())
        self._set_up(*self._first_settings)
        self._sandbox.webhook_secret = self._first_secret
        return JSONResponse({"status": "ok", **self._sandbox.clock.snapshot()})

    async def show_snapshot(self, _: Request) -> Response:
        return _canonical(self._sandbox.snapshot())

    async def use_snapshot(self, request: Request) -> Response:
        """``{"save": name}`` and ``{"restore": name}`` keep it in the process; a document from GET puts itself back."""
        fields = await _fields(request)
        if "save" in fields:
            name = fields.text("save")
            fields.done()
            self._named[name] = self._sandbox.snapshot()
        elif "restore" in fields:
            name = fields.text("restore")
            fields.done()
            if name not in self._named:
                saved = ", ".join(self._named) or "none"
                raise BadInputError("restore", f"there is no snapshot {name!r}; saved are: {saved}")
            await self._courier.put_back(self._named[name])
        else:
            state = {part: fields.any(part) for part in ("clock", "salesforce", "stripe")}
            state["webhook_endpoint"] = fields.text("webhook_endpoint", default=None)
            fields.done()
            try:
                await self._courier.put_back(state)
            except ValueError as error:
                raise BadInputError("", str(error)) from None
        return JSONResponse({"status": "ok", **self._sandbox.clock.snapshot()})

    async def state(self, _: Request) -> Response:
        return _canonical(self._sandbox.truth())

    async def human(self, request: Request) -> Response:
        fields = await _fields(request)
        system = fields.choice("system", SIDES)
        result = self._stripe_edit(fields) if system == "stripe" else self._salesforce_edit(fields)
        self._courier.wake()
        return JSONResponse({"result": result})

    def _stripe_edit(self, fields: Fields) -> Any:
        method = fields.choice("method", ("GET", "POST", "DELETE"))
        path, params = fields.text("path"), fields.any("params", default={})
        fields.done()
        if not path.startswith("/v1/"):
            raise BadInputError("path", f"must begin with /v1/, not {path!r}")
        if not isinstance(params, dict):
            raise BadInputError("params", "must be a JSON object")
        return self._desk.stripe(method, path, params)

    def _salesforce_edit(self, fields: Fields) -> Any:
        kind, record = fields.text("object"), fields.text("id", default=None)
        if "merge" in fields:
            merge = fields.object("merge")
            winner, loser = merge.text("winner"), merge.text("loser")
            merge.done()
            fields.done()
            return self._desk.merge(kind, winner, loser)
        values = fields.any("fields", default={})
        if not isinstance(values, dict):
            raise BadInputError("fields", "must be a JSON object")
        delete, undelete = fields.flag("delete", default=False), fields.flag("undelete", default=False)
        user = fields.text("user", default=None)
        fields.done()
        if record is None and (delete or undelete):
            raise BadInputError("id", "is required to delete or undelete")
        if user is not None and user not in {known["Id"] for known in self._desk.query("SELECT Id FROM User")}:
            raise BadInputError("user", f"{user!r} is not the id of a User")
        return self._desk.edit(kind, record, values, delete=delete, undelete=undelete, user=user)

    async def payment(self, request: Request) -> Response:
        """An open invoice that was sent is paid, or refused, at once; automatic charges do as told when they come."""
        fields = await _fields(request)
        customer, outcome = fields.text("customer"), fields.choice("outcome", _OUTCOMES)
        code, invoice = fields.text("decline_code", default=None), fields.text("invoice", default=None)
        times = fields.integer("times", default=1, least=1, most=1000)
        fields.done()
        planned = self._desk.plan_payment(customer, outcome, decline_code=code, invoice=invoice, times=times)
        self._courier.wake()
        return JSONResponse({"status": "ok", "result": planned})

    async def salesforce(self, request: Request) -> Response:
        """``{"expire_tokens": true}`` ends every session; ``{"lock_row": id, "times": n}`` makes the next n writes to
        a record fail with UNABLE_TO_LOCK_ROW, also as one row among many; ``{"lock_nth_row": n}`` does that to the
        n-th row written from now on; ``{"fail_job_after": n}`` makes the next bulk job fail with only n rows processed.
        """
        fields = await _fields(request)
        expire, record = fields.flag("expire_tokens", default=False), fields.text("lock_row", default=None)
        times = fields.integer("times", default=1, least=1, most=1000)
        rows = fields.integer("fail_job_after", default=None, least=0)
        nth = fields.integer("lock_nth_row", default=None, least=1)
        fields.done()
        if not expire and record is None and rows is None and nth is None:
            raise BadInputError("", "needs expire_tokens, lock_row, lock_nth_row or fail_job_after")
        if nth is not None:
            self._sandbox.salesforce.lock_nth_row(nth)
        if record is not None:
            self._desk.lock_row(record, times)
        if rows is not None:
            self._sandbox.salesforce.fail_next_job(rows)
        if expire:
            self._sandbox.salesforce.expire_tokens()
        return JSONResponse({"status": "ok"})

    async def settings(self, request: Request) -> Response:
        """``{"salesforce": {...}, "stripe": {...}}`` changes settings while everything runs: how far search or
        queries lag, which fields an administrator hides, when payments are retried."""
        fields = await _fields(request)
        sandbox = self._sandbox
        said = {side: fields.any(side, default={}) for side in SIDES}
        fields.done()
        try:
            salesforce = amended(sandbox.salesforce.settings, "salesforce", said["salesforce"])
            stripe = amended(sandbox.stripe.settings, "stripe", said["stripe"])
            self._set_up(salesforce, stripe)
        except ValueError as error:
            raise BadInputError("", str(error)) from None
        return JSONResponse({"status": "ok"})

    def _set_up(self, salesforce: SalesforceSettings, stripe: StripeSettings) -> None:
        now = self._sandbox.salesforce.settings
        changed = {each.name: getattr(salesforce, each.name) for each in dataclasses.fields(salesforce)}
        changed = {name: value for name, value in changed.items() if value != getattr(now, name)}
        if changed:
            self._sandbox.salesforce.configure(**changed)
        self._sandbox.stripe.configure(stripe)

    async def webhooks(self, request: Request) -> Response:
        """``{"url"}`` points deliveries there; ``{"conditions": {...}}`` sets how bad the road is;
        ``{"roll_secret": true}`` makes a new signing secret, beside which the old one signs for a day;
        ``{"flush": true}`` delivers what is due and waits; ``{"replay": event_id}`` sends an event once more."""
        fields = await _fields(request)
        url, replay = fields.text("url", default=None), fields.text("replay", default=None)
        flush, roll = fields.flag("flush", default=False), fields.flag("roll_secret", default=False)
        conditions = Conditions.read(fields.object("conditions")) if "conditions" in fields else None
        fields.done()
        if url is not None:
            if not url.startswith(("http://", "https://")):
                raise BadInputError("url", f"must be an http address, not {url!r}")
            self._desk.point_webhooks(url)
        if conditions is not None:
            self._courier.set_conditions(conditions)
        if roll:
            if self._sandbox.webhook_endpoint is None:
                raise BadInputError("roll_secret", 'no webhook URL is registered; send {"url": ...} first')
            self._sandbox.webhook_secret = self._sandbox.stripe.roll_secret(self._sandbox.webhook_endpoint)
        answer: dict[str, Any] = {"endpoint": self._sandbox.webhook_endpoint, "secret": self._sandbox.webhook_secret}
        if flush:
            answer["attempts"] = await self._courier.flush()
        if replay is not None:
            answer["replayed"] = await self._replay(replay)
        return JSONResponse(answer)

    async def deliveries(self, _: Request) -> Response:
        """Webhook deliveries that have not succeeded yet, due now or to be tried again, oldest first."""
        return JSONResponse({"deliveries": self._courier.waiting()})

    async def _replay(self, event: str) -> int | None:
        endpoint = self._sandbox.webhook_endpoint
        if endpoint is None:
            raise BadInputError("replay", 'no webhook URL is registered; send {"url": ...} first')
        url = self._desk.stripe("GET", f"/v1/webhook_endpoints/{endpoint}")["url"]
        return await self._courier.replay(self._desk.stripe("GET", f"/v1/events/{event}"), url)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise BadInputError("", f"the body is not JSON: {error}") from None


async def _fields(request: Request) -> Fields:
    return Fields(await _json(request))


def _whole_number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal():
        raise BadInputError(name, f"must be a whole number, not {text!r}")
    return int(text)


def _canonical(data: Any) -> Response:
    body = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Response(body, media_type="application/json")


def _bad_input(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadInputError)
    return JSONResponse({"error": {"field": error.field, "message": str(error)}}, status_code=400)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(
        {"error": {"field": "", "message": error.message, "status": error.status, "refused": error.body}},
        status_code=422,
    )


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": {"field": "", "message": message}}, status_code=error.status_code)
