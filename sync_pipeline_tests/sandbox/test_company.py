"""The made-up company: believable, of the asked size, the same for the same seed, and the same in both systems."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.sandbox import company, company_plan
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.world import Sandbox, build
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import start_sandbox

ACCOUNTS = 120
Rows = dict[str, list[dict[str, Any]]]


def made(accounts: int, seed: int) -> Sandbox:
    settings = SalesforceSettings(multi_currency=True)
    sandbox = build(seed=seed, now=company_plan.opens_at(START), salesforce_settings=settings)
    company.found(sandbox, accounts=accounts, seed=seed, until=START)
    return sandbox


@pytest.fixture(scope="module")
def truth() -> dict[str, Rows]:
    return made(ACCOUNTS, 1).truth()


def minor(amount: float, currency: str) -> int:
    """Salesforce's JSON number in minor units."""
    exact = Decimal(str(amount)) * (1 if currency == "JPY" else 100)
    assert exact == int(exact)
    return int(exact)


def test_it_has_the_asked_size_and_ends_at_the_asked_moment(truth: dict[str, Any]) -> None:
    assert len(truth["salesforce"]["Account"]) == ACCOUNTS
    assert truth["now"] == START


def test_it_is_believable(truth: dict[str, Rows]) -> None:
    stripe, salesforce = truth["stripe"], truth["salesforce"]
    statuses = Counter(subscription["status"] for subscription in stripe["subscription"])
    assert statuses["active"] > 0.7 * ACCOUNTS
    assert statuses["canceled"] > 0
    assert {charge["status"] for charge in stripe["charge"]} == {"succeeded", "failed"}
    assert any(line["amount"] < 0 for line in stripe["line_item"]), "nobody changed seats in mid-term"
    assert {account["CurrencyIsoCode"] for account in salesforce["Account"]} >= {"GBP", "EUR", "USD"}
    assert {deal["IsWon"] for deal in salesforce["Opportunity"]} == {True, False}
    years = {account["CreatedDate"][:4] for account in salesforce["Account"]}
    assert len(years) >= 3


def test_every_customer_is_an_account_and_every_subscription_a_won_deal(truth: dict[str, Rows]) -> None:
    stripe, salesforce = truth["stripe"], truth["salesforce"]
    won = {deal["Id"]: deal for deal in salesforce["Opportunity"] if deal["IsWon"]}
    customers = {account.get("Stripe_Customer_Id__c"): account for account in salesforce["Account"]}
    assert len(stripe["subscription"]) == len(stripe["customer"]) == len(won)
    for customer in stripe["customer"]:
        account = customers[customer["id"]]
        assert customer["metadata"]["sf_account_id"] == account["Id"]
        assert customer["name"] == account["Name"]
    for subscription in stripe["subscription"]:
        deal = won[subscription["metadata"]["sf_opportunity_id"]]
        assert deal["Stripe_Subscription_Id__c"] == subscription["id"]


def test_lines_and_items_agree_in_quantity_and_price(truth: dict[str, Rows]) -> None:
    lines = {line["Id"]: line for line in truth["salesforce"]["OpportunityLineItem"]}
    compared = 0
    for subscription in truth["stripe"]["subscription"]:
        for item in subscription["items"]["data"]:
            line = lines[item["metadata"]["sf_line_id"]]
            assert line["Quantity"] == item["quantity"]
            currency = subscription["currency"].upper()
            assert minor(line["UnitPrice"], currency) == item["price"]["unit_amount"]
            compared += 1
    assert compared > ACCOUNTS


def test_lifetime_value_is_what_was_collected_less_refunds(truth: dict[str, Rows]) -> None:
    collected: Counter[str] = Counter()
    for invoice in truth["stripe"]["invoice"]:
        collected[invoice["customer"]] += invoice["amount_paid"]
    refunded: Counter[str] = Counter()
    for charge in truth["stripe"]["charge"]:
        refunded[charge["customer"]] += charge["amount_refunded"]
    for account in truth["salesforce"]["Account"]:
        if customer := account.get("Stripe_Customer_Id__c"):
            value = minor(account["Lifetime_Value__c"], account["CurrencyIsoCode"])
            assert value == collected[customer] - refunded[customer]


def test_money_adds_up_on_every_invoice(truth: dict[str, Rows]) -> None:
    lines: Counter[str] = Counter()
    for line in truth["stripe"]["line_item"]:
        lines[line["invoice"]] += line["amount"]
    for invoice in truth["stripe"]["invoice"]:
        assert lines[invoice["id"]] == invoice["subtotal"]
        assert invoice["amount_due"] == invoice["amount_paid"] + invoice["amount_remaining"]


def test_the_same_seed_gives_the_same_company_to_the_byte() -> None:
    first, again, other = (json.dumps(made(12, seed).truth(), sort_keys=True) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_it_is_served() -> None:
    with start_sandbox("--data", "company", "--accounts", "15", "--seed", "2") as handle:
        state = handle.control("GET", "/state")
        assert len(state["salesforce"]["Account"]) == 15
        assert handle.control("GET", "/clock")["frozen"] is False
