"""Conflicts, live: written to Salesforce, ruled there or with `resolve`, and carried out at both systems."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from sync_pipeline.engine.explain import explain
from sync_pipeline.engine.planning import document, foresee_accounts
from sync_pipeline.engine.reconcile import compare, read_tables, reconcile
from sync_pipeline.engine.ruling import rule
from sync_pipeline.ledger.database import LedgerError
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import (
    BETWEEN_EDITS_SECONDS,
    at_stripe,
    edit,
    mark,
    only,
    records,
    win,
    writes_since,
)


@pytest.fixture
def clashed(sync: Installation) -> Installation:
    """The story's deal, billed; ten days later seats were changed on both sides, from 20."""
    win(sync.sandbox)
    sync.rest()
    sync.wait(10 * DAY)
    item = next(i for i in only(sync.sandbox, "subscription")["items"]["data"] if i["quantity"] == 20)
    at_stripe(sync.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=22)
    line = next(each for each in records(sync.sandbox, "OpportunityLineItem") if each["Quantity"] == 20)
    edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
    sync.wait(60)
    sync.rest()
    return sync


def seats(sync: Installation) -> tuple[float, int]:
    """Analyst Seats in Salesforce and at Stripe."""
    (line,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600]
    items = only(sync.sandbox, "subscription")["items"]["data"]
    (item,) = [each for each in items if each["id"] == line["Stripe_Subscription_Item_Id__c"]]
    return line["Quantity"], item["quantity"]


def conflict(sync: Installation) -> dict[str, Any]:
    return only(sync.sandbox, "Sync_Conflict__c")


def settled_for_good(sync: Installation) -> None:
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def test_a_person_overrules_a_conflict_in_salesforce(clashed: Installation) -> None:
    found = conflict(clashed)
    assert seats(clashed) == (25.0, 25)
    assert {name: found[name] for name in ("Base_Value__c", "Salesforce_Value__c", "Stripe_Value__c")} == {
        "Base_Value__c": "20",
        "Salesforce_Value__c": "25",
        "Stripe_Value__c": "22",
    }
    assert (found["Winner__c"], found["Status__c"]) == ("Salesforce", "Decided")
    assert found["Account__c"] == only(clashed.sandbox, "Account")["Id"]
    (line,) = [each for each in records(clashed.sandbox, "OpportunityLineItem") if each["Id"] == found["Record_Id__c"]]
    assert (found["Salesforce_Edited_By__c"], found["Salesforce_Edited_At__c"]) == (
        line["LastModifiedById"],
        line["LastModifiedDate"],
    )
    edited_at = datetime.fromisoformat(found["Salesforce_Edited_At__c"])
    at_stripe_at = datetime.fromisoformat(found["Stripe_Edited_At__c"])
    assert (edited_at - at_stripe_at).total_seconds() == BETWEEN_EDITS_SECONDS
    assert found["Stripe_Event__c"].startswith("evt_")
    assert found["Reason__c"] == "changed on both sides: 25 in Salesforce, 22 at Stripe; Salesforce wins"
    edit(clashed.sandbox, "Sync_Conflict__c", found["Id"], Ruling__c="Stripe")
    ahead = document(clashed.engine, foresee_accounts(clashed.engine, [found["Account__c"]]))
    assert [(w.field, w.old, w.new) for w in ahead.writes if w.field in ("Quantity", "quantity", "Winner__c")] == [
        ("Quantity", '"25"', '"22"'),
        ("quantity", '"25"', '"22"'),
        ("Winner__c", '"Salesforce"', '"Stripe"'),
    ]
    clashed.rest()
    clashed.wait(60)
    clashed.rest()
    assert seats(clashed) == (22.0, 22)
    assert (conflict(clashed)["Winner__c"], conflict(clashed)["Status__c"]) == ("Stripe", "Decided")
    told = explain(clashed.engine, f"Sync_Conflict__c/{found['Id']}", "Winner__c")
    assert told[0].writes[0].new == "Stripe"
    settled_for_good(clashed)


def test_a_ruling_that_no_poll_has_seen_is_carried_out_by_the_nightly_comparison(clashed: Installation) -> None:
    edit(clashed.sandbox, "Sync_Conflict__c", conflict(clashed)["Id"], Ruling__c="Stripe")
    assert compare(clashed.engine, read_tables(clashed.engine)).different() == [conflict(clashed)["Account__c"]]


def test_a_ruling_from_the_command_line(clashed: Installation) -> None:
    key = conflict(clashed)["Conflict_Key__c"]
    with pytest.raises(LedgerError, match="names 0 conflicts"):
        rule(clashed.ledger, clashed.env, "nothing", "Stripe", by="Robin")
    for unset in ("", " "):
        # As a shell gives a variable that is not set: the only conflict that there is was decided by it.
        with pytest.raises(LedgerError, match="no conflict is named"):
            rule(clashed.ledger, clashed.env, unset, "Stripe", by="Robin")
    assert rule(clashed.ledger, clashed.env, key[:6], "Stripe", by="Robin").stripe_in_words == "22"
    clashed.rest()
    clashed.wait(60)
    clashed.rest()
    assert seats(clashed) == (22.0, 22)
    found = conflict(clashed)
    assert (found["Ruling__c"], found["Winner__c"]) == ("Stripe", "Stripe")
    assert found["Decided_By__c"] == "Robin with sync-pipeline resolve"
    (quantity,) = explain(clashed.engine, f"OpportunityLineItem/{found['Record_Id__c']}", "Quantity")
    (told,) = [each.what for each in quantity.behind if each.object_id == key]
    assert told.endswith("; Salesforce wins; Robin with sync-pipeline resolve decided: Stripe counts")
    settled_for_good(clashed)
