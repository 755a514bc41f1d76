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
from sync_pipeline.engine.intake import POLLED, SWEPT, poll_is_due, poll_salesforce, sweep_is_due, sweep_stripe
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
    `allow` a person has looked at it, and no guard stops it.
    """

    linger_seconds: float = 0
    run_seconds: float | None = None
    poll_seconds: int = 30
    sweep_seconds: int = 300
    allow: bool = False


@dataclass(slots=True)
class DrainReport:
    """What a drain did. `new_changes` and `new_events` came from the polls, not from webhooks; `problems` are
    the polls that failed, in words."""

    batches: int = 0
    new_changes: int = 0
    new_events: int = 0
    problems: set[str] = field(default_factory=set)
    total: BatchReport = field(default_factory=BatchReport)


def drain(engine: Engine, plan: DrainPlan, on_batch: Callable[[BatchReport], None] | None = None) -> DrainReport:
    """Drains until nothing is due for `linger_seconds`, or the time is up. Raises Halted, GuardTripped."""
    report = DrainReport()
    if not plan.allow:
        guard.refuse_if_held(engine.ledger)
        engine = replace(engine, approval=guard.RunGuard(engine))
    engine = replace(engine, gathers=True)
    me = engine.env.token()
    lane, lists = BulkLane(engine, me), Lists(engine, _workers)
    started = last_work = engine.env.wall()
    ends = None if plan.run_seconds is None else started + int(plan.run_seconds * 1_000_000)
    before = calls_so_far(engine.salesforce, engine.stripe)
    beaten = 0

    def beat() -> None:
        nonlocal beaten
        if (wall := engine.env.wall()) - beaten >= BEAT_US:
            _beat(engine, me, ends)
            beaten = wall

    def tell(done: BatchReport) -> None:
        report.total.add(done)
        if on_batch:
            on_batch(done)

    def work_on(batch: queue.Batch) -> None:
        def between() -> None:
            beat()
            if len(batch.claims) > queue.SOON_OVER:
                work_on(queue.more_urgent(engine, me, than=batch.gives_way_to))

        if batch.claims:
            done = bring_to_rest(engine, batch.claims, owner=me, between=between, lists=lists)
            report.batches += 1
            tell(done)

    try:
        _try_again_what_was_refused(engine)
        while ends is None or engine.env.wall() < ends:
            beat()
            _look_for_changes(engine, plan, report)
            batch = queue.next_batch(engine, me, turn=report.batches)
            if batch.claims:
                work_on(batch)
                last_work = engine.env.wall()
            if (step := lane.step(idle=not batch.claims)) is not None:
                if step != NO_NEWS:
                    tell(step)
                elif not batch.claims:
                    engine.env.sleep(IDLE_SECONDS)
                last_work = engine.env.wall()
            elif batch.claims:
                continue
            elif engine.env.wall() - last_work >= plan.linger_seconds * 1_000_000:
                break
            else:
                engine.env.sleep(IDLE_SECONDS)
        report.problems.update(queue.held_back(engine))
    finally:
        with engine.ledger.tx() as conn:
            workers.leave(conn, me)
    if plan.allow:
        guard.lift(engine)
    report.total.used += calls_so_far(engine.salesforce, engine.stripe) - before
    return report


def drain_is_needed(ledger: Ledger, env: Env) -> bool:
    """Work is due, no guard has stopped it, and no drain is alive that will be there in ten seconds to take it."""
    wall = env.wall()
    if guard.hold(ledger) is not None:
        return False
    with ledger.read() as conn:
        if queue.due(conn, wall) == 0 and not bulk_lane.waits(conn, wall):
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


def _beat(engine: Engine, me: str, ends: int | None) -> None:
    with engine.ledger.tx() as conn:
        workers.beat(conn, name=me, kind=KIND, now_wall=engine.env.wall(), ends_wall=ends)


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
            report.new_events += sweep_stripe(ledger, engine.stripe, env)
        except ReadFailed as failure:
            _note(engine, SWEPT, failure, report)


def _note(engine: Engine, cursor: str, failure: ReadFailed, report: DrainReport) -> None:
    if failure.access:
        raise Halted(str(failure)) from failure
    report.problems.add(str(failure))
    with engine.ledger.tx() as conn:
        cursors.put(conn, cursor, str(engine.env.wall()), engine.env.now())
