"""What all processes share of the systems' limits: buckets, breakers, and the daily allowance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sync_pipeline.ledger import allowances, breakers, buckets
from sync_pipeline.ledger.allowances import Allowance
from sync_pipeline.ledger.breakers import FAILURES_TO_OPEN, PROBE_US, Breaker
from sync_pipeline.ledger.buckets import Bucket
from sync_pipeline.ledger.database import Ledger, open_ledger

SECOND = 1_000_000
CALLS = Bucket("calls", capacity=3, tokens=2)
ENDPOINT = Bucket("endpoint", capacity=1, tokens=1)


def take(ledger: Ledger, *wanted: Bucket, at: int, cost: int = 1, patience: int = 10) -> int | None:
    with ledger.tx() as conn:
        patient = {replace(each, patience_us=patience * SECOND): cost for each in wanted}
        wait = buckets.take(conn, patient, now_wall=at)
    return None if isinstance(wait, Bucket) else wait


def test_what_is_in_the_bucket_may_go_at_once_and_the_rest_in_turn(ledger: Ledger) -> None:
    waits = [take(ledger, CALLS, at=0) for _ in range(5)]
    assert waits == [0, 0, 0, SECOND // 2, SECOND]


def test_a_bucket_fills_up_to_its_capacity(ledger: Ledger) -> None:
    take(ledger, CALLS, at=0, cost=3)
    assert take(ledger, CALLS, at=3600 * SECOND, cost=4) == SECOND // 2


def test_whoever_would_wait_too_long_takes_nothing(ledger: Ledger) -> None:
    assert take(ledger, CALLS, at=0, cost=4, patience=0) is None
    assert take(ledger, CALLS, at=0, cost=3, patience=0) == 0


def test_of_several_buckets_the_scarcest_decides_and_all_pay(ledger: Ledger) -> None:
    assert [take(ledger, CALLS, ENDPOINT, at=0) for _ in range(2)] == [0, SECOND]
    assert take(ledger, CALLS, ENDPOINT, at=0, patience=1) is None
    assert take(ledger, CALLS, at=0) == 0
    assert take(ledger, CALLS, at=0) == SECOND // 2


def test_time_flows_once_however_the_clocks_differ(ledger: Ledger) -> None:
    take(ledger, CALLS, at=10 * SECOND, cost=3)
    assert take(ledger, CALLS, at=2 * SECOND) == SECOND // 2
    assert take(ledger, CALLS, at=10 * SECOND) == SECOND
    assert take(ledger, CALLS, at=11 * SECOND) == SECOND // 2


def test_a_clock_that_was_far_ahead_stops_nobody_after_it_is_gone(ledger: Ledger) -> None:
    take(ledger, CALLS, at=3600 * SECOND, cost=3)
    assert take(ledger, CALLS, at=0) == SECOND // 2
    assert take(ledger, CALLS, at=SECOND) == 0


def test_tokens_come_back_up_to_the_capacity_and_penalties_are_waited_for(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        buckets.give(conn, CALLS, tokens=100, now_wall=0)
    assert take(ledger, CALLS, at=0, cost=3, patience=0) == 0
    with ledger.tx() as conn:
        buckets.give(conn, CALLS, tokens=-2, now_wall=0)
    assert take(ledger, CALLS, at=0) == 3 * SECOND // 2


def test_tokens_of_a_day_come_one_by_one_through_it(ledger: Ledger) -> None:
    invoices = Bucket("invoices", capacity=10, tokens=10, seconds=24 * 3600)
    assert [take(ledger, invoices, at=0, patience=0) for _ in range(11)] == [*[0] * 10, None]
    a_tenth = 24 * 360 * SECOND
    assert take(ledger, invoices, at=a_tenth - 1, patience=0) is None
    assert take(ledger, invoices, at=a_tenth, patience=0) == 0
    assert take(ledger, invoices, at=a_tenth, patience=0) is None


def test_a_bucket_that_nobody_has_used_for_long_is_forgotten(ledger: Ledger) -> None:
    take(ledger, CALLS, at=0)
    take(ledger, ENDPOINT, at=10 * SECOND)
    with ledger.tx() as conn:
        assert buckets.prune(conn, 10 * SECOND) == 1
    assert take(ledger, ENDPOINT, at=10 * SECOND) == SECOND


@pytest.mark.postgres
def test_processes_share_one_bucket(postgres_ledger_url: str) -> None:
    """Twenty takers at one moment: the capacity goes at once, the others are queued half a second apart."""
    ledger = open_ledger(postgres_ledger_url)
    with ThreadPoolExecutor(20) as pool:
        waits = list(pool.map(lambda _: take(ledger, CALLS, at=0), range(20)))
    ledger.close()
    assert sorted(wait or 0 for wait in waits) == [0, 0, *(n * SECOND // 2 for n in range(18))]


def fail(ledger: Ledger, times: int, *, at: int = 0, jitter: float = 0.0) -> None:
    for _ in range(times):
        with ledger.tx() as conn:
            breakers.failed(conn, "stripe POST /v1/customers", "no answer", now_wall=at, jitter=jitter)


def ask(ledger: Ledger, at: int) -> Breaker | None:
    with ledger.tx() as conn:
        return breakers.ask(conn, "stripe POST /v1/customers", now_wall=at)


def test_some_failures_in_a_row_open_a_breaker(ledger: Ledger) -> None:
    assert ask(ledger, 0) is None
    fail(ledger, FAILURES_TO_OPEN - 1)
    seen = ask(ledger, 0)
    assert seen is not None
    assert not seen.forbids(0)
    fail(ledger, 1)
    seen = ask(ledger, 0)
    assert seen is not None
    assert seen.forbids(0)
    assert (seen.failures, seen.why) == (FAILURES_TO_OPEN, "no answer")


def test_pauses_double_up_to_ten_minutes_and_are_spread_over_their_second_half(ledger: Ledger) -> None:
    fail(ledger, FAILURES_TO_OPEN)
    pauses = []
    for _ in range(9):
        seen = ask(ledger, -1)
        assert seen is not None
        pauses.append(seen.retry_wall / SECOND)
        fail(ledger, 1)
    assert pauses == [2.5, 5, 10, 20, 40, 80, 160, 300, 300]
    fail(ledger, 1, jitter=1.0)
    seen = ask(ledger, -1)
    assert seen is not None
    assert seen.retry_wall == 600 * SECOND


def test_one_caller_probes_and_a_probe_that_dies_is_followed_by_another(ledger: Ledger) -> None:
    fail(ledger, FAILURES_TO_OPEN)
    probe, other = ask(ledger, 3 * SECOND), ask(ledger, 3 * SECOND)
    assert probe is not None
    assert other is not None
    assert (probe.forbids(3 * SECOND), other.forbids(3 * SECOND)) == (False, True)
    later = ask(ledger, 3 * SECOND + PROBE_US)
    assert later is not None
    assert not later.forbids(3 * SECOND + PROBE_US)


def test_what_works_again_has_no_past(ledger: Ledger) -> None:
    fail(ledger, 50)
    with ledger.tx() as conn:
        assert [each.failures for each in breakers.troubled(conn)] == [50]
        breakers.worked(conn, "stripe POST /v1/customers")
        assert breakers.troubled(conn) == []
    assert ask(ledger, 0) is None


def test_the_newest_look_at_an_allowance_stays(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        assert allowances.get(conn, "salesforce") is None
        allowances.put(conn, Allowance("salesforce", 100, 15_000, seen_wall=5))
        allowances.put(conn, Allowance("salesforce", 90, 15_000, seen_wall=4))
        assert allowances.get(conn, "salesforce") == Allowance("salesforce", 100, 15_000, 5)
        allowances.put(conn, Allowance("salesforce", 120, 15_000, seen_wall=6))
        assert allowances.get(conn, "salesforce") == Allowance("salesforce", 120, 15_000, 6)
