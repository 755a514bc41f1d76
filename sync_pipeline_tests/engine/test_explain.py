"""explain, live: from a value to its rule, to the facts behind it, to every write and what was there before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_pipeline.core.conflict import Side
from sync_pipeline.core.money import Money
from sync_pipeline.engine.explain import NothingToExplain, explain
from sync_pipeline.engine.explain_text import as_data, as_text
from sync_pipeline.engine.explanation import target_of
from sync_pipeline.engine.ruling import rule
from sync_pipeline.ledger import audit, audit_retention, conflicts
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline_tests.engine.installation import DAY, NOW, Installation
from sync_pipeline_tests.engine.people import at_stripe, create, delete, edit, fault, merge, only, pay, records, win


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


def test_what_a_disputed_account_may_lose_is_explained_from_its_items_and_the_invoice(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    invoice, customer = only(sync.sandbox, "invoice"), only(sync.sandbox, "customer")["id"]
    card = at_stripe(sync.sandbox, "POST", "/v1/payment_methods/pm_card_createDispute/attach", customer=customer)
    at_stripe(sync.sandbox, "POST", f"/v1/invoices/{invoice['id']}/pay", payment_method=card["id"])
    sync.wait(61)
    sync.rest()
    text = as_text(explain(sync.engine, f"Account/{only(sync.sandbox, 'Account')['Id']}", "MRR_At_Risk__c"))
    assert "MRR_At_Risk__c = 3750" in text
    assert "= GBP 3,750.00 MRR at risk" in text
    assert f"GBP 45,000.00  {invoice['id']}  invoice {invoice['number']} is disputed" in text


def test_the_first_payment_is_explained_from_the_part_that_came_first(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    invoice, deal = only(sync.sandbox, "invoice")["id"], only(sync.sandbox, "Opportunity")["Id"]
    reported = {
        "amount_requested": {"value": 1_000_000, "currency": "gbp"},
        "customer_details": {"customer": only(sync.sandbox, "customer")["id"]},
        "payment_method_details": {"type": "custom"},
        "initiated_at": NOW,
        "outcome": "guaranteed",
        "guaranteed": {"guaranteed_at": NOW},
    }
    part = at_stripe(sync.sandbox, "POST", "/v1/payment_records/report_payment", **reported)
    at_stripe(sync.sandbox, "POST", f"/v1/invoices/{invoice}/attach_payment", payment_record=part["id"])
    sync.rest()
    (found,) = explain(sync.engine, f"Opportunity/{deal}", "First_Payment_At__c")
    assert [each.amount for each in found.behind] == [Money(1_000_000, "GBP")]
    sync.wait(20 * DAY)
    at_stripe(sync.sandbox, "POST", f"/v1/invoices/{invoice}/pay", paid_out_of_band=True)
    sync.rest()
    (then,) = explain(sync.engine, f"Opportunity/{deal}", "First_Payment_At__c")
    assert [each.amount for each in then.behind] == [Money(1_000_000, "GBP"), Money(3_500_000, "GBP")]
    assert then.behind[0] == found.behind[0]
    assert then.shown == found.shown == (found.behind[0].at or 0) // 1_000_000


def test_a_deal_that_went_along_with_a_merge_has_its_whole_history(paid: Installation) -> None:
    """Of what was written before, it was said that this installation had written it never."""
    deal = only(paid.sandbox, "Opportunity")["Id"]
    (before,) = explain(paid.engine, f"Opportunity/{deal}", "Stripe_Subscription_Id__c")
    old, new = only(paid.sandbox, "Account")["Id"], create(paid.sandbox, "Account", Name="Northwind Group plc")
    merge(paid.sandbox, old, new)
    paid.wait(60)
    paid.rest()
    (after,) = explain(paid.engine, f"Opportunity/{deal}", "Stripe_Subscription_Id__c")
    assert after.account == new
    assert len(before.writes) == 1
    assert after.writes == before.writes


def test_a_deal_that_was_moved_has_its_whole_history(paid: Installation) -> None:
    deal = only(paid.sandbox, "Opportunity")["Id"]
    (before,) = explain(paid.engine, f"Opportunity/{deal}", "Activation_Status__c")
    new = create(paid.sandbox, "Account", Name="Contoso Ltd", BillingCountry="United Kingdom")
    edit(paid.sandbox, "Opportunity", deal, AccountId=new)
    paid.wait(60)
    paid.rest()
    (after,) = explain(paid.engine, f"Opportunity/{deal}", "Activation_Status__c")
    assert after.account == new
    assert [each for each in after.writes if each in before.writes] == list(before.writes)


def test_what_is_put_back_too_often_is_not_said_to_be_put_back(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")["Id"]
    for wrong in (1, 2, 3, 4):
        edit(paid.sandbox, "Account", account, MRR__c=wrong)
        paid.wait(60)
        paid.drain()
    (found,) = explain(paid.engine, f"Account/{account}", "MRR__c")
    assert found.shown == "4"
    assert found.verdict.startswith("it was put back 3 times and edited again: it is left so until 20")


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        ("Salesforce", "somebody edited it, and it was decided that it stays so"),
        ("Stripe", "somebody edited it: it is put back"),
    ],
)
def test_a_conflict_that_is_decided_waits_for_nobody(paid: Installation, kept: Side, verdict: str) -> None:
    contract = only(paid.sandbox, "Contract")["Id"]
    edit(paid.sandbox, "Contract", contract, Stripe_Subscription_Id__c="sub_other")
    paid.wait(60)
    paid.rest()
    (asked,) = explain(paid.engine, f"Contract/{contract}", "Stripe_Subscription_Id__c")
    assert asked.verdict == "somebody edited it: a person has to decide"
    with paid.ledger.read() as conn:
        (conflict,) = conflicts.everything(conn)
    rule(paid.ledger, paid.env, conflict.key, kept, by="me")
    (ruled,) = explain(paid.engine, f"Contract/{contract}", "Stripe_Subscription_Id__c")
    assert ruled.verdict == verdict


def test_of_a_deal_that_is_billed_it_is_not_said_that_nothing_is(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    deal = only(sync.sandbox, "Opportunity")["Id"]
    (found,) = explain(sync.engine, f"Opportunity/{deal}", "First_Payment_At__c")
    assert found.verdict == "nothing is written: no money has come in yet"


def test_an_edit_by_hand_is_told_apart_from_a_value_that_is_not_written_yet(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")["Id"]
    edit(paid.sandbox, "Account", account, Lifetime_Value__c=1)
    (found,) = explain(paid.engine, f"Account/{account}", "Lifetime_Value__c")
    assert (found.shown, found.wanted, found.agreed) == ("1", "44550", "44550")
    assert found.verdict == "somebody edited it: it is put back"
    assert "(wanted 44550, last agreed on 44550)" in as_text([found])


def test_the_seats_of_an_account_are_the_sum_of_what_is_shown_behind_them(paid: Installation) -> None:
    """An attack found it: items of other products stood behind them too, with what they bill in a month."""
    account = only(paid.sandbox, "Account")
    (found,) = explain(paid.engine, f"Account/{account['Id']}", "Seats__c")
    parts = [int(each.what.partition(" x ")[0]) for each in found.behind]
    assert (sorted(parts), found.shown) == ([15, 20], "35")


def test_a_field_of_a_merged_account_is_not_said_to_have_no_rule(paid: Installation) -> None:
    old = only(paid.sandbox, "Account")["Id"]
    merge(paid.sandbox, old, create(paid.sandbox, "Account", Name="Northwind Group plc"))
    paid.wait(60)
    paid.rest()
    (found,) = explain(paid.engine, f"Account/{old}", "MRR__c")
    assert found.verdict == "the record is not there any more; written by account.mrr"


def test_seats_that_are_billed_are_explained_from_the_item_the_line_and_the_target_of_a_write(
    paid: Installation,
) -> None:
    """Somebody edits the line to 23, somebody else the item to 28 and then the line to 30, which is not billed yet."""
    (line,) = [each for each in records(paid.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    subscription = only(paid.sandbox, "subscription")["id"]
    edit(paid.sandbox, "OpportunityLineItem", line["Id"], Quantity=23, UnitPrice=600)
    paid.rest()
    (item,) = [i for i in only(paid.sandbox, "subscription")["items"]["data"] if i["quantity"] == 23]
    at_stripe(paid.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=28)
    paid.rest()
    edit(paid.sandbox, "OpportunityLineItem", line["Id"], Quantity=30, UnitPrice=600)
    editor = only_line(paid, line["Id"])["LastModifiedById"]
    (found,) = explain(paid.engine, f"stripe/subscription_item/{item['id']}", "quantity")
    assert (found.shown, found.wanted, found.agreed) == ("28", "30", "28")
    assert found.verdict == "Stripe will be told: the deal was edited in Salesforce"
    assert found.authority is not None
    assert "Salesforce owns the terms of a deal" in found.authority
    assert "a change at Stripe is followed" in found.authority
    billed, asked = found.behind
    assert (billed.object_id, billed.what) == (
        item["id"],
        f"Stripe bills 28 x 60000 minor units (GBP) every year, on {subscription}",
    )
    assert asked.object_id == line["Id"]
    assert f"asks for 30, edited last by {editor}" in asked.what
    deal = only(paid.sandbox, "Opportunity")["Id"]
    assert [(each.old, each.new, each.reason, each.run) for each in found.writes] == [
        ("23", "28", "seats were changed at Stripe", "test"),
        ("20", "23", "seats were edited in Salesforce", "test"),
        (None, None, f"Opportunity {deal} was won", "test"),
    ]
    of_line, to_stripe, made = found.writes
    assert (of_line.target, made.evidence["object"]) == (f"salesforce/OpportunityLineItem/{line['Id']}", subscription)
    assert str(to_stripe.request_id).startswith("req_")
    (on_line,) = explain(paid.engine, f"OpportunityLineItem/{line['Id']}", "Quantity")
    assert (on_line.shown, on_line.agreed, on_line.writes) == ("30", "28", found.writes)
    of_subscription = {(each.object, each.field) for each in explain(paid.engine, f"subscription/{subscription}")}
    assert of_subscription == {
        ("subscription", "deal"),
        ("subscription_item", "quantity"),
        ("subscription_item", "price"),
    }
    assert "(wanted 30, last agreed on 28)" in as_text([found])


def test_a_price_is_explained_from_both_sides_and_from_the_price_that_was_made(paid: Installation) -> None:
    (line,) = [each for each in records(paid.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    edit(paid.sandbox, "OpportunityLineItem", line["Id"], UnitPrice=660)
    paid.rest()
    (item,) = [i for i in only(paid.sandbox, "subscription")["items"]["data"] if i["quantity"] == 20]
    (on_line,) = explain(paid.engine, f"OpportunityLineItem/{line['Id']}", "UnitPrice")
    assert (on_line.shown, on_line.agreed, on_line.verdict) == ("660", "660", "both systems agree")
    assert [(each.old, each.new) for each in on_line.writes] == [("60000", "66000"), (None, None)]
    (price,) = explain(paid.engine, f"price/{item['price']['id']}")
    assert price.writes[0].reason.startswith("a new negotiated rate of")
    assert [each.object_id for each in price.behind] == [item["id"]], "the item that bills it"
    by_key = explain(paid.engine, f"price:{item['price']['lookup_key']}")
    assert by_key[0].writes == price.writes


def only_line(sync: Installation, line: str) -> dict[str, Any]:
    (found,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each["Id"] == line]
    return found


def test_whatever_a_run_has_written_can_be_asked_for_as_it_is_printed(paid: Installation) -> None:
    with paid.ledger.read() as conn:
        targets = {target_of(row) for row in audit.of_run(conn, "test")}
    assert len(targets) > 10
    for target in targets:
        assert explain(paid.engine, target), target


def test_what_cannot_be_read_is_not_told_as_nothing(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")["Id"]
    fault(paid.sandbox, "stripe_503", side="stripe", times=100)
    with pytest.raises(ReadFailed, match=rf"Account {account} cannot be explained now: .*Stripe"):
        explain(paid.engine, f"Account/{account}", "MRR__c")


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
        ("Acount/001Aa0000000001IAA", None, r"did you mean Account\?$"),
        ("account/001Aa0000000001IAA", "mrr__c", r"'account' is not an object of the sync; did you mean Account\?"),
        ("Customer/cus_none", None, r"'Customer' is not an object of the sync; did you mean customer\?"),
        ("Account/006Aa0000000001IAA", None, "006Aa0000000001IAA is no Account id, but one of Opportunity"),
        ("Account/a0XAa0000000001IAA", None, "a0XAa0000000001IAA is no Account id$"),
        ("Sync_Conflict__c/001Aa0000000001IAA", None, "is no Sync_Conflict__c id, but one of Account"),
        ("customer/sub_none", None, "sub_none is no customer id, but one of subscription"),
        ("subscription/001Aa0000000001IAA", None, "001Aa0000000001IAA is no subscription id, but one of Account"),
        ("PricebookEntry/01uAa0000000001IAA", None, "the sync reads PricebookEntry and writes nothing to it"),
        ("Task/00TAa0000000001MAA", None, "there is no Task 00TAa0000000001MAA"),
        ("subscription_item/si_none", None, "there is no subscription_item si_none"),
        ("price:none", None, "the sync never wrote price:none"),
        ("price/price_none", None, "the sync did not make price price_none; ask for a subscription_item that bills it"),
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


def test_after_retention_no_write_is_not_told_as_never(paid: Installation) -> None:
    account, before = only(paid.sandbox, "Account")["Id"], paid.env.now() + 1
    with paid.ledger.tx() as conn:
        told = {"reason": "old", "run": "retain-1", "code_version": "v1"}
        assert audit_retention.remove(conn, account, before=before, at=paid.env.now(), **told) > 0
    text = as_text(explain(paid.engine, f"Account/{account}", "MRR__c"))
    now = datetime.fromtimestamp(paid.env.now() // 1_000_000, UTC)
    assert f"  written  not since {now:%Y-%m-%d %H:%M:%S}; older entries were removed" in text
    edit(paid.sandbox, "Account", account, MRR__c=1)
    paid.rest()
    lines = as_text(explain(paid.engine, f"Account/{account}", "MRR__c")).splitlines()
    assert "1 -> 3750" in lines[-2]
    assert lines[-1].strip().endswith("; older entries were removed")


def test_what_the_sync_did_to_a_record_is_still_told_when_the_record_is_gone(paid: Installation) -> None:
    (line,) = [each for each in records(paid.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    delete(paid.sandbox, "OpportunityLineItem", line["Id"])
    (found,) = explain(paid.engine, f"OpportunityLineItem/{line['Id']}", "Stripe_Subscription_Item_Id__c")
    assert found.verdict.startswith("the record is not there any more; ")
    assert [(each.old, each.new) for each in found.writes] == [(None, line["Stripe_Subscription_Item_Id__c"])]
