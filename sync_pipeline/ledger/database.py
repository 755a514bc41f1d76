"""Opening the ledger's database and running transactions on it. No tables and no statements here.

One transaction at a time per thread, always short: no HTTP call may happen inside one, which the
transports assert through `Ledger.in_transaction`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

BUSY_TIMEOUT_MS = 30_000
WAL_TRIES = 600
WAL_PAUSE_S = 0.05
CONNECT_TIMEOUT_S = 10
# Shorter than anybody waits for a lock: a process that is frozen in a transaction must not fail the others.
IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg2")
# STRICT tables came in 3.37; without them SQLite would store a float in a money column.
MINIMUM_SQLITE = (3, 37, 0)


class LedgerError(Exception):
    """The ledger cannot be used as asked; the message is one line that says what to do."""


class Ledger:
    """An open ledger. Safe to share between threads; each thread has at most one transaction open.

    The connections of `reader` cannot write.
    """

    def __init__(self, engine: Engine, reader: Engine, name: str) -> None:
        self.engine = engine
        self.reader = reader
        self.name = name
        self._thread = threading.local()

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        """A write transaction: commits at the end of the block, rolls back when the block raises.

        SQLite takes the write lock at once (BEGIN IMMEDIATE), so that a transaction never fails half
        way because another process wrote. Postgres runs READ COMMITTED, which SKIP LOCKED needs.
        Raises LedgerError when the database cannot be reached, goes away or stays locked for 30 s.
        """
        with self._transaction(self.engine, "BEGIN IMMEDIATE") as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only transaction that sees one consistent state throughout, and blocks no writer."""
        with self._transaction(self.reader, "BEGIN") as conn:
            yield conn

    def in_transaction(self) -> bool:
        """Whether the calling thread is inside `tx` or `read`."""
        return getattr(self._thread, "open", False)

    def close(self) -> None:
        """Closes all pooled connections."""
        self.engine.dispose()
        self.reader.dispose()

    @contextmanager
    def _transaction(self, engine: Engine, begin: str) -> Iterator[Connection]:
        """`begin` is SQLite's word for it."""
        if self.in_transaction():
            # On SQLite the second one would wait 30 s for the first, which waits for it.
            raise LedgerError("this thread already has a ledger transaction open: pass its Connection on")
        is_sqlite = engine.dialect.name == "sqlite"
        try:
            conn = engine.connect()
        except SQLAlchemyError as error:
            raise _unreachable(self.name, error) from None
        self._thread.open = True
        try:
            try:
                transaction = conn.begin()
                if is_sqlite:
                    _begin_sqlite(conn, begin)
            except SQLAlchemyError as error:
                raise _unreachable(self.name, error) from None
            try:
                with transaction:
                    yield conn
            except OperationalError as error:
                if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
                    raise  # A statement of ours is wrong.
                # It went away, the disk is full, or somebody kept a row locked: nothing of the transaction is there.
                raise _unreachable(self.name, error) from None
        finally:
            self._thread.open = False
            conn.close()


def open_ledger(url: str) -> Ledger:
    """Opens the database at `url` (`sqlite:///path` or `postgresql://user@host/name`) and tries it.

    Creates the folder and the file of a SQLite ledger, but no tables: those come from
    `migrations.upgrade`. Raises LedgerError, in one line without the password, when the URL is not
    usable or the database does not answer.
    """
    ledger = Ledger(*_create_engines(url))
    try:
        with ledger.read() as conn:
            conn.exec_driver_sql("SELECT 1")
    except BaseException:
        ledger.close()
        raise
    return ledger


def shown_url(url: str) -> str:
    """The URL without its password. Raises LedgerError when it is none."""
    return _parse(url).render_as_string(hide_password=True)


def may_exist(url: str) -> bool:
    """False where it takes no connection to see that there is no database: a SQLite file that is not there."""
    parsed = _parse(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return not file or file == ":memory:" or Path(file).exists()


def _create_engines(url: str) -> tuple[Engine, Engine, str]:
    """That of write transactions, that of reads, and the name of the database in messages."""
    parsed = _parse(url)
    name = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() == "sqlite":
        # Not one engine whose reads set this and take it back: each time SQLite would prepare every statement anew.
        return _sqlite_engine(parsed, name), _sqlite_engine(parsed, name, "query_only = ON"), name
    try:
        engine = create_engine(
            parsed,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "sync-pipeline"},
        )
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"the ledger {name} needs the Python package {error.name}: pip install 'sync-pipeline[postgres]'"
        ) from None
    event.listen(engine, "connect", _prepare_postgres)
    return engine, engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True), name


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text is not repeated: it may hold a password at a place where nobody expects it.
        raise LedgerError(
            "SYNC_DATABASE_URL is not a database URL: use sqlite:///path/ledger.db or postgresql://user@host/name"
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername not in DRIVERS:
        raise LedgerError(f"the ledger runs on sqlite:// or postgresql:// (psycopg2), not on {parsed.drivername}://")
    return parsed


def _sqlite_engine(parsed: URL, name: str, *pragmas: str) -> Engine:
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise LedgerError(f"the ledger needs SQLite 3.37 or newer, this Python has {sqlite3.sqlite_version}")
    if not parsed.database or parsed.database == ":memory:":
        raise LedgerError(f"the ledger {name} lives in memory, where no other process sees it: use sqlite:///path")
    folder = Path(parsed.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot create the folder {folder} of the ledger: {error.strerror}") from None
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    event.listen(engine, "connect", lambda dbapi, _: _prepare_sqlite(dbapi, pragmas))
    return engine


def _prepare_sqlite(dbapi: sqlite3.Connection, pragmas: Iterable[str]) -> None:
    # The driver would otherwise begin transactions by itself, late and deferred.
    dbapi.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        # An attempt row must survive a power cut before its request leaves the machine.
        "synchronous = FULL",
        "foreign_keys = ON",
        # Without it INSERT OR REPLACE deletes rows past the append-only triggers.
        "recursive_triggers = ON",
    ):
        dbapi.execute(f"PRAGMA {pragma}").close()
    _use_wal(dbapi)
    for pragma in pragmas:
        dbapi.execute(f"PRAGMA {pragma}").close()


def _use_wal(dbapi: sqlite3.Connection) -> None:
    """Switches the file to WAL, once for its life. SQLite does not wait for a lock on the way, so we do."""
    for _ in range(WAL_TRIES):
        if dbapi.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return
        try:
            dbapi.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError:
            time.sleep(WAL_PAUSE_S)  # noqa: TID251 - waiting for another process on this machine, not for time
    dbapi.execute("PRAGMA journal_mode = WAL").close()


def _begin_sqlite(conn: Connection, begin: str) -> None:
    """Not as an event of SQLAlchemy's: an engine with any has every statement pay for it."""
    try:
        _say(conn, begin)
    except sqlite3.OperationalError as error:
        raise OperationalError("BEGIN", None, error) from error


def _say(conn: Connection, statement: str) -> None:
    """Straight to the driver: these go with every transaction, and SQLAlchemy's way costs more than SQLite's."""
    dbapi = conn.connection.dbapi_connection
    assert dbapi is not None
    dbapi.execute(statement).close()


def _prepare_postgres(dbapi: Any, _record: object) -> None:
    with dbapi.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
        # A frozen process must not keep rows locked: its lease runs out, its transaction has to as well.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_TIMEOUT_MS}")
    dbapi.commit()


def _unreachable(name: str, error: SQLAlchemyError) -> LedgerError:
    cause = str(getattr(error, "orig", None) or error).strip()
    reason = next(iter(cause.splitlines()), type(error).__name__)
    if isinstance(error, OperationalError) and "database is locked" in reason:
        reason = f"another process has kept it locked for {BUSY_TIMEOUT_MS // 1000} s"
    return LedgerError(f"cannot use the ledger {name}: {reason}")


NewId = Callable[[], str]
"""Makes a new unique id. Comes from the engine's Env, so that the simulator decides it."""
