"""What chains cannot tell of themselves: that one is gone whole, that its end was cut off, that nothing guards it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sync_pipeline.ledger import attempts, audit, audit_heads, audit_retention, audit_witness, commands, work
from sync_pipeline.ledger.audit import Problem
from sync_pipeline.ledger.database import Ledger, LedgerError
from sync_pipeline_tests.ledger.making import counter, new_command

SECOND = 1_000_000
HEAD_TRIGGERS = {"audit_head_append_only_delete", "audit_head_append_only_update"}


def write(ledger: Ledger, account: str, *attempt_ids: str | None, at: int = 5 * SECOND) -> None:
    with ledger.tx() as conn:
        for each in attempt_ids:
            audit.append(
                conn, account=account, attempt_id=each, at=at, actor="sync", what="update x: done", fields="[]",
                reason="", evidence="{}", run="run-1", code_version="v1", request_id=None,
            )  # fmt: skip


@pytest.fixture
def answered(ledger: Ledger) -> Ledger:
    """Accounts A and B each have had three writes that were answered, with their rows in the audit."""
    ids = {name: counter(name) for name in ("cmd", "att")}
    for account in "AB":
        with ledger.tx() as conn:
            work.mark_dirty(conn, [account], priority=1, now_wall=0)
            (claim,) = work.claim(conn, owner="me", limit=1, now_wall=0, lease_us=10 * SECOND, among=[account])
            wanted = [new_command(f"{account}{n}", account=account) for n in range(3)]
            rows = commands.propose(conn, wanted, now=0, code_version="v1", new_id=ids["cmd"])
            begun = attempts.begin(
                conn, [(claim, row) for row in rows], now=0, now_wall=0, deadline_wall=1, min_lease_us=1,
                instance_id="org", new_id=ids["att"],
            )  # fmt: skip
            for row in rows:
                attempts.finish(
                    conn, begun[row.id].id, outcome="done", state="done", http_status=200, request_id=None, error=None,
                    now=5 * SECOND,
                )  # fmt: skip
        write(ledger, account, *(begun[row.id].id for row in rows))
    return ledger


def tamper(ledger: Ledger, *statements: str) -> None:
    """What somebody does who may change this database."""
    with ledger.tx() as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in ("audit_append_only_delete", *HEAD_TRIGGERS):
                conn.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            conn.execute(text(statement))


def lost(ledger: Ledger, account: str | None = None) -> list[tuple[str, str]]:
    with ledger.read() as conn:
        return [(each.account, each.what.partition(",")[0]) for each in audit_witness.missing_rows(conn, account)]


CHAIN_OF_A = ("DELETE FROM audit WHERE account = 'A'", "DELETE FROM audit_head WHERE account = 'A'")
TAIL_OF_A = (
    "DELETE FROM audit WHERE account = 'A' AND seq = 3",
    """UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE account = 'A' AND seq = 2)
    WHERE account = 'A'""",
)
EVERYTHING = ("DELETE FROM audit", "DELETE FROM audit_head")


@pytest.mark.parametrize(
    ("statements", "rows"), [(CHAIN_OF_A, {"A": 3}), (TAIL_OF_A, {"A": 1}), (EVERYTHING, {"A": 3, "B": 3})]
)
def test_answered_attempts_tell_of_rows_that_were_taken_away_with_the_head(
    answered: Ledger, statements: tuple[str, ...], rows: dict[str, int]
) -> None:
    assert lost(answered) == []
    with answered.read() as conn:
        kept = audit_heads.heads(conn)
        assert audit_heads.compare(conn, kept) == []
    tamper(answered, *statements)
    with answered.read() as conn:
        assert audit.verify(conn) == [], "what is left holds in itself"
        assert [each.account for each in audit_heads.compare(conn, kept)] == sorted(rows)
    assert lost(answered) == [(name, f"{n} answered attempts have no row in the audit") for name, n in rows.items()]
    assert lost(answered, "B") == [each for each in lost(answered) if each[0] == "B"]


def test_what_retention_has_removed_is_not_missed_and_what_came_after_it_is(answered: Ledger) -> None:
    with answered.read() as conn:
        kept = audit_heads.heads(conn)
    with answered.tx() as conn:
        told = {"reason": "old", "run": "retain-1", "code_version": "v1"}
        assert audit_retention.remove(conn, "A", before=6 * SECOND, at=9 * SECOND, **told) == 3
    assert lost(answered) == []
    with answered.read() as conn:
        assert audit_heads.compare(conn, kept) == []
    tamper(answered, *CHAIN_OF_A)
    assert [name for name, _ in lost(answered)] == ["A"], "the row that told of the removal is gone as well"
    with answered.read() as conn:
        assert audit.verify(conn) == [Problem("A", 3, "was removed with all before it, and what came after is gone")]


def test_an_attempt_whose_command_is_forgotten_is_missed_too(answered: Ledger) -> None:
    with answered.tx() as conn:
        assert commands.prune(conn, 6 * SECOND) == 6
    assert lost(answered) == []
    tamper(answered, *CHAIN_OF_A)
    assert lost(answered) == [(audit_witness.FORGOTTEN, "3 answered attempts have no row in the audit")]


def test_a_head_cannot_be_deleted_or_set_back(answered: Ledger) -> None:
    for statement in ("DELETE FROM audit_head", "UPDATE audit_head SET seq = seq - 1"):
        with pytest.raises(DBAPIError, match="audit_head is append-only"), answered.tx() as conn:
            conn.execute(text(statement))


def test_a_chain_goes_on_without_its_head_and_tells_of_it(answered: Ledger) -> None:
    """The write that is to be recorded has been sent already: it must not be lost for that."""
    tamper(answered, "DELETE FROM audit_head WHERE account = 'A'")
    write(answered, "A", "att-7")
    with answered.read() as conn:
        newest = [(row.seq, row.what) for row in audit.for_account(conn, "A", 2)]
        assert newest == [(5, "update x: done"), (4, audit.HEAD_LOST)]
        assert audit.verify(conn) == [Problem("A", 4, "tells that the end of the chain had been lost before it")]
    write(answered, "A", "att-8")
    with answered.read() as conn:
        assert len(audit.verify(conn)) == 1


def test_a_head_that_was_set_back_is_told_in_true_words(answered: Ledger) -> None:
    tamper(answered, "UPDATE audit_head SET seq = 1 WHERE account = 'A'")
    with pytest.raises(LedgerError, match=r"row 2 of the audit of account A is there already.*ledger verify"):
        write(answered, "A", "att-7")
    with pytest.raises(LedgerError, match="attempt att-000004 of account B is already in the audit"):
        write(answered, "B", "att-000004")


def test_every_trigger_of_the_schema_is_looked_for_and_missed(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        standing = set(conn.execute(text(audit_witness.STANDING[conn.dialect.name])).scalars())
        assert standing == audit_witness.TRIGGERS[conn.dialect.name]
        assert audit_witness.missing_triggers(conn) == []
        sqlite = conn.dialect.name == "sqlite"
        drop = "DROP TRIGGER fact_append_only_delete" + ("" if sqlite else " ON fact")
        off = (
            "DROP TRIGGER audit_append_only_delete"
            if sqlite
            else "ALTER TABLE audit DISABLE TRIGGER audit_append_only_delete"
        )
        for statement in (drop, off):
            conn.execute(text(statement))
        assert [each.what.rpartition("trigger ")[2] for each in audit_witness.missing_triggers(conn)] == [
            "audit_append_only_delete is gone",
            "fact_append_only_delete is gone",
        ]


def test_heads_are_kept_in_a_file_and_another_file_is_one_clear_line(answered: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    assert audit_heads.read(file) is None
    with answered.read() as conn:
        now = audit_heads.heads(conn)
    audit_heads.write(file, now)
    assert audit_heads.read(file) == now
    assert [path.name for path in tmp_path.glob("heads*")] == ["heads.json"]
    write(answered, "A", "att-7")
    with answered.read() as conn:
        assert audit_heads.compare(conn, now) == [], "a chain that has grown goes on from its head"
        forged = {**now, "A": (3, "another")}
        assert audit_heads.compare(conn, forged) == [Problem("A", 3, "is another one than when the heads were kept")]
    for text_of_file in ("[]", "{", '{"format": 1, "heads": {"A": 3}}'):
        file.write_text(text_of_file)
        with pytest.raises(LedgerError, match="holds no heads of"):
            audit_heads.read(file)
    with pytest.raises(LedgerError, match="cannot be written"):
        audit_heads.write(tmp_path / "none" / "heads.json", now)
