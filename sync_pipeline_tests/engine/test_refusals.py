"""What may be told of a refusal where nothing personal may stand."""

from __future__ import annotations

import pytest

from sync_pipeline.engine.refusals import without_values


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "400 email_invalid Invalid email address: ada@northwind.example",
            "400 email_invalid Invalid email address: …",
        ),
        ("No such price: 'price_1NVw3q'", "No such price: 'price_1NVw3q'"),
        ("The value 'GB123456789 of Ada' is no tax id", "The value '…' is no tax id"),
        (
            'duplicate value found: "Ada" on record 001D000000IqhSLIAZ',
            'duplicate value found: "…" on record 001D000000IqhSLIAZ',
        ),
        ("No such column 'Billing_Status__c' on 'Northwind'", "No such column 'Billing_Status__c' on '…'"),
        ("the Account's owner doesn't exist", "the Account's owner doesn't exist"),
        ("Who do we call? (Phone)", "Who do we call? (Phone)"),
    ],
)
def test_values_are_hidden_and_the_reason_stays(said: str, told: str) -> None:
    assert without_values(said) == told
