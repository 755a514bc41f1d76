"""Whose turn it is: urgent accounts overtake any wave, nobody starves, and a short allowance is kept for the urgent."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import queue
from sync_pipeline.engine.budget import NOBODY, OLD_US, RESERVES, least_urgent
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.intake import poll_salesforce
from sync_pipeline.engine.queue import AGEING_US, AT_MOST, SOON_OVER, TURNS, Batch
from sync_pipeline.engine.rounds import BatchReport
from sync_pipeline.ledger import allowances, work
from sync_pipeline.ledger.allowances import Allowance
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline_tests.engine.installation import LEASE_SECONDS, ONCE, Installation
from sync_pipeline_tests.engine.people import (
    another_deal,
    create,
    decline,
    edit,
    fault,
    mark,
    only,
    records,
    requests_since,
    win,
)

NO_POLLS = DrainPlan(poll_seconds=10**6, sweep_seconds=10**6)
WAVE = [f"001WAVE{number:08d}" for number in range(100_000)]
URGENT = "001URGENT00000000"


def dirty(sync: Installation, accounts: Iterable[str], priority: Priority, *, due_since_us: int = 0) -> None:
    with sync.ledger.tx() as conn:
        work.mark_dirty(conn, accounts, priority=int(priority), now_wall=sync.env.wall() - due_since_us)


def use_up(sync: Installation, used: int, allowed: int = 1_000) -> None:
    """Other programs of the org use the allowance, and Salesforce has just said so."""
    sync.engine.salesforce.news_of_usage()
    with sync.ledger.tx() as conn:
        allowances.put(conn, Allowance("salesforce", used, allowed, seen_wall=sync.env.wall()))


def names(batch: Batch) -> list[str]:
    return [claim.account for claim in batch.claims]


def test_a_failed_payment_overtakes_a_wave_of_100_000_accounts(sync: Installation) -> None:
    dirty(sync, WAVE, Priority.BULK, due_since_us=AGEING_US)
    assert len(names(queue.next_batch(sync.engine, "one", turn=0))) == AT_MOST
    dirty(sync, [URGENT], Priority.PAYMENT_FAILED)
    assert names(queue.next_batch(sync.engine, "other", turn=0)) == [URGENT]


def test_what_people_change_has_its_class_and_what_the_sync_wrote_comes_last(sync: Installation) -> None:
    """A wave of our own writes, which the next poll shows, must not stand before anybody's deal."""

    def polled() -> int | None:
        sync.wait(60)
        poll_salesforce(sync.ledger, sync.engine.salesforce, sync.env)
        with sync.ledger.read() as conn:
            return work.most_urgent(conn, sync.env.wall())

    win(sync.sandbox)
    sync.rest()
    account, deal = only(sync.sandbox, "Account"), only(sync.sandbox, "Opportunity")
    edit(sync.sandbox, "Account", account["Id"], MRR__c=1)
    assert polled() == Priority.WRITE_BACK
    drain(sync.engine, DrainPlan(poll_seconds=10**9, sweep_seconds=10**9))
    assert only(sync.sandbox, "Account")["MRR__c"] == 3750.0
    assert polled() == Priority.SWEEP
    edit(sync.sandbox, "OpportunityLineItem", records(sync.sandbox, "OpportunityLineItem")[0]["Id"], Description="new")
    assert polled() == Priority.SEATS
    edit(sync.sandbox, "Opportunity", deal["Id"], Name="Renamed")
    assert polled() == Priority.SEATS
    another_deal(sync.sandbox, "Another plc")
    assert polled() == Priority.CREATE


def test_a_flood_of_urgent_accounts_starves_nobody(sync: Installation) -> None:
    dirty(sync, ["001SWEEP"], Priority.SWEEP, due_since_us=1)
    dirty(sync, WAVE[: 5 * AT_MOST], Priority.PAYMENT_FAILED)
    turns = [queue.next_batch(sync.engine, "me", turn=turn) for turn in range(TURNS)]
    assert [len(names(batch)) for batch in turns] == [AT_MOST] * TURNS
    assert ["001SWEEP" in names(batch) for batch in turns] == [False] * (TURNS - 1) + [True]


def test_a_failed_payment_within_a_large_batch_does_not_wait_for_its_end(sync: Installation) -> None:
    """It becomes known while the first accounts of a batch are being read."""
    sandbox = sync.sandbox
    sync.rest()
    many = [create(sandbox, "Account", Name=f"Customer {number} plc") for number in range(SOON_OVER + 5)]
    sync.rest()
    dirty(sync, many, Priority.BULK)
    urgent = only_story(sync)
    look = sync.engine.salesforce.accounts

    def looked(ids: list[str]) -> dict[str, AccountRecords]:
        sync.engine.salesforce.accounts = look  # type: ignore[method-assign]
        dirty(sync, [urgent], Priority.PAYMENT_FAILED)
        return look(ids)

    sync.engine.salesforce.accounts = looked  # type: ignore[method-assign, assignment]
    order: list[BatchReport] = []
    drain(sync.engine, ONCE, order.append)
    assert [(report.accounts, report.settled) for report in order] == [(1, 1), (len(many), len(many))]


def only_story(sync: Installation) -> str:
    return str(only(sync.sandbox, "Opportunity")["AccountId"])


def test_classes_are_served_apart_and_a_batch_gives_way_to_the_more_urgent(sync: Installation) -> None:
    dirty(sync, WAVE[:3], Priority.BULK)
    dirty(sync, [URGENT], Priority.SEATS)
    first, second = (queue.next_batch(sync.engine, "me", turn=turn) for turn in (0, 1))
    assert (names(first), first.gives_way_to) == ([URGENT], Priority.SEATS)
    assert (names(second), second.gives_way_to) == (WAVE[:3], Priority.BULK)
    dirty(sync, ["001SAME"], Priority.BULK)
    assert names(queue.more_urgent(sync.engine, "me", than=second.gives_way_to)) == []
    dirty(sync, ["001MORE"], Priority.WRITE_BACK)
    assert names(queue.more_urgent(sync.engine, "me", than=second.gives_way_to)) == ["001MORE"]


@pytest.mark.parametrize(
    ("percent_used", "least"),
    [(0, 5), (64, 5), (65, 4), (74, 4), (75, 3), (89, 3), (90, 2), (94, 2), (95, 1), (97, 1), (98, 0), (100, NOBODY)],
)
def test_reserves_are_kept_for_the_more_urgent(percent_used: int, least: int) -> None:
    assert least_urgent(Allowance("salesforce", percent_used * 150, 15_000, seen_wall=0), OLD_US) == least


def test_an_allowance_that_nobody_knows_holds_nobody_back() -> None:
    assert least_urgent(None, 0) == Priority.SWEEP
    assert least_urgent(Allowance("salesforce", 100, 100, seen_wall=0), OLD_US + 1) == Priority.SWEEP


@given(st.integers(1, 10**9).flatmap(lambda allowed: st.tuples(st.integers(0, 2 * allowed), st.just(allowed))))
def test_more_use_never_admits_more(numbers: tuple[int, int]) -> None:
    used, allowed = numbers
    least = least_urgent(Allowance("salesforce", used, allowed, 0), 0)
    assert least_urgent(Allowance("salesforce", used + 1, allowed, 0), 0) <= least
    for priority, reserve in RESERVES.items():
        assert (priority <= least) == ((allowed - used) * 100 > reserve * allowed)


def test_a_short_allowance_lets_the_urgent_through_and_tells_who_waits(sync: Installation) -> None:
    dirty(sync, WAVE[:30], Priority.BULK)
    dirty(sync, [URGENT], Priority.PAYMENT_FAILED)
    use_up(sync, 800)
    assert names(queue.next_batch(sync.engine, "me", turn=0)) == [URGENT]
    assert names(queue.next_batch(sync.engine, "me", turn=0)) == []
    assert names(queue.next_batch(sync.engine, "me", turn=TURNS - 1)) == []
    (told,) = queue.held_back(sync.engine)
    assert told.startswith("30 accounts wait: 800 of Salesforce's 1000 calls of the day are used")
    sync.env.sleep(AGEING_US / 1_000_000)
    use_up(sync, 800)
    assert names(queue.next_batch(sync.engine, "me", turn=0)) == [URGENT]
    assert names(queue.next_batch(sync.engine, "me", turn=0)) == WAVE[:30]


def test_a_failed_payment_that_rests_is_still_a_failed_payment_when_it_has_rested(sync: Installation) -> None:
    """An attempt by hand, which Stripe never counts, is told 45 s later: then with the calls that are kept for it."""
    win(sync.sandbox)
    sync.rest()
    decline(sync.sandbox)
    sync.drain()
    assert records(sync.sandbox, "Task") == []
    sync.wait(60)
    use_up(sync, 989)
    drain(sync.engine, ONCE)
    assert len(records(sync.sandbox, "Task")) == 1


def test_seats_that_rest_are_still_seats_when_they_have_rested(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    sync.wait(600)
    sync.rest()
    line = next(each for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600)
    edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=23, UnitPrice=600)
    sync.drain()
    sync.wait(60)
    use_up(sync, 800)
    drain(sync.engine, NO_POLLS)
    assert 23 in {item["quantity"] for item in records(sync.sandbox, "subscription_item")}


def test_no_wait_makes_an_account_as_urgent_as_a_failed_payment(sync: Installation) -> None:
    dirty(sync, WAVE[:3], Priority.CREATE, due_since_us=1000 * AGEING_US)
    use_up(sync, 985)
    assert names(queue.next_batch(sync.engine, "me", turn=0)) == []


def test_nobody_asks_for_changes_with_the_calls_that_are_left_to_failed_payments(sync: Installation) -> None:
    """The poll itself spent the last ones: one every 30 seconds are 2,880 a day."""
    sync.rest()

    def asked() -> int:
        since = mark(sync.sandbox)
        drain(sync.engine, DrainPlan(poll_seconds=0))
        return len(requests_since(sync.sandbox, since, "salesforce"))

    use_up(sync, 980)
    assert asked() == 0
    use_up(sync, 979)
    assert asked() > 0
    use_up(sync, 1_000)
    assert asked() == 0
    sync.env.sleep(OLD_US / 1_000_000 + 1)
    assert asked() > 0


def test_what_a_look_for_changes_hears_of_the_allowance_is_known_to_all(sync: Installation) -> None:
    sync.rest()
    use_up(sync, 900)
    sync.env.sleep(1)
    drain(sync.engine, DrainPlan(poll_seconds=0))
    with sync.ledger.read() as conn:
        known = allowances.get(conn, "salesforce")
    assert known is not None
    assert known.allowed == 100_000


def test_a_spent_allowance_costs_no_more_calls_until_there_are_some_again(sync: Installation) -> None:
    sandbox = sync.sandbox
    sync.rest()
    account = only_story(sync)
    fault(sandbox, "salesforce_limit", side="salesforce", times=1000)
    dirty(sync, [account], Priority.PAYMENT_FAILED)
    sync.drain()
    since = mark(sandbox)
    sync.env.sleep(LEASE_SECONDS)
    for _ in range(5):
        sync.drain()
    looks = [each for each in requests_since(sandbox, since, "salesforce") if account in each["body"]]
    assert looks == []
    sandbox.control("DELETE", "/faults")
    sync.rest()
    with sync.ledger.read() as conn:
        assert work.status(conn, sync.env.wall()).dirty == 0
