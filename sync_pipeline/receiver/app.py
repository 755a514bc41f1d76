"""The receiver as an ASGI application: POST /webhooks/stripe, POST /webhooks/salesforce, GET /healthz.

A webhook is verified on its raw bytes, stored with its account marked dirty in one transaction, and only then
answered with 2xx. Bodies are never kept and never logged; a repeated event changes nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_pipeline.core.salesforce_ids import is_account_id
from sync_pipeline.core.units import MICROS
from sync_pipeline.engine.env import Env
from sync_pipeline.engine.intake import nudge, receive
from sync_pipeline.ledger import work
from sync_pipeline.ledger.database import Ledger, LedgerError
from sync_pipeline.systems.stripe.events import hint
from sync_pipeline.systems.stripe.webhooks import BadSignature, verify

MAX_BODY = 1024 * 1024
BODY_SECONDS = 20
"""Stripe and Salesforce send a body at once; a sender who does not keeps no connection for longer."""
MAX_NOTIFICATIONS = 100
"""As many as one outbound message can have (Salesforce's SOAP guide, Outbound Messaging Notifications)."""
ACK = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
    "</soapenv:Body></soapenv:Envelope>"
)
ACCOUNT_IN_MESSAGE = re.compile(rb"<(?:\w+:)?(?:AccountId|Id)>(001[0-9A-Za-z]{15})</")


class BodyRefused(ValueError):
    """The request has no body that a webhook could have."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def build_app(ledger: Ledger, env: Env, secrets: Sequence[str], org_id: str | None = None) -> Starlette:
    """The application. `secrets` are Stripe's signing secrets; `org_id` is the only org whose messages count."""

    async def stripe_webhook(request: Request) -> Response:
        try:
            payload = await _body(request)
            event = verify(payload, request.headers.get("stripe-signature", ""), secrets, env.wall() // MICROS)
            found = hint(event)
        except BodyRefused as error:
            return _refused(error.status, str(error))
        except BadSignature as error:
            return _refused(400, str(error))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
            return _refused(400, "the body is not a Stripe event")
        try:
            new = await run_in_threadpool(receive, ledger, [found], env)
        except LedgerError:
            return _refused(503, "the ledger cannot be written; send it again")
        return JSONResponse({"received": True, "new": bool(new)})

    async def salesforce_message(request: Request) -> Response:
        """An outbound message is an unsigned hint: it can only make an Account be looked at."""
        try:
            payload = await _body(request)
        except BodyRefused as error:
            return _refused(error.status, str(error))
        if org_id is None or not _is_from(payload, org_id):
            return _refused(403, "the message is not from the org of this ledger (or SYNC_EXPECT_ORG_ID)")
        named = {match.decode() for match in ACCOUNT_IN_MESSAGE.findall(payload)}
        accounts = sorted(filter(is_account_id, named))
        if len(accounts) > MAX_NOTIFICATIONS:
            return _refused(400, f"the message names {len(accounts)} Accounts; one has {MAX_NOTIFICATIONS} at most")
        try:
            await run_in_threadpool(nudge, ledger, accounts, env)
        except LedgerError:
            return _refused(503, "the ledger cannot be written; send it again")
        return Response(ACK, media_type="text/xml")

    async def healthz(request: Request) -> Response:
        try:
            due = await run_in_threadpool(_due, ledger, env)
        except LedgerError:
            return _refused(503, "the ledger cannot be read")
        return JSONResponse({"ok": True, "accounts_due": due})

    return Starlette(
        routes=[
            Route("/webhooks/stripe", stripe_webhook, methods=["POST"]),
            Route("/webhooks/salesforce", salesforce_message, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes:
    """The raw body, never more than 1 MiB of it in memory."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY:
                    raise BodyRefused(413, "the body is larger than 1 MiB")
                chunks.append(chunk)
    except TimeoutError:
        raise BodyRefused(408, f"the body did not come within {BODY_SECONDS} s") from None
    except ClientDisconnect:
        raise BodyRefused(400, "the sender went away before the body was whole") from None
    return b"".join(chunks)


def _refused(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status_code=status)


def _is_from(payload: bytes, org_id: str) -> bool:
    found = re.search(rb"<OrganizationId>(00D[0-9A-Za-z]{12,15})</OrganizationId>", payload)
    return found is not None and found.group(1)[:15].decode() == org_id[:15]


def _due(ledger: Ledger, env: Env) -> int:
    with ledger.read() as conn:
        return work.due(conn, env.wall())
