"""What sales people do in Salesforce beyond the story's one deal: products, and Opportunities with lines."""

from __future__ import annotations

from typing import Any

from sync_pipeline_tests.engine.people import create, edit, records
from sync_pipeline_tests.sandbox_process import SandboxHandle

Line = dict[str, Any]
"""A line: product (a name), quantity, price; further keys are fields of the line."""


def sell(sandbox: SandboxHandle, *lines: Line, account: str | None = None, **fields: Any) -> str:
    """An Opportunity with these lines is won; its id. The Account is the story's unless another is named."""
    opportunity = offer(sandbox, *lines, account=account, **fields)
    edit(sandbox, "Opportunity", opportunity, StageName="Closed Won")
    return opportunity


def offer(sandbox: SandboxHandle, *lines: Line, account: str | None = None, **fields: Any) -> str:
    """An Opportunity with these lines, not won yet; its id."""
    pattern = records(sandbox, "Opportunity")[0]
    values = {
        "AccountId": account or pattern["AccountId"],
        "Name": "A further deal",
        "StageName": "Negotiation/Review",
        "CloseDate": pattern["CloseDate"],
        "Pricebook2Id": pattern["Pricebook2Id"],
        "Billing_Interval__c": "Annual",
        "Term_Months__c": 12,
        "Service_Start_Date__c": pattern["Service_Start_Date__c"],
    }
    opportunity = create(sandbox, "Opportunity", **(values | fields))
    for line in lines:
        more = {key: value for key, value in line.items() if key not in ("product", "quantity", "price", "family")}
        create(
            sandbox,
            "OpportunityLineItem",
            OpportunityId=opportunity,
            PricebookEntryId=entry(sandbox, line, fields.get("CurrencyIsoCode"), pattern["Pricebook2Id"]),
            Quantity=line.get("quantity", 1),
            UnitPrice=line["price"],
            **more,
        )
    return opportunity


def entry(sandbox: SandboxHandle, line: Line, currency: str | None, book: str) -> str:
    """The price book entry of a product in a currency, made where it is missing."""
    known = [each for each in records(sandbox, "Product2") if each["Name"] == line["product"]]
    if known:
        product = str(known[0]["Id"])
    else:
        product = create(sandbox, "Product2", Name=line["product"], Family=line.get("family"), IsActive=True)
    for each in records(sandbox, "PricebookEntry"):
        if (each["Product2Id"], each.get("CurrencyIsoCode")) == (product, currency or each.get("CurrencyIsoCode")):
            return str(each["Id"])
    in_currency = {"CurrencyIsoCode": currency} if currency else {}
    return create(
        sandbox, "PricebookEntry", Pricebook2Id=book, Product2Id=product, UnitPrice=1, IsActive=True, **in_currency
    )
