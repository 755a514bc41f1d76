"""Rows that do not fit their table: set aside with what is wrong with them, while the rest goes on.

Only for what comes from outside. A derived row that does not fit is a fault of ours, and stops what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from pandera.errors import SchemaErrors

from sync_pipeline.core.observation import Unreadable
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.convert import FrameError, to_frame
from sync_pipeline.frames.rows import QuarantinedRow
from sync_pipeline.frames.schema import frame_schema
from sync_pipeline.frames.tables import QUARANTINE

_ROW = "row"
NOT_HELD = "the column cannot hold its value"
NOT_READ = "it has a shape that cannot be read"


def quarantine_of(table: Table) -> Table:
    """Where the rows go that do not fit a table."""
    description = f"Rows that did not fit {table.name}."
    return Table(f"quarantine/{table.name}", QuarantinedRow, QUARANTINE.key, description, daily=table.daily)


def convert(records: Sequence[Any], table: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records as a frame of the table, and the quarantine of those that cannot be read, or with a value that a
    column cannot hold."""
    if unread := [record for record in records if isinstance(record, Unreadable)]:
        readable, others = convert([record for record in records if not isinstance(record, Unreadable)], table)
        key = ", ".join(table.key)
        rows = [
            QuarantinedRow(table_name=table.name, row_key=each.id, column_name=key, problem=NOT_READ) for each in unread
        ]
        return readable, pl.concat([others, to_frame(rows, QUARANTINE)])
    try:
        return to_frame(records, table), to_frame([], QUARANTINE)
    except FrameError as error:
        if len(records) == 1:
            column = str(error).partition(":")[0].rpartition(".")[2]
            row = QuarantinedRow(
                table_name=table.name, row_key=_key_of(records[0], table), column_name=column, problem=NOT_HELD
            )
            return to_frame([], table), to_frame([row], QUARANTINE)
    middle = len(records) // 2
    halves = [convert(half, table) for half in (records[:middle], records[middle:])]
    frames, cases = zip(*halves, strict=True)
    return pl.concat(frames), pl.concat(cases)


def set_aside(frame: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that fit the table's schema, and the quarantine of the others: no values, they may be personal.

    Of several rows with one key none is kept: which of them is right is not known.
    """
    try:
        frame_schema(table).validate(frame, lazy=True)
    except SchemaErrors as errors:
        found = errors.failure_cases
    else:
        return frame, to_frame([], QUARANTINE)
    if found["index"].is_null().any():
        # It is not a matter of rows: the check of the whole table says it.
        return frame, to_frame([], QUARANTINE)
    keyed = frame.with_row_index(_ROW).select(
        _ROW,
        pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in table.key], separator="/").alias(
            "row_key"
        ),
    )
    cases = (
        found.select(
            pl.col("index").cast(pl.UInt32).alias(_ROW),
            pl.lit(table.name).alias("table_name"),
            # pandera names the schema where a check is about several columns: that is the key.
            pl.when(pl.col("column") == table.name)
            .then(pl.lit(", ".join(table.key)))
            .otherwise("column")
            .alias("column_name"),
            pl.col("check").alias("problem"),
        )
        .join(keyed, on=_ROW)
        .unique()
    )
    bad = cases.select(_ROW).unique()
    good = frame.with_row_index(_ROW).join(bad, on=_ROW, how="anti").drop(_ROW)
    return good, cases.select([column.name for column in QUARANTINE.columns]).unique(list(QUARANTINE.key))


def _key_of(record: Any, table: Table) -> str:
    return "/".join(str(getattr(record, name)) for name in table.key)
