"""Updates of Salesforce without an answer, of values that sales edit too: Salesforce may work on them for minutes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.core import canonical
from sync_pipeline.engine.apply import salesforce_write
from sync_pipeline.engine.resolve import SALESFORCE_GRACE_US
from sync_pipeline.ledger.tables import command, conflict
from sync_pipeline.systems.salesforce.writes import composite_calls
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, fault, only, records, win

GIVEN_UP_SECONDS = SALESFORCE_GRACE_US // 1_000_000 + 1


def test_a_late_write_is_not_taken_for_an_edit_of_sales(sync: Installation) -> None:
    """An attack found it: 25 seats were billed once more after the customer had set 23."""
    body = _in_doubt(sync, happened=False)
    _set_seats(sync, 23)
    sync.drain()
    assert _seats(sync) == 20
    (late,) = composite_calls([salesforce_write("salesforce.update", only(sync.sandbox, "Account")["Id"], body)])
    sync.engine.salesforce.send(late, guard=lambda: None)
    assert _seats(sync) == 25
    sync.wait(60)
    sync.rest()
    assert (_seats(sync), _item(sync)["quantity"]) == (23, 23)
    assert sync.rows(select(conflict.c.key)) == []
    sync.check_books()


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


def _in_doubt(sync: Installation, *, happened: bool) -> dict[str, Any]:
    """The customer has set 25 seats instead of 20; the answer to writing them back is lost. The body of that write."""
    win(sync.sandbox)
    sync.rest()
    sync.wait(3600)
    _set_seats(sync, 25)
    fault(sync.sandbox, "drop_after" if happened else "drop_before", side="salesforce", path="composite", nth=2)
    sync.serve_once(only(sync.sandbox, "Account")["Id"])
    sync.sandbox.control("DELETE", "/faults")
    in_doubt = sync.rows(select(command.c.body).where(command.c.state == "ambiguous"))
    (body,) = [canonical.decode(row.body) for row in in_doubt if "Quantity" in row.body]
    return dict(body)


def _set_seats(sync: Installation, seats: int) -> None:
    """The customer does so at Stripe."""
    at_stripe(sync.sandbox, "POST", f"/v1/subscription_items/{_item(sync)['id']}", quantity=seats)
    sync.wait(60)


def _item(sync: Installation) -> dict[str, Any]:
    items = only(sync.sandbox, "subscription")["items"]["data"]
    (item,) = [each for each in items if each["price"]["unit_amount"] == 60_000]
    return dict(item)


def _seats(sync: Installation) -> int:
    (line,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600]
    return int(line["Quantity"])
