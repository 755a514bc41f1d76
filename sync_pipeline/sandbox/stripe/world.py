"""The simulated account: its objects, ids, time and announcements. Every behaviour module works through it.

Rows are Stripe objects without their null fields; keys that start with ``_`` are the sandbox's own and are never
shown. How rows become what Stripe shows is `pictures`.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from base64 import b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.store import Row, Store
from sync_pipeline.sandbox.stripe import errors, pictures
from sync_pipeline.sandbox.stripe.contract import load_contract
from sync_pipeline.sandbox.stripe.pictures import Picture
from sync_pipeline.sandbox.stripe.resources import INDEXED, RESOURCES
from sync_pipeline.sandbox.stripe.settings import StripeSettings

_LOG = logging.getLogger(__name__)
DESTINATION = "v2.core.event_destination"
THIN = "v1."  # stands before the type of a thin event
_BY_AGE = itemgetter("_seq")
Timer = Callable[["World", str], None]
TIMERS: dict[str, Timer] = {}


def timer(name: str) -> Callable[[Timer], Timer]:
    """Register what happens when a timer set by `World.set_timer(name, ...)` comes due."""

    def register(function: Timer) -> Timer:
        TIMERS[name] = function
        return function

    return register


class World:
    def __init__(self, clock: Clock, seed: int, settings: StripeSettings) -> None:
        self.clock, self.seed, self.settings = clock, seed, settings
        self.contract = load_contract()
        self.store = Store()
        self.request: tuple[str, str | None] | None = None
        self.account_id = "acct_" + self.token("account", 16)
        self._time: int | None = None
        self.clock_id: str | None = None
        self._index: dict[tuple[str, str, Any], dict[str, None]] = {}
        self._order: dict[str, tuple[list[int], list[str]]] = {}
        self._heap: list[tuple[int, str]] = []

    # time

    def now(self) -> int:
        """The moment at which things happen: a test clock's, a due timer's, or the sandbox clock's."""
        return self.clock.now() if self._time is None else self._time

    @contextmanager
    def at(self, moment: int | None, clock_id: str | None = None) -> Iterator[None]:
        """Do things as of a moment; objects made meanwhile belong to the test clock, if any."""
        before = self._time, self.clock_id
        self._time, self.clock_id = moment, clock_id
        try:
            yield
        finally:
            self._time, self.clock_id = before

    def living_with(self, row: Row | None) -> Any:
        """The time in which this object lives: its test clock's, or the sandbox's."""
        clock = self.get("test_helpers.test_clock", row.get("_clock")) if row else None
        if clock is None:
            return self.at(self._time, None)
        return self.at(clock["frozen_time"], clock["id"])

    def enter(self, test_clock: Row) -> None:
        """Go on in this test clock's time until the enclosing `at` ends."""
        self._time, self.clock_id = test_clock["frozen_time"], test_clock["id"]

    def set_timer(self, name: str, target: str, due: int | None) -> None:
        """One timer per (name, target): setting it again moves it, None removes it."""
        key = f"{name}:{target}"
        if due is None:
            self.store.delete("timer", key)
            return
        row = {"due": due, "name": name, "target": target, "_clock": self.clock_id}
        self.store.put("timer", key, row)
        if self.clock_id is None:
            heapq.heappush(self._heap, (due, key))

    def next_due(self) -> int | None:
        timers = self.store.table("timer")
        while self._heap:
            due, key = self._heap[0]
            row = timers.get(key)
            if row is not None and row["due"] == due and row["_clock"] is None:
                return due
            heapq.heappop(self._heap)
        return None

    def run_due(self) -> None:
        while (due := self.next_due()) is not None and due <= self.clock.now():
            key = self._heap[0][1]
            self.fire(key, due)

    def fire(self, key: str, due: int) -> None:
        """Let a timer do its work. What it cannot do is told to the log and left: the clock must go on."""
        row = self.store.table("timer")[key]
        try:
            with self.store.transaction(), self.at(due, row["_clock"]):
                self.store.delete("timer", key)
                self.request = None
                TIMERS[row["name"]](self, row["target"])
        except Exception:
            _LOG.exception("%s at %s was not possible", key, due)
            self.store.delete("timer", key)

    # ids

    def number(self, series: str) -> int:
        row = self.store.get("counter", series)
        value = (row["n"] if row else 0) + 1
        self.store.put("counter", series, {"n": value})
        return value

    def new_id(self, prefix: str, length: int = 24) -> str:
        return prefix + self.token(f"{prefix}{self.number('id')}", length)

    def token(self, what: str, length: int) -> str:
        """`length` letters and digits that follow from the seed and `what` alone."""
        digest = hashlib.blake2b(f"{self.seed}:{what}".encode(), digest_size=24).digest()
        return b64encode(digest, b"Qz").decode()[:length]

    # objects

    def create(self, kind: str, fields: Row, *, id: str | None = None, event: str | None = None) -> Row:
        resource = RESOURCES[kind]
        row: Row = {"id": id or self.new_id(resource.prefix), "object": kind}
        row |= {k: v for k, v in fields.items() if v is not None}
        row.setdefault("created", self.now())
        row.setdefault("livemode", False)
        if resource.undated:
            del row["created"]
        if not resource.has_livemode:
            del row["livemode"]
        row["_seq"] = self.number("row")
        if self.clock_id is not None:
            row["_clock"] = self.clock_id
            if resource.shows_clock:
                row["test_clock"] = self.clock_id
        self.put(row)
        if event:
            self.emit(event, row)
        return row

    def put(self, row: Row) -> Row:
        kind = row["object"]
        if row["id"] not in self.store.table(kind):
            sequence, ids = self._order.setdefault(kind, ([], []))
            while sequence and sequence[-1] >= row["_seq"]:  # left behind by a transaction that was undone
                sequence.pop()
                ids.pop()
            sequence.append(row["_seq"])
            ids.append(row["id"])
        self.store.put(kind, row["id"], row)
        self._note(kind, row)
        return row

    def _note(self, kind: str, row: Row) -> None:
        for field in INDEXED.get(kind, ()):
            value = row.get(field)
            if value is not None:
                self._index.setdefault((kind, field, value), {})[row["id"]] = None

    def update(self, row: Row, changes: Row, event: str | None = None) -> Row:
        """The row with `changes` (None removes a field). Announces `event` if what is shown became different."""
        current = self.store.table(row["object"])[row["id"]]
        changed = {k: v for k, v in {**current, **changes}.items() if v is not None}
        before = pictures.take(self, current) if event else None
        if RESOURCES[row["object"]].search_stale:
            changed |= self._stale(current)
        self.put(changed)
        if event and before is not None:
            self.announce(event, before, changed)
        return changed

    def _stale(self, current: Row) -> Row:
        """What search still sees: the last version that it had time to notice."""
        changed = int(current.get("_changed") or current.get("created") or 0)
        seen = changed + self.settings.search_lag <= self.clock.now()
        older = {k: v for k, v in current.items() if k != "_older"} if seen else current.get("_older")
        return {"_changed": self.clock.now(), "_older": older}

    def announce(self, event: str, before: Picture, row: Row) -> None:
        """Emit an ``*.updated`` event with what was before, unless nothing that is shown changed."""
        if not pictures.alike(before, pictures.take(self, row)):
            self.emit(event, row, before)

    @contextmanager
    def watching(self, kind: str, id: str, event: str) -> Iterator[None]:
        """Several changes to one object, announced as one."""
        before = pictures.take(self, self.need(kind, id))
        yield
        self.announce(event, before, self.need(kind, id))

    def get(self, kind: str, id: str | None) -> Row | None:
        """An object that exists and is not deleted."""
        row = self.store.table(kind).get(id) if id else None
        return None if row is None or row.get("deleted") else row

    def need(self, kind: str, id: str, param: str = "id", status: int = 400) -> Row:
        row = self.get(kind, id)
        if row is None:
            raise errors.missing(RESOURCES[kind].noun, id, param, status=status)
        return row

    def delete(self, row: Row, event: str | None = None) -> Row:
        """Replace by Stripe's stub. Retrieving it later still works where Stripe says so."""
        if event:
            self.emit(event, row)
        stub = {"id": row["id"], "object": row["object"], "deleted": True, "_seq": row["_seq"]}
        if "_clock" in row:
            stub["_clock"] = row["_clock"]
        return self.put(stub)

    def find(self, kind: str, **fields: Any) -> list[Row]:
        """Live objects with these field values, oldest first. At least one field must be indexed."""
        indexed = next(f for f in fields if f in INDEXED.get(kind, ()))
        table = self.store.table(kind)
        rows = [table[i] for i in self._index.get((kind, indexed, fields[indexed]), ()) if i in table]
        for field, value in fields.items():  # the index also has rows that left it since
            rows = [r for r in rows if r.get(field) == value and "deleted" not in r]
        rows.sort(key=_BY_AGE)
        return rows

    def newest_first(self, kind: str, before: int | None = None, after: int | None = None) -> Iterator[Row]:
        """All rows by falling `_seq`, or from `after` upwards by rising `_seq`."""
        sequence, ids = self._order.get(kind, ([], []))
        table = self.store.table(kind)
        if after is not None:
            for i in range(bisect_left(sequence, after + 1), len(ids)):
                if ids[i] in table:
                    yield table[ids[i]]
            return
        start = len(ids) if before is None else bisect_left(sequence, before)
        for i in range(start - 1, -1, -1):
            if ids[i] in table:
                yield table[ids[i]]

    def render(self, row: Row) -> Row:
        """What Stripe shows of a row when nothing is expanded."""
        return pictures.show(self, pictures.take(self, row))

    # announcements

    def emit(self, type: str, row: Row, before: Picture | None = None) -> None:
        """An event about an object as it is now; `before` makes it an ``*.updated`` one with previous_attributes."""
        self.emit_picture(type, pictures.take(self, row), before)

    def emit_picture(self, type: str, now: Picture, before: Picture | None = None) -> None:
        assert type in self.contract.event_types, type
        id, key = self.request or (None, None)
        endpoints = [e for kind in ("webhook_endpoint", DESTINATION) for e in self.store.table(kind).values()
                     if hears(e, type)]  # fmt: skip
        event = self.create("event", {
            "type": type, "pending_webhooks": len(endpoints), "request": {"id": id, "idempotency_key": key},
            "_now": now, "_before": before,
        })  # fmt: skip
        for endpoint in endpoints:
            self.store.put("delivery", f"{event['id']}.{endpoint['id']}", {
                "event": event["id"], "endpoint": endpoint["id"], "attempts": 0, "ready": True,
            })  # fmt: skip

    # state

    def reindex(self) -> None:
        """Rebuild what is derived from the tables, after a restore."""
        self._index, self._order, self._heap = {}, {}, []
        for kind in RESOURCES:
            rows = sorted(self.store.table(kind).values(), key=lambda r: r["_seq"])
            self._order[kind] = ([r["_seq"] for r in rows], [r["id"] for r in rows])
            for row in rows:
                self._note(kind, row)
        self._heap = [(r["due"], k) for k, r in self.store.table("timer").items() if r["_clock"] is None]
        heapq.heapify(self._heap)


def hears(endpoint: Row, type: str) -> bool:
    if endpoint.get("deleted") or endpoint["status"] != "enabled":
        return False
    name = f"{THIN}{type}" if endpoint.get("event_payload") == "thin" else type
    return name in endpoint["enabled_events"] or "*" in endpoint["enabled_events"]


@pictures.finish("event")
def show_event(world: World, shown: Row) -> None:
    row = world.store.table("event")[shown["id"]]
    shown["api_version"] = world.contract.version
    shown["data"] = {"object": pictures.show(world, row["_now"])}
    if "_before" in row:
        before = pictures.show(world, row["_before"])
        shown["data"]["previous_attributes"] = pictures.difference(before, shown["data"]["object"])
