"""Records become frames and come back equal, or are refused by name."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.core.salesforce_records import Account, Opportunity
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.convert import FrameError, to_frame, to_records
from sync_pipeline.frames.schema import Violation, dtypes, violations
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, SNAPSHOTS, TABLES
from sync_pipeline_tests.frames.making import rows

ACCOUNTS = SNAPSHOTS["salesforce/accounts"]
INVOICE = Invoice(
    id="in_1",
    customer="cus_1",
    status="paid",
    currency="GBP",
    created_at=1,
    total=1,
    amount_due=1,
    amount_paid=1,
    amount_remaining=0,
)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
@settings(max_examples=30)
@given(data=st.data())
def test_records_come_back_equal(table: Table, data: st.DataObject) -> None:
    records = data.draw(st.lists(rows(table), max_size=4))
    frame = to_frame(records, table)
    assert dict(frame.schema) == dtypes(table)
    assert to_records(frame, table) == records


@given(st.lists(rows(ACCOUNTS), max_size=4))
def test_a_number_comes_back_without_the_zeros_of_the_column(records: list[Account]) -> None:
    for record in to_records(to_frame(records, ACCOUNTS), ACCOUNTS):
        for value in (record.mrr, record.seats, record.lifetime_value):
            assert value is None or len(value.as_tuple().digits) <= 36
            assert value is None or value == value.to_integral_value() or value.as_tuple().digits[-1] != 0


@pytest.mark.parametrize(
    "value", [Decimal("0.1234567890123456789"), Decimal(10) ** 20, Decimal("NaN"), Decimal("Infinity"), 1.5, "2"]
)
def test_a_number_that_does_not_fit_exactly_is_refused_without_being_shown(value: Any) -> None:
    with pytest.raises(FrameError, match=r"snapshot/salesforce/accounts\.mrr") as refused:
        to_frame([Account(id="001", mrr=value)], ACCOUNTS)
    assert str(value) not in str(refused.value).removeprefix("snapshot/salesforce/accounts.mrr")


@pytest.mark.parametrize("value", [2**63, 1.5, "many"])
def test_an_amount_that_is_no_64_bit_integer_is_refused(value: Any) -> None:
    with pytest.raises(FrameError, match=r"snapshot/stripe/invoices\.total"):
        to_frame([replace(INVOICE, total=value)], SNAPSHOTS["stripe/invoices"])


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(FrameError, match=r"snapshot/salesforce/opportunities\.close_date"):
        to_frame([Opportunity(id="006", close_date="31/01/2026")], SNAPSHOTS["salesforce/opportunities"])


def test_rows_that_break_the_schema_are_counted_by_rule_and_never_shown() -> None:
    frame = pl.DataFrame(
        [
            ("cus_1", "001", "link", "matched", True, True),
            ("cus_1", "001", "link", "matched", True, True),
            ("cus_2", None, "link", "perhaps", True, True),
        ],
        schema=dtypes(ACCOUNT_CUSTOMERS),
        orient="row",
    )
    found = violations(frame, ACCOUNT_CUSTOMERS)
    assert [(each.column, each.rows) for each in found] == [
        ("account_id", 1),
        ("customer_id, account_id", 2),
        ("state", 1),
    ]
    assert not any(secret in str(found) for secret in ("cus_1", "cus_2", "perhaps"))


def test_a_frame_with_another_type_or_column_does_not_fit() -> None:
    frame = to_frame([Account(id="001")], ACCOUNTS)
    assert violations(frame, ACCOUNTS) == []
    as_float = frame.with_columns(pl.col("mrr").cast(pl.Float64))
    assert [each.column for each in violations(as_float, ACCOUNTS)] == ["mrr"]
    assert violations(frame.drop("mrr"), ACCOUNTS) != []
    assert isinstance(violations(frame.with_columns(more=1), ACCOUNTS)[0], Violation)
