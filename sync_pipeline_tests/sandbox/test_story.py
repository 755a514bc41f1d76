"""The start of the £45,000 story, exactly as it is told (issue B, data)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync_pipeline.sandbox import story
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.world import build

START = 1_795_000_000
TODAY = datetime.fromtimestamp(START, UTC).date().isoformat()


@pytest.fixture(scope="module")
def desk() -> Desk:
    sandbox = build(now=START)
    story.tell(sandbox)
    return Desk(sandbox)


def test_the_account_has_its_address_tax_registration_and_success_owner(desk: Desk) -> None:
    (account,) = desk.query(
        "SELECT Name, BillingStreet, BillingCity, BillingPostalCode, BillingCountry, Tax_Registration__c, "
        "Tax_Registration_Type__c, Customer_Success_Owner__r.Title, Stripe_Customer_Id__c FROM Account"
    )
    assert account["Name"] == "Northwind Analytics Ltd"
    assert all(account[part] for part in ("BillingStreet", "BillingCity", "BillingPostalCode"))
    assert account["BillingCountry"] == "United Kingdom"
    assert (account["Tax_Registration__c"], account["Tax_Registration_Type__c"]) == ("GB123456789", "gb_vat")
    assert account["Customer_Success_Owner__r"]["Title"] == "Customer Success Manager"
    assert account["Stripe_Customer_Id__c"] is None


def test_the_deal_is_open_at_45000_a_year_with_a_draft_contract(desk: Desk) -> None:
    (deal,) = desk.query(
        "SELECT Name, StageName, Amount, Billing_Interval__c, Term_Months__c, Service_Start_Date__c, "
        "Contract.Status, Contract.ContractTerm FROM Opportunity"
    )
    assert deal["Name"] == "Northwind Analytics - Platform and seats"
    assert (deal["StageName"], deal["Amount"]) == ("Negotiation/Review", 45_000)
    assert (deal["Billing_Interval__c"], deal["Term_Months__c"]) == ("Annual", 12)
    assert deal["Service_Start_Date__c"] == TODAY
    assert (deal["Contract"]["Status"], deal["Contract"]["ContractTerm"]) == ("Draft", 12)


def test_the_lines_are_at_negotiated_prices_below_the_list(desk: Desk) -> None:
    lines = desk.query(
        "SELECT Product2.Name, Product2.Family, Quantity, UnitPrice, TotalPrice, ListPrice, Description "
        "FROM OpportunityLineItem ORDER BY UnitPrice DESC"
    )
    assert [
        (line["Product2"]["Name"], line["Product2"]["Family"], line["Quantity"], line["UnitPrice"], line["TotalPrice"])
        for line in lines
    ] == [
        ("Analytics Platform", "Platform", 1, 30_000, 30_000),
        ("Analyst Seat", "Seats", 20, 600, 12_000),
        ("Viewer Seat", "Seats", 15, 200, 3_000),
    ]
    for line in lines:
        assert line["ListPrice"] > line["UnitPrice"]
        assert line["Description"]


def test_stripe_knows_nothing_yet(desk: Desk) -> None:
    for path in ("customers", "products", "prices", "subscriptions", "events"):
        assert desk.stripe_all(f"/v1/{path}") == []
