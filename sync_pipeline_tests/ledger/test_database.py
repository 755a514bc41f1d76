"""Opening a ledger, its transactions, and what it says when it cannot be used."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from sync_pipeline.ledger import cursors, database
from sync_pipeline.ledger.database import Ledger, LedgerError, open_ledger


def test_a_transaction_commits_or_leaves_nothing(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        cursors.put(conn, "kept", "1", 1)
    with contextlib.suppress(ZeroDivisionError), ledger.tx() as conn:
        cursors.put(conn, "lost", "1", 1)
        raise ZeroDivisionError
    with ledger.read() as conn:
        assert (cursors.get(conn, "kept"), cursors.get(conn, "lost")) == ("1", None)


def test_each_thread_knows_whether_it_is_in_a_transaction(ledger: Ledger) -> None:
    elsewhere: list[bool] = []
    assert not ledger.in_transaction()
    with ledger.tx():
        assert ledger.in_transaction()
        thread = threading.Thread(target=lambda: elsewhere.append(ledger.in_transaction()))
        thread.start()
        thread.join()
    assert elsewhere == [False]
    with ledger.read():
        assert ledger.in_transaction()
    with pytest.raises(ZeroDivisionError), ledger.tx():
        raise ZeroDivisionError
    assert not ledger.in_transaction()


def test_a_second_transaction_in_the_same_thread_is_refused(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        for again in (ledger.tx, ledger.read):
            with pytest.raises(LedgerError, match="pass its Connection on"), again():
                pass
        cursors.put(conn, "still", "works", 1)
    with ledger.read() as conn:
        assert cursors.get(conn, "still") == "works"


def test_a_read_transaction_cannot_write_and_the_next_one_can(ledger: Ledger) -> None:
    for _ in range(3):
        with pytest.raises((DBAPIError, LedgerError)), ledger.read() as conn:
            cursors.put(conn, "x", "1", 1)
        with ledger.tx() as conn:
            cursors.put(conn, "x", "2", 1)


def test_a_read_transaction_sees_one_state_throughout(ledger: Ledger) -> None:
    def write(value: str) -> None:
        def run() -> None:
            with ledger.tx() as conn:
                cursors.put(conn, "x", value, 1)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    write("before")
    with ledger.read() as conn:
        assert cursors.get(conn, "x") == "before"
        write("after")
        assert cursors.get(conn, "x") == "before"
    with ledger.read() as conn:
        assert cursors.get(conn, "x") == "after"


def test_sqlite_is_durable_and_strict(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.tx() as conn:
        settings = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "recursive_triggers")
        }
        tables = conn.exec_driver_sql("SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT strict")
        loose = {row.name for row in tables}
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 30_000,
        "foreign_keys": 1,
        "recursive_triggers": 1,
    }
    assert loose == {"alembic_version", "sqlite_schema", "sqlite_temp_schema"}


def test_a_locked_sqlite_ledger_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="another process has kept it locked"), ledger.tx():
        pass
    assert not ledger.in_transaction()
    with ledger.read() as conn:
        assert conn.exec_driver_sql("SELECT 1").scalar() == 1
    holder.execute("ROLLBACK")
    holder.close()
    with ledger.tx() as conn:
        assert conn.exec_driver_sql("SELECT 1").scalar() == 1
    ledger.close()


def test_a_full_disk_is_one_clear_line_and_nothing_is_half_written(sqlite_ledger: Ledger) -> None:
    def fill() -> None:
        with sqlite_ledger.tx() as conn:
            pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
            conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            conn.exec_driver_sql("CREATE TABLE large (text TEXT)")
            conn.exec_driver_sql("INSERT INTO large VALUES (hex(zeroblob(1000000)))")

    with pytest.raises(LedgerError, match=r"cannot use the ledger .*disk is full"):
        fill()
    with sqlite_ledger.read() as conn:
        assert "large" not in inspect(conn).get_table_names()


@pytest.mark.postgres
def test_a_ledger_survives_the_end_of_its_postgres_connections(postgres_ledger_url: str) -> None:
    ledger = open_ledger(postgres_ledger_url)
    other = open_ledger(postgres_ledger_url)
    with ledger.tx() as conn:
        pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with other.tx() as conn:
        conn.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    with ledger.tx() as conn:
        cursors.put(conn, "still", "works", 1)
    ledger.close()
    other.close()


@pytest.mark.postgres
def test_an_unknown_postgres_database_is_one_clear_line(postgres_ledger_url: str) -> None:
    url = postgres_ledger_url.replace("postgres@/", "postgres:hunter2@/no_such_")
    with pytest.raises(LedgerError, match=r"cannot use the ledger .*does not exist") as caught:
        open_ledger(url)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hunter2", "is not a database URL: use sqlite:///path"),
        ("postgresql://u:hunter2@localhost:port/x", "is not a database URL: use sqlite:///path"),
        ("mysql://u:hunter2@localhost/x", "not on mysql://"),
        ("postgresql+nodriver://u:hunter2@localhost/x", r"not on postgresql\+nodriver://"),
        ("sqlite://", "lives in memory"),
        ("sqlite:///:memory:", "lives in memory"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", "127.0.0.1:1/x: connection to server .* refused"),
        ("postgres://u:hunter2@127.0.0.1:1/x", "127.0.0.1:1/x: connection to server .* refused"),
        ("sqlite:////proc/nowhere/ledger.db", "cannot create the folder /proc/nowhere"),
    ],
)
def test_a_useless_url_is_one_clear_line_without_the_password(url: str, message: str) -> None:
    with pytest.raises(LedgerError, match=message) as caught:
        open_ledger(url)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is a text file, and a long enough one" * 10)
    with pytest.raises(LedgerError, match="file is not a database"):
        open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open database file"):
        open_ledger(f"sqlite:///{tmp_path}")
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
