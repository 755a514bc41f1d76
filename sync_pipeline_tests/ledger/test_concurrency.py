"""Many workers on one queue, killed and frozen at any moment: no account has two holders, no event is lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import pytest
from sqlalchemy import Connection, text

from sync_pipeline.ledger import database, inbox, work
from sync_pipeline.ledger.database import Ledger, LedgerError, open_ledger
from sync_pipeline_tests.ledger import claiming

WORKERS = 6


@contextmanager
def worker_processes(url: str) -> Iterator[list[BaseProcess]]:
    context = multiprocessing.get_context("spawn")
    processes = [_start(context, url, number) for number in range(WORKERS)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _start(context: multiprocessing.context.SpawnContext, url: str, number: int) -> BaseProcess:
    process = context.Process(target=claiming.run_process, args=(url, f"worker-{number}", number), daemon=True)
    process.start()
    return process


@pytest.mark.postgres
@pytest.mark.slow
def test_killed_and_frozen_processes_on_postgres(postgres_ledger_url: str) -> None:
    chance, ledger = random.Random(1), open_ledger(postgres_ledger_url)
    claiming.prepare(ledger)
    context = multiprocessing.get_context("spawn")
    with worker_processes(postgres_ledger_url) as processes:
        _wait_for_claims(ledger, chance)
        for step in range(60):
            for _ in range(8):
                claiming.happen(ledger, chance)
            time.sleep(0.05)
            if step % 6 == 0:
                victim = chance.randrange(WORKERS)
                processes[victim].kill()
                processes[victim].join()
                processes[victim] = _start(context, postgres_ledger_url, WORKERS + step)
            if step % 6 == 1:
                frozen = chance.choice(processes)
                _signal(frozen, signal.SIGSTOP)
            if step % 6 == 5:
                # Longer than a lease has passed: whatever it held has been claimed by others.
                _signal(frozen, signal.SIGCONT)
        claiming.wait_until_clean(ledger, 30)
    with ledger.read() as conn:
        assert claiming.faults(conn) == []
        assert _abandoned_claims(conn) > 5
    ledger.close()


@pytest.mark.postgres
def test_a_process_frozen_in_a_transaction_fails_nobody_else(
    postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks end before anybody has waited for them too long. In thirtieths of the real times."""
    for name in ("IDLE_IN_TRANSACTION_TIMEOUT_MS", "BUSY_TIMEOUT_MS"):
        monkeypatch.setattr(database, name, getattr(database, name) // 30)
    frozen, other = open_ledger(postgres_ledger_url), open_ledger(postgres_ledger_url)

    def freeze_in_a_transaction() -> None:
        with frozen.tx() as held:
            work.mark_dirty(held, ["account"], priority=1, now_wall=1)
            with other.tx() as conn:
                work.mark_dirty(conn, ["account"], priority=1, now_wall=2)
            work.mark_dirty(held, ["another"], priority=1, now_wall=3)

    with pytest.raises(LedgerError, match="cannot use the ledger"):
        freeze_in_a_transaction()
    with other.read() as conn:
        assert work.due(conn, 10) == 1
    frozen.close()
    other.close()


def test_threads_on_sqlite(sqlite_ledger: Ledger) -> None:
    chance, stop = random.Random(2), threading.Event()
    claiming.prepare(sqlite_ledger)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            claiming.run(sqlite_ledger, f"thread-{number}", random.Random(number), stop.is_set)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            claiming.happen(sqlite_ledger, chance)
            time.sleep(0.02)
        claiming.wait_until_clean(sqlite_ledger, 30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    with sqlite_ledger.read() as conn:
        assert claiming.faults(conn) == []
        assert _abandoned_claims(conn) > 5


def _abandoned_claims(conn: Connection) -> int:
    """How often a claim ended by itself: when it never did, the test has tested nothing."""
    return conn.execute(text("SELECT count(*) FROM history WHERE returned = 0")).scalar_one()


def _wait_for_claims(ledger: Ledger, chance: random.Random) -> None:
    """Until every worker has started: before that there is nothing to disturb."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        claiming.happen(ledger, chance)
        with ledger.read() as conn:
            if len(conn.execute(text("SELECT DISTINCT lease_owner FROM work WHERE lease_owner <> ''")).all()) >= 3:
                return
        time.sleep(0.02)
    raise AssertionError("the workers did not start")


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


@pytest.mark.postgres
def test_events_that_find_their_accounts_lock_them_in_their_order(postgres_ledger_url: str) -> None:
    """They were marked one by one as the events came, and the sweep and a poll waited for each other."""
    ledger, other = open_ledger(postgres_ledger_url), open_ledger(postgres_ledger_url)
    events = [inbox.InboxEvent("stripe", f"evt_{name}", "invoice.paid", ("cus_1",), 1, None) for name in "ba"]
    with ledger.tx() as conn:
        inbox.receive(conn, events, received_wall=1, priority=1)
        work.mark_dirty(conn, ["a", "b"], priority=1, now_wall=1)

    def resolve() -> None:
        with other.tx() as conn:
            inbox.resolve(conn, [(each, each.event_id.removeprefix("evt_")) for each in events], priority=0, now_wall=2)

    resolving = threading.Thread(target=resolve)
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=3)
        resolving.start()
        waits = text("select count(*) from pg_locks where not granted")
        while not conn.execute(waits).scalar_one():
            assert resolving.is_alive(), "it waits for nobody"
            time.sleep(0.01)
        work.mark_dirty(conn, ["b"], priority=1, now_wall=3)
    resolving.join()
    with ledger.read() as conn:
        assert work.most_urgent(conn, 9) == 0
        assert inbox.status(conn).unresolved == 0
    ledger.close()
    other.close()
