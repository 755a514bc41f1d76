"""Named positions in the systems' streams of changes. How far to read back over one is the engine's choice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import sqlite

from sync_pipeline.ledger.statements import SOME, batches, insert, insert_for
from sync_pipeline.ledger.tables import cursor

# Kept, because putting it together takes longer than running it.
_VALUE = select(cursor.c.value).where(cursor.c.name == bindparam("name"))
_VALUES = select(cursor.c.name, cursor.c.value).where(cursor.c.name.in_(SOME))


def get(conn: Connection, name: str) -> str | None:
    """The stored position, None before the first `put`."""
    return conn.execute(_VALUE, {"name": name}).scalar()


def get_all(conn: Connection, names: Iterable[str]) -> dict[str, str]:
    """The stored positions of these names, by name, as far as there are any."""
    rows = (row for batch in batches(names) for row in conn.execute(_VALUES, {"some": batch}))
    return {row.name: row.value for row in rows}


def put(conn: Connection, name: str, value: str, now: int) -> None:
    """Stores the position; do it in the transaction that stores what was read up to it."""
    conn.execute(_put(conn.dialect.name), {"name": name, "value": value, "updated_at": now})


@cache
def _put(dialect: str) -> sqlite.Insert:
    statement = insert_for(dialect, cursor)
    return statement.on_conflict_do_update(
        index_elements=[cursor.c.name],
        set_={"value": statement.excluded.value, "updated_at": statement.excluded.updated_at},
    )


def take(conn: Connection, name: str, now: int) -> str:
    """The stored value, "" before the first; nobody else changes it until this transaction has ended."""
    first = insert(conn, cursor)
    same = first.on_conflict_do_update(index_elements=[cursor.c.name], set_={"value": cursor.c.value})
    return str(
        conn.execute(same.returning(cursor.c.value), {"name": name, "value": "", "updated_at": now}).scalar_one()
    )


def put_once(conn: Connection, name: str, value: str, now: int) -> str:
    """Stores the value if there is none yet, and returns the one that stands: the same for everybody who asks."""
    first = insert(conn, cursor).on_conflict_do_nothing()
    conn.execute(first, {"name": name, "value": value, "updated_at": now})
    return str(conn.execute(_VALUE, {"name": name}).scalar_one())
