"""Events are stored once, make their account dirty once, and wait openly when their account is unknown."""

from __future__ import annotations

import itertools
import random
import threading

from sync_pipeline.ledger import inbox, work
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.ledger.inbox import InboxEvent


def event(number: int, account: str | None = "acct", source: inbox.Source = "stripe") -> InboxEvent:
    return InboxEvent(source, f"evt_{number}", "invoice.paid", ("in_1", f"sub_{number}"), 1_000 + number, account)


def test_a_repeated_delivery_changes_nothing(ledger: Ledger) -> None:
    for times in range(5):
        with ledger.tx() as conn:
            assert inbox.receive(conn, [event(1), event(1)], received_wall=times, priority=1) == (times == 0)
    with ledger.tx() as conn:
        assert work.claim(conn, owner="me", limit=9, now_wall=9, lease_us=1) == [work.Claim("acct", 1, 1, 0, 1)]


def test_the_same_id_from_the_other_system_is_another_event(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        both = [event(1), event(1, source="salesforce")]
        assert inbox.receive(conn, both, received_wall=1, priority=1) == 2
        assert inbox.receive(conn, [], received_wall=1, priority=1) == 0


def test_the_priority_may_depend_on_the_event(ledger: Ledger) -> None:
    def priority(item: InboxEvent) -> int:
        return int(item.event_id[-1])

    with ledger.tx() as conn:
        inbox.receive(conn, [event(5, "x"), event(3, "y"), event(9, "y")], received_wall=1, priority=priority)
        claims = work.claim(conn, owner="me", limit=9, now_wall=1, lease_us=1)
    assert [item.account for item in claims] == ["y", "x"]


def test_an_event_of_an_unknown_account_waits_for_it(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        inbox.receive(conn, [event(2, None)], received_wall=2, priority=1)
        inbox.receive(conn, [event(1, None), event(3)], received_wall=5, priority=1)
        assert inbox.waiting(conn, 9, after="", with_customer=False) == [event(1, None), event(2, None)]
        assert inbox.waiting(conn, 1, after="evt_1", with_customer=False) == [event(2, None)]
        assert inbox.waiting(conn, 9, after="evt_2", with_customer=False) == [event(1, None), event(2, None)]
        assert inbox.status(conn) == inbox.InboxStatus(total=3, unresolved=2, oldest_unresolved_wall=2)
        inbox.resolve(conn, [(event(2, None), "found")], priority=0, now_wall=7)
        inbox.dismiss(conn, "stripe", "evt_1")
        assert inbox.status(conn) == inbox.InboxStatus(total=3, unresolved=0, oldest_unresolved_wall=None)
        claims = work.claim(conn, owner="me", limit=9, now_wall=7, lease_us=1)
    assert [item.account for item in claims] == ["found", "acct"]


def test_events_that_name_a_customer_wait_apart_from_those_that_do_not(ledger: Ledger) -> None:
    """An id may hold the prefix of a customer's without being one."""
    billed = InboxEvent("stripe", "evt_1", "invoice.paid", ("in_1", "cus_1"), 1, None)
    disputed = InboxEvent("stripe", "evt_2", "charge.dispute.created", ("du_cus_1", "ch_1"), 1, None)
    with ledger.tx() as conn:
        assert inbox.newest_without_customer(conn) is None
        inbox.receive(conn, [disputed], received_wall=2, priority=1)
        inbox.receive(conn, [billed, event(3)], received_wall=5, priority=1)
        assert inbox.waiting(conn, 9, after="", with_customer=True) == [billed]
        assert inbox.waiting(conn, 9, after="", with_customer=False) == [disputed]
        assert inbox.newest_without_customer(conn) == 2
        inbox.dismiss(conn, "stripe", "evt_2")
        assert inbox.newest_without_customer(conn) is None


def test_pruning_keeps_what_is_young_or_unresolved(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        inbox.receive(conn, [event(1), event(2, None)], received_wall=1, priority=1)
        inbox.receive(conn, [event(3)], received_wall=50, priority=1)
        assert inbox.prune(conn, 50) == 1
        assert inbox.status(conn).total == 2
        assert inbox.receive(conn, [event(3)], received_wall=60, priority=1) == 0


def test_receivers_at_the_same_time_agree_on_what_is_new(ledger_url: str) -> None:
    """Four threads deliver the same events in different orders and batches: each counts once."""
    events = [event(number, f"acct_{number % 7}") for number in range(60)]
    ledger, new, errors = open_ledger(ledger_url), itertools.count(), list[BaseException]()

    def deliver(seed: int) -> None:
        shuffled = random.Random(seed).sample(events, len(events))
        try:
            for start in range(0, len(shuffled), 6):
                with ledger.tx() as conn:
                    batch = shuffled[start : start + 6]
                    found = inbox.receive(conn, batch, received_wall=seed, priority=1)
                for _ in range(found):
                    next(new)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=deliver, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert next(new) == 60
    with ledger.tx() as conn:
        claims = work.claim(conn, owner="me", limit=9, now_wall=9, lease_us=1)
    assert sum(item.dirty_seq for item in claims) <= 60
    assert len(claims) == 7
    ledger.close()
