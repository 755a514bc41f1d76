"""Rows from outside that do not fit are set aside, and the rest goes on."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.observation import Unreadable
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.quarantine import NOT_HELD, NOT_READ, convert, quarantine_of, set_aside
from sync_pipeline.frames.schema import violations
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, QUARANTINE, SNAPSHOTS
from sync_pipeline_tests.frames.recurring import mapped

ACCOUNTS, CUSTOMERS = SNAPSHOTS["salesforce/accounts"], SNAPSHOTS["stripe/customers"]
TOO_LARGE = Decimal(10) ** 25


def shown(cases: pl.DataFrame) -> list[tuple[str, str, str, str]]:
    assert violations(cases, QUARANTINE) == []
    return sorted((r.table_name, r.row_key, r.column_name, r.problem) for r in to_records(cases, QUARANTINE))


def test_what_fits_goes_through_untouched() -> None:
    frame = to_frame([Account(id="001A"), Account(id="001B")], ACCOUNTS)
    good, cases = set_aside(frame, ACCOUNTS)
    assert good.equals(frame)
    assert shown(cases) == []


def test_an_amount_that_no_column_holds_takes_only_its_row_away() -> None:
    records = [Account(id=f"001{n}", mrr=TOO_LARGE if n == 5 else Decimal(n)) for n in range(9)]
    frame, cases = convert(records, ACCOUNTS)
    assert to_records(frame, ACCOUNTS) == [each for each in records if each.id != "0015"]
    assert shown(cases) == [("snapshot/salesforce/accounts", "0015", "mrr", NOT_HELD)]


@given(st.lists(st.booleans(), max_size=40))
def test_every_bad_row_and_no_other_is_set_aside(bad: list[bool]) -> None:
    records = [Account(id=f"001{n}", mrr=TOO_LARGE if each else None) for n, each in enumerate(bad)]
    frame, cases = convert(records, ACCOUNTS)
    assert frame["id"].to_list() == [f"001{n}" for n, each in enumerate(bad) if not each]
    assert cases.height == sum(bad)


def test_what_could_not_be_read_is_set_aside_like_what_does_not_fit() -> None:
    unread = Unreadable("0019", None, "Salesforce: MRR__c of Account 0019 cannot be read")
    records = [Account(id="0010"), unread, Account(id="0015", mrr=TOO_LARGE)]
    frame, cases = convert(records, ACCOUNTS)
    assert to_records(frame, ACCOUNTS) == records[:1]
    assert shown(cases) == [
        ("snapshot/salesforce/accounts", "0015", "mrr", NOT_HELD),
        ("snapshot/salesforce/accounts", "0019", "id", NOT_READ),
    ]


def test_of_two_rows_with_one_key_none_is_kept() -> None:
    frame = to_frame([Customer(id="cus_1", name="A"), Customer(id="cus_1", name="B"), Customer(id="cus_2")], CUSTOMERS)
    good, cases = set_aside(frame, CUSTOMERS)
    assert good["id"].to_list() == ["cus_2"]
    ((table, key, column, _),) = shown(cases)
    assert (table, key, column) == ("snapshot/stripe/customers", "cus_1", "id")


def test_a_row_without_its_id_and_a_word_that_is_not_allowed() -> None:
    frame = mapped(cus_2="001B", cus_3="001C").with_columns(
        pl.when(pl.col("customer_id") == "cus_2").then(pl.lit("guessed")).otherwise("evidence").alias("evidence"),
        pl.when(pl.col("customer_id") == "cus_3").then(None).otherwise("account_id").alias("account_id"),
    )
    good, cases = set_aside(frame, ACCOUNT_CUSTOMERS)
    assert good.height == 1
    assert {(key, column) for _, key, column, _ in shown(cases)} == {
        ("cus_2/001B", "evidence"),
        ("cus_3/", "account_id"),
    }


def test_a_table_with_other_columns_is_no_matter_of_rows() -> None:
    frame = to_frame([Account(id="001A")], ACCOUNTS).drop("mrr")
    good, cases = set_aside(frame, ACCOUNTS)
    assert good.equals(frame)
    assert cases.is_empty()
    assert violations(frame, ACCOUNTS) != []


def test_every_table_has_a_quarantine_of_its_own() -> None:
    assert quarantine_of(ACCOUNTS).name == "quarantine/snapshot/salesforce/accounts"
    assert quarantine_of(ACCOUNTS).columns == QUARANTINE.columns
