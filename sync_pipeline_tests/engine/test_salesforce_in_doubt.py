"""Writes to Salesforce without an answer: a look tells what became of them, and who may wait for what comes late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.core import canonical
from sync_pipeline.engine.apply import salesforce_write
from sync_pipeline.engine.resolve import SALESFORCE_GRACE_US
from sync_pipeline.engine.undo import plan_undo
from sync_pipeline.ledger import audit
from sync_pipeline.ledger.tables import command, conflict
from sync_pipeline.systems.salesforce.writes import composite_calls
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, edit, fault, mark, only, pay, records, win, writes_since

GIVEN_UP_SECONDS = SALESFORCE_GRACE_US // 1_000_000 + 1


def test_a_late_write_is_not_taken_for_an_edit_of_sales(sync: Installation) -> None:
    """An attack found it: 25 seats were billed once more after the customer had set 23."""
    body = _in_doubt(sync, happened=False)
    _set_seats(sync, 23)
    sync.drain()
    assert _seats(sync) == 20
    _comes_late(sync, body)
    assert (_seats(sync), _item(sync)["quantity"]) == (23, 23)
    assert sync.rows(select(conflict.c.key)) == []


def test_what_a_person_has_ruled_and_the_customer_has_set_since_are_a_conflict(sync: Installation) -> None:
    """A ruling whose answer was lost was taken for undone; it came late, and was billed over the customer's edit."""
    body = _in_doubt(sync, happened=False, ruled=True)
    _set_seats(sync, 23)
    sync.drain()
    assert _seats(sync) == 22
    _comes_late(sync, body)
    assert (_seats(sync), _item(sync)["quantity"]) == (25, 25)
    told = sync.rows(select(conflict.c.base, conflict.c.salesforce, conflict.c.stripe, conflict.c.winner))
    assert told == [('"20"', '"22"', '"25"', "Salesforce"), ('"22"', '"25"', '"23"', "Salesforce")]


def test_what_was_written_is_known_by_the_next_look(sync: Installation) -> None:
    _in_doubt(sync, happened=True)
    _set_seats(sync, 23)
    sync.drain()
    assert _seats(sync) == 23
    sync.rest()
    sync.check_books()


@pytest.mark.parametrize("seats", [25, 23])
def test_what_can_arrive_no_more_is_written_as_it_is_wanted_now(sync: Installation, seats: int) -> None:
    _in_doubt(sync, happened=False)
    _set_seats(sync, seats)
    sync.wait(GIVEN_UP_SECONDS)
    sync.drain()
    assert _seats(sync) == seats
    sync.rest()
    sync.check_books()


@pytest.mark.parametrize("happened", [True, False])
def test_the_audit_has_what_took_effect_without_an_answer(sync: Installation, happened: bool) -> None:
    """It said that nothing was done, so that an undo of the run knew nothing of it."""
    account = _billed(sync)
    pay(sync.sandbox)
    at_stripe(sync.sandbox, "DELETE", f"/v1/subscriptions/{only(sync.sandbox, 'subscription')['id']}")
    sync.wait(60)
    wrong = replace(sync, engine=replace(sync.engine, run="wrong"))
    # Signs in again, so that the next look is one call.
    sync.engine.salesforce.accounts([account])
    _answer_is_lost(sync, happened=happened)
    since = mark(sync.sandbox)
    wrong.serve_once(account)
    sync.sandbox.control("DELETE", "/faults")
    with sync.engine.ledger.read() as conn:
        assert audit.of_run(conn, "wrong") == []
    wrong.wait(60)
    wrong.drain()
    assert len(writes_since(sync.sandbox, since)) == (1 if happened else 2)
    with sync.engine.ledger.read() as conn:
        done = {row.what for row in audit.of_run(conn, "wrong") if row.what.endswith(": done")}
    churn = only(sync.sandbox, "Churn_Record__c")
    assert f"salesforce.upsert salesforce/Churn_Record__c/{churn['Episode_Key__c']}: done" in done
    undo = plan_undo(sync.engine, "wrong")
    assert "Lifetime_Value__c" in {c.field for x in undo.commands[account] for c in x.changes}
    sync.rest()
    sync.check_books()


def _in_doubt(sync: Installation, *, happened: bool, ruled: bool = False) -> dict[str, Any]:
    """The customer has set 25 seats instead of 20; the answer to writing them back is lost. The body of that write.

    `ruled`: sales has set 22, and a person has said that Stripe's count.
    """
    account = _billed(sync)
    _set_seats(sync, 25)
    if ruled:
        edit(sync.sandbox, "OpportunityLineItem", _line(sync)["Id"], Quantity=22, UnitPrice=600)
        sync.rest()
        edit(sync.sandbox, "Sync_Conflict__c", only(sync.sandbox, "Sync_Conflict__c")["Id"], Ruling__c="Stripe")
    _answer_is_lost(sync, happened=happened)
    sync.serve_once(account)
    sync.sandbox.control("DELETE", "/faults")
    in_doubt = sync.rows(select(command.c.body).where(command.c.state == "ambiguous"))
    (body,) = [canonical.decode(row.body) for row in in_doubt if "Quantity" in row.body]
    return dict(body)


def _comes_late(sync: Installation, body: dict[str, Any]) -> None:
    """The write of 25 seats arrives after the customer has set 23, and all that follows from it is done."""
    (late,) = composite_calls([salesforce_write("salesforce.update", only(sync.sandbox, "Account")["Id"], body)])
    sync.engine.salesforce.send(late, guard=lambda: None)
    assert _seats(sync) == 25
    sync.wait(60)
    sync.rest()
    sync.check_books()


def _billed(sync: Installation) -> str:
    """A deal that was won, and is billed; its Account."""
    win(sync.sandbox)
    sync.rest()
    sync.wait(3600)
    return str(only(sync.sandbox, "Account")["Id"])


def _answer_is_lost(sync: Installation, *, happened: bool) -> None:
    """Of the next write to Salesforce: the first composite call is the look before it."""
    fault(sync.sandbox, "drop_after" if happened else "drop_before", side="salesforce", path="composite", nth=2)


def _set_seats(sync: Installation, seats: int) -> None:
    """The customer does so at Stripe."""
    at_stripe(sync.sandbox, "POST", f"/v1/subscription_items/{_item(sync)['id']}", quantity=seats)
    sync.wait(60)


def _item(sync: Installation) -> dict[str, Any]:
    items = only(sync.sandbox, "subscription")["items"]["data"]
    (item,) = [each for each in items if each["price"]["unit_amount"] == 60_000]
    return dict(item)


def _seats(sync: Installation) -> int:
    return int(_line(sync)["Quantity"])


def _line(sync: Installation) -> dict[str, Any]:
    (line,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600]
    return line
