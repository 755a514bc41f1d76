"""Bringing a ledger to the schema of this code. The steps are in versions/, run by Alembic through env.py.

Alembic is imported only when there is something to upgrade: workers start without it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from sync_pipeline.ledger.database import LedgerError, may_exist, open_ledger, shown_url
from sync_pipeline.ledger.tables import SCHEMA_VERSION

# Any number will do, as long as it stays the same: it names the lock that upgrades take on Postgres.
UPGRADE_LOCK = 7_305_151_118


def upgrade(url: str) -> None:
    """Upgrades the ledger at `url` to `head()`; does nothing when it is there already.

    Runs in one transaction, so a failure leaves the old schema. Safe to start in many processes at
    once: one does the work, the others wait for it. LedgerError when the ledger is newer than this code.
    """
    ledger = open_ledger(url)
    try:
        with ledger.tx() as conn:
            if conn.dialect.name == "postgresql":
                conn.execute(text("SET LOCAL lock_timeout = 0"))
                conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
            if _version(conn) != head():
                _run_alembic(conn, ledger.name)
    finally:
        ledger.close()


def current(url: str) -> str | None:
    """The schema version of the ledger at `url`, None for one without tables or none at all; it makes none."""
    if not may_exist(url):
        return None
    ledger = open_ledger(url)
    try:
        with ledger.read() as conn:
            return _version(conn)
    finally:
        ledger.close()


def head() -> str:
    """The schema version that this code needs."""
    return SCHEMA_VERSION


def require_current(url: str) -> None:
    """LedgerError, saying what to run, unless the ledger at `url` has the schema of this code."""
    found = current(url)
    if found == head():
        return
    if found is None:
        name = shown_url(url)
        raise LedgerError(f"there is no ledger at {name}: mend SYNC_DATABASE_URL, or run: sync-pipeline ledger upgrade")
    raise LedgerError(
        f"the ledger has schema version {found}, this version needs {head()}: run: sync-pipeline ledger upgrade"
    )


def _version(conn: Connection) -> str | None:
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _run_alembic(conn: Connection, name: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # ConfigParser would take a % in the path for an interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = conn
    try:
        command.upgrade(config, head())
    except CommandError as error:
        raise LedgerError(f"cannot upgrade the ledger {name}: {error}: install a newer sync-pipeline") from None
