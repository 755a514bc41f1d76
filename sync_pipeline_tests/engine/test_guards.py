"""Runs stop before they write more than they may unasked, say what they were about to write, and hold the next ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_pipeline.core.rules import Guards
from sync_pipeline.engine.apply_plan import apply_plan
from sync_pipeline.engine.context import Halted
from sync_pipeline.engine.doctor import examine
from sync_pipeline.engine.drain import drain, drain_is_needed
from sync_pipeline.engine.guard import GuardTripped, hold
from sync_pipeline.engine.planning import document, foresee_accounts
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import ONCE, Installation
from sync_pipeline_tests.engine.people import another_deal, edit, fault, mark, only, records, win, writes_since

HOUR = 3600


def under(sync: Installation, guards: Guards) -> Installation:
    return replace(sync, engine=replace(sync.engine, rules=replace(sync.engine.rules, guards=guards)))


@pytest.fixture
def guarded(sync: Installation) -> Installation:
    """The story's deal takes a customer and a subscription; one of both is allowed."""
    win(sync.sandbox)
    return under(sync, Guards(creates=1))


def test_a_drain_stops_before_it_goes_too_far_and_stays_stopped_until_a_person_allows_it(guarded: Installation) -> None:
    with pytest.raises(GuardTripped, match=r"2 customers and subscriptions.*at most 1.*apply FILE --allow") as stopped:
        guarded.drain()
    assert len(records(guarded.sandbox, "customer")) == 1
    assert records(guarded.sandbox, "subscription") == []
    assert any(write.target.startswith("sub:") for write in stopped.value.plan.writes)
    guarded.wait(700)
    before = mark(guarded.sandbox)
    with pytest.raises(Halted, match="stopped by a guard"):
        guarded.drain()
    assert writes_since(guarded.sandbox, before) == []
    assert not drain_is_needed(guarded.ledger, guarded.env)
    (told,) = [each for each in examine(guarded.settings) if each.check == "guards"]
    assert (told.verdict, told.detail) == ("failed", hold(guarded.ledger))

    drain(guarded.engine, replace(ONCE, allow=True))
    assert len(records(guarded.sandbox, "subscription")) == 1
    assert hold(guarded.ledger) is None
    guarded.rest()
    guarded.check_books()


def test_a_comparison_stops_before_its_first_write(guarded: Installation) -> None:
    before = mark(guarded.sandbox)
    with pytest.raises(GuardTripped, match="2 customers and subscriptions") as stopped:
        reconcile(guarded.engine)
    assert writes_since(guarded.sandbox, before) == []
    (moved,) = stopped.value.plan.recurring
    assert (moved.currency, moved.before, moved.after) == ("GBP", 0, 375_000)
    certificate = reconcile(guarded.engine, allow=True)
    assert (certificate.left, certificate.agrees) == ([], True)


def seats(sync: Installation, quantity: int) -> None:
    line = next(each for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600)
    edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=quantity)


def test_what_was_refused_does_not_count(sync: Installation) -> None:
    """A change that Stripe turns away again and again is not many changes."""
    win(sync.sandbox)
    sync.rest()
    sync = under(sync, Guards(changes=1))
    seats(sync, 9)
    fault(sync.sandbox, "stripe_429", side="stripe", method="POST", path="subscription_items", times=3)
    assert sync.rest() > 1
    assert 9 in {item["quantity"] for item in records(sync.sandbox, "subscription_item")}
    assert hold(sync.ledger) is None


def test_what_is_parked_and_will_not_be_sent_does_not_count(sync: Installation) -> None:
    """Any mass edit of the Accounts of refused deals stopped everybody, though nothing would have been written."""
    sync = under(sync, Guards(creates=3))
    fault(sync.sandbox, "stripe_402", side="stripe", method="POST", path="/v1/subscriptions", times=100)
    accounts = []
    for number in range(4):
        account, _ = another_deal(sync.sandbox, f"Refused {number}")
        accounts.append(account)
        sync.drain()
        sync.wait(HOUR + 100)
    sync.drain()
    sync.wait(HOUR + 100)
    before = mark(sync.sandbox)
    for account in accounts:
        edit(sync.sandbox, "Account", account, Phone="1")
    sync.drain()
    assert writes_since(sync.sandbox, before) == []
    assert hold(sync.ledger) is None


def test_what_all_runs_have_written_within_the_hours_counts(sync: Installation) -> None:
    """Each drain would be allowed to make one more: together they stop, and an hour later there is room again."""
    sync = under(sync, Guards(creates=2))
    another_deal(sync.sandbox, "One Ltd")
    sync.rest()
    sync.wait(HOUR + 1)
    another_deal(sync.sandbox, "Two Ltd")
    sync.rest()
    another_deal(sync.sandbox, "Three Ltd")
    with pytest.raises(GuardTripped, match="3 customers and subscriptions made at Stripe within an hour"):
        sync.drain()
    assert len(records(sync.sandbox, "customer")) == 2


def test_a_plan_that_a_person_allows_ends_the_stop(guarded: Installation) -> None:
    with pytest.raises(GuardTripped):
        guarded.drain()
    engine = guarded.engine
    ahead = list(foresee_accounts(engine, [only(guarded.sandbox, "Account")["Id"]]))
    guarded.wait(700)
    apply_plan(engine, document(engine, ahead, invoices=False), allow=True)
    assert len(records(guarded.sandbox, "subscription")) == 1
    assert hold(guarded.ledger) is None
    guarded.rest()
    guarded.check_books()


def test_a_stop_ends_when_a_comparison_finds_that_its_cause_is_set_right(guarded: Installation) -> None:
    with pytest.raises(GuardTripped):
        guarded.drain()
    guarded.wait(700)
    with pytest.raises(GuardTripped):
        reconcile(guarded.engine)
    edit(guarded.sandbox, "Opportunity", only(guarded.sandbox, "Opportunity")["Id"], StageName="Prospecting")
    assert reconcile(guarded.engine).accounts > 0
    assert hold(guarded.ledger) is None
    guarded.rest()
    assert records(guarded.sandbox, "subscription") == []


def test_a_stop_waits_for_a_person_and_not_for_an_hour_to_pass(sync: Installation) -> None:
    """What was counted is not forgotten while the stop holds: the comparison of the next night found it within."""
    sync = under(sync, Guards(creates=2))
    another_deal(sync.sandbox, "One Ltd")
    sync.rest()
    another_deal(sync.sandbox, "Two Ltd")
    with pytest.raises(GuardTripped):
        sync.drain()
    sync.wait(HOUR + 100)
    with pytest.raises(GuardTripped):
        reconcile(sync.engine)
    assert len(records(sync.sandbox, "subscription")) == 1
    reconcile(sync.engine, allow=True)
    assert hold(sync.ledger) is None
    assert len(records(sync.sandbox, "subscription")) == 2


def test_a_plan_ends_a_stop_for_the_accounts_that_it_has_written_only(sync: Installation) -> None:
    sync = under(sync, Guards(creates=2))
    first, _ = another_deal(sync.sandbox, "One Ltd")
    sync.rest()
    second, _ = another_deal(sync.sandbox, "Two Ltd")
    with pytest.raises(GuardTripped):
        sync.drain()
    sync.wait(HOUR + 100)
    edit(sync.sandbox, "Account", first, MRR__c=1)
    engine = sync.engine
    for account, left in ((first, True), (second, False)):
        planned = document(engine, foresee_accounts(engine, [account]), invoices=False)
        report = apply_plan(engine, planned, allow=True)
        assert (report.moved, bool(hold(sync.ledger)), bool(report.total.problems)) == ([], left, left)
    assert len(records(sync.sandbox, "subscription")) == 2
