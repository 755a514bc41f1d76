"""What hangs on the published tables in Postgres, and who reads them meanwhile, through one night to the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.schema import empty
from sync_pipeline.frames.tables import MRR_AT_RISK, MRR_HISTORY
from sync_pipeline.ledger.database import Ledger, LedgerError, open_ledger
from sync_pipeline.warehouse import swap
from sync_pipeline.warehouse.sql import publish
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.warehouse.test_sql import at_risk, query, state

pytestmark = pytest.mark.postgres

# Rows of the first night: one stays, one changes, one goes. The second night has a new one instead.
FIRST = [at_risk(), at_risk(subscription="sub_2", mrr_minor=500), at_risk(subscription="sub_3")]
SECOND = [at_risk(), at_risk(subscription="sub_2", mrr_minor=700), at_risk(subscription="sub_4", account_id=None)]
NIGHT = "SELECT subscription, mrr_minor FROM derived_mrr_at_risk ORDER BY 1"
SHOWN_FIRST = [("sub_1", 1_000), ("sub_2", 500), ("sub_3", 1_000)]
SHOWN_SECOND = [("sub_1", 1_000), ("sub_2", 700), ("sub_4", 1_000)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_database("postgres", tmp_path_factory.mktemp("swap")))
    yield ledger
    ledger.close()


@pytest.fixture
def nightly(database: Ledger) -> Ledger:
    """The first night is published; the data team has a role that reads, a view and an index."""
    with database.tx() as conn:
        conn.exec_driver_sql("DROP VIEW IF EXISTS theirs")
    published = {MRR_AT_RISK: to_frame(FIRST, MRR_AT_RISK), MRR_HISTORY: to_frame([state("si_1", 1)], MRR_HISTORY)}
    publish(database, published)
    with database.tx() as conn:
        for statement in (
            # Roles belong to the whole server, which other tests use too.
            'DO $$ BEGIN CREATE ROLE "data-team"; EXCEPTION WHEN duplicate_object THEN NULL; END $$',
            'GRANT SELECT ON derived_mrr_at_risk, mrr_at_risk_by_cause, data_dictionary TO "data-team"',
            "GRANT SELECT ON derived_mrr_history TO PUBLIC",
            "CREATE VIEW theirs AS SELECT subscription, mrr_minor FROM derived_mrr_at_risk",
            "CREATE INDEX IF NOT EXISTS theirs_by_payer ON derived_mrr_at_risk (payer)",
        ):
            conn.exec_driver_sql(statement)
    return database


def second_night(ledger: Ledger) -> None:
    publish(ledger, {MRR_AT_RISK: to_frame(SECOND, MRR_AT_RISK), MRR_HISTORY: empty(MRR_HISTORY)})


def may_read(ledger: Ledger, *names: str) -> list[bool]:
    asked = "SELECT has_table_privilege('data-team', :name, 'SELECT')"
    return [bool(query(ledger, asked, name=name)[0][0]) for name in names]


def grow_a_column(ledger: Ledger) -> None:
    """As if the table came from another version."""
    with ledger.tx() as conn:
        conn.exec_driver_sql("ALTER TABLE derived_mrr_at_risk ADD COLUMN of_an_older_version TEXT")


def test_grants_views_and_indexes_of_others_stay(nightly: Ledger) -> None:
    second_night(nightly)
    assert query(nightly, NIGHT) == SHOWN_SECOND
    assert query(nightly, "SELECT * FROM theirs ORDER BY 1") == SHOWN_SECOND
    granted = ("derived_mrr_at_risk", "mrr_at_risk_by_cause", "data_dictionary", "derived_mrr_history")
    assert may_read(nightly, *granted, "derived_account_ltv") == [True, True, True, True, False]
    indexes = query(nightly, "SELECT indexname FROM pg_indexes WHERE tablename = 'derived_mrr_at_risk' ORDER BY 1")
    assert indexes == [("derived_mrr_at_risk_pkey",), ("theirs_by_payer",)]
    assert query(nightly, "SELECT relname FROM pg_class WHERE relname LIKE '%\\_\\_next%'") == []


def test_rows_that_are_the_same_are_not_touched(nightly: Ledger) -> None:
    places = "SELECT subscription, ctid::text FROM derived_mrr_at_risk WHERE subscription = 'sub_1'"
    before = query(nightly, places)
    second_night(nightly)
    assert query(nightly, places) == before


def test_a_table_with_other_columns_is_made_anew_with_its_grants(nightly: Ledger) -> None:
    grow_a_column(nightly)
    with nightly.tx() as conn:
        conn.exec_driver_sql("DROP VIEW theirs")
    second_night(nightly)
    assert query(nightly, NIGHT) == SHOWN_SECOND
    found = query(nightly, "SELECT * FROM derived_mrr_at_risk LIMIT 1")
    assert len(found[0]) == len(MRR_AT_RISK.columns)
    assert may_read(nightly, "derived_mrr_at_risk", "mrr_at_risk_by_cause") == [True, True]


def test_a_view_with_another_select_is_made_anew_with_its_grants(nightly: Ledger) -> None:
    with nightly.tx() as conn:
        conn.exec_driver_sql(
            "CREATE OR REPLACE VIEW mrr_at_risk_by_cause AS SELECT cause, currency, COUNT(*) AS subscriptions,"
            " SUM(mrr_minor) AS mrr_minor, SUM(open_minor) AS open_minor FROM derived_mrr_at_risk WHERE false"
            " GROUP BY cause, currency"
        )
    assert query(nightly, "SELECT * FROM mrr_at_risk_by_cause") == []
    second_night(nightly)
    by_cause = query(nightly, "SELECT cause, subscriptions, mrr_minor FROM mrr_at_risk_by_cause")
    assert by_cause == [("failing_payment", 3, 2_700)]
    assert may_read(nightly, "mrr_at_risk_by_cause") == [True]


def test_a_view_of_others_on_a_table_with_other_columns_is_named_and_nothing_changes(nightly: Ledger) -> None:
    grow_a_column(nightly)
    with pytest.raises(
        LedgerError, match=r"view theirs depends on table derived_mrr_at_risk.*drop that, publish again"
    ):
        second_night(nightly)
    assert query(nightly, NIGHT) == SHOWN_FIRST
    assert query(nightly, "SELECT COUNT(*) FROM derived_mrr_history") == [(1,)]
    assert may_read(nightly, "derived_mrr_at_risk", "mrr_at_risk_by_cause") == [True, True]


@pytest.fixture
def reader(nightly: Ledger) -> Iterator[Connection]:
    """Somebody else's open transaction, which sees the first night."""
    with nightly.engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn:
        assert conn.execute(text("SELECT COUNT(*) FROM mrr_at_risk_by_cause")).scalar() == 1
        yield conn


def test_a_reader_hinders_nobody_and_goes_on_seeing_its_night(
    nightly: Ledger, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "LOCK_TIMEOUT_MS", 1)
    second_night(nightly)
    assert query(nightly, NIGHT) == SHOWN_SECOND
    # The history is read for the first time after it was emptied.
    assert [tuple(row) for row in reader.execute(text(NIGHT))] == SHOWN_FIRST
    assert reader.execute(text("SELECT COUNT(*) FROM derived_mrr_history")).scalar() == 1


def test_a_table_in_use_that_has_to_be_made_anew_is_not_waited_for_long(
    nightly: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow_a_column(nightly)
    with nightly.tx() as conn:
        conn.exec_driver_sql("DROP VIEW theirs")
    monkeypatch.setattr(swap, "LOCK_TIMEOUT_MS", 50)
    with nightly.engine.connect() as reader:
        assert [tuple(row) for row in reader.execute(text(NIGHT))] == SHOWN_FIRST
        with pytest.raises(LedgerError, match=r"nothing was published: DROP TABLE .*derived_mrr_at_risk waited 0.05 s"):
            second_night(nightly)
        assert [tuple(row) for row in reader.execute(text(NIGHT))] == SHOWN_FIRST
    second_night(nightly)
    assert query(nightly, NIGHT) == SHOWN_SECOND
