"""I19: where nothing goes wrong, no more is sent and read than has to be.

Between two changes that are not the sync's own, a field is written once: Stripe has no batches, so every object that
differs is one call, and no call repeats another; edits that count from two moments are two. What is written to Stripe
may change what Salesforce has to show: once more for each time that the sync turns to Stripe. A look at an Account
reads what it bills once.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

from sync_pipeline.sandbox.wire import Call
from sync_pipeline.simulator.calls import composed_records, is_create, is_named_by_us

HOW = ("proration_behavior", "proration_date")
"""How a change is billed, not what is changed."""


class Bound:
    """Told of every call while nothing goes wrong. `changed` whenever something else than the sync has moved."""

    def __init__(self, breaks: Callable[[str], None]) -> None:
        self._breaks = breaks
        self._written: Counter[str] = Counter()
        self._turns, self._last = 0, ""
        self._reads: dict[str, Counter[str]] = defaultdict(Counter)

    def changed(self) -> None:
        self._written.clear()
        self._turns, self._last = 0, ""

    def wrote(self, side: str, call: Call) -> None:
        for field in () if side == "stripe" and is_named_by_us(call) else _fields(side, call):
            self._written[field] += 1
            if self._written[field] > 1 + (self._turns if side == "salesforce" else 0):
                self._breaks(f"I19: {field} is written again, though nothing else has changed")
        self._turns += side == "stripe" != self._last
        self._last = side

    def read(self, worker: str, side: str, call: Call) -> None:
        if side == "stripe" and not call.path.startswith("/v1/events"):
            self._reads[worker][f"{call.path}?{call.query}"] += 1

    def looked(self, worker: str, accounts: int, rounds: int) -> None:
        """A worker is through with a batch of Accounts, at which it looked so many times.

        What is not of one customer, as the rate card, may be the same for all of them.
        """
        for what, times in self._reads.pop(worker, Counter[str]()).items():
            if times > rounds * (1 if "cus_" in what else accounts):
                self._breaks(f"I19: {what} is read {times} times for {rounds} looks")


def _fields(side: str, call: Call) -> Iterator[str]:
    if side == "stripe":
        params = parse_qs(call.body.decode(), keep_blank_values=True)
        names = {name.partition("[")[0] for name in params}
        if is_create(call):
            yield f"{call.path} {call.body.decode()}"
        else:
            since = "".join(f" from {moment}" for moment in params.get("proration_date", ()))
            yield from (f"{call.path} {name}{since}" for name in sorted(names - set(HOW)))
        return
    for record in composed_records(call):
        name = record.get("id") or json.dumps(record, sort_keys=True)
        yield from (f"{name} {field}" for field in sorted(record.keys() - {"attributes", "id"}))
