"""A process that is killed outright: what it had committed is there, the rest is not, and nobody waits for it."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
from sqlalchemy import select

from sync_pipeline.ledger import attempts, commands, cursors, tables, work
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline_tests.ledger.making import counter, new_command

LEASE = 100


def die_after_the_write_ahead(url: str) -> None:
    ledger = open_ledger(url)
    with ledger.tx() as conn:
        (claim,) = work.claim(conn, owner="victim", limit=1, now_wall=1, lease_us=LEASE)
        rows = commands.propose(conn, [new_command("k")], now=1, code_version="v1", new_id=counter("command"))
    with ledger.tx() as conn:
        attempts.begin(
            conn, [(claim, row) for row in rows], now=1, now_wall=1, deadline_wall=10, min_lease_us=10,
            instance_id="i", new_id=counter("attempt"),
        )  # fmt: skip
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside_a_transaction(url: str) -> None:
    ledger = open_ledger(url)
    with ledger.tx() as conn:
        work.claim(conn, owner="victim", limit=1, now_wall=1, lease_us=LEASE)
        cursors.put(conn, "half", "done", 1)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def dirty(ledger: Ledger) -> Ledger:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["A"], priority=1, now_wall=0)
    return ledger


def run_until_killed(target: object, url: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(url,))  # type: ignore[arg-type]
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_a_send_that_was_written_ahead_is_found_and_repeated(dirty: Ledger, ledger_url: str) -> None:
    run_until_killed(die_after_the_write_ahead, ledger_url)
    with dirty.tx() as conn:
        assert work.claim(conn, owner="heir", limit=1, now_wall=LEASE, lease_us=LEASE) == []
        (claim,) = work.claim(conn, owner="heir", limit=1, now_wall=1 + LEASE, lease_us=LEASE)
        (row,) = commands.unresolved(conn, ["A"])["A"]
        assert (row.id, row.state, row.attempt_id, row.deadline_wall) == (
            "command-000001", "sending", "attempt-000001", 10,
        )  # fmt: skip
        (again,) = attempts.begin(
            conn, [(claim, row)], now=2, now_wall=1 + LEASE, deadline_wall=10 + LEASE, min_lease_us=10,
            instance_id="i", new_id=counter("heir"),
        ).values()  # fmt: skip
        assert again.idempotency_key == attempts.idempotency_key("i", "k", 0)
        assert commands.get(conn, row.id).first_sent == 1


def test_a_transaction_that_was_cut_off_never_happened(dirty: Ledger, ledger_url: str) -> None:
    run_until_killed(die_inside_a_transaction, ledger_url)
    with dirty.tx() as conn:
        # Postgres lets go of the rows of a dead process when it notices the death; until then a claim passes them over.
        conn.execute(select(tables.work).with_for_update())
        assert cursors.get(conn, "half") is None
        assert work.claim(conn, owner="heir", limit=1, now_wall=1, lease_us=LEASE) == [work.Claim("A", 1, 1, 0, 1)]
