"""Records to frames and back, exactly: what goes in comes out equal, or an error names the column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Context, Decimal
from typing import Any

import polars as pl

from sync_pipeline.frames.columns import Column, Table
from sync_pipeline.frames.schema import DTYPES, NUMBER_SCALE

_EXACT = Context(prec=76)
_LARGEST = Decimal(10) ** (38 - NUMBER_SCALE)


class FrameError(ValueError):
    """A value that its column cannot hold exactly. The message names table and column, never the value."""


def to_frame(records: Iterable[Any], table: Table) -> pl.DataFrame:
    """The records as a frame with the table's columns, in the given order of rows. Raises FrameError."""
    rows = list(records)
    return pl.DataFrame(
        [_series(table, column, [getattr(row, column.name) for row in rows]) for column in table.columns]
    )


def to_records(frame: pl.DataFrame, table: Table) -> list[Any]:
    """The rows of a frame as the table's row class."""
    names = [column.name for column in table.columns]
    values = [_READ.get(column.type, pl.Series.to_list)(frame[column.name]) for column in table.columns]
    return [table.row(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]


def _series(table: Table, column: Column, values: list[Any]) -> pl.Series:
    try:
        return _WRITE.get(column.type, _as_it_is)(column.name, values, DTYPES[column.type])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        raise FrameError(
            f"{table.name}.{column.name}: a value is not a {column.type} that the column can hold"
        ) from None


def _as_it_is(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, values, dtype=dtype, strict=True)


def _moments(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, values, dtype=pl.Int64, strict=True).cast(dtype)


def _dates(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, [v if v is None else date.fromisoformat(v) for v in values], dtype=dtype, strict=True)


def _numbers(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    # Polars cuts decimals that do not fit the scale without a word.
    if any(value is not None and not _fits(value) for value in values):
        raise ValueError(name)
    return pl.Series(name, values, dtype=dtype, strict=True)


def _amounts(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    if any(value is not None and not isinstance(value, int) for value in values):
        raise TypeError(name)
    # Polars takes Python integers beyond 64 bits only as decimals.
    return pl.Series(name, [None if v is None else Decimal(v) for v in values], dtype=dtype, strict=True)


def _fits(value: Any) -> bool:
    if not isinstance(value, Decimal) or not value.is_finite() or abs(value) >= _LARGEST:
        return False
    return value == value.quantize(Decimal(1).scaleb(-NUMBER_SCALE), context=_EXACT)


def _plain(value: Decimal | None) -> Decimal | None:
    """The number without the column's trailing zeros, which would spend the precision of decimal arithmetic."""
    if value is None:
        return None
    short = value.normalize(_EXACT)
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1), context=_EXACT) if isinstance(exponent, int) and exponent > 0 else short


_WRITE: Mapping[str, Callable[[str, list[Any], pl.DataType], pl.Series]] = {
    "moment": _moments,
    "date": _dates,
    "number": _numbers,
    "amount": _amounts,
}
_READ: Mapping[str, Callable[[pl.Series], Sequence[Any]]] = {
    "moment": lambda series: series.cast(pl.Int64).to_list(),
    "date": lambda series: series.dt.to_string("iso").to_list(),
    "number": lambda series: [_plain(value) for value in series.to_list()],
    "amount": lambda series: [None if value is None else int(value) for value in series.to_list()],
    "texts": lambda series: [None if value is None else tuple(value) for value in series.to_list()],
}
