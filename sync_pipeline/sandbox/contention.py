"""Calls in each other's way: while Stripe works on one, others get neither its idempotency key nor its objects.

A call takes time only where a fault delays it, so that is the one that others can meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sync_pipeline.sandbox.wire import Call

# What Stripe locks while it writes; prices, products and coupons may be named by many calls at once.
_LOCKED = re.compile(r"(?<![A-Za-z0-9])(?:cus|sub|sub_sched|si|in|ii|pi|ch)_[A-Za-z0-9]+")


class Contention:
    def __init__(self) -> None:
        self._under_way: list[Call] = []

    @contextmanager
    def working_on(self, call: Call) -> Iterator[None]:
        self._under_way.append(call)
        try:
            yield
        finally:
            self._under_way = [other for other in self._under_way if other is not call]

    def clear(self) -> None:
        """Nothing is in the way any more, though what is held back may still be done."""
        self._under_way = []

    def refusal(self, call: Call) -> str | None:
        """The kind of fault that `call` meets because of one that is under way: the key of both is the same, or an
        object that both write to."""
        for other in self._under_way:
            if call.method == "POST" == other.method and _key(call) is not None and _key(call) == _key(other):
                return "stripe_409_in_progress"
            if "GET" not in (call.method, other.method) and _objects(call) & _objects(other):
                return "stripe_lock_timeout"
        return None


def _key(call: Call) -> str | None:
    return call.headers.get("idempotency-key")


def _objects(call: Call) -> set[str]:
    return set(_LOCKED.findall(f"{call.path}?{call.query} {call.body.decode('utf-8', 'replace')}"))
