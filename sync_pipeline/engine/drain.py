"""The drain: works the queue of dirty accounts, lingers while work may come, hands over before its time is up.

The same loop runs in a Dagster run, in a resident worker and in tests. Several may run at once: leases in the
ledger decide who works on what, never the status of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import bulk_lane, guard, queue
from sync_pipeline.engine.bulk_lane import BulkLane
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.cost import calls_so_far
from sync_pipeline.engine.env import Env
from sync_pipeline.engine.intake import (
    POLLED,
    SWEPT,
    charge_waits,
    poll_is_due,
    poll_salesforce,
    sweep_is_due,
    sweep_stripe,
)
from sync_pipeline.engine.lists import Lists
from sync_pipeline.engine.rounds import BatchReport, bring_to_rest
from sync_pipeline.ledger import commands, cursors, work, workers
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.systems.outcomes import ReadFailed

STALE_US = 15 * 1_000_000
IDLE_SECONDS = 0.2
BEAT_US = 3 * 1_000_000
HAND_OVER_US = 10 * 1_000_000
KIND = "drain"
NO_NEWS = BatchReport()


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """How long to go on: `linger_seconds` without work, `run_seconds` at the most (None without limit).

    Salesforce is asked for changes every `poll_seconds`, Stripe for missed events every `sweep_seconds`. With
    `allow` a person has looked at it, and no guard stops it. It ends once it `is_over`, when nothing is in flight: what
    is not at rest then is given back to the queue.
    """

    linger_seconds: float = 0
    run_seconds: float | None = None
    poll_seconds: int = 30
    sweep_seconds: int = 300
    allow: bool = False
    is_over: Callable[[], bool] = lambda: False


class _Over(Halted):
    """The drain was asked to end."""


@dataclass(slots=True)
class DrainReport:
    """What a drain did. `new_changes` and `new_events` came from the polls, not from webhooks; `problems` are
    what the polls could not read, in words."""

    batches: int = 0
    new_changes: int = 0
    new_events: int = 0
    problems: set[str] = field(default_factory=set)
    total: BatchReport = field(default_factory=BatchReport)


def drain(engine: Engine, plan: DrainPlan, on_batch: Callable[[BatchReport], None] | None = None) -> DrainReport:
    """Drains until nothing is due for `linger_seconds`, or the time is up. Raises Halted, GuardTripped."""
    if not plan.allow:
        guard.refuse_if_held(engine.ledger)
        engine = replace(engine, approval=guard.RunGuard(engine))
    before = calls_so_far(engine.salesforce, engine.stripe)
    report = _Drain(replace(engine, gathers=True), plan, on_batch or (lambda done: None)).work()
    if plan.allow:
        guard.lift(engine)
    report.total.used += calls_so_far(engine.salesforce, engine.stripe) - before
    return report


class _Drain:
    """One worker at the queue, from its first beat to its last."""

    def __init__(self, engine: Engine, plan: DrainPlan, tell: Callable[[BatchReport], None]) -> None:
        self._engine, self._plan, self._tell = engine, plan, tell
        self._report = DrainReport()
        self._me = engine.env.token()
        self._lane, self._lists = BulkLane(engine, self._me), Lists(engine, _workers)
        self._last_work = engine.env.wall()
        self._ends = None if plan.run_seconds is None else self._last_work + int(plan.run_seconds * 1_000_000)
        self._beaten = 0

    def work(self) -> DrainReport:
        try:
            _try_again_what_was_refused(self._engine)
            while self._ends is None or self._engine.env.wall() < self._ends:
                self._beat()
                _look_for_changes(self._engine, self._plan, self._report)
                if not self._take_a_turn():
                    break
            self._report.problems.update(queue.held_back(self._engine))
        except _Over:
            pass
        finally:
            with self._engine.ledger.tx() as conn:
                workers.leave(conn, self._me)
        return self._report

    def _take_a_turn(self) -> bool:
        """A batch of accounts and a step of the bulk lane, or a short sleep; False once nothing came for so long."""
        env = self._engine.env
        batch = queue.next_batch(self._engine, self._me, turn=self._report.batches)
        self._work_on(batch)
        step = self._lane.step(idle=not batch.claims)
        if step is not None and step != NO_NEWS:
            self._count(step)
        elif not batch.claims:
            if step is None and env.wall() - self._last_work >= self._plan.linger_seconds * 1_000_000:
                return False
            env.sleep(IDLE_SECONDS)
        if batch.claims or step is not None:
            self._last_work = env.wall()
        return True

    def _work_on(self, batch: queue.Batch) -> None:
        def between() -> None:
            self._beat()
            if len(batch.claims) > queue.SOON_OVER:
                self._work_on(queue.more_urgent(self._engine, self._me, than=batch.gives_way_to))

        if batch.claims:
            done = bring_to_rest(self._engine, batch.claims, owner=self._me, between=between, lists=self._lists)
            self._report.batches += 1
            self._count(done)

    def _count(self, done: BatchReport) -> None:
        self._report.total.add(done)
        self._tell(done)

    def _beat(self) -> None:
        if self._plan.is_over():
            raise _Over
        if (wall := self._engine.env.wall()) - self._beaten >= BEAT_US:
            with self._engine.ledger.tx() as conn:
                workers.beat(conn, name=self._me, kind=KIND, now_wall=wall, ends_wall=self._ends)
            self._beaten = wall


def drain_is_needed(ledger: Ledger, env: Env) -> bool:
    """Work is due, no guard has stopped it, and no drain is alive that will be there in ten seconds to take it."""
    wall = env.wall()
    if guard.hold(ledger) is not None:
        return False
    with ledger.read() as conn:
        if queue.due(conn, wall) == 0 and not bulk_lane.waits(conn, wall) and not charge_waits(conn, wall):
            return False
        alive = _alive(conn, wall)
    return not any(row.ends_wall is None or row.ends_wall > wall + HAND_OVER_US for row in alive)


def _alive(conn: Connection, wall: int) -> list[workers.WorkerRow]:
    return workers.alive(conn, kind=KIND, now_wall=wall, stale_us=STALE_US)


def _workers(conn: Connection, wall: int) -> int:
    return max(1, len(_alive(conn, wall)))


def _try_again_what_was_refused(engine: Engine) -> None:
    """What was refused under other rules or another version of this program is looked at again."""
    with engine.ledger.tx() as conn:
        accounts = commands.parked_under_other_code(conn, engine.code_version)
        work.mark_dirty(conn, accounts, priority=int(Priority.BULK), now_wall=engine.env.wall())


def _look_for_changes(engine: Engine, plan: DrainPlan, report: DrainReport) -> None:
    """Both polls, if they are due. One that fails is tried again when it is next due, and stops nobody."""
    ledger, env = engine.ledger, engine.env
    if poll_is_due(ledger, env, plan.poll_seconds):
        try:
            report.new_changes += poll_salesforce(ledger, engine.salesforce, env)
        except ReadFailed as failure:
            _note(engine, POLLED, failure, report)
    if sweep_is_due(ledger, env, plan.sweep_seconds):
        try:
            report.new_events += sweep_stripe(ledger, engine.stripe, env, report.problems.add)
        except ReadFailed as failure:
            _note(engine, SWEPT, failure, report)


def _note(engine: Engine, cursor: str, failure: ReadFailed, report: DrainReport) -> None:
    if failure.access:
        raise Halted(str(failure)) from failure
    report.problems.add(str(failure))
    with engine.ledger.tx() as conn:
        cursors.put(conn, cursor, str(engine.env.wall()), engine.env.now())
