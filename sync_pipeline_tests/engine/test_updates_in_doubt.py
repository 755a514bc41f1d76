"""Updates of Stripe without an answer: sent again only where that takes nobody's edit away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from sync_pipeline.core.commands import Plan
from sync_pipeline.core.rules import Guards
from sync_pipeline.engine.guard import hold
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.resolve import GRACE_US, Doubts, by_the_plan
from sync_pipeline.ledger import commands, links
from sync_pipeline.ledger.tables import attempt, command, conflict, unasked
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import at_stripe, edit, fault, mark, only, records, requests_since, win
from sync_pipeline_tests.sandbox_process import SandboxHandle

ITEM = "POST /v1/subscription_items/{id}"
ITEMS = {"side": "stripe", "method": "POST", "path": "^/v1/subscription_items/"}
GIVEN_UP_SECONDS = GRACE_US // 1_000_000 + 1


@pytest.mark.parametrize("happened", [True, False])
def test_seats_without_an_answer_are_sent_once_more_with_the_same_key_where_they_are_not_shown(
    sandbox: SandboxHandle, tmp_path: Path, happened: bool
) -> None:
    with installed(sandbox, tmp_path) as sync:
        since = _in_doubt(sandbox, sync, happened=happened)
        sync.wait(5)
        sync.rest()
        assert _item(sandbox)["quantity"] == 25
        sent = [each for each in requests_since(sandbox, since, "stripe") if each["endpoint"] == ITEM]
        assert len(sent) == 1 if happened else 2
        keys = select(attempt.c.idempotency_key).join(command, command.c.id == attempt.c.command_id)
        keys = keys.where(command.c.target.contains("subscription_item/"))
        assert len(sync.rows(keys)) == len(sent)
        assert len(set(sync.rows(keys))) == 1
        sync.check_books()


@pytest.mark.parametrize("wait", [5, GIVEN_UP_SECONDS])
def test_an_edit_by_the_customer_is_a_conflict_where_nothing_had_happened(
    sandbox: SandboxHandle, tmp_path: Path, wait: int
) -> None:
    """A simulated seed (14398) found it: the old request was sent again over the edit, and nobody was told."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        at_stripe(sandbox, "POST", f"/v1/subscription_items/{_item(sandbox)['id']}", quantity=23)
        sync.wait(wait)
        sync.drain()
        (found,) = sync.rows(select(conflict.c.base, conflict.c.salesforce, conflict.c.stripe))
        assert tuple(found) == ('"20"', '"25"', '"23"')
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        sync.check_books()


@pytest.mark.parametrize("wait", [5, GIVEN_UP_SECONDS])
def test_an_edit_in_salesforce_is_no_conflict_where_it_had_happened(
    sandbox: SandboxHandle, tmp_path: Path, wait: int
) -> None:
    """A simulated seed (8602) found it: what Stripe shows is what we had sent, so only Salesforce was edited since."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=True)
        edit(sandbox, "OpportunityLineItem", line_of(sandbox, 25)["Id"], Quantity=27, UnitPrice=600)
        sync.wait(wait)
        sync.drain()
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert _item(sandbox)["quantity"] == 27
        assert sync.rows(select(conflict.c.key)) == []
        sync.check_books()


def test_what_the_customer_set_back_since_is_not_sent_a_second_time(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """20 became 25, which took effect, and the customer set 20 again: a new key would bill 25 once more, untold."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=True)
        at_stripe(sandbox, "POST", f"/v1/subscription_items/{_item(sandbox)['id']}", quantity=20)
        sync.wait(GIVEN_UP_SECONDS)
        sync.drain()
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert _item(sandbox)["quantity"] == 20
        assert sync.rows(select(conflict.c.key)) == []
        sync.check_books()


@pytest.mark.parametrize("wait", [5, GIVEN_UP_SECONDS])
def test_what_the_customer_set_since_has_the_last_word_where_it_had_happened(
    sandbox: SandboxHandle, tmp_path: Path, wait: int
) -> None:
    """That it had happened is known only when the old key is asked: until then it is told as a conflict."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=True)
        at_stripe(sandbox, "POST", f"/v1/subscription_items/{_item(sandbox)['id']}", quantity=23)
        sync.wait(wait)
        sync.drain()
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert _item(sandbox)["quantity"] == 23
        assert 23 in [each["Quantity"] for each in records(sandbox, "OpportunityLineItem")]
        assert {status for (status,) in sync.rows(select(conflict.c.status))} <= {"Overtaken"}
        sync.check_books()


@pytest.mark.parametrize("turned_away", ["stripe_409_in_progress", "stripe_lock_timeout"])
def test_a_second_request_that_is_turned_away_tells_nothing_of_the_first(
    sandbox: SandboxHandle, tmp_path: Path, turned_away: str
) -> None:
    """Another body went out under the key of the first, which arrived late, and the account stopped for good."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        body, key = sync.in_doubt()
        fault(sandbox, turned_away, **ITEMS)
        sync.wait(5)
        sync.drain()
        sync.arrives(body, key)
        edit(sandbox, "OpportunityLineItem", line_of(sandbox, 25)["Id"], Quantity=27, UnitPrice=600)
        sync.wait(60)
        for _ in range(3):
            sync.drain()
            sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert sync.open_reviews() == {}
        assert sync.rows(select(conflict.c.key)) == []
        assert _item(sandbox)["quantity"] == 27
        sync.check_books()


@pytest.mark.parametrize("code", [None, "resource_missing"])
def test_a_refusal_tells_nothing_of_the_request_before_it(
    sandbox: SandboxHandle, tmp_path: Path, code: str | None
) -> None:
    """An attack found it: what sales had entered since was taken back by the first request, which arrived late."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        body, key = sync.in_doubt()
        _refuses(sandbox, code, times=1)
        sync.wait(20)
        sync.drain()
        edit(sandbox, "OpportunityLineItem", line_of(sandbox, 25)["Id"], Quantity=30, UnitPrice=600)
        sync.wait(60)
        sync.drain()
        sync.arrives(body, key)
        for _ in range(2):
            sync.wait(GIVEN_UP_SECONDS)
            sync.drain()
        sync.rest()
        assert _item(sandbox)["quantity"] == 30
        assert line_of(sandbox, 30)
        assert sync.rows(select(conflict.c.key)) == []
        sync.check_books()


def test_what_is_refused_for_good_is_parked_when_nothing_can_arrive_any_more(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        _refuses(sandbox, None, times=9)
        since = mark(sandbox)
        for _ in range(3):
            sync.wait(GIVEN_UP_SECONDS)
            sync.drain()
        assert sync.rows(select(command.c.target).where(command.c.state == "ambiguous")) == []
        assert sum(report.total.parked for report in sync.reports) == 1
        # Once with the old key, and once with a new one.
        assert [each["status"] for each in requests_since(sandbox, since) if each["endpoint"] == ITEM] == [400, 400]
        sync.check_books()


def test_a_look_that_could_not_be_made_gives_nothing_up(sandbox: SandboxHandle, tmp_path: Path) -> None:
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=True)
        edit(sandbox, "OpportunityLineItem", line_of(sandbox, 25)["Id"], Quantity=27, UnitPrice=600)
        fault(sandbox, "stripe_503", side="stripe", method="GET", path="^/v1/subscriptions", times=50)
        sync.wait(GIVEN_UP_SECONDS)
        sync.drain()
        sandbox.control("DELETE", "/faults")
        sync.wait(700)
        sync.rest()
        assert _item(sandbox)["quantity"] == 27
        assert sync.rows(select(conflict.c.key)) == []


def test_after_a_day_it_is_sent_under_a_new_key(sandbox: SandboxHandle, tmp_path: Path) -> None:
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        sync.wait(25 * 3600)
        sync.rest()
        assert _item(sandbox)["quantity"] == 25
        done = select(command.c.generation).where(command.c.target.contains("subscription_item/"))
        assert [row.generation for row in sync.rows(done)] == [1]
        sync.check_books()


def test_it_counts_once_for_the_guards_however_often_it_is_sent(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """An outage of Stripe would have stopped everybody: each change counted again with every request."""
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        sync = replace(sync, engine=replace(sync.engine, rules=replace(sync.engine.rules, guards=Guards(changes=1))))
        fault(sandbox, "drop_before", **ITEMS, times=4)
        for _ in range(4):
            sync.wait(30)
            sync.drain()
        changed = select(func.sum(unasked.c.amount)).where(unasked.c.what == "changes")
        assert [tuple(row) for row in sync.rows(changed)] == [(1,)]
        sandbox.control("DELETE", "/faults")
        sync.wait(30)
        reconcile(sync.engine)
        assert hold(sync.ledger) is None
        assert _item(sandbox)["quantity"] == 25


def test_an_update_whose_account_was_merged_during_the_look_is_left_to_the_other(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    with installed(sandbox, tmp_path) as sync:
        _in_doubt(sandbox, sync, happened=False)
        sync.wait(GIVEN_UP_SECONDS)
        account = only(sandbox, "Account")["Id"]
        seen = observe(sync.engine, [account])[account]
        with sync.ledger.tx() as conn:
            rows = commands.unresolved(conn, [account])[account]
            links.move_account(conn, account, "001Aa0000000999AAA", sync.env.now())
            assert by_the_plan(conn, sync.engine, seen, Plan(), rows) == Doubts()
            assert [row.id for row in commands.unresolved(conn, ["001Aa0000000999AAA"])["001Aa0000000999AAA"]] == [
                row.id for row in rows
            ]


def _in_doubt(sandbox: SandboxHandle, sync: Installation, *, happened: bool) -> int:
    """A deal whose 20 seats have become 25 in Salesforce; Stripe's answer to that is lost, and no event wakes us."""
    win(sandbox)
    sync.rest()
    edit(sandbox, "OpportunityLineItem", line_of(sandbox, 20)["Id"], Quantity=25, UnitPrice=600)
    sync.wait(60)
    fault(sandbox, "drop_after" if happened else "drop_before", **ITEMS)
    fault(sandbox, "stripe_503", side="stripe", method="GET", path="^/v1/events$", times=20)
    since = mark(sandbox)
    sync.drain()
    sandbox.control("DELETE", "/faults")
    assert sync.rows(select(command.c.target).where(command.c.state == "ambiguous"))
    return since


def _refuses(sandbox: SandboxHandle, code: str | None, *, times: int) -> None:
    error = {"type": "invalid_request_error", "code": code, "message": "This account cannot do that at present."}
    fault(sandbox, "http", **ITEMS, status=400, body={"error": error}, times=times)


def line_of(sandbox: SandboxHandle, quantity: int) -> dict[str, Any]:
    (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["Quantity"] == quantity]
    return line


def _item(sandbox: SandboxHandle) -> dict[str, Any]:
    (item,) = [
        each for each in only(sandbox, "subscription")["items"]["data"] if each["price"]["unit_amount"] == 60_000
    ]
    return item
