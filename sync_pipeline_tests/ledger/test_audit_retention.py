"""Old rows of the audit can go in one way only, and what is left still proves itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from sync_pipeline.ledger import audit, audit_retention
from sync_pipeline.ledger.database import Ledger

DAY = 86_400_000_000


def write(conn: Connection, account: str, at: int, **values: Any) -> int:
    entry: dict[str, Any] = {
        "attempt_id": None, "actor": "sync", "what": "update customer", "fields": "[]", "reason": "name differs",
        "evidence": "[]", "run": None, "code_version": "v1", "request_id": None,
    }  # fmt: skip
    return audit.append(conn, account=account, at=at, **(entry | values))


def remove(conn: Connection, account: str, before: int, at: int = 100 * DAY) -> int:
    told = {"reason": "older than 3 days", "run": "retain-1", "code_version": "v1"}
    return audit_retention.remove(conn, account, before=before, at=at, **told)


@pytest.fixture
def written(ledger: Ledger) -> Ledger:
    """Account A did something on days 1 to 5, B on day 1, C on day 5."""
    with ledger.tx() as conn:
        for account, days in (("A", (1, 2, 3, 4, 5)), ("B", (1,)), ("C", (5,))):
            for day in days:
                write(conn, account, day * DAY, attempt_id=f"att_{account}_{day}")
    return ledger


def problems(conn: Connection, account: str | None = None) -> list[tuple[str, int, str]]:
    return [(found.account, found.seq, found.what) for found in audit.verify(conn, account)]


def test_what_is_left_verifies_and_tells_of_what_went(written: Ledger) -> None:
    with written.tx() as conn:
        assert audit_retention.accounts_with_rows_before(conn, 4 * DAY) == ["A", "B"]
        third = audit.for_account(conn, "A")[2]
        assert [remove(conn, account, 4 * DAY) for account in "ABC"] == [3, 1, 0]
        assert [(row.seq, row.what) for row in audit.for_account(conn, "A")] == [
            (6, "audit retention"),
            (5, "update customer"),
            (4, "update customer"),
        ]
        assert json.loads(audit.for_account(conn, "A")[0].evidence) == {"seq": 3, "hash": third.hash, "removed": 3}
        assert [row.seq for row in audit.for_account(conn, "B")] == [2]
        assert problems(conn) == problems(conn, "A") == []
        assert write(conn, "A", 6 * DAY) == 7
        assert problems(conn) == []
        assert audit.runs(conn, 10) == []


def test_it_can_be_done_again_and_again(written: Ledger) -> None:
    with written.tx() as conn:
        assert remove(conn, "A", 3 * DAY, at=100 * DAY) == 2
        assert remove(conn, "A", 3 * DAY, at=101 * DAY) == 0
        # The row of day 5 is the last but one; the one that tells of the removal is of day 100.
        assert remove(conn, "A", 6 * DAY, at=102 * DAY) == 3
        assert problems(conn) == []
        assert [(anchor.seq, anchor.removed) for anchor in audit.anchors(conn)["A"]] == [(2, 2), (5, 3)]
        # What only tells of removals is not removed for its own sake, or an account at rest would never be.
        assert audit_retention.accounts_with_rows_before(conn, 200 * DAY) == ["B", "C"]
        assert remove(conn, "A", 200 * DAY, at=201 * DAY) == 0
        assert write(conn, "A", 150 * DAY) == 8
        assert remove(conn, "A", 200 * DAY, at=202 * DAY) == 3
        assert problems(conn) == []
        assert remove(conn, "nobody", 200 * DAY) == 0


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("DELETE FROM audit WHERE account = 'A' AND seq = 4", "audit is append-only"),
        ("DELETE FROM audit WHERE account = 'C'", "audit is append-only"),
        ("UPDATE audit SET reason = 'x' WHERE account = 'A' AND seq = 4", "audit is append-only"),
        ("INSERT INTO audit_anchor SELECT account, seq, hash, 5, 1 FROM audit WHERE seq = 6", "tells of it"),
        ("INSERT INTO audit_anchor SELECT account, seq, 'other', 5, 1 FROM audit WHERE seq = 5", "tells of it"),
        ("INSERT INTO audit_anchor SELECT account, seq, hash, 1, 1 FROM audit WHERE account = 'C'", "tells of it"),
        ("UPDATE audit_anchor SET removed = 2", "audit_anchor is append-only"),
        ("DELETE FROM audit_anchor", "audit_anchor is append-only"),
    ],
)
def test_there_is_no_other_way(written: Ledger, statement: str, refusal: str) -> None:
    with written.tx() as conn:
        remove(conn, "A", 4 * DAY)
    with pytest.raises(DBAPIError, match=refusal), written.tx() as conn:
        conn.execute(text(statement))


TRIGGERS = (
    "audit_append_only_delete",
    "audit_append_only_update",
    "audit_anchor_fits",
    "audit_anchor_append_only_delete",
    "audit_anchor_append_only_update",
)


@pytest.mark.parametrize(
    ("statements", "wanted"),
    [
        (["UPDATE audit SET reason = 'x' WHERE account = 'A' AND seq = 4"], [(4, "was changed after it was written")]),
        (["DELETE FROM audit WHERE account = 'A' AND seq = 4"], [(4, "missing up to row 4")]),
        (
            ["DELETE FROM audit_anchor WHERE account = 'A'"],
            [(1, "missing up to row 3")],
        ),
        (
            ["UPDATE audit_anchor SET hash = 'forged' WHERE account = 'A'"],
            [
                (4, "does not follow the row before it"),
                (3, "was removed with all before it, and the chain does not tell of it"),
            ],
        ),
        (
            ["UPDATE audit_anchor SET removed = 1 WHERE account = 'A'"],
            [
                (3, "is not as many rows as were removed"),
                (3, "was removed with all before it, and the chain does not tell of it"),
            ],
        ),
        (
            # Somebody removes one row more, with an anchor as it should be.
            [
                "INSERT INTO audit_anchor SELECT account, seq, hash, 1, 1 FROM audit WHERE account = 'A' AND seq = 4",
                "DELETE FROM audit WHERE account = 'A' AND seq = 4",
            ],
            [(4, "was removed with all before it, and the chain does not tell of it")],
        ),
        (
            [
                """INSERT INTO audit SELECT account, 2, at, 'att_again', actor, what, fields, reason, evidence, run,
                code_version, request_id, previous_hash, hash FROM audit WHERE account = 'A' AND seq = 4"""
            ],
            [(2, "stands although rows up to 3 were removed")],
        ),
    ],
)
def test_tampering_with_what_is_left_shows(
    written: Ledger, statements: list[str], wanted: list[tuple[int, str]]
) -> None:
    with written.tx() as conn:
        remove(conn, "A", 4 * DAY)
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in TRIGGERS:
                conn.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            conn.execute(text(statement))
        assert problems(conn) == [("A", seq, what) for seq, what in wanted]
        assert problems(conn, "B") == []
