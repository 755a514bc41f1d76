"""Lines that are deleted and made again, as quoting tools do, and charges whose line changes before they are billed;
objects of ours that are wanted again while Stripe still keeps the key that made them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import queue
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.recording import record_all
from sync_pipeline.ledger.tables import command
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, create, delete, edit, fault, only, records, win
from sync_pipeline_tests.engine.selling import entry, sell


@pytest.mark.parametrize(("price", "told"), [(600, set()), (550, {"item_on_no_line", "line_not_billed"})])
def test_a_line_that_is_made_again_is_never_billed_twice(sync: Installation, price: int, told: set[str]) -> None:
    """At another price the old seats were billed on beside the new ones until a person ruled."""
    win(sync.sandbox)
    sync.rest()
    (line,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    delete(sync.sandbox, "OpportunityLineItem", line["Id"])
    again = {name: line[name] for name in ("OpportunityId", "PricebookEntryId")}
    create(sync.sandbox, "OpportunityLineItem", **again, Quantity=25, UnitPrice=price)
    sync.wait(60)
    sync.rest()
    assert _seats(sync) == ([1, 15, 25] if price == 600 else [1, 15, 20])
    assert set(sync.open_reviews()) == told


@pytest.mark.parametrize("changes", [{"UnitPrice": 500}, {"Quantity": 2, "UnitPrice": 900}, None])
def test_a_charge_whose_line_changes_before_it_is_billed_is_told(
    sync: Installation, changes: dict[str, Any] | None
) -> None:
    """It waits for the next invoice, for months: a price that was corrected was billed as it had been, untold."""
    win(sync.sandbox)
    sync.rest()
    deal = only(sync.sandbox, "Opportunity")
    fee = entry(sync.sandbox, {"product": "Training"}, None, deal["Pricebook2Id"])
    sold = {"OpportunityId": deal["Id"], "PricebookEntryId": fee, "Charge_Type__c": "One-Time"}
    line = create(sync.sandbox, "OpportunityLineItem", **sold, Quantity=1, UnitPrice=900)
    sync.wait(60)
    sync.rest()
    assert [each["amount"] for each in records(sync.sandbox, "invoiceitem")] == [90_000]
    assert sync.open_reviews() == {}
    if changes is None:
        delete(sync.sandbox, "OpportunityLineItem", line)
    else:
        edit(sync.sandbox, "OpportunityLineItem", line, **changes)
    sync.wait(60)
    sync.rest()
    assert set(sync.open_reviews()) == {"late_charge"}
    assert "by hand" in sync.open_reviews()["late_charge"]


def test_a_tax_registration_that_is_set_back_within_a_day(sync: Installation) -> None:
    """Stripe answered as it had when it was entered first, did nothing, and invoices kept the wrong number."""
    account = only(sync.sandbox, "Account")["Id"]
    edit(sync.sandbox, "Account", account, Tax_Registration__c=None)
    win(sync.sandbox)
    sync.rest()
    for number in ("GB123456789", "GB980780684", "GB123456789"):
        edit(sync.sandbox, "Account", account, Tax_Registration__c=number)
        sync.wait(1800)
        sync.rest()
        assert [each["value"] for each in records(sync.sandbox, "tax_id") if not each.get("deleted")] == [number]
    sync.check_books()


def test_a_coupon_that_a_person_deleted_is_made_again_within_a_day(sync: Installation) -> None:
    """The next deal with this discount was not billed until Stripe had forgotten the key."""
    terms: dict[str, Any] = {"Discount_Percent__c": 10, "Discount_Duration__c": "Once"}
    sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 10}, **terms)
    sync.rest()
    at_stripe(sync.sandbox, "DELETE", f"/v1/coupons/{only(sync.sandbox, 'coupon')['id']}")
    sync.wait(3600)
    sync.rest()
    sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 5}, **terms)
    sync.wait(60)
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 2
    sync.check_books()


def test_a_product_that_a_person_deleted_is_made_again_within_a_day(sync: Installation) -> None:
    """One without a price, which can be deleted."""
    sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 10})
    fault(sync.sandbox, "drop_before", side="stripe", method="POST", path="^/v1/prices$")
    sync.serve_once(only(sync.sandbox, "Account")["Id"])
    sync.sandbox.control("DELETE", "/faults")
    at_stripe(sync.sandbox, "DELETE", f"/v1/products/{only(sync.sandbox, 'product')['id']}")
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 1
    sync.check_books()


@pytest.mark.parametrize("looked", ["before", "after"])
def test_only_a_look_after_it_was_made_shows_that_it_is_gone(sync: Installation, looked: str) -> None:
    """Another worker may have made it meanwhile."""
    sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 10})
    account = only(sync.sandbox, "Account")["Id"]
    sync.serve_once(account)
    sync.wait(2)
    (claim,) = queue.claim_named(sync.engine, "late", [account], Priority.CREATE)
    world = observe(sync.engine, [account])[account]
    columns = select(command.c.key, command.c.target, command.c.body)
    ((key, target, body),) = sync.rows(columns.where(command.c.key.startswith("product:")))
    wanted = Command(
        key=key,
        account=account,
        target=target,
        action="stripe.create",
        priority=Priority.CREATE,
        reason="",
        subject="",
        body=canonical.decode(body),
    )
    if looked == "before":
        world = replace(world, now=world.now - 60_000_000)
    found = record_all(sync.engine, [claim], {account: world}, {account: Plan(commands=(wanted,))}, {}, print)
    assert [row.generation for row in found[account].rows] == [0 if looked == "before" else 1]


def _seats(sync: Installation) -> list[int]:
    return sorted(each["quantity"] for each in only(sync.sandbox, "subscription")["items"]["data"])
