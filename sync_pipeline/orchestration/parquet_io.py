"""How Dagster's own inputs and outputs reach the warehouse: frames in, frames out, as Parquet.

It is the default IO manager, so an asset of the data team takes any table as an argument and returns a frame:

    @dg.asset(ins={"ltv": dg.AssetIn(["derived", "account_ltv"])})
    def large_accounts(ltv: pl.LazyFrame) -> pl.LazyFrame: ...

Inputs are lazy unless the argument asks for a DataFrame, and of a partitioned asset only the partitions of the run are
read. An output is in place whole or not at all; one frame per partition, or a mapping of them where a run is about
several. The sync's own assets write their tables themselves, with their checks (table_assets.py).
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.tables import SNAPSHOTS, TABLES

if TYPE_CHECKING:
    import polars as pl

DAY = "day/"


class ParquetIO(dg.IOManager):
    """Reads the tables of the warehouse, and keeps those of other assets beside them under their own keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Keeps a Polars frame, lazy or not; raises Failure for anything else, and for a table of the sync's own."""
        name = context.asset_key.to_user_string()
        if _own_table(name) is not None:
            raise dg.Failure(f"{name} is a table of the sync, and written by nobody else", allow_retries=False)
        partitions: list[str | None] = list(context.asset_partition_keys) if context.has_asset_partitions else [None]
        frames = obj if isinstance(obj, Mapping) else dict.fromkeys(partitions, obj) if len(partitions) == 1 else {}
        if set(frames) != set(partitions):
            raise dg.Failure(
                f"{name} is written for {len(partitions)} partitions: return a mapping with a frame for each of them",
                allow_retries=False,
            )
        rows = sum(self._keep(name, partition, frame) for partition, frame in frames.items())
        context.add_output_metadata({"dagster/row_count": rows, "dagster/uri": str(self._path(name, None))})

    def load_input(self, context: dg.InputContext) -> Any:
        """A LazyFrame of the asset, or a DataFrame where the argument is annotated so. Raises Failure."""
        import polars as pl

        from sync_pipeline.warehouse.parquet import TableMissing

        name = context.asset_key.to_user_string()
        partitions = list(context.asset_partition_keys) if context.has_asset_partitions else None
        try:
            found = self._scan(name, partitions)
        except TableMissing as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        return found.collect() if context.dagster_type.typing_type is pl.DataFrame else found

    def _scan(self, name: str, partitions: list[str] | None) -> "pl.LazyFrame":
        import polars as pl

        from sync_pipeline.warehouse.parquet import TableMissing, Warehouse

        table = _own_table(name)
        if table is not None:
            days = None if partitions is None else {date.fromisoformat(each) for each in partitions}
            return Warehouse(self._folder).scan(table, days)
        chosen: Sequence[str | None] = partitions or [None]
        paths = [path for each in chosen if (path := self._path(name, each)).is_file()]
        if not paths:
            raise TableMissing(f"{name} is not in the warehouse yet: materialize it first")
        return pl.scan_parquet(paths, missing_columns="insert", extra_columns="ignore")

    def _keep(self, name: str, partition: str | None, frame: Any) -> int:
        import polars as pl

        from sync_pipeline.warehouse.parquet import whole_file

        if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
            raise dg.Failure(
                f"{name}: expected a Polars frame, found {type(frame).__name__}; return one, or None to keep nothing",
                allow_retries=False,
            )
        path = self._path(name, partition)
        with whole_file(path) as half:
            frame.lazy().sink_parquet(half, compression="zstd")
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())

    def _path(self, name: str, partition: str | None) -> Path:
        return self._folder / f"{name}.parquet" if partition is None else self._folder / name / f"{partition}.parquet"


@dg.io_manager(required_resource_keys={"settings"}, description="Frames as Parquet files in SYNC_HOME/warehouse")
def parquet_io(context: dg.InitResourceContext) -> ParquetIO:
    settings: Settings = context.resources.settings
    return ParquetIO(settings.warehouse)


def _own_table(name: str) -> Table | None:
    """The table of an asset: its own, or that of which a day asset reads the days."""
    return SNAPSHOTS.get(name.removeprefix(DAY)) if name.startswith(DAY) else TABLES.get(name)
