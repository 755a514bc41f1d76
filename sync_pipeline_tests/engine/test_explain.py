"""explain, live: from a value to its rule, to the facts behind it, to every write and what was there before."""

from __future__ import annotations

import json

import pytest

from sync_pipeline.core.money import Money
from sync_pipeline.engine.explain import NothingToExplain, explain
from sync_pipeline.engine.explain_text import as_data, as_text
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, edit, only, pay, records, win


@pytest.fixture
def paid(sync: Installation) -> Installation:
    """The story's deal, billed and paid; then 450 pounds of it were given back."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    sync.rest()
    (payment,) = records(sync.sandbox, "payment_intent")
    at_stripe(sync.sandbox, "POST", "/v1/refunds", payment_intent=payment["id"], amount=45_000)
    sync.rest()
    return sync


def test_lifetime_value_is_traced_to_its_facts_its_rule_and_its_writes(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")
    (found,) = explain(paid.engine, f"Account/{account['Id']}", "lifetime_value__c")
    assert (found.field, found.shown, found.wanted) == ("Lifetime_Value__c", "44550", "44550")
    assert found.rule is not None
    assert (found.rule.target, found.rule.owner) == ("account.lifetime_value", "stripe")
    assert [each.amount for each in found.behind] == [Money(4_500_000, "GBP"), Money(-45_000, "GBP")]
    assert found.behind[1].object_id == only(paid.sandbox, "refund")["id"]
    assert [(each.old, each.new, each.outcome) for each in found.writes] == [
        ("45000", "44550", "done"),
        ("0", "45000", "done"),
        (None, "0", "done"),
    ]
    events = {each["id"] for each in at_stripe(paid.sandbox, "GET", "/v1/events", type="charge.refunded")["data"]}
    assert set(found.writes[0].evidence["events"]) & events, "the write names the event that led to it"
    invoice = only(paid.sandbox, "invoice")["id"]
    assert [each.evidence["invoices"] for each in found.writes] == [[invoice], [invoice], []]
    assert f"from {invoice}" in as_text([found])
    deal = only(paid.sandbox, "Opportunity")["Id"]
    (first,) = explain(paid.engine, f"Opportunity/{deal}", "First_Payment_At__c")
    assert [each.evidence["invoices"] for each in first.writes] == [[invoice]]


def test_an_edit_by_hand_is_told_apart_from_a_value_that_is_not_written_yet(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")["Id"]
    edit(paid.sandbox, "Account", account, Lifetime_Value__c=1)
    (found,) = explain(paid.engine, f"Account/{account}", "Lifetime_Value__c")
    assert (found.shown, found.wanted, found.agreed) == ("1", "44550", "44550")
    assert found.verdict == "somebody edited it: it is put back"
    assert "(wanted 44550, last agreed on 44550)" in as_text([found])


def test_what_no_field_rule_keeps_is_explained_by_what_was_written(paid: Installation) -> None:
    (item,) = [i for i in only(paid.sandbox, "subscription")["items"]["data"] if i["quantity"] == 20]
    at_stripe(paid.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=28)
    paid.rest()
    (line,) = [each for each in records(paid.sandbox, "OpportunityLineItem") if each["Quantity"] == 28]
    (found,) = explain(paid.engine, f"OpportunityLineItem/{line['Id']}", "Quantity")
    assert found.rule is None
    assert [(each.old, each.new, each.reason) for each in found.writes] == [
        ("20", "28", "seats were changed at Stripe")
    ]


def test_every_field_of_a_record_as_text_and_as_data_without_personal_values(paid: Installation) -> None:
    customer, account = only(paid.sandbox, "customer"), only(paid.sandbox, "Account")
    found = [*explain(paid.engine, f"customer/{customer['id']}"), *explain(paid.engine, f"Account/{account['Id']}")]
    told = as_text(found) + json.dumps(as_data(found), default=str)
    assert account["Name"] not in told
    assert "a personal value (hmac:" in told
    assert {"name", "Lifetime_Value__c", "MRR__c", "Billing_Status__c"} <= {each.field for each in found}
    assert "20 x 60000 minor units every year" in told


@pytest.mark.parametrize(
    ("reference", "field", "message"),
    [
        ("Acount/001Aa0000000001IAA", None, "'Acount' is not an object of the sync; use one of Account"),
        ("Account/001", None, "'001' is not a Salesforce id"),
        ("Account/001Aa0000000099IAA", None, "there is no Account 001Aa0000000099IAA"),
        ("customer/cus_none", None, "there is no customer cus_none"),
        ("Account/001Aa0000000001IAA", "Nonsense__c", "it knows: Billing_Plan__c, Billing_Status__c"),
    ],
)
def test_what_does_not_exist_is_one_clear_line(
    paid: Installation, reference: str, field: str | None, message: str
) -> None:
    with pytest.raises(NothingToExplain, match=message):
        explain(paid.engine, reference, field)
