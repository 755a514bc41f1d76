"""Hypothesis strategies for the rows of any table, made from the table's own columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from sync_pipeline.frames.columns import Column, Table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "flag": st.booleans(),
    "integer": INT64,
    "moment": INT64,
    "amount": st.integers(-(10**38) + 1, 10**38 - 1),
    "number": st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**17), max_value=10**17, places=18)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9, places=2)
    | st.integers(0, 10**6).map(Decimal),
    "texts": st.lists(TEXT, max_size=3).map(tuple),
    "date": st.dates().map(lambda day: day.isoformat()),
}


def rows(table: Table, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any row of the table; `fixed` says more about some columns."""
    return st.builds(table.row, **{column.name: _values(column) for column in table.columns} | fixed)


def _values(column: Column) -> st.SearchStrategy[Any]:
    values = st.sampled_from(column.allowed) if column.allowed else STRATEGIES[column.type]
    return st.none() | values if column.nullable else values
