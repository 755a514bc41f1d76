"""Facts and the audit can only grow, and the audit shows when somebody went around that."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from sync_pipeline.core.facts import Fact
from sync_pipeline.ledger import audit, facts
from sync_pipeline.ledger.database import Ledger, LedgerError, open_ledger

PAYMENT = Fact("payment", "pi_1", 0, "A", "gbp", 4_500_000, 7, (("invoice", "in_1"), ("note", "é 'quoted'")))


def write(conn: Connection, account: str = "A", attempt_id: str | None = None, **values: Any) -> int:
    entry: dict[str, Any] = {
        "at": 5, "actor": "sync", "what": "update customer", "fields": '["name"]', "reason": "name differs",
        "evidence": "evt_1", "run": None, "code_version": "v1", "request_id": "req_1",
    }  # fmt: skip
    return audit.append(conn, account=account, attempt_id=attempt_id, **(entry | values))


@pytest.fixture
def written(ledger: Ledger) -> Ledger:
    with ledger.tx() as conn:
        facts.append(conn, [PAYMENT])
        for number in range(4):
            write(conn, attempt_id=f"att_{number}", reason=f"Zoë said {number}")
        write(conn, "B")
    return ledger


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fact SET amount_minor = 1",
        "UPDATE fact SET account = 'B'",
        "UPDATE fact SET occurred_at = 8, account = account",
        "DELETE FROM fact",
        "UPDATE audit SET reason = 'x' WHERE seq = 2",
        "UPDATE audit SET seq = seq",
        "DELETE FROM audit WHERE seq = 4",
    ],
)
def test_neither_can_be_changed(written: Ledger, statement: str) -> None:
    with pytest.raises(DBAPIError, match="is append-only"), written.tx() as conn:
        conn.execute(text(statement))


def test_sqlite_cannot_replace_a_row(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.tx() as conn:
        facts.append(conn, [PAYMENT])
    with pytest.raises(DBAPIError, match="append-only"), sqlite_ledger.tx() as conn:
        conn.execute(text("INSERT OR REPLACE INTO fact VALUES ('payment', 'pi_1', 0, 'A', 'gbp', 1, 1, '[]')"))


@pytest.mark.postgres
@pytest.mark.parametrize("table", ["fact", "audit"])
def test_postgres_cannot_truncate(postgres_ledger_url: str, table: str) -> None:
    ledger = open_ledger(postgres_ledger_url)
    with pytest.raises(DBAPIError, match="is append-only"), ledger.tx() as conn:
        conn.execute(text(f"TRUNCATE {table}"))
    ledger.close()


def test_a_fact_is_stored_once_as_it_came_first(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        assert facts.append(conn, []) == 0
        assert facts.append(conn, [PAYMENT]) == 1
        changed = Fact("payment", "pi_1", 0, "B", "usd", 1, 1)
        revision = Fact("payment", "pi_1", 1, "A", "gbp", -1, 9)
        assert facts.append(conn, [revision, changed, revision]) == 1
        assert facts.for_accounts(conn, ["A", "B"]) == {"A": [PAYMENT, revision]}


def test_sums_are_exact_beyond_floats(ledger: Ledger) -> None:
    large = 9_007_199_254_740_993
    with ledger.tx() as conn:
        facts.append(
            conn,
            [Fact("payment", f"pi_{n}", 0, "A", "jpy", large, 1) for n in range(5)]
            + [Fact("refund", "re_1", 0, "A", "jpy", -1, 1), Fact("payment", "pi_x", 0, "A", "gbp", 7, 1)]
            + [Fact("refund", "re_2", 0, "B", "gbp", -7, 1)],
        )
        assert facts.sums(conn) == [
            facts.FactSum("A", "payment", "gbp", 7),
            facts.FactSum("A", "payment", "jpy", 5 * large),
            facts.FactSum("A", "refund", "jpy", -1),
            facts.FactSum("B", "refund", "gbp", -7),
        ]


@pytest.mark.parametrize("amount", [1.5, "12.00p"])
def test_sqlite_takes_no_broken_pennies(sqlite_ledger: Ledger, amount: Any) -> None:
    with pytest.raises(DBAPIError, match="cannot store"), sqlite_ledger.tx() as conn:
        conn.execute(text("INSERT INTO fact VALUES ('k','x',0,'A','gbp',:amount,1,'[]')"), {"amount": amount})


FACTS = st.lists(
    st.builds(
        Fact,
        st.sampled_from(["payment", "refund"]),
        st.sampled_from("xyz"),
        st.integers(0, 2),
        st.sampled_from("AB"),
        st.sampled_from(["gbp", "jpy"]),
        st.integers(-(2**53), 2**53),
        st.integers(0, 2**50),
        st.lists(
            st.tuples(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), st.just("v")),
            max_size=2,
        ).map(tuple),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=FACTS, order=st.randoms(use_true_random=False))
def test_facts_read_in_any_order_and_twice_sum_up_the_same(
    sqlite_ledger: Ledger, found: list[Fact], order: random.Random
) -> None:
    unique = list({(item.kind, item.external_id, item.revision): item for item in reversed(found)}.values())
    shuffled = order.sample(unique + unique, 2 * len(unique))
    with sqlite_ledger.engine.connect() as conn, conn.begin() as transaction:
        conn.exec_driver_sql("BEGIN IMMEDIATE")
        assert sum(facts.append(conn, shuffled[start : start + 3]) for start in range(0, len(shuffled), 3)) == len(
            unique
        )
        wanted: dict[tuple[str, str, str], int] = {}
        for item in unique:
            slot = (item.account, item.kind, item.currency)
            wanted[slot] = wanted.get(slot, 0) + item.amount_minor
        assert {(row.account, row.kind, row.currency): row.amount_minor for row in facts.sums(conn)} == wanted
        stored = [item for items in facts.for_accounts(conn, "AB").values() for item in items]
        assert sorted(stored, key=repr) == sorted(unique, key=repr)
        transaction.rollback()


def test_the_chain_counts_without_gaps_and_holds(written: Ledger) -> None:
    with written.tx() as conn:
        assert write(conn, attempt_id=None, run="run_9", request_id=None) == 5
        assert write(conn, "B") == 2
        assert audit.verify(conn) == []
        assert audit.verify(conn, "A") == []
        assert audit.verify(conn, "nobody") == []
        newest = audit.for_account(conn, "A", 2)
        assert [(row.seq, row.run, row.attempt_id) for row in newest] == [(5, "run_9", None), (4, None, "att_3")]
        assert newest[0].previous_hash == newest[1].hash


def test_an_attempt_is_audited_once(written: Ledger) -> None:
    with pytest.raises(LedgerError, match="attempt att_1 of account A is already in the audit"), written.tx() as conn:
        write(conn, attempt_id="att_1")
    with written.read() as conn:
        assert audit.verify(conn) == []


def _without_triggers(ledger: Ledger, statement: str) -> None:
    with ledger.tx() as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in ("audit_append_only_delete", "audit_append_only_update"):
                conn.execute(text(f"DROP TRIGGER {name}"))
        conn.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("UPDATE audit SET fields = '[]' WHERE account = 'A' AND seq = 2", [(2, "was changed after it was written")]),
        ("UPDATE audit SET at = 6 WHERE account = 'A' AND seq = 4", [(4, "was changed after it was written")]),
        (
            "UPDATE audit SET attempt_id = NULL WHERE account = 'A' AND seq = 1",
            [(1, "was changed after it was written")],
        ),
        ("DELETE FROM audit WHERE account = 'A' AND seq = 2", [(2, "missing up to row 2")]),
        ("DELETE FROM audit WHERE account = 'A' AND seq > 2", [(2, "is not the recorded end of the chain (row 4)")]),
        ("DELETE FROM audit WHERE account = 'A'", [(4, "all rows are missing")]),
        (
            "UPDATE audit SET hash = 'forged' WHERE account = 'A' AND seq = 4",
            [(4, "was changed after it was written"), (4, "is not the recorded end of the chain (row 4)")],
        ),
        (
            "UPDATE audit SET previous_hash = 'forged' WHERE account = 'A' AND seq = 3",
            [(3, "does not follow the row before it"), (3, "was changed after it was written")],
        ),
    ],
)
def test_tampering_shows(written: Ledger, statement: str, wanted: list[tuple[int, str]]) -> None:
    _without_triggers(written, statement)
    with written.read() as conn:
        assert [(found.account, found.seq, found.what) for found in audit.verify(conn)] == [
            ("A", seq, what) for seq, what in wanted
        ]
        assert audit.verify(conn, "B") == []


@pytest.mark.parametrize("column", ["actor", "what", "reason", "evidence", "code_version", "request_id", "run"])
def test_every_column_is_covered_by_the_hash(sqlite_ledger: Ledger, column: str) -> None:
    with sqlite_ledger.tx() as conn:
        write(conn)
    _without_triggers(sqlite_ledger, f"UPDATE audit SET {column} = 'other'")
    with sqlite_ledger.read() as conn:
        assert [found.what for found in audit.verify(conn)] == ["was changed after it was written"]


def test_writers_at_the_same_time_make_one_chain(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)

    def work() -> None:
        for _ in range(15):
            with ledger.tx() as conn:
                write(conn)

    _run_threads([work] * 4)
    with ledger.read() as conn:
        assert [row.seq for row in audit.for_account(conn, "A", 100)] == list(range(60, 0, -1))
        assert audit.verify(conn) == []
    ledger.close()


def _run_threads(targets: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
