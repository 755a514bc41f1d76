"""Bulk jobs on their way: what gathers in them, who drives one, and how far it is. What they send are attempts.

    gathering --freeze--> sending --started--> running --settled--> (gone)
        '--withdrawal of single rows: the attempt ends, and the job loses it

A job's attempts are written ahead as all attempts are, under their accounts' claims; from then on the job holds their
targets, because a target with an unanswered attempt takes no other command. Once it is under way it holds their
accounts as well, because a write locks the Account that its record belongs to. A job is driven by one worker at a time,
by lease, and none of it leaves after its deadline. A settled job is forgotten: its attempts have their outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, delete, func, select, update

from sync_pipeline.ledger.database import NewId
from sync_pipeline.ledger.statements import batches, insert, record
from sync_pipeline.ledger.tables import attempt, bulk_job, command

State = Literal["gathering", "sending", "running"]


@dataclass(frozen=True, slots=True)
class BulkJob:
    """`salesforce_id` is the job at Salesforce once it is made; `started_wall` is when it was let run there."""

    id: str
    object: str
    state: State
    salesforce_id: str | None
    opened_wall: int
    deadline_wall: int
    started_wall: int | None
    lease_owner: str
    lease_until_wall: int


def gathering(conn: Connection, kind: str, *, now_wall: int, lasts_us: int, new_id: NewId) -> BulkJob:
    """The job that gathers updates of an object, opened if there is none. Until the transaction ends it gathers on."""
    conn.execute(
        insert(conn, bulk_job)
        .values(id=new_id(), object=kind, state="gathering", opened_wall=now_wall, deadline_wall=now_wall + lasts_us)
        .on_conflict_do_nothing()
    )
    found = conn.execute(
        select(bulk_job).where(bulk_job.c.object == kind, bulk_job.c.state == "gathering").with_for_update()
    ).one()
    return BulkJob(**record(found))


def gathers(conn: Connection, job_id: str) -> bool | None:
    """Whether the job still gathers, and does so until the transaction ends; None for one that is settled."""
    state = conn.execute(select(bulk_job.c.state).where(bulk_job.c.id == job_id).with_for_update()).scalar()
    return None if state is None else state == "gathering"


_OPEN_JOBS = select(bulk_job).order_by(bulk_job.c.opened_wall, bulk_job.c.id)
_STATES = select(bulk_job.c.id, bulk_job.c.state).with_for_update(read=True)


def open_jobs(conn: Connection) -> list[BulkJob]:
    """All jobs that are not settled, the oldest first."""
    rows = conn.execute(_OPEN_JOBS)
    return [BulkJob(**record(row)) for row in rows]


def rows_of(conn: Connection, job_id: str) -> int:
    """How many attempts of the job wait for their outcome."""
    waiting = (attempt.c.job == job_id, attempt.c.outcome.is_(None))
    return conn.execute(select(func.count()).select_from(attempt).where(*waiting)).scalar_one()


def gathered(conn: Connection) -> int:
    """How many attempts are in jobs that still gather."""
    still = select(bulk_job.c.id).where(bulk_job.c.state == "gathering")
    waiting = (attempt.c.job.in_(still), attempt.c.outcome.is_(None))
    return conn.execute(select(func.count()).select_from(attempt).where(*waiting)).scalar_one()


def holds(conn: Connection, accounts: Iterable[str]) -> set[str]:
    """Those of the accounts that have records in a job under way, which has not said yet what became of them.

    Call it in a write transaction, before anything else is locked: until its end no other job leaves.
    """
    states = conn.execute(_STATES).all()
    under_way = [row.id for row in states if row.state != "gathering"]
    found: set[str] = set()
    if under_way:
        for batch in batches(accounts):
            rows = _of_jobs(command.c.account).where(attempt.c.job.in_(under_way), command.c.account.in_(batch))
            found.update(conn.execute(rows).scalars())
    return found


def must_wait(conn: Connection, job_id: str, *, since_wall: int) -> bool:
    """Whether another call may be in flight that writes for an account of the job: one with a deadline after
    `since_wall` that has not been answered."""
    accounts = _of_jobs(command.c.account).where(attempt.c.job == job_id)
    sent = select(command.c.id).join(attempt, attempt.c.command_id == command.c.id)
    in_flight = sent.where(
        command.c.state == "sending",
        command.c.kind.startswith("salesforce."),
        attempt.c.job.is_(None),
        attempt.c.outcome.is_(None),
        attempt.c.deadline_wall > since_wall,
        command.c.account.in_(accounts),
    )
    return conn.execute(in_flight.limit(1)).first() is not None


def _of_jobs(*columns: Any) -> Select[Any]:
    """Columns of the commands in jobs that wait for their outcome."""
    waiting = (attempt.c.job.is_not(None), attempt.c.outcome.is_(None))
    return select(*columns).join(attempt, attempt.c.command_id == command.c.id).where(*waiting)


def take(conn: Connection, job_id: str, *, owner: str, now_wall: int, lease_us: int) -> bool:
    """Takes or prolongs the lease of a job; False when somebody else has it."""
    free = (bulk_job.c.lease_until_wall <= now_wall) | (bulk_job.c.lease_owner == owner)
    values = {"lease_owner": owner, "lease_until_wall": now_wall + lease_us}
    return conn.execute(update(bulk_job).where(bulk_job.c.id == job_id, free).values(values)).rowcount == 1


def freeze(conn: Connection, job_id: str) -> None:
    """Nothing joins the job or leaves it from here on."""
    conn.execute(update(bulk_job).where(bulk_job.c.id == job_id).values(state="sending"))


def made(conn: Connection, job_id: str, salesforce_id: str | None) -> None:
    """The job has been made at Salesforce and does nothing yet; None when that one has been given up."""
    conn.execute(update(bulk_job).where(bulk_job.c.id == job_id).values(salesforce_id=salesforce_id))


def started(conn: Connection, job_id: str, now_wall: int) -> None:
    """The job runs at Salesforce, or has done so."""
    conn.execute(update(bulk_job).where(bulk_job.c.id == job_id).values(state="running", started_wall=now_wall))


def settled(conn: Connection, job_id: str) -> None:
    """Everything that the job sent has its outcome."""
    conn.execute(delete(bulk_job).where(bulk_job.c.id == job_id))
