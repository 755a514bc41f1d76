"""Updates of Stripe without an answer: sent again only where that takes nobody's edit away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.engine.resolve import GRACE_US
from sync_pipeline.ledger.tables import attempt, command, conflict
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
        edit(sandbox, "OpportunityLineItem", _line(sandbox, 25)["Id"], Quantity=27, UnitPrice=600)
        sync.wait(wait)
        sync.drain()
        sync.wait(GIVEN_UP_SECONDS)
        sync.rest()
        assert _item(sandbox)["quantity"] == 27
        assert sync.rows(select(conflict.c.key)) == []
        sync.check_books()


def _in_doubt(sandbox: SandboxHandle, sync: Installation, *, happened: bool) -> int:
    """A deal whose 20 seats have become 25 in Salesforce; Stripe's answer to that is lost, and no event wakes us."""
    win(sandbox)
    sync.rest()
    edit(sandbox, "OpportunityLineItem", _line(sandbox, 20)["Id"], Quantity=25, UnitPrice=600)
    sync.wait(60)
    fault(sandbox, "drop_after" if happened else "drop_before", **ITEMS)
    fault(sandbox, "stripe_503", side="stripe", method="GET", path="^/v1/events$", times=20)
    since = mark(sandbox)
    sync.drain()
    sandbox.control("DELETE", "/faults")
    assert sync.rows(select(command.c.target).where(command.c.state == "ambiguous"))
    return since


def _line(sandbox: SandboxHandle, quantity: int) -> dict[str, Any]:
    (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["Quantity"] == quantity]
    return line


def _item(sandbox: SandboxHandle) -> dict[str, Any]:
    (item,) = [
        each for each in only(sandbox, "subscription")["items"]["data"] if each["price"]["unit_amount"] == 60_000
    ]
    return item
