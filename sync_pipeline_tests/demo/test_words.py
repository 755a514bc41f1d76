"""What happens as it is told: steps as they are written, writes with the names that people know records by."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.demo.story import Step
from sync_pipeline.demo.words import said, write_in_words

TRUTH: dict[str, Any] = {
    "salesforce": {
        "Account": [{"Id": "001", "Name": "Northwind"}],
        "Product2": [{"Id": "01t", "Name": "Analyst Seat"}],
        "OpportunityLineItem": [{"Id": "00k", "Product2Id": "01t"}],
    },
    "stripe": {
        "product": [{"id": "sf_01t", "name": "Analyst Seat"}],
        "subscription_item": [{"id": "si_1", "price": {"product": "sf_01t"}}],
        "price": [
            {
                "id": "price_1",
                "product": "sf_01t",
                "currency": "gbp",
                "unit_amount_decimal": "50000",
                "recurring": {"interval": "month", "interval_count": 3},
            }
        ],
    },
}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (Step("sales closes the deal", {}, 1), "sales closes the deal"),
        (Step("time passes", {"span": "4 days"}, 1), "time passes: 4 days"),
        (
            Step("sales edits", {"records": {"Line Seat": {"UnitPrice": Decimal("1.50"), "Gone": None}}}, 1),
            "sales edits: Line Seat UnitPrice 1.50, Gone nothing",
        ),
        (Step("at the same moment", {"steps": (Step("time passes", {"span": "4 days"}, 2),)}, 1), "at the same moment"),
        (Step("x", {"lines": [{"a": 1}, {"a": 2}], "name": "y"}, 1), "x: a 1 | a 2; y"),
    ],
)
def test_a_step_is_said_as_it_is_written(step: Step, told: str) -> None:
    assert said(step) == told


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (
            "salesforce.update",
            '{"fields":{"MRR__c":3750.00,"Note":null},"id":"001","object":"Account"}',
            "Salesforce: Account Northwind gets MRR__c 3750.00, Note nothing",
        ),
        (
            "salesforce.update",
            '{"fields":{"Quantity":25},"id":"00k","object":"OpportunityLineItem"}',
            "Salesforce: Line Analyst Seat gets Quantity 25",
        ),
        (
            "salesforce.update",
            '{"fields":{"Status":"Final"},"id":"a01","object":"Churn_Record__c"}',
            "Salesforce: Churn_Record__c a01 gets Status Final",
        ),
        (
            "salesforce.upsert",
            '{"external_field":"K","external_id":"1","fields":{"Amount":1.10},"object":"Opportunity"}',
            "Salesforce: a new Opportunity with Amount 1.10",
        ),
        (
            "salesforce.once",
            '{"marker":{"object":"M","fields":{}},"record":{"object":"Task","fields":{}}}',
            "Salesforce: a new Task; why",
        ),
        ("stripe.create", '{"object":"customer","params":{}}', "Stripe: a new customer; why"),
        (
            "stripe.update",
            '{"object":"subscription_item","id":"si_1","params":{"quantity":25}}',
            "Stripe: item Analyst Seat gets quantity 25",
        ),
        (
            # 1776247240 is 2026-04-15 10:00:40 UTC.
            "stripe.update",
            '{"object":"subscription_item","id":"si_1","params":{"quantity":25,"proration_date":1776247240}}',
            "Stripe: item Analyst Seat gets quantity 25, proration_date 15 Apr 2026 10:00:40 UTC",
        ),
        (
            "stripe.update",
            '{"object":"subscription_item","id":"s","params":{"price":"price_1","metadata":{"sf_line_id":"00k,0"}}}',
            "Stripe: item s gets price Analyst Seat at GBP 500.00 per 3 months, metadata for Analyst Seat and 0",
        ),
        ("alert.send", '{"title":"Payment failed: GBP 1.00, Northwind"}', "Alert: Payment failed: GBP 1.00, Northwind"),
        ("link", '{"kind":"customer","external_id":"cus_1"}', "why"),
    ],
)
def test_a_write_is_told_by_name(kind: str, body: str, told: str) -> None:
    assert write_in_words(TRUTH, kind, body, "why") == told
