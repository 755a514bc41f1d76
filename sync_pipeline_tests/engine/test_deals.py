"""Deals as they are agreed, billed by Stripe over real HTTP; afterwards both systems agree and nothing is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, edit, mark, only, records, writes_since
from sync_pipeline_tests.engine.selling import sell

DAY = 24 * 3600


def day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def invoices(sync: Installation) -> list[tuple[int, int]]:
    """Subtotal and total after discount, in order of making."""
    found = sorted(records(sync.sandbox, "invoice"), key=lambda each: each["created"])
    return [(each["subtotal"], each["total"]) for each in found]


def seats_billed(sync: Installation) -> list[int]:
    return [item["quantity"] for item in only(sync.sandbox, "subscription")["items"]["data"]]


def at_rest(sync: Installation) -> None:
    certificate = reconcile(sync.engine)
    assert (certificate.left, certificate.agrees) == ([], True)
    start = mark(sync.sandbox)
    assert reconcile(sync.engine).agrees
    assert writes_since(sync.sandbox, start) == []
    sync.check_books()


def seats(price: float, quantity: int = 10, **fields: Any) -> dict[str, Any]:
    return {"product": "Analyst Seat", "price": price, "quantity": quantity, **fields}


def test_a_discount_and_a_set_up_fee_are_on_the_first_invoice(sync: Installation) -> None:
    sell(
        sync.sandbox,
        seats(600),
        {"product": "Onboarding", "price": 500, "Charge_Type__c": "One-Time"},
        Discount_Percent__c=10,
        Discount_Duration__c="Forever",
        Net_Days__c=14,
    )
    sync.rest()
    subscription = only(sync.sandbox, "subscription")
    assert subscription["days_until_due"] == 14
    # 10 seats at £600 and £500 once, 10% off all of it.
    assert invoices(sync) == [(650_000, 585_000)]
    at_rest(sync)


def test_a_deal_that_starts_later_is_billed_from_then_on_as_it_was_last_agreed(sync: Installation) -> None:
    start = day(sync.env.now() // 1_000_000 + 30 * DAY)
    sell(sync.sandbox, seats(600), Service_Start_Date__c=start)
    sync.rest()
    schedule = only(sync.sandbox, "subscription_schedule")
    assert (schedule["status"], records(sync.sandbox, "subscription")) == ("not_started", [])
    (line,) = [
        each
        for each in records(sync.sandbox, "OpportunityLineItem")
        if each["UnitPrice"] == 600 and each["Quantity"] == 10
    ]
    edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=12, UnitPrice=600)
    sync.rest()
    at_rest(sync)
    sync.wait(31 * DAY)
    sync.rest()
    assert day(only(sync.sandbox, "subscription")["start_date"]) == start
    assert invoices(sync) == [(720_000, 720_000)]
    at_rest(sync)


def test_a_ramp_bills_each_year_what_was_agreed_for_it(sync: Installation) -> None:
    sell(
        sync.sandbox,
        seats(600, 10, To_Month__c=12),
        seats(500, 20, From_Month__c=13),
        Term_Months__c=24,
    )
    sync.rest()
    assert invoices(sync) == [(600_000, 600_000)]
    at_rest(sync)
    sync.wait(366 * DAY)
    sync.rest()
    assert invoices(sync) == [(600_000, 600_000), (1_000_000, 1_000_000)]


def test_free_months_are_a_trial(sync: Installation) -> None:
    sell(sync.sandbox, seats(600), Free_Months__c=2)
    sync.rest()
    assert only(sync.sandbox, "subscription")["status"] == "trialing"
    assert {total for _, total in invoices(sync)} <= {0}
    at_rest(sync)


def test_a_refused_tax_registration_is_told_and_the_deal_is_billed(sync: Installation) -> None:
    sandbox = sync.sandbox
    account = only(sandbox, "Account")["Id"]
    edit(sandbox, "Account", account, Tax_Registration__c="GB12", Tax_Registration_Type__c=None)
    sell(sandbox, seats(600))
    sync.rest()
    assert invoices(sync) == [(600_000, 600_000)]
    assert records(sandbox, "tax_id") == []
    assert "Stripe refused the Account's registration" in sync.open_reviews()["tax_id_missing"]
    assert any("has no tax id" in left.what for left in reconcile(sync.engine).left)


def test_edits_of_a_ramp_reach_the_phase_that_runs_and_those_to_come(sync: Installation) -> None:
    later = {"product": "Platform", "price": 1000, "quantity": 1, "From_Month__c": 13}
    deal = sell(sync.sandbox, seats(600), later, Term_Months__c=24)
    sync.rest()
    lines = {e["UnitPrice"]: e for e in records(sync.sandbox, "OpportunityLineItem") if e["OpportunityId"] == deal}
    edit(sync.sandbox, "OpportunityLineItem", lines[600]["Id"], Quantity=15, UnitPrice=600)
    edit(sync.sandbox, "OpportunityLineItem", lines[1000]["Id"], Quantity=2, UnitPrice=1000)
    sync.wait(60)
    sync.rest()
    assert seats_billed(sync) == [15]
    at_rest(sync)
    sync.wait(366 * DAY)
    sync.rest()
    assert seats_billed(sync) == [15, 2]
    at_rest(sync)


def test_a_deal_to_be_charged_waits_for_a_way_to_charge_it(sync: Installation) -> None:
    deal = sell(sync.sandbox, seats(600), Collection_Method__c="Charge Automatically")
    sync.rest()
    (left,) = reconcile(sync.engine).left
    assert left.subject == deal
    assert "has no default payment method to charge" in left.what
    buyer = only(sync.sandbox, "customer")["id"]
    card = at_stripe(sync.sandbox, "POST", "/v1/payment_methods/pm_card_visa/attach", customer=buyer)
    at_stripe(sync.sandbox, "POST", f"/v1/customers/{buyer}", invoice_settings={"default_payment_method": card["id"]})
    sync.rest()
    assert only(sync.sandbox, "subscription")["collection_method"] == "charge_automatically"
    at_rest(sync)


def test_a_deal_that_was_reopened_before_it_knew_its_subscription_is_told_of_it(sync: Installation) -> None:
    deal = sell(sync.sandbox, seats(600))
    sync.rest()
    subscription = only(sync.sandbox, "subscription")["id"]
    reopened = {"StageName": "Negotiation/Review", "Stripe_Subscription_Id__c": None, "Billing_Message__c": None}
    edit(sync.sandbox, "Opportunity", deal, **reopened)
    sync.rest()
    assert "billed_deal_gone" not in sync.open_reviews()
    told = f"it is not won any more, but {subscription} goes on billing it; cancel that, or win it again"
    assert told in [left.what for left in reconcile(sync.engine).left]
