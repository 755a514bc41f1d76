"""What was written unasked lately: one count of all workers, which takes back and forgets."""

from __future__ import annotations

import threading

from sync_pipeline.ledger import cursors, unasked
from sync_pipeline.ledger.database import Ledger


def test_what_is_counted_adds_up_over_accounts_and_can_be_taken_back(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        unasked.add(conn, "A", {"creates": 2, "mrr.GBP": 500, "changes": 0}, at_wall=10)
        unasked.add(conn, "B", {"creates": 1}, at_wall=10)
        unasked.add(conn, "A", {"creates": -1, "mrr.GBP": -500}, at_wall=10)
    with ledger.tx() as conn:
        assert unasked.since(conn, 9) == {"creates": 2, "mrr.GBP": 0}


def test_what_was_counted_before_is_forgotten(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        unasked.add(conn, "A", {"changes": 3}, at_wall=10)
        unasked.add(conn, "A", {"changes": 4}, at_wall=11)
    with ledger.tx() as conn:
        assert unasked.since(conn, 10) == {"changes": 4}
    with ledger.tx() as conn:
        assert unasked.since(conn, 0) == {"changes": 4}


def test_who_looks_and_counts_does_so_before_the_next_one_looks(ledger: Ledger) -> None:
    """Two workers never both find room for the same last change."""
    seen: list[int] = []

    def change() -> None:
        with ledger.tx() as conn:
            cursors.take(conn, "guard", 1)
            seen.append(unasked.since(conn, 0)["changes"])
            unasked.add(conn, threading.current_thread().name, {"changes": 1}, at_wall=5)

    workers = [threading.Thread(target=change) for _ in range(8)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert sorted(seen) == list(range(8))
