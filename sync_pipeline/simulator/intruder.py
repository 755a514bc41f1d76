"""I23: whoever posts to the webhook endpoint without being Stripe, or says again what Stripe once said.

The application is the one of production, called in process; each try must be refused and change no row.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import func, select

from sync_pipeline.engine.env import Env
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.tables import inbox, work
from sync_pipeline.receiver.app import MAX_BODY, build_app

SECRET, STRANGE_SECRET = "whsec_own", "whsec_strange"
_LOOP = asyncio.Runner()
_ROWS = select(
    select(func.count()).select_from(inbox).scalar_subquery(), select(func.sum(work.c.dirty_seq)).scalar_subquery()
)

Try = Callable[[bytes, int], tuple[bytes, str]]
"""From the body of a delivery and the second at which it is made: what is posted, and its signature header."""


def signature(body: bytes, at: int, secret: str = SECRET) -> str:
    """As Stripe signs (docs.stripe.com/webhooks#verify-manually)."""
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"


def _oversize(body: bytes, at: int) -> tuple[bytes, str]:
    padded = body + b" " * MAX_BODY
    return padded, signature(padded, at)


TRIES: Mapping[str, Try] = {
    "another body under its signature": lambda body, at: (body + b" ", signature(body, at)),
    "a signature by a strange secret": lambda body, at: (body, signature(body, at, STRANGE_SECRET)),
    "no signature": lambda body, at: (body, ""),
    "a delivery of six minutes ago": lambda body, at: (body, signature(body, at - 360)),
    "a delivery of the future": lambda body, at: (body, signature(body, at + 360)),
    "more than a mebibyte": _oversize,
}


class Intruder:
    """Tries it out at one installation's endpoint."""

    def __init__(self, ledger: Ledger, env: Env) -> None:
        self._ledger, self._env = ledger, env
        self._app = build_app(ledger, env, [SECRET])

    def tries(self, chance: random.Random, genuine: bytes) -> tuple[str, str | None]:
        """What was tried, and what of I23 does not hold then."""
        name = chance.choice(sorted(TRIES))
        body, header = TRIES[name](genuine, self._env.wall() // 1_000_000)
        before = self._rows()
        status = _LOOP.run(self._post(body, header))
        if status < 400:
            return name, f"I23: the endpoint answers {status} to {name}"
        if self._rows() != before:
            return name, f"I23: {name} was refused and changed the ledger"
        return name, None

    def _rows(self) -> tuple[int, int]:
        """How many events there are, and how often something was marked as dirty."""
        with self._ledger.read() as conn:
            events, marks = conn.execute(_ROWS).one()
        return events, marks

    async def _post(self, body: bytes, header: str) -> int:
        answered: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])

        headers = [(b"content-type", b"application/json"), (b"stripe-signature", header.encode())]
        scope = {"type": "http", "method": "POST", "path": "/webhooks/stripe", "headers": headers, "query_string": b""}
        await self._app(scope, receive, send)
        return answered[0]
