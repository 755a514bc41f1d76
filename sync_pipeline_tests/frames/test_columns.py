"""Tables and columns are read off the row classes, and the row classes say what is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import polars as pl
import pytest

from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Customer, Invoice
from sync_pipeline.engine.snapshot import TABLES as ENGINE_TABLES
from sync_pipeline.frames.columns import Column, Table, columns_of
from sync_pipeline.frames.schema import dtypes, frame_schema
from sync_pipeline.frames.tables import SNAPSHOTS, TABLES


def test_every_table_of_the_engine_has_a_snapshot_with_the_same_rows() -> None:
    others = {"stripe/events"}
    assert {name: table.row for name, table in SNAPSHOTS.items() if name not in others} == dict(ENGINE_TABLES)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_moments_are_the_columns_that_say_microseconds(table: Table) -> None:
    for column in table.columns:
        assert (column.type == "moment") == ("microseconds UTC" in column.description), column.name


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_dates_are_the_columns_that_say_iso_date(table: Table) -> None:
    for column in table.columns:
        assert (column.type == "date") == ("ISO date" in column.description), column.name


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_no_column_is_a_float_and_the_key_exists(table: Table) -> None:
    types = dtypes(table)
    assert not any(dtype.is_float() for dtype in types.values())
    assert set(table.key) <= set(types)
    assert not any(column.nullable for column in table.columns if column.name in table.key)


def test_the_pandera_schema_carries_description_key_and_privacy() -> None:
    schema = frame_schema(SNAPSHOTS["salesforce/accounts"])
    assert schema.description == "All Salesforce Accounts."
    assert schema.unique == ["id"]
    assert schema.columns["name"].metadata == {"personal": True}
    assert schema.columns["mrr"].metadata == {"personal": False}
    assert schema.columns["mrr"].description == "Monthly recurring revenue, major units"
    assert schema.columns["mrr"].dtype.type == pl.Decimal(38, 18)


def test_what_names_or_reaches_a_person_is_marked() -> None:
    marked = {(row, column.name) for row in (Account, Customer) for column in columns_of(row) if column.personal}
    wanted = {"name", "email", "line1", "billing_street", "billing_city", "tax_registration", "tax_ids"}
    assert wanted <= {name for _, name in marked}
    assert not any(column.personal for column in columns_of(Invoice))


def test_a_column_is_what_its_annotation_says() -> None:
    (found,) = (column for column in columns_of(Account) if column.name == "modified_at")
    assert found == Column("modified_at", "moment", True, "SystemModstamp, microseconds UTC")


@dataclass
class Undocumented:
    amount: int


@dataclass
class Inexact:
    amount: Annotated[float, "An amount"]


@pytest.mark.parametrize(("row", "said"), [(Undocumented, "no description"), (Inexact, "no column type")])
def test_a_field_without_description_or_with_a_float_is_refused(row: type[Any], said: str) -> None:
    with pytest.raises(TypeError, match=rf"{row.__name__}.amount.*{said}"):
        columns_of(row)
