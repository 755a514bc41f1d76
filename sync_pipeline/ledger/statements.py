"""The few places where SQLite and Postgres need another spelling of the same statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

# Below SQLite's limit of 32,766 bound values per statement, with room for the other ones.
BATCH_SIZE = 5_000


def insert(conn: Connection, table: Table) -> sqlite.Insert:
    """INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases have.

    The two classes have the same methods but no common type; SQLite's stands for both.
    """
    if conn.dialect.name == "postgresql":
        return cast(sqlite.Insert, postgresql.insert(table))
    return sqlite.insert(table)


def batches(values: Iterable[str]) -> Iterator[list[str]]:
    """The distinct values, sorted, in lists that are short enough for one IN (...)."""
    ordered = sorted(set(values))
    for start in range(0, len(ordered), BATCH_SIZE):
        yield ordered[start : start + BATCH_SIZE]


def record(row: Any) -> dict[str, Any]:
    """A result row as keyword arguments for the dataclass with the same field names."""
    return dict(row._mapping)
