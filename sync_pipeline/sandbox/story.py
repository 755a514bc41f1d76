"""The deal that the demo plays: Northwind Analytics, GBP 45,000 a year, negotiated and about to be won.

A base line and two co-terminal seat additions at negotiated prices, on an account with a UK VAT registration.
Stripe knows nothing of it yet: making it so is the work of the pipeline.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.world import Sandbox

# name, product family, list price and negotiated price in pounds a year, quantity, what the line is for
_LINES = (
    ("Analytics Platform", "Platform", 36_000, 30_000, 1, "Annual platform fee, all workspaces"),
    ("Analyst Seat", "Seats", 720, 600, 20, "Named analysts, co-terminal with the platform"),
    ("Viewer Seat", "Seats", 260, 200, 15, "Read-only seats, co-terminal with the platform"),
)
_ACCOUNT = {
    "Name": "Northwind Analytics Ltd",
    "Industry": "Technology",
    "Website": "https://northwind-analytics.example",
    "Phone": "+44 20 7946 0958",
    "BillingStreet": "14 Fleet Street",
    "BillingCity": "London",
    "BillingPostalCode": "EC4Y 1AA",
    "BillingCountry": "United Kingdom",
    "Tax_Registration__c": "GB123456789",
    "Tax_Registration_Type__c": "gb_vat",
}


def tell(sandbox: Sandbox) -> dict[str, str]:
    """Put the story's start into an empty sandbox. Returns the ids: account, opportunity, contract."""
    desk = Desk(sandbox)
    today = datetime.fromtimestamp(sandbox.clock.now(), UTC).date()

    def create(kind: str, **fields: Any) -> str:
        return desk.create(kind, fields)

    (success_owner,) = desk.query("SELECT Id FROM User WHERE Title = 'Customer Success Manager'")
    account = create("Account", **_ACCOUNT, Customer_Success_Owner__c=success_owner["Id"])
    contract = create("Contract", AccountId=account, Status="Draft", StartDate=today.isoformat(), ContractTerm=12)
    (price_book,) = desk.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")
    opportunity = create(
        "Opportunity",
        AccountId=account,
        Name="Northwind Analytics - Platform and seats",
        Type="New Business",
        StageName="Negotiation/Review",
        CloseDate=(today + timedelta(days=7)).isoformat(),
        Pricebook2Id=price_book["Id"],
        ContractId=contract,
        Billing_Interval__c="Annual",
        Term_Months__c=12,
        Service_Start_Date__c=today.isoformat(),
    )
    for name, family, list_price, price, quantity, purpose in _LINES:
        code = name.upper().replace(" ", "-")
        product = create("Product2", Name=name, Family=family, ProductCode=code, IsActive=True)
        entry = create(
            "PricebookEntry", Pricebook2Id=price_book["Id"], Product2Id=product, UnitPrice=list_price, IsActive=True
        )
        create(
            "OpportunityLineItem",
            OpportunityId=opportunity,
            PricebookEntryId=entry,
            Quantity=quantity,
            UnitPrice=price,
            Description=purpose,
        )
    return {"account": account, "opportunity": opportunity, "contract": contract}
