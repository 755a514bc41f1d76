"""Delivery of webhooks over HTTP: posts what Stripe has due, reports back what came of it, and misbehaves on demand.

What is due, its body and its signature are the Stripe side's business; so is the schedule of retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sync_pipeline.sandbox.inputs import Fields
from sync_pipeline.sandbox.stripe.webhooks import Delivery
from sync_pipeline.sandbox.world import Sandbox

_TIMEOUT_SECONDS = 10
_AT_ONCE = 8
# Asking what is due costs time for each delivery that waits, so it is not asked while many are under way.
_BACKLOG = 64
_TICK_SECONDS = 0.2
_OVERTAKEN_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad the road is. Rates are between 0 and 1.

    `drop`: the attempt is lost on the way, so Stripe will retry. `lose`: the receiver took it and forgot it,
    so nobody will. `duplicate`: it arrives twice. `reorder`: it is held back for a moment, so that others overtake it.
    `delay_seconds`: wall seconds by which each is late.
    """

    drop: float = 0.0
    lose: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_seconds: float = 0.0
    seed: int = 0

    @staticmethod
    def read(fields: Fields) -> Conditions:
        """All fields of a JSON object; absent ones are 0. Raises BadInputError."""
        rates = {
            name: fields.number(name, default=0.0, least=0, most=1) for name in ("drop", "lose", "duplicate", "reorder")
        }
        delay = fields.number("delay_seconds", default=0.0, least=0, most=3600)
        seed = fields.integer("seed", default=0)
        fields.done()
        return Conditions(**rates, delay_seconds=delay, seed=seed)


@dataclass(frozen=True, slots=True)
class _Fate:
    """What befalls one attempt. `late_by` is in wall seconds."""

    dropped: bool
    lost: bool
    doubled: bool
    late_by: float


class Courier:
    """Carries webhooks from the Stripe side to their endpoints, a few at a time."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._news = asyncio.Event()
        self._moving = asyncio.Lock()
        self.set_conditions(Conditions())

    def set_conditions(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self._random = random.Random(conditions.seed)

    def wake(self) -> None:
        """Look for due deliveries soon: something has changed."""
        self._news.set()

    def waiting(self) -> list[dict[str, Any]]:
        """Deliveries that still wait to succeed, oldest first; `attempts` counts those that failed."""
        tables = self._sandbox.stripe.world.store
        endpoints = tables.table("webhook_endpoint")
        return [
            {"id": id, "url": endpoints[row["endpoint"]]["url"], "event": row["event"], "attempts": row["attempts"]}
            for id, row in tables.table("delivery").items()
            if not endpoints[row["endpoint"]].get("deleted")
        ]

    async def run(self) -> None:
        """Deliver for ever, and do what a running clock makes due."""
        while True:
            self._sandbox.tick()
            if len(self._under_way) < _BACKLOG:
                self._start_due()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _TICK_SECONDS)
            self._news.clear()

    async def move_to(self, now: int, *, deliver: bool = True) -> None:
        """Move the clock event by event, and deliver (or fail to) what each moment makes due before going on.

        Without `deliver`, time passes as if the receivers could not be reached. A moment that has passed by the
        time it is this call's turn changes nothing.
        """
        async with self._moving:
            if deliver:
                await self.flush()
            for _ in self._sandbox.steps_to(max(now, self._sandbox.clock.now())):
                if deliver:
                    await self.flush()
            self.wake()

    async def flush(self) -> int:
        """Deliver until nothing is due at the clock's present moment; the number of attempts made."""
        attempts = 0
        while True:
            attempts += self._start_due()
            if not self._under_way:
                return attempts
            await asyncio.wait(set(self._under_way.values()))

    async def put_back(self, state: dict[str, Any]) -> None:
        """Restore the sandbox, and forget the deliveries under way: they belong to the state that is replaced.

        Raises ValueError, and changes nothing, if `state` is no snapshot.
        """
        async with self._moving:
            self._sandbox.restore(state)
            for task in self._under_way.values():
                task.cancel()
            self._under_way.clear()

    async def replay(self, event: dict[str, Any], url: str) -> int | None:
        """Send an event once more, as a person can from the dashboard; the HTTP status or None."""
        body = json.dumps(event, indent=2).encode()
        at = int(time.time())
        signed = hmac.new(self._sandbox.webhook_secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json; charset=utf-8", "stripe-signature": f"t={at},v1={signed}"}
        return await self.post(url, body, headers)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int | None:
        """One attempt: the HTTP status, or None if there was no answer in time."""
        self._sandbox.log.record_webhook(body)
        try:
            return await asyncio.wait_for(_post(url, body, headers), _TIMEOUT_SECONDS)
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
            return None

    def _start_due(self) -> int:
        due = [d for d in self._sandbox.stripe.deliveries_due() if d.id not in self._under_way]
        for delivery in due:
            # Fates are drawn here, in the order of the events, so that a seed means the same in every run.
            self._under_way[delivery.id] = asyncio.create_task(self._deliver(delivery, self._draw_fate()))
        return len(due)

    def _draw_fate(self) -> _Fate:
        road, draw = self.conditions, self._random.random
        return _Fate(
            dropped=draw() < road.drop,
            lost=draw() < road.lose,
            doubled=draw() < road.duplicate,
            late_by=road.delay_seconds + (_OVERTAKEN_SECONDS * draw() if draw() < road.reorder else 0.0),
        )

    async def _deliver(self, delivery: Delivery, fate: _Fate) -> None:
        try:
            if fate.late_by:
                await asyncio.sleep(fate.late_by)
            async with self._slots:
                status = await self._attempt(delivery, fate)
            self._sandbox.stripe.record_delivery(delivery.id, status)
        finally:
            if self._under_way.get(delivery.id) is asyncio.current_task():
                del self._under_way[delivery.id]

    async def _attempt(self, delivery: Delivery, fate: _Fate) -> int | None:
        if fate.dropped:
            return None
        if fate.lost:
            return 200
        if fate.doubled:
            await self.post(delivery.url, delivery.body, delivery.headers)
        return await self.post(delivery.url, delivery.body, delivery.headers)


async def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    target = urlsplit(url)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise ValueError(f"not an http address: {url}")
    secure = target.scheme == "https"
    reader, writer = await asyncio.open_connection(
        target.hostname, target.port or (443 if secure else 80), ssl=secure or None
    )
    try:
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        fields = {"host": target.netloc.rpartition("@")[2], "connection": "close", "content-length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (headers | fields).items()]
        writer.write("\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode("latin-1") + body)
        await writer.drain()
        status_line = await reader.readline()
        parts = status_line.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/"):
            raise ValueError("the endpoint closed the connection without an answer")
        await reader.read(65536)
        return int(parts[1])
    finally:
        writer.close()
