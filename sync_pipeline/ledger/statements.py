"""The few places where SQLite and Postgres need another spelling of the same statement.

Statements that run for every account are made once and kept, with their values bound by name: putting one together
takes several times as long as running it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

from sqlalchemy import BindParameter, Connection, Table, Update, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite

SOME: BindParameter[Any] = bindparam("some", expanding=True)
"""The values of an IN (...) of a statement that is kept: those of one of the `batches`."""

# Below SQLite's limit of 32,766 bound values per statement, with room for the other ones.
BATCH_SIZE = 5_000


def insert(conn: Connection, table: Table) -> sqlite.Insert:
    """INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases have.

    The two classes have the same methods but no common type; SQLite's stands for both.
    """
    return insert_for(conn.dialect.name, table)


@cache
def insert_for(dialect: str, table: Table) -> sqlite.Insert:
    """`insert` by the name of the dialect, for a statement that is kept."""
    if dialect == "postgresql":
        return cast(sqlite.Insert, postgresql.insert(table))
    return sqlite.insert(table)


def setting(table: Table, *columns: str) -> Update:
    """An UPDATE, to be kept, that sets these columns, bound by their names, of the row whose id is bound as `of`."""
    return update(table).where(table.c.id == bindparam("of")).values({name: bindparam(name) for name in columns})


def batches(values: Iterable[str]) -> Iterator[list[str]]:
    """The distinct values, sorted, in lists that are short enough for one IN (...)."""
    ordered = sorted(set(values))
    for start in range(0, len(ordered), BATCH_SIZE):
        yield ordered[start : start + BATCH_SIZE]


def record(row: Any) -> dict[str, Any]:
    """A result row as keyword arguments for the dataclass with the same field names."""
    return dict(row._mapping)
