"""Base values, cursors, reviews, worker heartbeats and the status over all."""

from __future__ import annotations

import pytest

from sync_pipeline.core.commands import Review
from sync_pipeline.core.facts import Fact
from sync_pipeline.ledger import base, commands, cursors, facts, inbox, links, reviews, workers
from sync_pipeline.ledger.base import BaseEntry
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.inbox import InboxStatus
from sync_pipeline.ledger.reviews import OpenReview
from sync_pipeline.ledger.status import LedgerStatus, ledger_status
from sync_pipeline.ledger.work import WorkStatus
from sync_pipeline.ledger.workers import WorkerRow
from sync_pipeline_tests.ledger.making import counter, new_command


def test_a_base_value_is_replaced_by_the_next_agreement(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        base.put(conn, "A", [], 1)
        base.put(conn, "A", [BaseEntry("opp_1", "seats", "10", 1), BaseEntry("opp_2", "seats", "3", 1)], 1)
        base.put(conn, "B", [BaseEntry("opp_1", "seats", "77", 1)], 1)
        base.put(conn, "A", [BaseEntry("opp_1", "seats", "15", 2)], 2)
        assert base.for_accounts(conn, ["A", "nobody"]) == {"A": {("opp_1", "seats"): "15", ("opp_2", "seats"): "3"}}


def test_a_cursor_is_kept(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        assert cursors.get(conn, "events") is None
        cursors.put(conn, "events", "evt_1", 1)
        cursors.put(conn, "events", "evt_2", 2)
        cursors.put(conn, "polls", "2026", 2)
        assert cursors.get(conn, "events") == "evt_2"


def test_reviews_follow_the_latest_plan(ledger: Ledger) -> None:
    missing = Review("term", "A", "ensure_subscription", "opp_1", "The Opportunity has no term.")
    currency = Review("currency", "A", "ensure_subscription", "opp_1", "XYZ is not a currency.")
    worse = Review("term", "A", "ensure_subscription", "opp_1", "The term is -1.")
    elsewhere = Review("term", "B", "ensure_subscription", "opp_9", "The Opportunity has no term.")
    with ledger.tx() as conn:
        assert reviews.reconcile(conn, "B", [elsewhere], 1) == [elsewhere]
        assert reviews.reconcile(conn, "A", [missing, currency], 2) == [missing, currency]
        assert reviews.reconcile(conn, "A", [worse], 3) == []
        assert reviews.open_reviews(conn) == [
            OpenReview("term", "B", "ensure_subscription", "opp_9", "The Opportunity has no term.", 1, 1),
            OpenReview("term", "A", "ensure_subscription", "opp_1", "The term is -1.", 2, 3),
        ]
        assert reviews.reconcile(conn, "A", [], 4) == []
        assert reviews.reconcile(conn, "A", [missing], 5) == [missing]
        assert [(item.account, item.opened_at) for item in reviews.open_reviews(conn)] == [("B", 1), ("A", 5)]
        with pytest.raises(ValueError, match=r"reviews of account A name the accounts \['B'\]"):
            reviews.reconcile(conn, "A", [elsewhere], 6)


def test_a_worker_is_alive_while_it_beats(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        workers.beat(conn, name="drain-2", kind="drain", now_wall=5, ends_wall=100)
        workers.beat(conn, name="drain-1", kind="drain", now_wall=1, ends_wall=60)
        workers.beat(conn, name="resident", kind="resident", now_wall=1, ends_wall=None)
        workers.beat(conn, name="drain-1", kind="drain", now_wall=9, ends_wall=70)
        assert workers.alive(conn, kind="drain", now_wall=10, stale_us=10) == [
            WorkerRow("drain-1", "drain", 1, 9, 70),
            WorkerRow("drain-2", "drain", 5, 5, 100),
        ]
        assert [row.name for row in workers.alive(conn, kind="drain", now_wall=15, stale_us=10)] == ["drain-1"]
        workers.leave(conn, "drain-1")
        assert workers.alive(conn, kind="drain", now_wall=15, stale_us=10) == []
        assert workers.prune(conn, 5) == 1
        assert workers.alive(conn, kind="resident", now_wall=2, stale_us=10) == []


def test_the_status_counts_everything(ledger: Ledger) -> None:
    event = inbox.InboxEvent("stripe", "evt_1", "invoice.paid", ("in_1",), 1, None)
    with ledger.tx() as conn:
        inbox.receive(conn, [event], received_wall=3, priority=1)
        links.put(conn, links.Link("A", "stripe", "customer", "cus_1"), 1)
        facts.append(conn, [Fact("payment", "pi_1", 0, "A", "gbp", 1, 1)])
        commands.propose(conn, [new_command("k")], now=1, code_version="v1", new_id=counter())
        reviews.reconcile(conn, "A", [Review("k", "A", "r", "s", "d")], 1)
        reviews.reconcile(conn, "B", [Review("k", "B", "r", "s", "d")], 1)
        reviews.reconcile(conn, "B", [], 2)
        workers.beat(conn, name="w", kind="drain", now_wall=5, ends_wall=None)
        workers.beat(conn, name="dead", kind="drain", now_wall=1, ends_wall=None)
    with ledger.read() as conn:
        assert ledger_status(conn, now_wall=6, stale_us=3) == LedgerStatus(
            work=WorkStatus(0, 0, 0, None),
            inbox=InboxStatus(1, 1, 3),
            commands={"planned": 1},
            attempts=0,
            links=1,
            facts=1,
            audit_rows=0,
            open_reviews=1,
            open_conflicts=0,
            workers_alive=1,
        )
