"""Circuit breakers: operations that failed again and again are left alone for a while, by all processes.

The state is one row per operation, and none for one that works. After `retry_wall` exactly one caller may probe;
taking the probe moves `retry_wall` on, so that a probe that dies with its process is followed by another.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from sync_pipeline.ledger.statements import insert, record
from sync_pipeline.ledger.tables import breaker

FAILURES_TO_OPEN = 5
FIRST_PAUSE_US = 5_000_000
LONGEST_PAUSE_US = 600_000_000
PROBE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Breaker:
    """An operation that failed `failures` times in a row; `why` says what the last failure was."""

    operation: str
    failures: int
    retry_wall: int
    why: str

    def forbids(self, now_wall: int) -> bool:
        return self.failures >= FAILURES_TO_OPEN and now_wall < self.retry_wall


def ask(conn: Connection, operation: str, *, now_wall: int) -> Breaker | None:
    """What is known of the operation's failures, None when it works. The caller that it no longer forbids probes."""
    row = conn.execute(select(breaker).where(breaker.c.operation == operation).with_for_update()).first()
    if row is None:
        return None
    found = Breaker(**record(row))
    if found.failures >= FAILURES_TO_OPEN and not found.forbids(now_wall):
        conn.execute(update(breaker).where(breaker.c.operation == operation).values(retry_wall=now_wall + PROBE_US))
    return found


def failed(conn: Connection, operation: str, why: str, *, now_wall: int, jitter: float) -> None:
    """The operation failed once more. Pauses double, and are spread over their second half."""
    statement = insert(conn, breaker)
    count = conn.execute(
        statement.on_conflict_do_update(
            index_elements=[breaker.c.operation],
            set_={"failures": breaker.c.failures + 1, "why": statement.excluded.why},
        ).returning(breaker.c.failures),
        {"operation": operation, "failures": 1, "retry_wall": 0, "why": why[:300]},
    ).scalar_one()
    if count >= FAILURES_TO_OPEN:
        longest = min(LONGEST_PAUSE_US, FIRST_PAUSE_US * 2 ** min(count - FAILURES_TO_OPEN, 10))
        pause = int(longest * (1 + jitter) / 2)
        conn.execute(update(breaker).where(breaker.c.operation == operation).values(retry_wall=now_wall + pause))


def worked(conn: Connection, operation: str) -> None:
    """The operation works: whatever failed before is forgotten."""
    conn.execute(delete(breaker).where(breaker.c.operation == operation))


def troubled(conn: Connection) -> list[Breaker]:
    """Operations whose latest call failed."""
    return [Breaker(**record(row)) for row in conn.execute(_TROUBLED)]


# Every call to either system begins with this look.
_TROUBLED = select(breaker).order_by(breaker.c.operation)
