"""What each system last said of the calls that it allows in a rolling day, for all processes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from sync_pipeline.ledger.statements import insert, record
from sync_pipeline.ledger.tables import allowance


@dataclass(frozen=True, slots=True)
class Allowance:
    """`used` of `allowed` calls, by anybody's programs, as of `seen_wall`."""

    system: str
    used: int
    allowed: int
    seen_wall: int


def put(conn: Connection, seen: Allowance) -> None:
    """Stores what a system said; an older look does not replace a newer one."""
    statement = insert(conn, allowance)
    new = statement.excluded
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[allowance.c.system],
            set_={"used": new.used, "allowed": new.allowed, "seen_wall": new.seen_wall},
            where=allowance.c.seen_wall <= new.seen_wall,
        ),
        {"system": seen.system, "used": seen.used, "allowed": seen.allowed, "seen_wall": seen.seen_wall},
    )


_SEEN = select(allowance).where(allowance.c.system == bindparam("system"))


def get(conn: Connection, system: str) -> Allowance | None:
    """None before the first answer."""
    row = conn.execute(_SEEN, {"system": system}).first()
    return None if row is None else Allowance(**record(row))
