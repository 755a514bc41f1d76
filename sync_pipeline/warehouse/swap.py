"""What is published gives way to what was loaded beside it, in the one transaction in which readers change nights.

On Postgres a table that keeps its columns keeps all that hangs on it: rows that differ are deleted and inserted, so
grants, indexes and the data team's own views stay, no reader waits or is waited for, and a REPEATABLE READ transaction
goes on seeing its night (after a TRUNCATE or DROP it would see an empty table). Only a table or view that is another
one now is made anew, with its grants. SQLite has no grants, and its views follow names; but it has one writer at a
time, and taking the places of the old tables is the shortest way for the sync beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync_pipeline.frames.columns import Table
from sync_pipeline.ledger.database import LedgerError
from sync_pipeline.warehouse.views import VIEWS, View

NEXT = "__next"
# While this waits for an exclusive lock, every new reader of the table waits behind it.
LOCK_TIMEOUT_MS = 5_000

_LOCK_NOT_AVAILABLE, _DEPENDENT_OBJECTS = "55P03", "2BP01"
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation::text FROM pg_attribute
WHERE attrelid = to_regclass(%(name)s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_CONSTRAINTS = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = to_regclass(%(name)s) AND contype IN ('p', 'c') ORDER BY 1
"""
_GRANTS = """
SELECT format('GRANT %%s ON %%I TO %%s%%s', privilege_type, relname,
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = to_regclass(%(name)s) AND grantee <> relowner
"""


def swap(conn: Connection, tables: Mapping[str, Table]) -> None:
    """Puts the contents of `name__next` into the place of every table, and makes the views that follow from that.

    Raises LedgerError, before anything has changed, where something of another owner hangs on what has to be made
    anew, or somebody keeps it locked.
    """
    if conn.dialect.name == "sqlite":
        anew = set(tables)
        views = {view.name for view in VIEWS}
    else:
        conn.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        anew = {name for name in tables if _shape(conn, name) != _shape(conn, name + NEXT)}
        views = _views_to_make(conn, anew)
    with _told_clearly():
        for name in tables.keys() - anew:
            _replace_rows(conn, name, tables[name].key)
        _make_anew(conn, sorted(anew), views)


def _replace_rows(conn: Connection, name: str, key: tuple[str, ...]) -> None:
    same = " AND ".join(f"after.{column} = before.{column}" for column in key)
    conn.exec_driver_sql(
        f"DELETE FROM {name} AS before WHERE NOT EXISTS (SELECT FROM {name}{NEXT} AS after"
        f" WHERE {same} AND ROW(after.*) IS NOT DISTINCT FROM ROW(before.*))"
    )
    conn.exec_driver_sql(
        f"INSERT INTO {name} SELECT * FROM {name}{NEXT} AS after"
        f" WHERE NOT EXISTS (SELECT FROM {name} AS before WHERE {same})"
    )
    conn.exec_driver_sql(f"DROP TABLE {name}{NEXT}")


def _make_anew(conn: Connection, tables: list[str], views: Set[str]) -> None:
    postgres = conn.dialect.name == "postgresql"
    grants = [grant for name in [*tables, *sorted(views)] for grant in _grants(conn, name)] if postgres else []
    mine = [view for view in VIEWS if view.name in views]
    for view in reversed(mine):
        conn.exec_driver_sql(f"DROP VIEW IF EXISTS {view.name}")
    for name in tables:
        conn.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
        conn.exec_driver_sql(f"ALTER TABLE {name}{NEXT} RENAME TO {name}")
        if postgres:
            conn.exec_driver_sql(f"ALTER INDEX {name}{NEXT}_pkey RENAME TO {name}_pkey")
    for view in mine:
        conn.exec_driver_sql(f"CREATE VIEW {view.name} AS\n{view.sql}")
    for grant in grants:
        conn.exec_driver_sql(grant)


def _views_to_make(conn: Connection, anew: Set[str]) -> set[str]:
    """Views whose SELECT has changed, or that read something that is made anew."""
    stale = set(anew)
    for view in VIEWS:
        if stale & set(re.findall(r"\w+", view.sql)) or not _is_there(conn, view):
            stale.add(view.name)
    return stale - anew


def _is_there(conn: Connection, view: View) -> bool:
    """Only Postgres itself can tell what it made of a SELECT: it is asked for both."""
    conn.exec_driver_sql(f"CREATE VIEW {view.name}{NEXT} AS\n{view.sql}")
    compared = "SELECT pg_get_viewdef(to_regclass(%(name)s)) = pg_get_viewdef(to_regclass(%(next)s))"
    same = conn.exec_driver_sql(compared, {"name": view.name, "next": view.name + NEXT}).scalar()
    conn.exec_driver_sql(f"DROP VIEW {view.name}{NEXT}")
    return bool(same)


def _shape(conn: Connection, name: str) -> list[tuple[object, ...]]:
    asked = (conn.exec_driver_sql(query, {"name": name}) for query in (_COLUMNS, _CONSTRAINTS))
    return [tuple(row) for found in asked for row in found]


def _grants(conn: Connection, name: str) -> list[str]:
    return [grant for (grant,) in conn.exec_driver_sql(_GRANTS, {"name": name})]


@contextmanager
def _told_clearly() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code == _DEPENDENT_OBJECTS and error.orig is not None:
            raise LedgerError(
                "a published table or view has other columns now, and something that is not ours depends on the old"
                f" one ({_detail(error.orig)}): drop that, publish again, and create it anew"
            ) from None
        if code == _LOCK_NOT_AVAILABLE:
            raise LedgerError(
                f"nothing was published: {error.statement} waited {LOCK_TIMEOUT_MS / 1000:g} s for an open transaction"
                " that uses it; end that one (pg_stat_activity shows it) and publish again"
            ) from None
        raise


def _detail(error: BaseException) -> str:
    detail = getattr(getattr(error, "diag", None), "message_detail", None)
    return "; ".join(str(detail or error).splitlines())
