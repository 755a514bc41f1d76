"""The crosswalk refuses two owners of one thing, and merges accounts without losing anything."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from sync_pipeline.core.commands import Review
from sync_pipeline.core.facts import Fact
from sync_pipeline.ledger import base, commands, cursors, facts, links, reviews
from sync_pipeline.ledger.base import BaseEntry
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.ledger.links import Link, LinkConflict
from sync_pipeline.ledger.tables import link
from sync_pipeline_tests.ledger.making import counter, new_command

CUSTOMER = Link("A", "stripe", "customer", "cus_1", subject="A")


def test_a_link_is_found_from_both_sides(ledger: Ledger) -> None:
    subscription = Link("A", "stripe", "subscription", "sub_1", subject="opp_1")
    with ledger.tx() as conn:
        for item in (subscription, CUSTOMER, replace(CUSTOMER, account="B", external_id="cus_2", subject="B")):
            links.put(conn, item, 1)
        assert links.for_accounts(conn, ["A", "nobody"]) == {"A": [CUSTOMER, subscription]}
        assert links.account_of(conn, "stripe", "customer", "cus_2") == "B"
        assert links.account_of(conn, "stripe", "customer", "cus_3") is None
        assert links.accounts_of(conn, "stripe", "customer", ["cus_1", "cus_2", "x"]) == {"cus_1": "A", "cus_2": "B"}
        assert links.all_accounts(conn, "stripe", "customer") == ["A", "B"]
        assert links.all_accounts(conn, "stripe", "subscription") == ["A"]


def test_the_same_link_again_changes_nothing(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        links.put(conn, CUSTOMER, 1)
        links.put(conn, CUSTOMER, 2)
        assert conn.execute(select(link.c.changed_at)).all() == [(1,)]
        links.put(conn, replace(CUSTOMER, role="secondary"), 3)
        assert links.for_accounts(conn, ["A"])["A"] == [replace(CUSTOMER, role="secondary")]
        assert conn.execute(select(link.c.linked_at, link.c.changed_at)).all() == [(1, 3)]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(replace(CUSTOMER, account="B", subject="B"), id="id-of-another-account"),
        pytest.param(replace(CUSTOMER, external_id="cus_2"), id="slot-of-another-id"),
    ],
)
def test_a_conflict_names_both_sides_and_changes_nothing(ledger: Ledger, wanted: Link) -> None:
    with ledger.tx() as conn:
        links.put(conn, CUSTOMER, 1)
        with pytest.raises(LinkConflict) as caught:
            links.put(conn, wanted, 2)
        # The transaction goes on: the engine writes its review into it.
        reviews.reconcile(conn, "A", [Review("k", "A", "ensure_customer", "A", str(caught.value))], 2)
    assert (caught.value.wanted, caught.value.existing) == (wanted, CUSTOMER)
    assert str(wanted) in str(caught.value)
    assert str(CUSTOMER) in str(caught.value)
    with ledger.read() as conn:
        assert links.for_accounts(conn, ["A", "B"]) == {"A": [CUSTOMER]}
        assert len(reviews.open_reviews(conn)) == 1


def test_a_second_one_may_be_secondary_and_another_subject_has_its_own_slot(ledger: Ledger) -> None:
    second = replace(CUSTOMER, external_id="cus_2", role="secondary")
    other = replace(CUSTOMER, external_id="cus_3", subject="opp_9")
    with ledger.tx() as conn:
        for item in (CUSTOMER, second, other):
            links.put(conn, item, 1)
        assert links.for_accounts(conn, ["A"])["A"] == [CUSTOMER, second, other]
        with pytest.raises(LinkConflict):
            links.put(conn, replace(second, role="primary"), 2)


def test_a_tombstone_frees_the_slot_but_never_the_id(ledger: Ledger) -> None:
    replacement = replace(CUSTOMER, external_id="cus_2")
    with ledger.tx() as conn:
        links.put(conn, CUSTOMER, 1)
        assert links.set_state(conn, "stripe", "customer", "cus_1", "tombstoned", 2)
        assert not links.set_state(conn, "stripe", "customer", "cus_1", "tombstoned", 3)
        assert not links.set_state(conn, "stripe", "customer", "unknown", "tombstoned", 3)
        assert links.all_accounts(conn, "stripe", "customer") == []
        with pytest.raises(LinkConflict):
            links.put(conn, replace(CUSTOMER, account="B"), 3)
        links.put(conn, replacement, 4)
        with pytest.raises(LinkConflict) as caught:
            links.set_state(conn, "stripe", "customer", "cus_1", "live", 5)
    assert caught.value.existing == replacement


def test_of_two_at_the_same_time_one_gets_the_slot(ledger_url: str) -> None:
    ledger, outcomes = open_ledger(ledger_url), list[Any]()
    barrier = threading.Barrier(4)

    def adopt(number: int) -> None:
        barrier.wait()
        try:
            with ledger.tx() as conn:
                links.put(conn, replace(CUSTOMER, external_id=f"cus_{number}"), number)
            outcomes.append(f"cus_{number}")
        except LinkConflict as conflict:
            outcomes.append(conflict)
        except BaseException as error:
            outcomes.append(repr(error))

    threads = [threading.Thread(target=adopt, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, str)]
    conflicts = [outcome for outcome in outcomes if isinstance(outcome, LinkConflict)]
    assert (len(winners), len(conflicts)) == (1, 3), outcomes
    assert {conflict.existing.external_id for conflict in conflicts} == set(winners)
    ledger.close()


@pytest.mark.postgres
def test_a_promotion_that_comes_second_is_a_conflict(postgres_ledger_url: str) -> None:
    """Both looked before either wrote: the unique index decides, and the loser's transaction goes on."""
    ledger, raised = open_ledger(postgres_ledger_url), list[LinkConflict]()
    second = replace(CUSTOMER, external_id="cus_2", role="secondary")
    with ledger.tx() as conn:
        links.put(conn, replace(CUSTOMER, role="secondary"), 1)
        links.put(conn, second, 1)

    def promote_second() -> None:
        with ledger.tx() as conn:
            try:
                links.put(conn, replace(second, role="primary"), 3)
            except LinkConflict as conflict:
                raised.append(conflict)
                cursors.put(conn, "went", "on", 3)

    thread = threading.Thread(target=promote_second)
    with ledger.tx() as conn:
        links.put(conn, CUSTOMER, 2)
        thread.start()
        wait_until_blocked(conn)
    thread.join()
    assert [conflict.existing for conflict in raised] == [CUSTOMER]
    with ledger.read() as conn:
        assert links.for_accounts(conn, ["A"])["A"] == [CUSTOMER, second]
        assert cursors.get(conn, "went") == "on"
    ledger.close()


def wait_until_blocked(conn: Connection) -> None:
    """Until another session waits for a lock that this one holds."""
    for _ in range(500):
        waiting = conn.execute(
            text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))")
        )
        if waiting.scalar_one():
            return
        time.sleep(0.01)
    raise AssertionError("nobody waited")


def test_a_merge_moves_everything_and_can_be_repeated(ledger: Ledger) -> None:
    payment = Fact("payment", "pi_1", 0, "old", "gbp", 450, 5, (("invoice", "in_1"),))
    before = [
        Link("old", "salesforce", "account", "old"),
        Link("new", "salesforce", "account", "new"),
        Link("old", "stripe", "customer", "cus_old", subject="old"),
        Link("new", "stripe", "customer", "cus_new", subject="new"),
        Link("old", "stripe", "subscription", "sub_old", subject="opp_old"),
    ]
    with ledger.tx() as conn:
        for item in before:
            links.put(conn, item, 1)
        facts.append(conn, [payment])
        base.put(conn, "old", [BaseEntry("opp_old", "seats", "5", 1), BaseEntry("opp", "seats", "1", 1)], 1)
        base.put(conn, "new", [BaseEntry("opp", "seats", "2", 1)], 1)
        reviews.reconcile(conn, "old", [Review("k", "old", "r", "s", "d")], 1)
        commands.propose(conn, [new_command("k", account="old")], now=1, code_version="1", new_id=counter())
    for now in (2, 3):
        with ledger.tx() as conn:
            links.move_account(conn, "old", "new", now)
    with ledger.read() as conn:
        assert links.for_accounts(conn, ["old", "new"]) == {
            "new": [
                Link("new", "salesforce", "account", "new"),
                Link("new", "salesforce", "account", "old", state="merged_into", role="primary"),
                Link("new", "stripe", "customer", "cus_new", subject="new"),
                Link("new", "stripe", "customer", "cus_old", subject="new", role="secondary"),
                Link("new", "stripe", "subscription", "sub_old", subject="opp_old"),
            ]
        }
        assert links.account_of(conn, "salesforce", "account", "old") == "new"
        assert links.merged_into(conn, ["old", "new"]) == {"old": "new"}
        assert facts.for_accounts(conn, ["old", "new"]) == {"new": [replace(payment, account="new")]}
        assert base.for_accounts(conn, ["old", "new"]) == {"new": {("opp", "seats"): "2", ("opp_old", "seats"): "5"}}
        assert reviews.open_reviews(conn) == []
        assert commands.counts(conn) == {"superseded": 1}


def test_merges_in_a_row_end_at_the_last_account(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        facts.append(conn, [Fact("payment", "pi_1", 0, "a", "gbp", 1, 1)])
        links.move_account(conn, "a", "b", 1)
        links.move_account(conn, "b", "c", 2)
        assert links.merged_into(conn, ["a", "b", "c"]) == {"a": "c", "b": "c"}
        # A late fact of the first account follows when the merge is seen again.
        facts.append(conn, [Fact("payment", "pi_2", 0, "a", "gbp", 1, 1)])
        links.move_account(conn, "a", "c", 3)
        assert list(facts.for_accounts(conn, ["a", "b", "c"])) == ["c"]
        for old, new in (("c", "a"), ("c", "c")):
            with pytest.raises(ValueError, match="cannot merge"):
                links.move_account(conn, old, new, 4)


def test_after_a_merge_is_undone_the_account_has_its_name_again_but_not_what_moved(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        links.put(conn, replace(CUSTOMER, account="old", subject="old"), 1)
        links.move_account(conn, "old", "new", 2)
        links.unalias(conn, ["old", "never merged"])
        assert links.merged_into(conn, ["old"]) == {}
        assert links.account_of(conn, "stripe", "customer", "cus_1") == "new"
        # The other way round is a merge like any other now.
        links.move_account(conn, "new", "old", 3)
        assert links.account_of(conn, "stripe", "customer", "cus_1") == "old"


def test_live_links_of_records_are_found_whichever_account_holds_them(ledger: Ledger) -> None:
    billed = Link("A", "stripe", "subscription", "sub_1", subject="opp_1")
    with ledger.tx() as conn:
        links.put(conn, billed, 1)
        links.put(conn, replace(billed, external_id="sub_0", state="tombstoned"), 1)
        links.put(conn, replace(billed, external_id="sub_2", role="secondary"), 1)
        links.put(conn, replace(billed, account="B", external_id="sub_3", subject="opp_2"), 1)
        found = links.of_subjects(conn, "stripe", "subscription", ["opp_2", "opp_1", "opp_9"])
        assert [each.external_id for each in found] == ["sub_1", "sub_3"]
        assert links.of_subjects(conn, "stripe", "customer", ["opp_1"]) == []
