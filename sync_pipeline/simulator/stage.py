"""The stage of one seed: virtual time, workers that take turns at every boundary, and the trace of what happened.

Workers are the production drain in greenlets. At each boundary (before and after a call, before and after a
transaction, while idle) a worker gives way, and the seed decides who goes on, how much time passes, and whether the
worker is ever heard of again. A worker that is killed is simply never resumed, so that none of its clean-up runs.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import greenlet
from sqlalchemy import Connection, event, select

from sync_pipeline.core.units import MICROS
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.tables import base
from sync_pipeline.sandbox.world import Sandbox

T = TypeVar("T")
R = TypeVar("R")
QUICK_US = (200, 40_000)
PAUSE_SECONDS = (130, 900)
Agreed = tuple[str, str]
"""Field and subject of a row of the merge base."""
_AGREED = select(base.c.field, base.c.subject, base.c.value)


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it is: the chance at each boundary that a worker is killed or paused past its lease."""

    kill: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Strike:
    """At the boundary of this number, whoever is there is killed, or stands still longer than a lease."""

    boundary: int
    what: Literal["kill", "pause"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where a worker gave way; `may_stand`: it could have stood still there."""

    name: str
    may_stand: bool


@dataclass
class Worker:
    """A worker with the moment (microseconds) at which it may go on."""

    name: str
    body: greenlet.greenlet
    wake_at: int = 0
    ended: BaseException | None = None


@dataclass
class Stage:
    """Everything that a seed decides about time and turns. `sometimes` counts the rare states that were reached."""

    sandbox: Sandbox
    chance: random.Random
    weather: Weather = Weather()
    strike: Strike | None = None
    boundaries: list[Boundary] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)
    workers: list[Worker] = field(default_factory=list)
    killed: list[Worker] = field(default_factory=list)
    micros: int = 0
    current: Worker | None = None
    moved: Callable[[], None] = lambda: None
    _later: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.micros = self.sandbox.clock.now() * MICROS

    def at(self, micros: int, event: Callable[[], None]) -> None:
        """Something that will happen at a moment, whoever's turn it is."""
        self._number += 1
        heapq.heappush(self._later, (max(micros, self.micros), self._number, event))

    def say(self, what: str) -> None:
        """A line of the timeline."""
        who = self.current.name if self.current else "world"
        self.trace.append(f"{self.micros / MICROS:.6f} {who}: {what}")

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]

    def pass_to(self, micros: int) -> None:
        """Moves time on; what the vendors, people and late calls do on the way happens at its own moment."""
        worker, self.current = self.current, None
        while self._later and self._later[0][0] <= micros:
            moment, _, event = heapq.heappop(self._later)
            self._move(moment)
            event()
            self.moved()
        self._move(micros)
        self.current = worker

    def start(self, name: str, work: Callable[[], None]) -> Worker:
        """A new worker, which begins at its first turn."""
        worker: Worker = Worker(name, greenlet.greenlet(lambda: self._run(worker, work)), self.micros)
        self.workers.append(worker)
        return worker

    def boundary(self, what: str, *, may_stand: bool = True) -> None:
        """A worker gives way. Nothing happens outside of a worker: people and checks are not interrupted.

        Between its last look at the clock and its request a worker does not stand still (`may_stand`): no program
        can help that, and the margin of the lease is for it.
        """
        worker = self.current
        if worker is None:
            return
        self.boundaries.append(Boundary(what, may_stand))
        struck = self.strike.what if self.strike and self.strike.boundary == len(self.boundaries) else None
        wake_at = self.micros + self.chance.randint(*QUICK_US)
        if may_stand and (self.chance.random() < self.weather.pause or struck == "pause"):
            wake_at = self.micros + self.chance.randint(*PAUSE_SECONDS) * MICROS
            self.sometimes["a worker stood still longer than its lease"] += 1
            self.say(f"stands still at: {what}")
        elif self.chance.random() < self.weather.kill or struck == "kill":
            self.sometimes["a worker was killed"] += 1
            self.say(f"is killed at: {what}")
            self.workers.remove(worker)
            self.killed.append(worker)
        self._give_way(worker, wake_at)

    def sleep(self, seconds: float) -> None:
        worker = self.current
        if worker is None:
            self.pass_to(self.micros + int(seconds * MICROS))
            return
        # An idle worker looks again after about this time; the seed spreads the looks.
        self._give_way(worker, self.micros + int(seconds * MICROS * self.chance.uniform(1, 40)))

    def sleep_through(self, seconds: float) -> None:
        """A worker waits for exactly so long, and others go on meanwhile."""
        if self.current is not None:
            self._give_way(self.current, self.micros + int(seconds * MICROS))

    def run_until(self, micros: int) -> None:
        """Lets the workers take turns until a moment, or until all of them have ended: then time stays where it is."""
        while self.workers:
            next_one = min(each.wake_at for each in self.workers)
            if next_one > micros:
                self.pass_to(micros)
                break
            self.pass_to(next_one)
            ready = [each for each in self.workers if each.wake_at <= self.micros]
            self._resume(self.chance.choice(sorted(ready, key=lambda each: each.name)))

    def end(self) -> None:
        """Lets go of every worker, after everything has been looked at."""
        for worker in (*self.workers, *self.killed):
            worker.body.throw(greenlet.GreenletExit)

    def _move(self, micros: int) -> None:
        for second in self.sandbox.steps_to(max(micros // MICROS, self.sandbox.clock.now())):
            self.micros = max(self.micros, second * MICROS)
            self.moved()
        self.micros = max(self.micros, micros)
        self.moved()

    def _run(self, worker: Worker, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            worker.ended = error

    def _resume(self, worker: Worker) -> None:
        self.current = worker
        worker.body.switch()
        self.current = None
        if worker.body.dead:
            self.workers.remove(worker)
            if worker.ended is not None and not isinstance(worker.ended, Exception):
                raise worker.ended

    def _give_way(self, worker: Worker, wake_at: int) -> None:
        worker.wake_at = wake_at
        hub = worker.body.parent
        assert hub is not None
        hub.switch()
        self.current = worker


class StagedLedger(Ledger):
    """The ledger as it is, except that its transactions are boundaries; nobody gives way inside of one.

    Whoever watches the merge base reads it when it has moved, not at every call: SQLite itself tells of every change,
    and of every claim from the queue: `claimed` gets the Account, its priority and since when it was due.
    """

    def __init__(self, ledger: Ledger, stage: Stage) -> None:
        super().__init__(ledger.engine, ledger.reader, ledger.name)
        self._stage = stage
        self._base_moved = True
        self._agreed: dict[Agreed, str] = {}
        self.claimed: Callable[[str, int, int], None] = lambda account, priority, due_at: None
        event.listen(self.engine, "connect", self._tell)

    def agreed(self) -> Mapping[Agreed, str]:
        """The merge base: the same object as before as long as it is the same base."""
        if self._base_moved:
            with self.read() as conn:
                rows = conn.execute(_AGREED).all()
            self._agreed = {(field, subject): value for field, subject, value in rows}
            self._base_moved = False
        return self._agreed

    def close(self) -> None:
        event.remove(self.engine, "connect", self._tell)
        super().close()

    def _tell(self, dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.create_function("base_moved", 0, self._note_base)
        for change in ("INSERT", "UPDATE", "DELETE"):
            dbapi.execute(f"CREATE TEMP TRIGGER base_{change} AFTER {change} ON base BEGIN SELECT base_moved(); END")
        dbapi.create_function("claimed", 3, lambda *of: self.claimed(*of))
        dbapi.execute(
            "CREATE TEMP TRIGGER claim AFTER UPDATE OF fence ON work WHEN NEW.fence > OLD.fence"
            " BEGIN SELECT claimed(NEW.account, NEW.priority, NEW.due_at_wall); END"
        )

    def _note_base(self) -> None:
        self._base_moved = True

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        self._stage.boundary("before a transaction")
        with super().tx() as conn:
            yield conn
        self._stage.boundary("after a transaction")


class StagedEnv:
    """Time, waiting and chance as the seed has them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._made = 0

    def now(self) -> int:
        return self._stage.micros

    def wall(self) -> int:
        return self._stage.micros

    def sleep(self, seconds: float) -> None:
        self._stage.sleep(seconds)

    def token(self) -> str:
        self._made += 1
        return f"{self._made:016x}"

    def secret(self) -> bytes:
        return bytes(32)

    def jitter(self) -> float:
        return self._stage.chance.random()

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """One after the other: who overlaps with whom is the stage's to decide, by its workers."""
        return [function(item) for item in items]
