"""From Salesforce's rows to records, by the names of the rules file."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sync_pipeline.config.rules import load_rules
from sync_pipeline.core.salesforce_records import Account, LineItem, Opportunity
from sync_pipeline.systems.salesforce import parse

NAMES = load_rules().salesforce


def test_numbers_are_exact_and_flags_are_flags() -> None:
    row = {"Id": "006A", "IsWon": True, "Amount": Decimal("45000.10"), "Term_Months__c": 12, "CloseDate": "2026-01-31"}
    found = parse.record(Opportunity, NAMES["opportunity"].fields, row)
    assert (found.amount, found.term_months, found.is_won, found.is_closed) == (
        Decimal("45000.10"),
        Decimal(12),
        True,
        False,
    )
    assert found.close_date == "2026-01-31"


def test_a_name_may_lead_to_a_parent_or_to_none() -> None:
    row = {"Id": "00kA", "OpportunityId": "006A", "Product2": {"attributes": {}, "Name": "Seat", "Family": None}}
    found = parse.record(LineItem, NAMES["line"].fields, row)
    assert (found.product_name, found.product_family) == ("Seat", None)
    assert parse.record(LineItem, NAMES["line"].fields, row | {"Product2": None}).product_name is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Term_Months__c", "12 months"),
        ("Term_Months__c", "NaN"),
        ("Term_Months__c", {"value": 12}),
        ("CloseDate", "next month"),
        ("CloseDate", 20260131),
        ("First_Payment_At__c", "yesterday"),
        ("First_Payment_At__c", 1_767_603_600),
        ("First_Payment_At__c", "2026-01-05T09:00:00"),
    ],
)
def test_a_field_that_cannot_be_read_is_named_without_its_value(field: str, value: object) -> None:
    with pytest.raises(parse.FieldUnreadable) as unreadable:
        parse.record(Opportunity, NAMES["opportunity"].fields, {"Id": "006A", field: value})
    assert str(unreadable.value) == field


def test_a_number_that_is_written_as_a_text_is_a_number() -> None:
    found = parse.record(Opportunity, NAMES["opportunity"].fields, {"Id": "006A", "Term_Months__c": "12"})
    assert found.term_months == Decimal(12)


def test_a_name_that_was_not_asked_for_stays_at_its_default() -> None:
    assert parse.record(Account, {"id": "Id"}, {"Id": "001A", "Name": "hidden"}) == Account(id="001A")


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00.000+0000", 0),
        ("2026-01-05T09:00:00.123+0000", 1_767_603_600_123_000),
        ("2026-01-05T10:00:00.000+0100", 1_767_603_600_000_000),
        ("2026-01-05T09:00:00.000Z", 1_767_603_600_000_000),
        ("1969-12-31T23:59:59.500+0000", -500_000),
        (None, None),
    ],
)
def test_moments_are_microseconds(text: str | None, micros: int | None) -> None:
    assert parse.moment(text) == micros
