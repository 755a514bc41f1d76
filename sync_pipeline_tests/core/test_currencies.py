"""Accounts that buy in several currencies: one Stripe customer for each, and figures that say what they leave out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Plan
from sync_pipeline.core.observation import Absent, Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.world import Billing, Catalogue, Link
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    OPPORTUNITY,
    ORG,
    PERSONAL_KEY,
    RULES,
    account,
    billed,
    customer,
    deal,
    item,
    line,
    subscription,
    world,
)
from sync_pipeline_tests.core.two_systems import TwoSystems

EUROS = "006Euro"
EUR_SLOT = f"{ACCOUNT}:EUR"


def euro_deal(**changed: Any) -> tuple[Any, ...]:
    """1,200 EUR a year on one line."""
    sold = deal(id=EUROS, currency="EUR", **changed).opportunity
    return sold, line(5, id="00kEuro", opportunity_id=EUROS, unit_price=Decimal(1200))


def systems(*records: Any) -> TwoSystems:
    both = TwoSystems(RULES)
    both.put(account(), *records)
    return both


def pound_deal() -> tuple[Any, ...]:
    won = deal()
    return won.opportunity, *won.lines


def by_id(both: TwoSystems) -> dict[str, Customer]:
    return {link.subject: both.customers[link.external_id] for link in both.links if link.kind == "customer"}


def planned(of: Any) -> Plan:
    return plan(of, RULES, PERSONAL_KEY)


def test_each_currency_has_its_own_customer_and_the_account_names_the_first() -> None:
    both = systems(*pound_deal(), *euro_deal())
    both.settle()
    held = by_id(both)
    assert {slot: each.intent for slot, each in held.items()} == {
        ACCOUNT: f"cus:{ORG}:{ACCOUNT}",
        EUR_SLOT: f"cus:{ORG}:{ACCOUNT}:EUR",
    }
    assert {s.currency: s.customer for s in both.subscriptions.values()} == {
        "GBP": held[ACCOUNT].id,
        "EUR": held[EUR_SLOT].id,
    }
    assert both.records[ACCOUNT].stripe_customer_id == held[ACCOUNT].id
    assert {each.name for each in held.values()} == {"Northwind Analytics Ltd"}
    assert both.records[EUROS].billing_status == "Active"
    assert both.step().commands == ()


def test_figures_are_in_the_accounts_currency_and_the_rest_is_told_beside_them() -> None:
    both = systems(*pound_deal(), *euro_deal())
    both.settle()
    for invoice in list(both.invoices):
        both.pay(invoice)
    plans = both.settle()
    bill = both.records[ACCOUNT]
    assert (bill.mrr, bill.lifetime_value) == (3750, 45_000)
    assert bill.other_currencies == "EUR: MRR 100.00, collected 1,200.00"
    assert plans[-1].reviews == ()


def test_a_later_deal_in_another_currency_gets_its_own_customer() -> None:
    both = systems(*pound_deal())
    both.settle()
    both.put(*euro_deal())
    both.settle()
    assert set(by_id(both)) == {ACCOUNT, EUR_SLOT}
    assert both.step().commands == ()


def test_the_first_customer_ever_has_the_accounts_own_slot_whatever_its_currency() -> None:
    both = systems(*euro_deal())
    both.settle()
    (made,) = both.customers.values()
    assert by_id(both) == {ACCOUNT: made}
    assert both.records[ACCOUNT].stripe_customer_id == made.id
    assert both.records[ACCOUNT].other_currencies == "EUR: MRR 100.00"
    both.put(*pound_deal())
    both.settle()
    assert set(by_id(both)) == {ACCOUNT, f"{ACCOUNT}:GBP"}
    assert both.records[ACCOUNT].stripe_customer_id == made.id


def test_a_rule_can_refuse_a_second_currency_and_the_deal_says_so() -> None:
    both = systems(*pound_deal(), *euro_deal())
    both.rules = replace(RULES, commercial=replace(RULES.commercial, other_currencies="refuse"))
    both.settle()
    assert [s.currency for s in both.subscriptions.values()] == ["GBP"]
    assert both.records[EUROS].billing_message == (
        "Not billed: it is in EUR, the Account is billed in GBP, and other_currencies in the rules allows no customer "
        "for a second currency"
    )
    assert both.records[OPPORTUNITY].billing_message is None


def test_a_deleted_customer_stops_its_own_currency_only() -> None:
    sold = euro_deal()
    of = world(
        account=Present(account(stripe_customer_id=CUSTOMER)),
        deals=(deal(), replace(deal(*sold[1:]), opportunity=sold[0])),
        customers={CUSTOMER: Present(Customer(id=CUSTOMER, deleted=True))},
        links=(Link("customer", ACCOUNT, CUSTOMER),),
        billing=Absent("no customer"),
        catalogue=Present(Catalogue()),
    )
    found = planned(of)
    assert [review.rule for review in found.reviews] == ["deleted_customer"]
    made = [c.key for c in found.commands if c.body.get("object") == "customer"]
    assert made == [f"cus:{ORG}:{EUR_SLOT}"]


def test_one_existing_customer_is_never_adopted_for_two_currencies() -> None:
    sold = euro_deal()
    ours = customer(account_id=ACCOUNT)
    deals = (deal(), replace(deal(*sold[1:]), opportunity=sold[0]))
    found = planned(world(deals=deals, candidates=Present((ours,))))
    assert [(c.subject, c.body["external_id"]) for c in found.commands if c.action == "link"] == [(ACCOUNT, CUSTOMER)]
    assert [c.key for c in found.commands if c.body.get("object") == "customer"] == [f"cus:{ORG}:{EUR_SLOT}"]


def test_an_existing_customer_is_only_adopted_for_its_own_currency() -> None:
    in_dollars = customer(account_id=ACCOUNT, currency="USD")
    found = planned(world(candidates=Present((in_dollars,))))
    assert [c.action for c in found.commands if c.body.get("object") == "customer"] == ["stripe.create"]
    assert not [c for c in found.commands if c.action == "link"]


def test_a_customer_of_a_merged_account_counts_and_bills_its_own_currency() -> None:
    merged = customer(id="cus_merged", account_id=ACCOUNT, currency="EUR")
    in_euros = subscription(id="sub_merged", customer="cus_merged", currency="EUR")
    sold = euro_deal()
    of = billed(
        deals=(replace(deal(*sold[1:]), opportunity=sold[0]),),
        customers={CUSTOMER: Present(customer(account_id=ACCOUNT, currency="GBP")), "cus_merged": Present(merged)},
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("customer", ACCOUNT, "cus_merged", "secondary")),
        billing=Present(
            Billing(
                subscriptions=(in_euros,),
                items=(item(subscription="sub_merged", currency="EUR", unit_amount=Decimal(5000)),),
            )
        ),
    )
    found = planned(of)
    assert not [c for c in found.commands if c.body.get("object") == "customer" and c.action != "stripe.update"]
    (write,) = [c for c in found.commands if c.body.get("object") == "Account"]
    assert write.body["fields"]["Other_Currencies__c"] == "EUR: MRR 50.00"


def test_an_account_whose_own_customer_was_deleted_names_the_one_that_came_with_a_merge() -> None:
    merged = customer(id="cus_merged", account_id=ACCOUNT, currency="GBP")
    links = (Link("customer", ACCOUNT, CUSTOMER, "former"), Link("customer", ACCOUNT, "cus_merged", "secondary"))
    found = planned(
        billed(
            deals=(),
            customers={CUSTOMER: Present(customer(deleted=True)), "cus_merged": Present(merged)},
            links=links,
            base={(ACCOUNT, "account.stripe_customer_id"): canonical.encode(CUSTOMER)},
        )
    )
    (write,) = [c for c in found.commands if c.body.get("object") == "Account"]
    assert write.body["fields"]["Stripe_Customer_Id__c"] == "cus_merged"
