"""The £45,000 deal, round by round: customer and rate card, subscription, write-backs, rest; then the payment."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from sync_pipeline.core.salesforce_records import Contract
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CONTRACT,
    NOW,
    OPPORTUNITY,
    RULES,
    account,
    deal,
    refund,
    story_lines,
)
from sync_pipeline_tests.core.two_systems import TwoSystems

FOUR_DAYS = 4 * 24 * 3600 * MICROS


@pytest.fixture
def systems() -> TwoSystems:
    both = TwoSystems(RULES)
    both.put(
        account(),
        replace(deal().opportunity, contract_id=CONTRACT),
        *story_lines(),
        Contract(id=CONTRACT, account_id=ACCOUNT, status="Draft"),
    )
    return both


def what(systems: TwoSystems, index: int) -> list[tuple[str, str]]:
    return [(system, name) for system, name, *_ in systems.requests[index:]]


def test_the_deal_takes_three_rounds_of_writes_and_no_more(systems: TwoSystems) -> None:
    systems.step()
    assert what(systems, 0) == [("stripe", "customer"), *[("stripe", "product")] * 3, *[("stripe", "price")] * 3]
    systems.step()
    assert what(systems, 7)[0] == ("stripe", "subscription")
    systems.step()
    assert sorted(set(what(systems, 7))) == [
        ("salesforce", "Account"),
        ("salesforce", "Contract"),
        ("salesforce", "Opportunity"),
        ("salesforce", "OpportunityLineItem"),
        ("stripe", "subscription"),
    ]
    assert ("salesforce", "Contract", CONTRACT, {"Status": "Activated"}) in systems.requests
    assert systems.step().commands == ()


def test_the_customer_carries_name_address_registration_and_origin(systems: TwoSystems) -> None:
    systems.step()
    (request,) = (params for _, name, _, params in systems.requests if name == "customer")
    assert request == {
        "name": "Northwind Analytics Ltd",
        "address": {"line1": "14 Fleet Street", "city": "London", "postal_code": "EC4Y 1AA", "country": "GB"},
        "tax_id_data": [{"type": "gb_vat", "value": "GB123456789"}],
        "metadata": {"sf_account_id": ACCOUNT, "sf_intent": f"cus:00DAa0000000001:{ACCOUNT}"},
    }


def test_the_subscription_has_the_three_negotiated_prices(systems: TwoSystems) -> None:
    systems.settle()
    (made,) = systems.subscriptions.values()
    items = [
        (int(systems.prices[i.price].unit_amount or 0), int(i.quantity or 0), i.interval)
        for i in systems.items.values()
    ]
    assert sorted(items) == [(20_000, 15, "year"), (60_000, 20, "year"), (3_000_000, 1, "year")]
    assert (made.currency, made.opportunity_id, made.account_id) == ("GBP", OPPORTUNITY, ACCOUNT)
    (request,) = (params for _, name, _, params in systems.requests if name == "subscription")
    assert request["billing_mode"] == {"type": "flexible"}
    assert (request["collection_method"], request["days_until_due"]) == ("send_invoice", 30)
    assert "backdate_start_date" not in request


def test_salesforce_names_every_stripe_object(systems: TwoSystems) -> None:
    systems.settle()
    (subscription_id,) = systems.subscriptions
    (customer_id,) = systems.customers
    assert systems.records[ACCOUNT].stripe_customer_id == customer_id
    assert systems.records[OPPORTUNITY].stripe_subscription_id == subscription_id
    assert systems.records[CONTRACT].stripe_subscription_id == subscription_id
    by_line = {line_id: i.id for i in systems.items.values() for line_id in i.line_ids}
    assert {line.id: systems.records[line.id].stripe_item_id for line in story_lines()} == by_line


def test_before_the_payment_the_deal_is_pending(systems: TwoSystems) -> None:
    systems.settle()
    shown, bill = systems.records[OPPORTUNITY], systems.records[ACCOUNT]
    assert (shown.activation_status, shown.first_payment_at, shown.billing_status) == ("Pending", None, "Active")
    assert (bill.lifetime_value, bill.mrr) == (Decimal(0), Decimal("3750.00"))
    assert (bill.billing_plan, bill.seats, bill.billing_status) == ("Analytics Platform", 35, "Active")


def test_the_payment_tells_salesforce_the_truth_in_one_round(systems: TwoSystems) -> None:
    systems.settle()
    systems.now = NOW + FOUR_DAYS
    systems.pay("in_made0")
    plans = systems.settle()
    assert len(plans) == 2
    shown, bill = systems.records[OPPORTUNITY], systems.records[ACCOUNT]
    assert str(bill.lifetime_value) == "45000.00"
    assert bill.mrr == Decimal("3750.00")
    assert (shown.activation_status, shown.first_payment_at) == ("Activated", NOW + FOUR_DAYS)


def test_amounts_are_written_with_the_currencys_decimals(systems: TwoSystems) -> None:
    systems.settle()
    written: dict[str, Decimal] = {}
    for _, name, _, fields in systems.requests:
        written |= fields if name == "Account" else {}
    assert (str(written["MRR__c"]), str(written["Lifetime_Value__c"])) == ("3750.00", "0.00")


def test_a_refund_lowers_the_lifetime_value_and_the_deal_stays_activated(systems: TwoSystems) -> None:
    systems.settle()
    systems.pay("in_made0")
    systems.settle()
    (customer_id,) = systems.customers
    systems.refunds["re_1"] = refund(customer=customer_id, amount=4_500_000)
    systems.settle()
    assert systems.records[ACCOUNT].lifetime_value == 0
    assert systems.records[OPPORTUNITY].activation_status == "Activated"
    systems.refunds["re_1"] = replace(systems.refunds["re_1"], status="failed")
    systems.settle()
    assert systems.records[ACCOUNT].lifetime_value == 45_000


def test_a_canceled_subscription_is_never_made_again(systems: TwoSystems) -> None:
    systems.settle()
    (subscription_id,) = systems.subscriptions
    systems.cancel(subscription_id)
    systems.settle()
    assert list(systems.subscriptions) == [subscription_id]
    assert systems.records[OPPORTUNITY].billing_status == "Canceled"
    assert systems.records[ACCOUNT].mrr == 0


def test_an_edit_of_an_owned_field_by_hand_is_put_back(systems: TwoSystems) -> None:
    systems.settle()
    systems.step()
    systems.edit(ACCOUNT, mrr=Decimal("9999.99"))
    plans = systems.settle()
    assert systems.records[ACCOUNT].mrr == Decimal("3750.00")
    (command,) = plans[0].commands
    assert "by hand" in command.reason


@pytest.mark.parametrize(
    ("record", "field", "values"),
    [
        (ACCOUNT, "mrr", [Decimal(1), Decimal(2), Decimal(3), Decimal(4)]),
        (ACCOUNT, "lifetime_value", [Decimal(0)] * 4),
        (OPPORTUNITY, "activation_status", ["Pending"] * 4),
    ],
)
def test_what_is_edited_a_fourth_time_in_a_day_is_left_and_told_until_a_day_has_passed(
    systems: TwoSystems, record: str, field: str, values: list[object]
) -> None:
    systems.settle()
    (invoice,) = systems.invoices
    systems.pay(invoice)
    systems.settle()
    right = getattr(systems.records[record], field)
    for value in values[:3]:
        systems.edit(record, **{field: value})
        systems.settle()
        assert getattr(systems.records[record], field) == right
    systems.edit(record, **{field: values[3]})
    (plan,) = systems.settle()
    assert getattr(systems.records[record], field) == values[3]
    assert [review.rule for review in plan.reviews] == ["edit_war"]
    assert plan.look_again_at == systems.now + 24 * 3_600_000_000
    systems.now += 24 * 3_600_000_000
    systems.settle()
    assert getattr(systems.records[record], field) == right


def test_a_service_start_in_the_past_is_backdated_to_midnight_in_the_business_zone(systems: TwoSystems) -> None:
    systems.edit(OPPORTUNITY, service_start_date="2026-07-01")
    systems.settle()
    (request,) = (params for _, name, _, params in systems.requests if name == "subscription")
    assert request["backdate_start_date"] == 1_782_860_400  # 2026-07-01T00:00 in London is 2026-06-30T23:00Z
