"""The way of bulk jobs: made, uploaded, let run, watched, and their results put into the books, a step at a time.

Every step is short, so that whatever is urgent is served between two of them. A job belongs to whoever has its lease;
what a dead worker left is found out from Salesforce: a job that was never let run is given up there and made anew, one
that runs is watched. One job is under way at a time, its rows sorted by Account, because a child's write locks its
parent: it leaves when no other call that writes for its Accounts is in flight, and none leaves before they have their
outcome (apply.py). A job that has come out too small, or that Salesforce does not take, leaves by composite calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.units import MICROS
from sync_pipeline.engine import budget
from sync_pipeline.engine.apply import LONGEST_CALL_US, salesforce_write
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.cost import Calls, least_salesforce_writes
from sync_pipeline.engine.defects import together
from sync_pipeline.engine.rounds import BatchReport
from sync_pipeline.engine.settling import after_a_look, finish
from sync_pipeline.ledger import bulk_jobs, commands, work
from sync_pipeline.ledger.bulk_jobs import BulkJob
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.systems.outcomes import DeadlinePassed, Outcome, ReadFailed
from sync_pipeline.systems.salesforce.bulk import LEAST_CALLS, BulkUpdate, JobInfo, upload_text
from sync_pipeline.systems.salesforce.writes import COLLECTIONS_PER_CALL, RECORDS_PER_COLLECTION, composite_calls

LEASE_US = 120 * MICROS
GATHER_US = 10 * 60 * MICROS
"""A job leaves when it is so old, though more might come."""
GIVE_UP_US = 30 * 60 * MICROS
"""A job that runs longer is aborted; Salesforce gives up one of its batches of 10,000 after 20 tries of 5 minutes."""
SHORTEST_PAUSE_US, LONGEST_PAUSE_US = 2_000_000, 60_000_000
ROWS_PER_STEP = 500
COME_BACK_US = 60 * MICROS
"""What was not written comes back at a full minute, all of it together: it shares its calls again, and the lists of
Stripe."""
TOO_LATE = Outcome("throttled", message="it was not sent in time")
NO_RESULTS = Outcome("ambiguous", message="the results of its job cannot be read")
NOT_REACHED = Outcome("throttled", message="the job ended before it came to this record")

Rows = Sequence[tuple[str, str, str]]


@dataclass
class BulkLane:
    """One worker's hand on the jobs."""

    engine: Engine
    me: str
    _next_wall: int = 0
    _spent: int = 0
    _refused: set[str] = field(default_factory=set)
    _results: dict[str, tuple[dict[str, Outcome], list[tuple[str, str, str]]]] = field(default_factory=dict)

    def step(self, *, idle: bool) -> BatchReport | None:
        """Does what can be done now for the job that is furthest; None when none waits for this worker.

        `idle` says that nothing else is due, so that nothing more will join soon. Raises Halted.
        """
        wall = self.engine.env.wall()
        with self.engine.ledger.read() as conn:
            jobs = bulk_jobs.open_jobs(conn)
        under_way = [job for job in jobs if job.state != "gathering"]
        ready = under_way[:1] or [job for job in jobs if self._is_ready(job, wall, idle=idle)]
        for job in ready[:1]:
            with self.engine.ledger.tx() as conn:
                if not bulk_jobs.take(conn, job.id, owner=self.me, now_wall=wall, lease_us=LEASE_US):
                    return None
                if job.state == "gathering":
                    bulk_jobs.freeze(conn, job.id)
            return self._go_on(job, wall)
        return None

    def _is_ready(self, job: BulkJob, wall: int, *, idle: bool) -> bool:
        with self.engine.ledger.read() as conn:
            rows = bulk_jobs.rows_of(conn, job.id)
            admitted = budget.admitted(conn, wall) >= Priority.BULK
        full = rows >= self.engine.rules.bulk.most_records or wall - job.opened_wall >= GATHER_US
        return wall > job.deadline_wall or ((idle or full) and admitted)

    def _go_on(self, job: BulkJob, wall: int) -> BatchReport:
        report = BatchReport()
        calls = self.engine.salesforce.calls
        try:
            if job.id in self._results:
                self._settle_some(job, report)
            elif wall >= self._next_wall:
                if job.state == "running":
                    self._watch(job, wall, report)
                else:
                    self._send(job, wall, report)
        except ReadFailed as failure:
            if failure.access:
                raise Halted(str(failure)) from failure
            report.problems.add(str(failure))
            self._pause(_patience(job, wall))
        self._spent += self.engine.salesforce.calls - calls
        return report

    def _send(self, job: BulkJob, wall: int, report: BatchReport) -> None:
        with self.engine.ledger.read() as conn:
            rows = commands.in_job(conn, job.id)
        if job.salesforce_id is not None and self._runs(job):
            self._started(job)
            return
        with self.engine.ledger.read() as conn:
            wait = bulk_jobs.must_wait(conn, job.id, since_wall=wall - LONGEST_CALL_US)
        if wait and wall <= job.deadline_wall:
            self._pause(SHORTEST_PAUSE_US)
        elif wall > job.deadline_wall or not rows:
            self._results[job.id] = (dict.fromkeys((_record(body) for _, _, body in rows), TOO_LATE), list(rows))
        elif len(rows) < (self.engine.rules.bulk.from_records or 0) or job.id in self._refused:
            self._by_composite(job, rows, report)
        else:
            self._by_job(job, rows, report)

    def _runs(self, job: BulkJob) -> bool:
        """Whether a job that somebody has made was let run; if not, it is given up for good."""
        api, name = BulkUpdate(self.engine.salesforce), str(job.salesforce_id)
        info = api.look(name)
        if info is not None and info.state == "Open":
            if api.abort(name).state != "done":
                raise ReadFailed("Salesforce", f"whether bulk job {name} runs is not known yet")
        elif info is not None and not (info.state == "Aborted" and not info.processed):
            return True
        with self.engine.ledger.tx() as conn:
            bulk_jobs.made(conn, job.id, None)
        return False

    def _by_job(self, job: BulkJob, rows: Rows, report: BatchReport) -> None:
        api = BulkUpdate(self.engine.salesforce)
        made = api.make(job.object)
        if not self._went_well(job, made, report):
            return
        name = str(made.object_id)
        with self.engine.ledger.tx() as conn:
            wall = self.engine.env.wall()
            if not bulk_jobs.take(conn, job.id, owner=self.me, now_wall=wall, lease_us=LEASE_US):
                return
            bulk_jobs.made(conn, job.id, name)
        until = min(job.deadline_wall, wall + LEASE_US - LONGEST_CALL_US)
        uploaded = api.upload(name, upload_text(canonical.decode(body) for _, _, body in rows))
        if self._went_well(job, uploaded, report) and self._went_well(job, api.close(name, self._guard(until)), report):
            self._started(job)

    def _went_well(self, job: BulkJob, outcome: Outcome, report: BatchReport) -> bool:
        """Whether the call took effect. What Salesforce refuses as a job leaves otherwise; the rest is tried again."""
        if outcome.state == "done":
            return True
        if outcome.state == "denied":
            raise Halted(outcome.message or "access was refused")
        report.problems.add(f"Salesforce: a bulk job of {job.object} was not taken: {outcome.in_words()}")
        if outcome.state == "rejected":
            self._refused.add(job.id)
        else:
            self._pause(SHORTEST_PAUSE_US)
        return False

    def _started(self, job: BulkJob) -> None:
        with self.engine.ledger.tx() as conn:
            bulk_jobs.started(conn, job.id, self.engine.env.wall())
        self._pause(SHORTEST_PAUSE_US)

    def _watch(self, job: BulkJob, wall: int, report: BatchReport) -> None:
        api, name = BulkUpdate(self.engine.salesforce), str(job.salesforce_id)
        has_time = wall - (job.started_wall or 0) <= GIVE_UP_US
        info = api.look(name)
        if info is not None and not info.ended:
            if not has_time:
                report.problems.add(f"Salesforce: bulk job {name} runs for too long and is aborted")
                api.abort(name)
            self._pause(_patience(job, wall))
            return
        with self.engine.ledger.read() as conn:
            rows = commands.in_job(conn, job.id)
        try:
            outcomes = {} if info is None else api.outcomes(name, info)
        except ReadFailed as failure:
            if failure.access or has_time:
                raise
            # What the job has written, the next look at its records tells.
            report.problems.add(f"Salesforce: the results of bulk job {name} cannot be read ({failure})")
            outcomes = dict.fromkeys((_record(body) for _, _, body in rows), NO_RESULTS)
        self._results[job.id] = (outcomes, list(rows))
        if info is None or info.state != "JobComplete":
            report.problems.add(_unfinished(name, info, len(rows) - len(outcomes)))
        report.least += Calls(salesforce_writes=min(LEAST_CALLS, _composite_calls(len(rows))))

    def _settle_some(self, job: BulkJob, report: BatchReport) -> None:
        outcomes, rows = self._results[job.id]
        some = rows[:ROWS_PER_STEP]
        del rows[:ROWS_PER_STEP]
        self._settle({command: outcomes.get(_record(body), NOT_REACHED) for _, command, body in some}, report)
        if not rows:
            del self._results[job.id]
            with self.engine.ledger.tx() as conn:
                bulk_jobs.settled(conn, job.id)

    def _by_composite(self, job: BulkJob, rows: Rows, report: BatchReport) -> None:
        """One call of it; the next step makes the next one."""
        some = rows[: COLLECTIONS_PER_CALL * RECORDS_PER_COLLECTION]
        writes = [salesforce_write("salesforce.update", account, canonical.decode(body)) for account, _, body in some]
        report.least += Calls(salesforce_writes=least_salesforce_writes(writes))
        until = min(job.deadline_wall, self.engine.env.wall() + LEASE_US - LONGEST_CALL_US)
        outcomes: dict[int, Outcome] = {}
        for parts in composite_calls(writes):
            outcomes |= self.engine.salesforce.send(parts, guard=self._guard(until)).outcomes
        if any(outcome.state == "denied" for outcome in outcomes.values()):
            raise Halted("Salesforce: access was refused")
        self._settle({some[index][1]: outcome for index, outcome in outcomes.items()}, report)
        if len(some) == len(rows):
            with self.engine.ledger.tx() as conn:
                bulk_jobs.settled(conn, job.id)

    def _settle(self, outcomes: dict[str, Outcome], report: BatchReport) -> None:
        """Puts outcomes into the books, by command. Accounts looked at meanwhile are due, those with something left to
        do come back. What cannot be written down of one is in doubt until a look tells, and stops nobody else."""
        with self.engine.ledger.read() as conn:
            known = commands.get_all(conn, outcomes)
        outcomes = {name: after_a_look(known[name], outcome) for name, outcome in outcomes.items()}
        ours = sorted((known[each] for each in outcomes), key=lambda row: (row.account, row.id))
        calls = {row.id: 0 if place else self._spent for place, row in enumerate(ours)}
        self._spent = 0

        def write_down(rows: Sequence[CommandRow]) -> None:
            open_ones = {row.account for row in rows if outcomes[row.id].state not in ("done", "rejected")}
            wall = self.engine.env.wall()
            with self.engine.ledger.tx() as conn:
                # First all, in their order: whoever locks several accounts does so in it, and before their audit.
                work.wake(conn, {row.account for row in rows}, now_wall=wall)
                for row in rows:
                    if row.attempt_id is not None:
                        finish(conn, self.engine, row, row.attempt_id, outcomes[row.id], calls=calls[row.id])
                work.mark_dirty(conn, open_ones, priority=int(Priority.BULK), now_wall=_comes_back(wall))

        if failures := together(ours, lambda row: row.account, write_down):
            report.problems.update(failure.why for _, failure in failures)
            with self.engine.ledger.tx() as conn:
                wall = _comes_back(self.engine.env.wall())
                work.mark_dirty(conn, {row.account for row, _ in failures}, priority=int(Priority.BULK), now_wall=wall)
        report.writes += sum(outcome.state == "done" for outcome in outcomes.values())
        report.parked += sum(outcome.state == "rejected" for outcome in outcomes.values())

    def _guard(self, until_wall: int) -> _Guard:
        return _Guard(self.engine, until_wall)

    def _pause(self, micros: int) -> None:
        self._next_wall = self.engine.env.wall() + micros


@dataclass(frozen=True, slots=True)
class _Guard:
    """Lets nothing leave after a moment, nor inside a transaction."""

    engine: Engine
    until_wall: int

    def __call__(self) -> None:
        assert not self.engine.ledger.in_transaction(), "no call may leave inside a ledger transaction"
        if self.engine.env.wall() > self.until_wall:
            raise DeadlinePassed


def waits(conn: Connection, now_wall: int) -> bool:
    """Whether a job waits for a worker, and one may go on with it now."""
    admitted = budget.admitted(conn, now_wall) >= Priority.BULK
    return any(
        job.lease_until_wall <= now_wall and (admitted or job.state != "gathering" or now_wall > job.deadline_wall)
        for job in bulk_jobs.open_jobs(conn)
    )


def _patience(job: BulkJob, wall: int) -> int:
    """How long to leave a job alone: the longer, the longer it runs."""
    running = wall - (job.started_wall or wall)
    return min(LONGEST_PAUSE_US, max(SHORTEST_PAUSE_US, running // 2))


def _comes_back(wall: int) -> int:
    return -(-wall // COME_BACK_US) * COME_BACK_US


def _unfinished(name: str, info: JobInfo | None, left: int) -> str:
    state = "is not known any more" if info is None else f"ended {info.state} ({info.why})"
    return f"Salesforce: bulk job {name} {state}: {left} records are written otherwise"


def _record(body: str) -> str:
    return str(canonical.decode(body)["id"])


def _composite_calls(records: int) -> int:
    return -(-records // (COLLECTIONS_PER_CALL * RECORDS_PER_COLLECTION))
