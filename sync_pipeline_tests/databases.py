"""Databases for tests: a migrated ledger in a SQLite file, or in a private Postgres that ends with the run.

The Postgres is started on first use from the server binaries of this machine, in a temporary folder,
reachable only through a Unix socket there, without durability. Use the fixtures by importing them into
a room's conftest.py.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from sync_pipeline.ledger import migrations
from sync_pipeline.ledger.database import Ledger, open_ledger

INSTALL_HINT = "needs the PostgreSQL server binaries (initdb, postgres): apt-get install postgresql"
START_TIMEOUT_S = 30
# Names of databases; unique within this process, which has a server of its own.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class PostgresServer:
    """A running private server."""

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str, driver: str = "postgresql") -> str:
        return f"{driver}://postgres@/{database}?host={self.folder}"

    def run(self, sql: str) -> None:
        """Runs one statement that cannot stand in a transaction, such as CREATE DATABASE."""
        engine = create_engine(self.url("postgres", "postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.exec_driver_sql(sql)
        engine.dispose()

    def create_database(self, *, template: str = "template0") -> str:
        """A new database; returns its URL."""
        name = f"test_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def stop(self) -> None:
        """Ends the server at once and deletes its folder."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresMissingError(RuntimeError):
    """This machine has no PostgreSQL server binaries; the message says what to install."""


@functools.cache
def postgres_server() -> PostgresServer:
    """The private server of this test process, started on first use and stopped when the process ends."""
    binaries = _find_binaries()
    # Not pytest's tmp_path: the socket's path must be short, and root's folder is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
    account = _unprivileged_account(folder)
    log = folder / "initdb.log"
    with log.open("wb") as output:
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            check=True, stdout=output, stderr=subprocess.STDOUT, cwd=folder, **account,
        )  # fmt: skip
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "60",
        "shared_buffers": "32MB",
    }
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", *(f"--{name}={value}" for name, value in settings.items())],
            stdout=output, stderr=subprocess.STDOUT, cwd=folder, **account,
        )  # fmt: skip
    server = PostgresServer(folder, process)
    atexit.register(server.stop)
    _wait_until_ready(server)
    return server


@functools.cache
def _migrated_template() -> str:
    """The name of a Postgres database with the ledger's tables, from which tests copy theirs."""
    server = postgres_server()
    server.run("CREATE DATABASE ledger_template TEMPLATE template0")
    migrations.upgrade(server.url("ledger_template"))
    return "ledger_template"


@functools.cache
def _migrated_file() -> Path:
    """A SQLite file with the ledger's tables, from which tests copy theirs."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


def empty_database(kind: str, folder: Path) -> str:
    """The URL of a database without tables. Skips the test where Postgres is wanted and missing."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'ledger.db'}"
    return _postgres_or_skip().create_database()


def ledger_database(kind: str, folder: Path) -> str:
    """The URL of an empty ledger with its tables. Skips the test where Postgres is wanted and missing."""
    if kind == "sqlite":
        path = folder / f"ledger-{next(_numbers)}.db"
        shutil.copyfile(_migrated_file(), path)
        return f"sqlite:///{path}"
    server = _postgres_or_skip()
    return server.create_database(template=_migrated_template())


BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def database_kind(request: pytest.FixtureRequest) -> str:
    """`sqlite`, then `postgres`: a test that takes it, or a fixture over it, runs on both."""
    return str(request.param)


@pytest.fixture
def empty_url(database_kind: str, tmp_path: Path) -> str:
    """A database without tables, on both kinds."""
    return empty_database(database_kind, tmp_path)


@pytest.fixture
def ledger_url(database_kind: str, tmp_path: Path) -> str:
    """A ledger with its tables and nothing in them, on both kinds."""
    return ledger_database(database_kind, tmp_path)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """The same, opened."""
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres_ledger_url(tmp_path: Path) -> str:
    """A ledger on Postgres only; the test carries `@pytest.mark.postgres`."""
    return ledger_database("postgres", tmp_path)


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An open ledger on SQLite only."""
    opened = open_ledger(ledger_database("sqlite", tmp_path))
    yield opened
    opened.close()


def _postgres_or_skip() -> PostgresServer:
    try:
        return postgres_server()
    except PostgresMissingError as missing:
        pytest.skip(str(missing))


def _find_binaries() -> Path:
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    candidates += sorted(Path("/opt/homebrew/opt").glob("postgresql@*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresMissingError(INSTALL_HINT)


def _version(binaries: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in binaries.parent.name.split(".") if part.isdigit())


def _unprivileged_account(folder: Path) -> dict[str, Any]:
    """Arguments for subprocess: Postgres refuses to run as root, so root gives it another account."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _wait_until_ready(server: PostgresServer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.run("SELECT 1")
            return
        except OperationalError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                output = (server.folder / "server.log").read_text(errors="replace")
                raise RuntimeError(f"the private Postgres did not start:\n{output}") from error
            time.sleep(0.05)
