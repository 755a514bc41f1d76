"""The migrated schema is the one that the code declares, on both databases, however many start at once."""

from __future__ import annotations

import multiprocessing
import re
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from sync_pipeline.ledger import cursors, migrations
from sync_pipeline.ledger.database import LedgerError, open_ledger
from sync_pipeline.ledger.tables import metadata
from sync_pipeline_tests.databases import empty_database

POSTGRES_CATALOG = (
    """SELECT table_name, column_name, ordinal_position, data_type, collation_name, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    ORDER BY table_name, ordinal_position""",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2""",
    """SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1""",
)
SQLITE_CATALOG = (
    """SELECT name, type, sql FROM sqlite_master
    WHERE tbl_name <> 'alembic_version' AND type <> 'trigger' ORDER BY name""",
)


def schema(conn: Connection) -> list[list[Any]]:
    """Everything that the database knows about our tables, triggers apart."""
    queries = SQLITE_CATALOG if conn.dialect.name == "sqlite" else POSTGRES_CATALOG
    return [[tuple(_without_order(part) for part in row) for row in conn.execute(text(query))] for query in queries]


def _without_order(part: Any) -> Any:
    """SQLite keeps the text of CREATE TABLE, in which the order of the constraints has no meaning.

    An added column stands at the end of that text; where it stands in the table is compared by nobody.
    """
    if not isinstance(part, str) or not part.startswith("CREATE TABLE"):
        return part
    head, _, rest = part.partition("(")
    body, _, options = rest.rpartition(")")
    return [head.strip(), *sorted(each.strip() for each in re.split(r",(?![^(]*\))", body)), options.strip()]


def test_a_migrated_ledger_has_exactly_the_declared_tables(database_kind: str, tmp_path: Path) -> None:
    for name in ("migrated", "declared"):
        (tmp_path / name).mkdir()
    migrated_url = empty_database(database_kind, tmp_path / "migrated")
    migrations.upgrade(migrated_url)
    migrated, declared = open_ledger(migrated_url), open_ledger(empty_database(database_kind, tmp_path / "declared"))
    with declared.tx() as conn:
        metadata.create_all(conn)
    with migrated.tx() as found, declared.tx() as wanted:
        assert schema(found) == schema(wanted)
        assert len(schema(found)[0]) > len(metadata.tables)
        assert compare_metadata(MigrationContext.configure(found), metadata) == []
    migrated.close()
    declared.close()


def test_the_version_in_the_code_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.head()]


def test_an_unmigrated_ledger_says_what_to_run(empty_url: str) -> None:
    assert migrations.current(empty_url) is None
    with pytest.raises(LedgerError, match="run: sync-pipeline ledger upgrade"):
        migrations.require_current(empty_url)


def test_upgrading_again_keeps_the_data(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    ledger = open_ledger(empty_url)
    with ledger.tx() as conn:
        cursors.put(conn, "salesforce", "2026-11-23", 1)
    migrations.upgrade(empty_url)
    with ledger.read() as conn:
        assert cursors.get(conn, "salesforce") == "2026-11-23"
    ledger.close()
    migrations.require_current(empty_url)
    assert migrations.current(empty_url) == migrations.head()


def test_a_ledger_newer_than_the_code_is_refused(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)
    with ledger.tx() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    ledger.close()
    with pytest.raises(LedgerError, match="install a newer sync-pipeline"):
        migrations.upgrade(ledger_url)
    with pytest.raises(LedgerError, match="has schema version 9999"):
        migrations.require_current(ledger_url)


def upgrade_together(url: str, barrier: Barrier) -> None:
    barrier.wait(60)
    migrations.upgrade(url)


def test_processes_that_start_together_upgrade_once(empty_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [context.Process(target=upgrade_together, args=(empty_url, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    migrations.require_current(empty_url)


def test_a_failed_upgrade_leaves_nothing(empty_url: str) -> None:
    ledger = open_ledger(empty_url)
    with ledger.tx() as conn:
        conn.execute(text("CREATE TABLE review (in_the_way INTEGER)"))
    with pytest.raises(DBAPIError, match="already exists"):
        migrations.upgrade(empty_url)
    with ledger.read() as conn:
        assert inspect(conn).get_table_names() == ["review"]
    ledger.close()


@pytest.mark.parametrize("name", ["with space", "per%cent", "quo'te"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path}/{name}/new/ledger.db"
    migrations.upgrade(url)
    migrations.require_current(url)
