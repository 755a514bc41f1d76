"""The ledger in numbers, for `sync-pipeline ledger status`. Read it in one read transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Table, func, select

from sync_pipeline.ledger import commands, inbox, work
from sync_pipeline.ledger.tables import attempt, audit, conflict, fact, link, review, worker


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """Counts. `commands` maps each state that occurs to its number; `workers_alive` counts all kinds."""

    work: work.WorkStatus
    inbox: inbox.InboxStatus
    commands: dict[str, int]
    attempts: int
    links: int
    facts: int
    audit_rows: int
    open_reviews: int
    open_conflicts: int
    workers_alive: int


def ledger_status(conn: Connection, *, now_wall: int, stale_us: int) -> LedgerStatus:
    """What waits, what is stuck, and how much is stored; a worker silent for `stale_us` is not alive."""
    return LedgerStatus(
        work=work.status(conn, now_wall),
        inbox=inbox.status(conn),
        commands=commands.counts(conn),
        attempts=_count(conn, attempt),
        links=_count(conn, link),
        facts=_count(conn, fact),
        audit_rows=_count(conn, audit),
        open_reviews=conn.execute(
            select(func.count()).select_from(review).where(review.c.closed_at.is_(None))
        ).scalar_one(),
        open_conflicts=conn.execute(
            select(func.count()).select_from(conflict).where(conflict.c.status == "Open")
        ).scalar_one(),
        workers_alive=conn.execute(
            select(func.count()).select_from(worker).where(worker.c.heartbeat_wall > now_wall - stale_us)
        ).scalar_one(),
    )


def _count(conn: Connection, table: Table) -> int:
    return conn.execute(select(func.count()).select_from(table)).scalar_one()
