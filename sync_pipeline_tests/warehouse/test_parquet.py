"""Tables on disk: whole at any moment, readable by others, with a hash of nothing but their content."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.records import Account
from sync_pipeline.frames.columns import SQL_TYPES, Table
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.schema import empty
from sync_pipeline.frames.tables import SNAPSHOTS, TABLES
from sync_pipeline.warehouse.parquet import TableMissing, Warehouse
from sync_pipeline_tests.frames.making import rows

TABLE = SNAPSHOTS["salesforce/accounts"]
ACCOUNTS = [Account(id="001A", mrr=Decimal("3750.00"), modified_at=1_768_471_200_000_001), Account(id="001B")]

WRITER = """
import itertools, sys
from pathlib import Path
from sync_pipeline.core.records import Account
from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.tables import SNAPSHOTS
from sync_pipeline.warehouse.parquet import Warehouse
table = SNAPSHOTS["salesforce/accounts"]
for number in itertools.count():
    frame = to_frame([Account(id=f"{row:05}", name=str(number)) for row in range(2000)], table)
    Warehouse(Path(sys.argv[1])).write(table, frame, {"number": str(number)})
    print(number, flush=True)
"""


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    written = warehouse.write(TABLE, to_frame(ACCOUNTS, TABLE), {"taken_at": "5", "origin": "00D"})
    assert written.path == tmp_path / "snapshot/salesforce/accounts.parquet"
    assert (written.rows, written.size_bytes) == (2, written.path.stat().st_size)
    assert to_records(warehouse.read(TABLE), TABLE) == ACCOUNTS
    assert warehouse.provenance(TABLE) == {"taken_at": "5", "origin": "00D"}
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o644


def test_a_table_that_was_never_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableMissing, match="snapshot/salesforce/accounts is not in the warehouse yet"):
        Warehouse(tmp_path).read(TABLE)
    with pytest.raises(TableMissing):
        Warehouse(tmp_path).provenance(TABLE)


def test_the_hash_of_a_table_can_be_asked_for_later(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    written = warehouse.write(TABLE, to_frame(ACCOUNTS, TABLE), {"taken_at": "1"})
    assert warehouse.content_hash(TABLE) == written.content_hash


@given(records=st.lists(rows(TABLE), min_size=1, max_size=4, unique_by=lambda each: each.id), data=st.data())
def test_the_hash_depends_on_nothing_but_rows_and_columns(
    tmp_path_factory: pytest.TempPathFactory, records: list[Account], data: st.DataObject
) -> None:
    warehouse = Warehouse(tmp_path_factory.mktemp("warehouse"))
    first = warehouse.write(TABLE, to_frame(records, TABLE), {"taken_at": "1"})
    shuffled = data.draw(st.permutations(records))
    chunks = pl.concat([to_frame([each], TABLE) for each in shuffled], rechunk=False)
    again = warehouse.write(TABLE, chunks, {"taken_at": "a quite different moment"})
    assert again.content_hash == first.content_hash
    changed = [replace(records[0], mrr=(records[0].mrr or Decimal(0)) + 1), *records[1:]]
    assert warehouse.write(TABLE, to_frame(changed, TABLE), {}).content_hash != first.content_hash


def test_duckdb_reads_exact_amounts_and_moments(tmp_path: Path) -> None:
    written = Warehouse(tmp_path).write(TABLE, to_frame(ACCOUNTS, TABLE), {})
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT id, mrr, epoch_us(modified_at) FROM read_parquet(?) ORDER BY id", [str(written.path)]
        ).fetchall()
    assert found == [("001A", Decimal("3750.00"), 1_768_471_200_000_001), ("001B", None, None)]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_other_tools_meet_the_types_that_the_catalogue_shows(table: Table, tmp_path: Path) -> None:
    written = Warehouse(tmp_path).write(table, empty(table), {})
    with duckdb.connect() as connection:
        found = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(written.path)]).fetchall()
    assert {row[0]: row[1] for row in found} == {column.name: SQL_TYPES[column.type] for column in table.columns}


def test_a_reader_never_sees_half_a_table_whenever_the_writer_dies(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            for _ in range(20):
                frame = warehouse.read(TABLE)
                assert (frame.height, frame["name"].n_unique()) == (2000, 1)
            process.send_signal(signal.SIGKILL)
            process.wait()
        frame = warehouse.read(TABLE)
        assert (frame.height, frame["name"].n_unique()) == (2000, 1)
