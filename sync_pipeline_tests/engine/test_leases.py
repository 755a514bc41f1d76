"""What a worker holds it keeps for as long as it takes, and not a moment after it stood still for too long."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.ledger import work
from sync_pipeline.ledger.tables import work as work_table
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import edit, mark, only, requests_since, win
from sync_pipeline_tests.sandbox_process import SandboxHandle

LEASE_SECONDS = LEASE_US // 1_000_000
NO_POLLS = DrainPlan(poll_seconds=10**6, sweep_seconds=10**6)


def looks(sandbox: SandboxHandle, since: int) -> Counter[str]:
    """How often each list of Stripe was read."""
    entries = requests_since(sandbox, since, "stripe")
    return Counter(each["path"] for each in entries if each["method"] == "GET")


@pytest.fixture
def renamed(sync: Installation, sandbox: SandboxHandle) -> Installation:
    """A deal at rest whose Account has a new name, which its customer at Stripe has to get."""
    win(sandbox)
    sync.rest()
    account = only(sandbox, "Account")
    edit(sandbox, "Account", account["Id"], Name="Northwind Renamed")
    with sync.ledger.tx() as conn:
        work.mark_dirty(conn, [account["Id"]], priority=int(Priority.WRITE_BACK), now_wall=sync.env.wall())
    return sync


def every_answer_takes(sync: Installation, seconds: float, patched: pytest.MonkeyPatch, others: list[Any]) -> None:
    """Stripe is slow, and another worker looks for work after every answer."""
    ask = type(sync.engine.stripe)._ask

    def slow(*args: Any, **params: Any) -> Any:
        answer = ask(*args, **params)
        sync.env.sleep(seconds)
        with sync.ledger.tx() as conn:
            others.extend(work.claim(conn, owner="other", limit=9, now_wall=sync.env.wall(), lease_us=LEASE_US))
        return answer

    patched.setattr(type(sync.engine.stripe), "_ask", slow)


def test_a_look_at_one_account_that_outlasts_a_lease_keeps_it(
    renamed: Installation, sandbox: SandboxHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[Any] = []
    every_answer_takes(renamed, LEASE_SECONDS / 3, monkeypatch, others)
    report = drain(renamed.engine, NO_POLLS)
    assert others == []
    assert only(sandbox, "customer")["name"] == "Northwind Renamed"
    assert (report.total.settled + report.total.resting, report.total.problems) == (1, set())


def test_an_answer_that_outlasts_a_lease_loses_it_and_the_account_comes_back_later(
    renamed: Installation, sandbox: SandboxHandle
) -> None:
    """It is not looked at over and over again meanwhile, and nothing is written from what was seen so long ago."""
    since = mark(sandbox)
    with pytest.MonkeyPatch.context() as patched:
        ask = type(renamed.engine.stripe)._ask

        def very_slow(*args: Any, **params: Any) -> Any:
            renamed.env.sleep(LEASE_SECONDS + 1)
            return ask(*args, **params)

        patched.setattr(type(renamed.engine.stripe), "_ask", very_slow)
        report = drain(renamed.engine, NO_POLLS)
    assert only(sandbox, "customer")["name"] != "Northwind Renamed"
    assert report.total.deferred == report.total.accounts <= 3
    assert max(looks(sandbox, since).values()) <= 3
    (told,) = report.total.problems
    assert told == "1 accounts are left for later: they took longer than a lease of the queue"
    ((fails,),) = renamed.rows(select(work_table.c.fails))
    assert fails == report.total.accounts
    renamed.rest()
    assert only(sandbox, "customer")["name"] == "Northwind Renamed"
    renamed.check_books()


def test_what_is_let_by_keeps_the_leases_of_who_waits(renamed: Installation, sandbox: SandboxHandle) -> None:
    """A batch gives way to a more urgent one, which takes longer than a lease."""
    engine, env, ledger = renamed.engine, renamed.env, renamed.ledger
    with ledger.tx() as conn:
        (outer,) = work.claim(conn, owner="me", limit=1, now_wall=env.wall(), lease_us=LEASE_US)
        work.mark_dirty(conn, ["001Urgent"], priority=0, now_wall=env.wall())
        (inner,) = work.claim(conn, owner="me", limit=1, now_wall=env.wall(), lease_us=LEASE_US)
    with engine.leases.holding("me", [outer]) as waits:
        with engine.leases.holding("me", [inner]) as first:
            for _ in range(5):
                env.sleep(LEASE_SECONDS / 2)
                engine.stripe.account_id()
            assert (first.claims, first.lost) == ([inner], [])
        assert (waits.claims, waits.lost) == ([outer], [])
        env.sleep(LEASE_SECONDS)
        engine.stripe.account_id()
        assert (waits.claims, waits.lost) == ([], [outer])
