"""A run that would do more than it may stops before it does, says what it was about to do, and holds the next ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_pipeline.core.rules import Guards
from sync_pipeline.engine.context import Halted
from sync_pipeline.engine.drain import drain, drain_is_needed
from sync_pipeline.engine.guard import GuardTripped, hold
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import ONCE, Installation
from sync_pipeline_tests.engine.people import mark, records, win, writes_since


@pytest.fixture
def guarded(sync: Installation) -> Installation:
    """The story's deal takes a customer and a subscription; one of both is allowed."""
    win(sync.sandbox)
    rules = replace(sync.engine.rules, guards=Guards(creates=1))
    return replace(sync, engine=replace(sync.engine, rules=rules))


def test_a_drain_stops_before_it_goes_too_far_and_stays_stopped_until_a_person_allows_it(guarded: Installation) -> None:
    with pytest.raises(GuardTripped, match=r"2 customers and subscriptions.*at most 1.*reconcile --allow") as stopped:
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
