"""The pandera schemas of the tables, generated from their columns, and what in a frame does not fit them.

Money is an exact decimal or an integer: there is no column type that could make it a float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from sync_pipeline.frames.columns import Column, Table

NUMBER_SCALE = 18
"""Salesforce keeps at most 18 decimals, Stripe 12; 20 digits are left for the integer part."""

DTYPES: Mapping[str, pl.DataType] = {
    "text": pl.String(),
    "flag": pl.Boolean(),
    "integer": pl.Int64(),
    "number": pl.Decimal(38, NUMBER_SCALE),
    "texts": pl.List(pl.String()),
    "date": pl.Date(),
    "moment": pl.Datetime("us", "UTC"),
    # Parquet has no 128-bit integer that other tools can read; a decimal without decimals is one.
    "amount": pl.Decimal(38, 0),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule of a schema that some rows break. No values: they may be personal."""

    column: str
    check: str
    rows: int


def dtypes(table: Table) -> dict[str, pl.DataType]:
    """The Polars schema of a table."""
    return {column.name: DTYPES[column.type] for column in table.columns}


def empty(table: Table) -> pl.DataFrame:
    return pl.DataFrame(schema=dtypes(table))


def frame_schema(table: Table) -> pa.DataFrameSchema:
    """The pandera schema of a table: exactly these columns in this order, no nulls but where allowed, unique keys."""
    return pa.DataFrameSchema(
        {column.name: _pandera_column(column) for column in table.columns},
        name=table.name,
        description=table.description,
        strict=True,
        ordered=True,
        unique=list(table.key),
        metadata={"key": list(table.key)},
    )


def violations(frame: pl.DataFrame, table: Table) -> Sequence[Violation]:
    """Everything in which the frame differs from the table's schema; empty when it fits."""
    try:
        frame_schema(table).validate(frame, lazy=True)
    except SchemaErrors as errors:
        found = errors.failure_cases.group_by("column", "check").len().sort("column", "check")
        names = {table.name: ", ".join(table.key)}
        return [Violation(names.get(column, column), check, rows) for column, check, rows in found.iter_rows()]
    return []


def _pandera_column(column: Column) -> pa.Column:
    return pa.Column(
        DTYPES[column.type],
        checks=[pa.Check.isin(column.allowed)] if column.allowed else [],
        nullable=column.nullable,
        description=column.description,
        metadata={"personal": column.personal},
    )
