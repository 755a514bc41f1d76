"""Assets of a data team beside those of the sync: what they are handed, and what they leave in the warehouse."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest

from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.tables import SNAPSHOTS
from sync_pipeline.orchestration.assets.days import DAYS
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.orchestration.parquet_io import ParquetIO
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.orchestration.runs import failure

INVOICES = SNAPSHOTS["stripe/invoices"]
KEY = dg.AssetKey(["snapshot", "stripe", "invoices"])
BY_DAY = dg.AssetKey(["day", "stripe", "invoices"])
FIRST, SECOND, THIRD = date(2026, 1, 14), date(2026, 1, 15), date(2026, 1, 16)
TOTALS = {FIRST: [100], SECOND: [200, 250], THIRD: [300]}
RANGE = {
    "dagster/asset_partition_range_start": SECOND.isoformat(),
    "dagster/asset_partition_range_end": THIRD.isoformat(),
}


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = Warehouse(tmp_path)
    for day, totals in TOTALS.items():
        rows = [invoice(f"in_{day}_{total}", total) for total in totals]
        made.write(INVOICES, to_frame(rows, INVOICES), {}, day)
    return made


def invoice(name: str, total: int) -> Invoice:
    return Invoice(
        id=name, customer="cus_1", status="paid", currency="GBP", created_at=0, total=total, amount_due=total,
        amount_paid=total, amount_remaining=0,
    )  # fmt: skip


def made(
    asset: dg.AssetsDefinition, warehouse: Warehouse, memory: dg.DagsterInstance, tags: Mapping[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    """Runs one asset of a data team's among all those of the sync."""
    own = dg.Definitions(assets=[asset], jobs=[dg.define_asset_job("own", dg.AssetSelection.assets(asset))])
    definitions = dg.Definitions.merge(build_defs({"io_manager": ParquetIO(warehouse.folder)}), own)
    job = definitions.resolve_job_def("own")
    return job.execute_in_process(instance=memory, tags=dict(tags or {}), raise_on_error=False)


def test_a_table_comes_lazily_and_a_lazy_frame_goes_to_a_file_that_others_read(
    warehouse: Warehouse, memory: dg.DagsterInstance
) -> None:
    @dg.asset(key=["team", "large_invoices"], ins={"invoices": dg.AssetIn(KEY)})
    def large_invoices(invoices: pl.LazyFrame) -> pl.LazyFrame:
        assert isinstance(invoices, pl.LazyFrame)
        return invoices.filter(pl.col("total") >= 200).select("id", "total")

    result = made(large_invoices, warehouse, memory)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/row_count"].value == 3
    path = warehouse.folder / "team/large_invoices.parquet"
    assert event.materialization.metadata["dagster/uri"].value == str(path)
    with duckdb.connect() as connection:
        found = connection.execute("SELECT sum(total) FROM read_parquet(?)", [str(path)]).fetchall()
    assert found == [(750,)]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_range_is_handed_its_partitions_only_and_leaves_one_file_each(
    warehouse: Warehouse, memory: dg.DagsterInstance
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(
            key=["team", "billed"],
            ins={"invoices": dg.AssetIn(BY_DAY)},
            partitions_def=DAYS,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def billed(invoices: pl.DataFrame) -> dict[str, pl.DataFrame]:
            assert isinstance(invoices, pl.DataFrame)
            total = invoices.select(pl.col("total").sum())
            return {SECOND.isoformat(): total, THIRD.isoformat(): total}

    assert made(billed, warehouse, memory, RANGE).success
    files = {path.stem: pl.read_parquet(path).item() for path in (warehouse.folder / "team/billed").iterdir()}
    # 200 + 250 + 300, without the day before.
    assert files == {SECOND.isoformat(): 750, THIRD.isoformat(): 750}
    assert memory.get_materialized_partitions(dg.AssetKey(["team", "billed"])) == set(files)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [([1, 2], "team/wrong: expected a Polars frame, found list"), ({}, "return a mapping with a frame for each")],
)
def test_what_is_no_frame_is_refused_and_leaves_nothing(
    returned: Any, expected: str, warehouse: Warehouse, memory: dg.DagsterInstance
) -> None:
    @dg.asset(key=["team", "wrong"])
    def wrong() -> Any:
        return returned

    result = made(wrong, warehouse, memory)
    assert not result.success
    assert expected in failure(result)
    assert not (warehouse.folder / "team").exists()


def test_a_frame_that_cannot_be_computed_leaves_the_old_file(warehouse: Warehouse, memory: dg.DagsterInstance) -> None:
    path = warehouse.folder / "team/late.parquet"
    path.parent.mkdir()
    path.write_text("the old one")

    @dg.asset(key=["team", "late"])
    def late() -> pl.LazyFrame:
        return pl.LazyFrame({"n": ["1", "x"]}).select(pl.col("n").cast(pl.Int64, strict=True))

    assert not made(late, warehouse, memory).success
    assert [each.name for each in path.parent.iterdir()] == ["late.parquet"]
    assert path.read_text() == "the old one"


def test_a_sink_that_fails_leaves_no_file_behind_later_either(warehouse: Warehouse) -> None:
    """Polars opens a path that it is given in a thread of its own: about one failure in fourteen came before that."""
    keep = ParquetIO(warehouse.folder)
    late = pl.LazyFrame({"n": ["1", "x"]}).select(pl.col("n").cast(pl.Int64, strict=True))
    for _ in range(200):
        with (
            dg.build_output_context(asset_key=dg.AssetKey(["team", "late"])) as context,
            pytest.raises(pl.exceptions.InvalidOperationError),
        ):
            keep.handle_output(context, late)
    assert list((warehouse.folder / "team").iterdir()) == []


def test_a_table_that_is_not_there_yet_is_named(warehouse: Warehouse, memory: dg.DagsterInstance) -> None:
    @dg.asset(key=["team", "early"], ins={"mrr": dg.AssetIn(["derived", "account_mrr"])})
    def early(mrr: pl.LazyFrame) -> pl.LazyFrame:
        return mrr

    result = made(early, warehouse, memory)
    assert failure(result) == "table derived/account_mrr is not in the warehouse yet: materialize it first"
