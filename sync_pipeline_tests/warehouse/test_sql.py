"""The tables in SQL, on both databases: exact, keyed, commented, replaced at once, and the example queries run."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.rows import AccountLtv, MrrAtRisk, MrrMovement, MrrState
from sync_pipeline.frames.schema import empty
from sync_pipeline.frames.tables import ACCOUNT_LTV, MRR_AT_RISK, MRR_HISTORY, MRR_MOVEMENTS, PUBLISHED, TABLES
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.warehouse.dictionary import page
from sync_pipeline.warehouse.queries import EXAMPLES, Query
from sync_pipeline.warehouse.sql import publish
from sync_pipeline.warehouse.views import VIEWS
from sync_pipeline_tests.frames.making import rows

MIDNIGHT = int(datetime(2026, 1, 15, tzinfo=UTC).timestamp()) * 1_000_000


def query(ledger: Ledger, sql: str, **parameters: str) -> list[tuple[Any, ...]]:
    with ledger.read() as conn:
        return [tuple(row) for row in conn.execute(text(sql), parameters)]


def at_risk(**changed: Any) -> MrrAtRisk:
    values: dict[str, Any] = {
        "subscription": "sub_1",
        "customer": "cus_1",
        "payer": "001A",
        "account_id": "001A",
        "currency": "GBP",
        "status": "past_due",
        "cause": "failing_payment",
        "other_causes": ("dispute",),
        "in_mrr": True,
        "mrr_minor": 1_000,
        "open_minor": 12_000,
        "oldest_due_at": MIDNIGHT,
    }
    return MrrAtRisk(**(values | changed))


def state(item: str, minor: int, **changed: Any) -> MrrState:
    values: dict[str, Any] = {
        "definition": "stripe",
        "item": item,
        "subscription": "sub_1",
        "customer": "cus_1",
        "currency": "GBP",
        "true_from_at": MIDNIGHT,
        "true_until_at": None,
        "yearly_numerator": 12 * minor,
        "yearly_denominator": 1,
        "mrr_minor": minor,
        "source": "records",
        "seen_otherwise_at": None,
        "known_from_at": MIDNIGHT,
        "known_until_at": None,
    }
    return MrrState(**(values | changed))


def test_what_goes_in_comes_out(ledger: Ledger) -> None:
    odd = at_risk(subscription="sub_2", payer="", account_id=None, other_causes=(), oldest_due_at=None, in_mrr=False)
    assert publish(ledger, {MRR_AT_RISK: to_frame([at_risk(), odd], MRR_AT_RISK)}) == 2
    columns = "subscription, payer, account_id, other_causes, in_mrr, mrr_minor, oldest_due_at"
    first, second = query(ledger, f"SELECT {columns} FROM derived_mrr_at_risk ORDER BY subscription")
    assert first[:6] == ("sub_1", "001A", "001A", '["dispute"]', True, 1_000)
    assert str(first[6]).startswith("2026-01-15 00:00:00")
    assert second == ("sub_2", "", None, "[]", False, 1_000, None)


def test_exact_amounts_stay_exact(ledger: Ledger) -> None:
    huge = 10**37 + 1
    publish(ledger, {MRR_HISTORY: to_frame([state("si_1", 1, yearly_numerator=huge)], MRR_HISTORY)})
    ((found,),) = query(ledger, "SELECT yearly_numerator FROM derived_mrr_history")
    assert int(found) == huge


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_row_that_fits_its_schema_fits_its_table(ledger: Ledger, data: st.DataObject) -> None:
    cents = st.integers(-(2**63), 2**63 - 1)
    for table in PUBLISHED.values():
        minor: dict[str, st.SearchStrategy[Any]] = {
            each.name: st.none() | cents if each.nullable else cents
            for each in table.columns
            if each.name.endswith("_minor")
        }
        # Postgres has no NUL in texts, and both systems send none.
        plain = {each.name: _plain(each.nullable) for each in table.columns if each.type == "text" and not each.allowed}
        moments = {each.name: _moment(each.nullable) for each in table.columns if each.type == "moment"}
        row = data.draw(rows(table, **minor, **plain, **moments))
        assert publish(ledger, {table: to_frame([row], table)}) == 1


def _plain(nullable: bool) -> st.SearchStrategy[Any]:
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
    return st.none() | texts if nullable else texts


def _moment(nullable: bool) -> st.SearchStrategy[Any]:
    moments = st.integers(0, 4_000_000_000_000_000)
    return st.none() | moments if nullable else moments


def test_a_key_is_there_once(ledger: Ledger) -> None:
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        publish(ledger, {MRR_AT_RISK: to_frame([at_risk(), at_risk()], MRR_AT_RISK)})


def test_a_failed_publication_changes_nothing_and_the_next_one_works(ledger: Ledger) -> None:
    publish(ledger, {MRR_AT_RISK: to_frame([at_risk()], MRR_AT_RISK), MRR_HISTORY: to_frame([], MRR_HISTORY)})
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        publish(
            ledger,
            {
                MRR_HISTORY: to_frame([state("si_1", 1)], MRR_HISTORY),
                MRR_AT_RISK: to_frame([at_risk(), at_risk()], MRR_AT_RISK),
            },
        )
    counts = "SELECT (SELECT COUNT(*) FROM derived_mrr_at_risk), (SELECT COUNT(*) FROM derived_mrr_history)"
    assert query(ledger, counts) == [(1, 0)]
    publish(ledger, {MRR_AT_RISK: empty(MRR_AT_RISK)})
    assert query(ledger, counts) == [(0, 0)]


def test_a_reader_sees_one_night_or_the_next(ledger: Ledger) -> None:
    publish(ledger, {MRR_AT_RISK: to_frame([at_risk()], MRR_AT_RISK)})
    if ledger.engine.dialect.name == "sqlite":
        with sqlite3.connect(str(ledger.engine.url.database), isolation_level=None) as reader:
            reader.execute("BEGIN")
            before = reader.execute("SELECT COUNT(*) FROM derived_mrr_at_risk").fetchone()
            publish(ledger, {MRR_AT_RISK: empty(MRR_AT_RISK)})
            assert reader.execute("SELECT COUNT(*) FROM mrr_at_risk_by_cause").fetchone() == before == (1,)
            reader.execute("COMMIT")
            assert reader.execute("SELECT COUNT(*) FROM mrr_at_risk_by_cause").fetchone() == (0,)
        reader.close()
    else:
        with ledger.engine.connect() as conn:
            assert conn.execute(text("SELECT COUNT(*) FROM mrr_at_risk_by_cause")).scalar() == 1
            conn.rollback()
            publish(ledger, {MRR_AT_RISK: empty(MRR_AT_RISK)})
            assert conn.execute(text("SELECT COUNT(*) FROM mrr_at_risk_by_cause")).scalar() == 0


def test_a_table_of_an_older_version_is_replaced(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        conn.exec_driver_sql("CREATE TABLE derived_mrr_at_risk (subscription TEXT PRIMARY KEY, old_column TEXT)")
        conn.exec_driver_sql("INSERT INTO derived_mrr_at_risk VALUES ('sub_0', 'x')")
        conn.exec_driver_sql("CREATE VIEW mrr_at_risk_by_cause AS SELECT old_column FROM derived_mrr_at_risk")
    publish(ledger, {MRR_AT_RISK: to_frame([at_risk()], MRR_AT_RISK)})
    assert query(ledger, "SELECT cause, subscriptions, mrr_minor FROM mrr_at_risk_by_cause") == [
        ("failing_payment", 1, 1_000)
    ]


def test_every_table_and_column_is_described_where_it_is(ledger: Ledger) -> None:
    publish(ledger, {})
    described = query(ledger, "SELECT table_name, column_name, description FROM data_dictionary WHERE position > 0")
    expected = {(name, each.name, each.description) for name, table in PUBLISHED.items() for each in table.columns}
    assert set(described) == expected
    if ledger.engine.dialect.name == "postgresql":
        comments = query(
            ledger,
            "SELECT c.relname, a.attname, col_description(c.oid, a.attnum) FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind = 'r'"
            " AND c.relname <> 'data_dictionary' AND col_description(c.oid, a.attnum) IS NOT NULL",
        )
        assert set(comments) == expected
        of_whole = query(
            ledger,
            "SELECT c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c WHERE c.relkind IN ('r', 'v')"
            " AND c.relname <> 'data_dictionary' AND obj_description(c.oid, 'pg_class') IS NOT NULL",
        )
        tables = {(name, table.description) for name, table in PUBLISHED.items()}
        assert set(of_whole) == tables | {(view.name, view.description) for view in VIEWS}
    else:
        for name, table in PUBLISHED.items():
            ((schema,),) = query(ledger, "SELECT sql FROM sqlite_schema WHERE name = :name", name=name)
            assert all(f"-- {each.description}" in schema for each in table.columns)


def test_views_add_up_what_the_tables_say(ledger: Ledger) -> None:
    ltv = AccountLtv(
        account_id="001A", currency="GBP", billed_minor=20_000, collected_minor=9_000, refunded_minor=0,
        disputed_minor=0, credited_elsewhere_minor=0, net_minor=9_000, net=None, reporting_currency="GBP",
        reporting_minor=9_000, rate_source="same currency", payments=1, refunds=0, first_payment_at=None,
        last_payment_at=None,
    )  # fmt: skip
    risky = [at_risk(), at_risk(subscription="sub_2", mrr_minor=500), at_risk(subscription="sub_3", cause="dispute")]
    publish(ledger, {ACCOUNT_LTV: to_frame([ltv], ACCOUNT_LTV), MRR_AT_RISK: to_frame(risky, MRR_AT_RISK)})
    by_cause = query(ledger, "SELECT cause, subscriptions, mrr_minor FROM mrr_at_risk_by_cause ORDER BY cause")
    assert [(cause, int(n), int(minor)) for cause, n, minor in by_cause] == [
        ("dispute", 1, 1_000),
        ("failing_payment", 2, 1_500),
    ]
    (account,) = query(ledger, "SELECT account_id, mrr_at_risk_minor, lifetime_value_minor FROM account_revenue")
    assert (account[0], int(account[1]), account[2]) == ("001A", 2_500, 9_000)


def test_what_was_true_and_what_was_believed(ledger: Ledger) -> None:
    day = 86_400_000_000
    believed = state("si_1", 1_000, known_until_at=MIDNIGHT + 30 * day)
    better = state("si_1", 700, known_from_at=MIDNIGHT + 30 * day)
    publish(ledger, {MRR_HISTORY: to_frame([believed, better], MRR_HISTORY)})
    true, known = (each for each in EXAMPLES if "derived_mrr_history" in each.sql)
    assert [int(row[2]) for row in _run(ledger, true)] == [700]
    assert [int(row[2]) for row in _run(ledger, known)] == [1_000]


@pytest.mark.parametrize("example", EXAMPLES, ids=[each.question for each in EXAMPLES])
def test_examples_run(example: Query, published: Ledger) -> None:
    _run(published, example)


@pytest.fixture
def published(ledger: Ledger) -> Ledger:
    churn = MrrMovement(
        definition="stripe", day_date="2026-01-15", payer="001A", currency="GBP", account_id="001A", kind="churn",
        start_minor=1_000, movement_minor=-1_000, end_minor=0,
    )  # fmt: skip
    publish(ledger, {MRR_MOVEMENTS: to_frame([churn], MRR_MOVEMENTS)})
    return ledger


def test_every_view_can_be_read(published: Ledger) -> None:
    for view in VIEWS:
        query(published, f"SELECT * FROM {view.name}")


def test_no_published_table_holds_personal_data() -> None:
    assert {name for name, table in PUBLISHED.items() if any(each.personal for each in table.columns)} == set()


def test_keys_are_never_empty() -> None:
    for table in PUBLISHED.values():
        columns = {each.name: each for each in table.columns}
        assert not any(columns[name].nullable for name in table.key), table.name


def test_the_data_dictionary_describes_every_table_column_and_view_and_shows_the_examples() -> None:
    text = page()
    for table in TABLES.values():
        _, _, rest = text.partition(f"### {table.name}\n")
        section, _, _ = rest.partition("\n### ")
        assert table.description in section, table.name
        for column in table.columns:
            assert f"| `{column.name}` |" in section, (table.name, column.name)
            assert column.description in section, (table.name, column.name)
    assert all(view.description in text for view in VIEWS)
    assert all(example.sql in text for example in EXAMPLES)


def _run(ledger: Ledger, example: Query) -> list[tuple[Any, ...]]:
    return query(ledger, example.sql, **dict(example.parameters))
