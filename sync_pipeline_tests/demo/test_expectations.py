"""What counts as expected: amounts in whole units of their currency, moments by date, names, counts, lists."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.demo.expectations import differences

PRICE = {"product": "sf_01t", "currency": "gbp", "unit_amount": 60_000}
TRUTH: dict[str, Any] = {
    "salesforce": {
        "Account": [{"Id": "001", "Name": "Northwind", "MRR__c": 3750.0, "Stripe_Customer_Id__c": "cus_1"}],
        "Opportunity": [
            {"Id": "006a", "Name": "Seats", "CreatedDate": "2026-01-15T10:00:00.000+0000", "IsWon": True},
            {"Id": "006b", "Name": "Next", "CreatedDate": "2026-01-16", "Stripe_Renewal_Key__c": "sub_1:2027-01-15"},
            {"Id": "006c", "Name": "Gone", "CreatedDate": "2026-01-17", "IsDeleted": True},
        ],
        "Product2": [{"Id": "01t", "Name": "Analyst Seat"}],
        "OpportunityLineItem": [{"Id": "00k", "Product2Id": "01t", "Quantity": 20.0}],
    },
    "stripe": {
        "customer": [{"id": "cus_1", "name": "Northwind", "created": 1}],
        "product": [{"id": "sf_01t", "name": "Analyst Seat"}],
        "subscription_item": [{"id": "si_1", "quantity": 20, "created": 5, "price": PRICE}],
        "invoice": [
            {"id": "in_2", "customer": "cus_1", "currency": "jpy", "total": 4500, "created": 1_768_471_201},
            {"id": "in_1", "customer": "cus_1", "currency": "gbp", "total": 4_500_000, "created": 1_768_471_200},
        ],
    },
}


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("Account", {"MRR__c": Decimal("3750.00"), "Stripe_Customer_Id__c": {"id of": "customer"}, "Seats__c": None}),
        ("Account Northwind", 1),
        ("Account Southwind", "none"),
        ("Opportunity", {"Name": "Seats", "CreatedDate": "2026-01-15", "IsWon": True}),
        ("Renewal", {"Name": {"contains": "ex"}}),
        ("Renewal", {"Name": {"contains": ["N", "xt"]}}),
        ("Account", {"MRR__c": {"between": [Decimal("3749.99"), 3750]}}),
        ("Line Analyst Seat", {"Quantity": 20, "Name": {"filled": False}}),
        ("item Analyst Seat", {"price.unit_amount": Decimal("600.00"), "quantity": {"one of": [19, 20]}}),
        ("invoice", [{"total": Decimal("45000.00")}, {"total": 4500}]),
        ("invoice Northwind", [{"total": 4500}, {"created": "2026-01-15T10:00:00"}]),
    ],
)
def test_what_is_as_expected(key: str, wanted: Any) -> None:
    assert differences(TRUTH, key, wanted) == []


@pytest.mark.parametrize(
    ("key", "wanted", "told"),
    [
        ("Account", {"MRR__c": Decimal("3750.01")}, "Account MRR__c: found 3750.0, expected 3750.01"),
        ("Account", {"Seats__c": 0}, "Account Seats__c: found nothing, expected 0"),
        ("Account", {"Seats__c": {"filled": True}}, "Account Seats__c: found nothing, expected filled True"),
        ("Account", {"Name": {"id of": "charge"}}, "Account Name: found Northwind, expected id of charge"),
        ("Account", {"Name": {"contains": ["N", "e"]}}, "Account Name: found Northwind, expected contains N and e"),
        (
            "Account",
            {"MRR__c": {"between": [3751, 4000]}},
            "Account MRR__c: found 3750.0, expected between 3751 and 4000",
        ),
        ("Opportunity", 2, "Opportunity: found 1, expected 2"),
        ("Opportunity", {"IsWon": 1}, "Opportunity IsWon: found True, expected 1"),
        ("invoice", {"total": 1}, "invoice: found 2, expected 1; total 45000; total 4500"),
        ("invoice", [{"total": 4500}, {"total": 4500}], "invoice: none says total 4500; left are: total 45000"),
    ],
)
def test_what_differs_is_told_with_both_values(key: str, wanted: Any, told: str) -> None:
    assert [each.replace(".00", "") for each in differences(TRUTH, key, wanted)] == [told.replace(".00", "")]
