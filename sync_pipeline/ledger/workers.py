"""Which workers are alive, as the ledger knows it: heartbeats. Leases on accounts are in work.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import sqlite

from sync_pipeline.ledger.statements import insert_for, record
from sync_pipeline.ledger.tables import worker


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """`ends_wall`: when the worker means to end, None for one that runs until it is stopped."""

    name: str
    kind: str
    started_wall: int
    heartbeat_wall: int
    ends_wall: int | None


def beat(conn: Connection, *, name: str, kind: str, now_wall: int, ends_wall: int | None) -> None:
    """Says that the worker is alive. The first beat of a name is its start."""
    conn.execute(
        _beaten(conn.dialect.name),
        {"name": name, "kind": kind, "started_wall": now_wall, "heartbeat_wall": now_wall, "ends_wall": ends_wall},
    )


@cache
def _beaten(dialect: str) -> sqlite.Insert:
    statement = insert_for(dialect, worker)
    return statement.on_conflict_do_update(
        index_elements=[worker.c.name],
        set_={
            "kind": statement.excluded.kind,
            "heartbeat_wall": statement.excluded.heartbeat_wall,
            "ends_wall": statement.excluded.ends_wall,
        },
    )


def leave(conn: Connection, name: str) -> None:
    """The worker has ended by itself."""
    conn.execute(delete(worker).where(worker.c.name == name))


def alive(conn: Connection, *, kind: str, now_wall: int, stale_us: int) -> list[WorkerRow]:
    """Workers of the kind that gave a sign of life within `stale_us`, the longest-running first."""
    rows = conn.execute(
        select(worker)
        .where(worker.c.kind == kind, worker.c.heartbeat_wall > now_wall - stale_us)
        .order_by(worker.c.started_wall, worker.c.name)
    )
    return [WorkerRow(**record(row)) for row in rows]


def prune(conn: Connection, before_wall: int) -> int:
    """Forgets workers that died without leaving and were last heard of before `before_wall`."""
    return conn.execute(delete(worker).where(worker.c.heartbeat_wall < before_wall)).rowcount
