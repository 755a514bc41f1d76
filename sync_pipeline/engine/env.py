"""The one door through which time, waiting and randomness come in, so that a simulator can replace them.

`now` is the business time that both systems live by (virtual in the sandbox); `wall` is the time of processes:
leases, deadlines and heartbeats. In production they are the same.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

import requests

AT_ONCE = 8
"""Calls in flight of one process: about 32 a second; Stripe allows a test key 25, a live one 100."""

T = TypeVar("T")
R = TypeVar("R")


class Env(Protocol):
    """Times are microseconds since the epoch, UTC."""

    def now(self) -> int: ...

    def wall(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...

    def token(self) -> str:
        """A new unique id, sortable by time of making."""

    def secret(self) -> bytes:
        """32 bytes that nobody can guess."""

    def jitter(self) -> float:
        """A number in [0, 1) for spreading retries."""

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """What the function makes of every item, in their order; it may be at work on several at once."""


class ClockUnreachable(Exception):
    """The virtual clock of the sandbox did not answer."""


class SystemEnv:
    """The real world, or the sandbox's clock where `clock_url` is set (asked at most five times a second).

    `at_once` is how many threads wait for answers; with 1 everything happens in order.
    """

    def __init__(self, clock_url: str | None = None, at_once: int = AT_ONCE) -> None:
        self._clock_url = clock_url
        self._at_once = at_once
        self._pool: ThreadPoolExecutor | None = None
        self._offset = 0
        self._asked = 0

    def now(self) -> int:
        wall = self.wall()
        if self._clock_url and wall - self._asked > 200_000:
            self._offset = self._sandbox_seconds(self._clock_url) * 1_000_000 - wall
            self._asked = wall
        return wall + self._offset

    def wall(self) -> int:
        return time.time_ns() // 1000

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def token(self) -> str:
        return f"{self.wall():016x}{secrets.token_hex(6)}"

    def secret(self) -> bytes:
        return secrets.token_bytes(32)

    def jitter(self) -> float:
        return random.random()

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        if self._at_once == 1 or len(items) < 2:
            return [function(item) for item in items]
        if self._pool is None:
            # Kept, because every thread keeps its connections.
            self._pool = ThreadPoolExecutor(self._at_once)
        running = [self._pool.submit(function, item) for item in items]
        # Also when one fails nothing is in flight any more when this returns.
        wait(running)
        return [each.result() for each in running]

    @staticmethod
    def _sandbox_seconds(url: str) -> int:
        try:
            return int(requests.get(url, timeout=(2, 10)).json()["now"])
        except (requests.RequestException, ValueError, KeyError):
            why = f"the sandbox clock at {url} does not answer; is `sync-pipeline sandbox` running?"
            raise ClockUnreachable(why) from None
