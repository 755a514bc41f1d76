"""Tables on disk: whole at any moment, readable by others, with a hash of nothing but their content."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Charge, Invoice
from sync_pipeline.core.stripe_records import Event as StripeEvent
from sync_pipeline.frames.columns import SQL_TYPES, Table
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.schema import empty
from sync_pipeline.frames.tables import SNAPSHOTS, TABLES
from sync_pipeline.warehouse.parquet import TableMissing, Warehouse
from sync_pipeline.warehouse.queries import OVER_FILES
from sync_pipeline_tests.frames.making import rows

TABLE = SNAPSHOTS["salesforce/accounts"]
ACCOUNTS = [Account(id="001A", mrr=Decimal("3750.00"), modified_at=1_768_471_200_000_001), Account(id="001B")]

DAY = date(2026, 1, 15)

WRITER = """
import itertools, sys
from pathlib import Path
from sync_pipeline.core.salesforce_records import Account
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
    written = Warehouse(tmp_path).write(table, empty(table), {}, DAY if table.daily else None)
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


def older(warehouse: Warehouse, table: Table, frame: pl.DataFrame) -> None:
    """Puts a file in the table's place as an earlier version has written it."""
    warehouse.path(table).parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(warehouse.path(table), metadata={"taken_at": "7"})


def test_a_file_of_an_earlier_version_is_read_with_the_columns_of_today(tmp_path: Path) -> None:
    """A new column is empty, or what a record has by default; one that is no more is left out; the order is today's."""
    warehouse = Warehouse(tmp_path)
    frame = to_frame(ACCOUNTS, TABLE)
    other = frame.drop("seats", "owner_active").with_columns(gone=pl.lit(1))
    older(warehouse, TABLE, other.select(reversed(other.columns)))
    assert to_records(warehouse.read(TABLE), TABLE) == ACCOUNTS
    assert warehouse.read_or_empty(TABLE)[1] == 7
    assert warehouse.read(TABLE).schema == frame.schema


@pytest.mark.parametrize("change", [lambda f: f.drop("id"), lambda f: f.with_columns(pl.col("mrr").cast(pl.Float64))])
def test_a_file_that_cannot_be_read_so_is_made_anew(
    change: Callable[[pl.DataFrame], pl.DataFrame], tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path)
    older(warehouse, TABLE, change(to_frame(ACCOUNTS, TABLE)))
    with pytest.raises(TableMissing, match=r"was written by a version in which (id|mrr) was not the same: materialize"):
        warehouse.read(TABLE)
    assert warehouse.read_or_empty(TABLE)[0].is_empty()


def test_days_of_several_versions_are_one_table_for_us_and_for_duckdb(tmp_path: Path) -> None:
    warehouse, charges = Warehouse(tmp_path), SNAPSHOTS["stripe/charges"]
    rows = [
        Charge(id=name, customer="c", status="s", currency="GBP", amount=1, created_at=0, settled=5) for name in "ab"
    ]
    for row, day in zip(rows, (DAY, DAY + timedelta(days=1)), strict=True):
        warehouse.write(charges, to_frame([row], charges), {}, day)
    to_frame(rows[:1], charges).drop("settled", "disputed").write_parquet(warehouse.path(charges, DAY))
    found = to_records(warehouse.read(charges), charges)
    assert [(each.id, each.settled, each.disputed) for each in found] == [("a", None, False), ("b", 5, False)]
    assert to_records(warehouse.scan(charges, {DAY}).collect(), charges) == found[:1]
    with duckdb.connect() as connection:
        pattern = f"{warehouse.path(charges)}/*.parquet"
        query = "SELECT id, settled FROM read_parquet(?, union_by_name = true) ORDER BY id"
        assert connection.execute(query, [pattern]).fetchall() == [("a", None), ("b", 5)]


def test_the_examples_over_files_run_and_count_right(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    for table in TABLES.values():
        warehouse.write(table, empty(table), {}, DAY if table.daily else None)
    invoices, events = SNAPSHOTS["stripe/invoices"], SNAPSHOTS["stripe/events"]
    at = 1_768_471_200_000_000
    billed = [
        Invoice(
            id=f"in_{total}", customer="cus_1", status=status, currency="GBP", created_at=at, total=total,
            amount_due=total, amount_paid=0, amount_remaining=total,
        )
        for total, status in ((100, "paid"), (250, "open"), (7, "draft"))
    ]  # fmt: skip
    warehouse.write(invoices, to_frame(billed, invoices), {}, DAY)
    told = [StripeEvent(id="evt_1", type="invoice.paid", created_at=at, customer="cus_1")]
    warehouse.write(events, to_frame(told, events), {}, DAY)
    answers = []
    with duckdb.connect() as connection:
        for query in OVER_FILES:
            sql = query.sql.replace("SYNC_HOME", str(tmp_path))
            answers.append(connection.execute(sql, dict(query.parameters) or None).fetchall())
    by_day, of_customer, largest = answers
    assert by_day == [(DAY, "GBP", 2, 350)]
    assert [row[1:] for row in of_customer] == [("invoice.paid", None)]
    assert largest == []


def test_only_one_at_a_time_is_alone(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    entered = Event()

    def other() -> None:
        with Warehouse(tmp_path).alone("name"):
            entered.set()

    thread = Thread(target=other)
    with warehouse.alone("name"):
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(5)
    thread.join()
