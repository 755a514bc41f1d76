"""Lines that are deleted and made again, as quoting tools do, and charges whose line changes before they are billed."""

from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import create, delete, edit, only, records, win
from sync_pipeline_tests.engine.selling import entry


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


def _seats(sync: Installation) -> list[int]:
    return sorted(each["quantity"] for each in only(sync.sandbox, "subscription")["items"]["data"])
