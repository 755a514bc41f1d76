"""The queue: priorities, places, leases, fences, and no wake-up lost by a release or a deferral."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, text

from sync_pipeline.ledger import work
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.ledger.tables import work as table

LEASE = 100


def claim_all(conn: Connection, now: int, owner: str = "me") -> list[work.Claim]:
    return work.claim(conn, owner=owner, limit=100, now_wall=now, lease_us=LEASE)


def test_the_most_urgent_and_then_the_longest_waiting_come_first(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["late"], priority=2, now_wall=30)
        work.mark_dirty(conn, ["early", "Zearly"], priority=2, now_wall=10)
        work.mark_dirty(conn, ["urgent"], priority=0, now_wall=40)
        work.mark_dirty(conn, ["future"], priority=0, now_wall=99)
        first = work.claim(conn, owner="a", limit=2, now_wall=50, lease_us=LEASE)
        rest = work.claim(conn, owner="b", limit=9, now_wall=50, lease_us=LEASE)
    assert [item.account for item in first] == ["urgent", "Zearly"]
    assert [item.account for item in rest] == ["early", "late"]
    assert first[0] == work.Claim("urgent", fence=1, dirty_seq=1, fails=0, priority=0)


def test_many_events_are_one_claim(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        for now in range(5):
            work.mark_dirty(conn, ["a", "a"], priority=3, now_wall=now)
        assert claim_all(conn, 10) == [work.Claim("a", fence=1, dirty_seq=5, fails=0, priority=3)]
        assert claim_all(conn, 10) == []


def test_an_account_that_waits_keeps_its_place_and_the_higher_priority(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=3, now_wall=10)
        work.mark_dirty(conn, ["a"], priority=1, now_wall=20)
        work.mark_dirty(conn, ["a"], priority=4, now_wall=30)
        row = conn.execute(select(table.c.priority, table.c.due_at_wall)).one()
    assert tuple(row) == (1, 10)


def test_a_clean_account_forgets_its_old_priority(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=0, now_wall=10)
        work.release(conn, claim_all(conn, 10)[0], now=7, now_wall=20)
        work.mark_dirty(conn, ["a"], priority=5, now_wall=30)
        row = conn.execute(select(table.c.priority, table.c.due_at_wall, table.c.last_observed_at)).one()
    assert tuple(row) == (5, 30, 7)


def test_an_event_during_the_claim_keeps_the_account_dirty(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=1)
        held = claim_all(conn, 1)[0]
        work.mark_dirty(conn, ["a"], priority=1, now_wall=2)
        assert work.release(conn, held, now=3, now_wall=3)
        assert claim_all(conn, 3) == [work.Claim("a", fence=2, dirty_seq=2, fails=0, priority=1)]


def test_a_busy_account_goes_to_the_end_of_the_queue(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["busy"], priority=1, now_wall=1)
        held = claim_all(conn, 1)[0]
        work.mark_dirty(conn, ["busy", "other"], priority=1, now_wall=2)
        work.release(conn, held, now=3, now_wall=3)
        assert [item.account for item in claim_all(conn, 3)] == ["other", "busy"]


def test_a_deferred_account_waits_but_an_event_makes_it_due(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=1)
        assert work.defer(conn, claim_all(conn, 1)[0], due_at_wall=500, now_wall=2)
        assert claim_all(conn, 499) == []
        assert claim_all(conn, 500) == [work.Claim("a", fence=2, dirty_seq=1, fails=1, priority=1)]
        work.defer(conn, work.Claim("a", 2, 1, 1, 1), due_at_wall=9_000, now_wall=501)
        work.mark_dirty(conn, ["a"], priority=1, now_wall=510)
        assert claim_all(conn, 510) == [work.Claim("a", fence=3, dirty_seq=2, fails=2, priority=1)]


def test_an_event_before_the_deferral_makes_it_due_as_well(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=1)
        held = claim_all(conn, 1)[0]
        work.mark_dirty(conn, ["a"], priority=1, now_wall=2)
        work.defer(conn, held, due_at_wall=9_000, now_wall=3)
        assert [item.fails for item in claim_all(conn, 3)] == [1]


def test_what_an_account_is_to_wait_for_may_end_before_it_waits(ledger: Ledger) -> None:
    """A holder is told that a bulk job has the account; the job ends, and then the account is given back for long."""
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a", "waiting"], priority=1, now_wall=1)
        held, other = claim_all(conn, 1)
        work.defer(conn, other, due_at_wall=9_000, now_wall=2)
        work.wake(conn, ["a", "waiting", "unknown"], now_wall=3)
        work.defer(conn, held, due_at_wall=9_000, now_wall=4)
        woken = claim_all(conn, 4)
        assert [item.account for item in woken] == ["waiting", "a"]
        for item in woken:
            work.release(conn, item, now=5, now_wall=5)
        work.wake(conn, ["a", "waiting"], now_wall=6)
        assert claim_all(conn, 6) == [], "clean ones stay so"


def test_a_release_resets_the_failures(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=1)
        work.defer(conn, claim_all(conn, 1)[0], due_at_wall=2, now_wall=2)
        work.release(conn, claim_all(conn, 2)[0], now=3, now_wall=3)
        work.mark_dirty(conn, ["a"], priority=1, now_wall=4)
        assert claim_all(conn, 4)[0].fails == 0


def test_an_account_that_waits_for_a_day_has_not_failed_and_an_event_makes_it_due(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=1)
        work.defer(conn, claim_all(conn, 1)[0], due_at_wall=2, now_wall=2)
        assert work.rest(conn, claim_all(conn, 2)[0], due_at_wall=9_000, priority=4, now=3, now_wall=3)
        assert claim_all(conn, 8_999) == []
        work.mark_dirty(conn, ["a"], priority=1, now_wall=10)
        held = claim_all(conn, 10)[0]
        assert (held.fails, held.dirty_seq) == (0, 2)
        work.mark_dirty(conn, ["a"], priority=1, now_wall=11)
        work.rest(conn, held, due_at_wall=9_000, priority=4, now=12, now_wall=12)
        assert [item.account for item in claim_all(conn, 12)] == ["a"]


def test_an_account_that_rests_forgets_that_it_was_urgent_unless_something_came_meanwhile(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["rests", "busy"], priority=0, now_wall=1)
        busy, rests = claim_all(conn, 1)
        work.mark_dirty(conn, ["busy"], priority=5, now_wall=2)
        for item in (busy, rests):
            work.rest(conn, item, due_at_wall=9_000, priority=4, now=3, now_wall=3)
        assert [(item.account, item.priority) for item in claim_all(conn, 3)] == [("busy", 0)]
        assert [(item.account, item.priority) for item in claim_all(conn, 9_000)][1:] == [("rests", 4)]


def test_what_rests_is_no_less_urgent_because_something_came_meanwhile(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=5, now_wall=1)
        (held,) = claim_all(conn, 1)
        work.mark_dirty(conn, ["a"], priority=4, now_wall=2)
        work.rest(conn, held, due_at_wall=9_000, priority=0, now=3, now_wall=3)
        assert [item.priority for item in claim_all(conn, 3)] == [0]


def test_a_late_holder_can_do_nothing(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a"], priority=1, now_wall=1)
        late = claim_all(conn, 1, "late")[0]
        assert claim_all(conn, 1 + LEASE - 1, "next") == []
        holder = claim_all(conn, 1 + LEASE, "next")[0]
        assert holder.fence == 2
        assert not work.held(conn, [late], now_wall=50, margin_us=0)
        assert work.extend(conn, [late], owner="late", now_wall=102, lease_us=LEASE) == []
        assert not work.release(conn, late, now=102, now_wall=102)
        assert not work.defer(conn, late, due_at_wall=102, now_wall=102)
        assert work.held(conn, [holder], now_wall=102, margin_us=0)


def test_a_claim_holds_until_its_lease_ends_and_can_be_extended(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a", "b"], priority=1, now_wall=0)
        a, b = claim_all(conn, 0)
        assert work.held(conn, [a], now_wall=0, margin_us=LEASE - 1)
        assert not work.held(conn, [a], now_wall=0, margin_us=LEASE)
        work.release(conn, b, now=1, now_wall=1)
        assert work.extend(conn, [b, a], owner="me", now_wall=90, lease_us=LEASE) == [a]
        assert work.extend(conn, [a], owner="somebody else", now_wall=90, lease_us=9_000) == []
        assert work.held(conn, [a], now_wall=90, margin_us=LEASE - 1)
        assert not work.held(conn, [b], now_wall=1, margin_us=0)
        assert not work.release(conn, replace(a, fence=a.fence + 1), now=1, now_wall=1)
        assert work.held(conn, [b, a], now_wall=90, margin_us=0) == {"a"}


def test_a_lease_that_has_run_out_is_not_extended_even_if_nobody_has_taken_the_account(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["a", "b"], priority=1, now_wall=0)
        a, b = claim_all(conn, 0)
        assert work.extend(conn, [a, b], owner="me", now_wall=LEASE - 1, lease_us=1) == [a, b]
        assert work.extend(conn, [b], owner="me", now_wall=LEASE - 1, lease_us=LEASE) == [b]
        assert work.extend(conn, [a, b], owner="me", now_wall=LEASE, lease_us=LEASE) == [b]
        assert work.due(conn, LEASE) == 1
        assert claim_all(conn, LEASE, "next") == [replace(a, fence=2)]


def test_counts(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        assert work.status(conn, 0) == work.WorkStatus(0, 0, 0, None)
        work.mark_dirty(conn, ["held"], priority=0, now_wall=1)
        claim_all(conn, 1)
        work.mark_dirty(conn, ["x", "y"], priority=1, now_wall=2)
        work.mark_dirty(conn, ["later"], priority=1, now_wall=77)
        assert work.status(conn, 5) == work.WorkStatus(dirty=4, due=2, leased=1, oldest_due_wall=2)
        assert work.due(conn, 5) == 2
        assert work.due(conn, 77 + LEASE) == 4


def test_more_accounts_than_one_statement_can_bind(ledger: Ledger) -> None:
    accounts = [f"{number:018d}" for number in range(12_000)]
    with ledger.tx() as conn:
        work.mark_dirty(conn, accounts, priority=1, now_wall=1)
        work.mark_dirty(conn, iter(accounts), priority=1, now_wall=2)
        work.mark_dirty(conn, [], priority=1, now_wall=2)
        assert work.due(conn, 2) == 12_000
        assert len(work.claim(conn, owner="me", limit=200, now_wall=2, lease_us=LEASE)) == 200


@pytest.mark.parametrize("limit", [1, 3])
def test_a_claim_never_takes_more_than_its_limit(ledger: Ledger, limit: int) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, [str(number) for number in range(10)], priority=1, now_wall=1)
        assert len(work.claim(conn, owner="me", limit=limit, now_wall=1, lease_us=LEASE)) == limit
        assert work.status(conn, 1).leased == limit


@pytest.mark.postgres
def test_no_query_plan_makes_a_claim_take_more_than_its_limit(postgres_ledger_url: str) -> None:
    """Postgres may run a subquery with LIMIT once per row of a nested loop; then the limit would not hold."""
    ledger = open_ledger(postgres_ledger_url)
    with ledger.tx() as conn:
        work.mark_dirty(conn, [f"account {number}" for number in range(50)], priority=1, now_wall=1)
        for other_way in ("hashjoin", "mergejoin", "hashagg", "sort", "material", "memoize"):
            conn.execute(text(f"SET LOCAL enable_{other_way} = off"))
        assert len(work.claim(conn, owner="me", limit=3, now_wall=1, lease_us=LEASE)) == 3
    ledger.close()


@pytest.mark.postgres
def test_marking_the_same_accounts_in_any_order_never_deadlocks(postgres_ledger_url: str) -> None:
    ledger, errors = open_ledger(postgres_ledger_url), list[BaseException]()
    accounts = [f"Account {number}" if number % 2 else f"account {number}" for number in range(300)]

    def mark(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(15):
                with ledger.tx() as conn:
                    work.mark_dirty(conn, chance.sample(accounts, 300), priority=1, now_wall=1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=mark, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    ledger.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from("ab"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["claim", "release", "defer", "die"]), st.just(""), st.integers(0, 150)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_every_event_is_followed_by_a_claim_that_saw_it(
    sqlite_ledger: Ledger, steps: list[tuple[str, str, int]]
) -> None:
    """Whatever claims, releases, deferrals and deaths do: at the end the queue drains, and the last claim
    that was released for an account was made after the account's last event."""
    now, events, seen = 0, {"a": 0, "b": 0}, {"a": 0, "b": 0}
    held: list[tuple[work.Claim, int]] = []
    with sqlite_ledger.tx() as conn:
        conn.execute(table.delete())
        for what, account, number in steps:
            now += 1
            if what == "event":
                work.mark_dirty(conn, [account], priority=number, now_wall=now)
                events[account] += 1
            elif what == "claim":
                now += number
                claims = work.claim(conn, owner="me", limit=1, now_wall=now, lease_us=LEASE)
                held.extend((item, events[item.account]) for item in claims)
            elif held:
                item, known = held.pop(number % len(held))
                if what == "release" and work.release(conn, item, now=now, now_wall=now):
                    seen[item.account] = known
                elif what == "defer":
                    work.defer(conn, item, due_at_wall=now + number, now_wall=now)
        now += 1_000
        for item in claim_all(conn, now):
            assert work.release(conn, item, now=now, now_wall=now)
            seen[item.account] = events[item.account]
        assert work.status(conn, now + 1_000).dirty == 0
    assert seen == events
