"""How money, dates and values read on the pages (issue B, pages)."""

from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline.sandbox.pages import wording


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (4_500_000, "gbp", "£45,000.00"),
        (-5, "usd", "-$0.05"),
        (678_000, "jpy", "¥678,000"),
        (1_234_567, "kwd", "1,234.567 KWD"),
        (500_000, "ugx", "5,000.00 UGX"),
        (0, "eur", "€0.00"),
        (None, "eur", "–"),
    ],
)
def test_stripes_minor_units(amount: int | None, currency: str, text: str) -> None:
    assert wording.minor(amount, currency) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(45_000.0, "GBP", "£45,000.00"), (678_000.0, "JPY", "¥678,000"), (-1.5, "USD", "-$1.50"), (None, "GBP", "–")],
)
def test_salesforces_amounts(amount: float | None, currency: str, text: str) -> None:
    assert wording.major(amount, currency) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), ("", "–"), (0, "0"), (15.0, "15"), (2.5, "2.50"), (True, "yes"), (False, "no"), ("Annual", "Annual")],
)
def test_fields(value: Any, text: str) -> None:
    assert wording.plain(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_795_000_000, "18 Nov 2026 11:06"),
        ("2026-11-18", "18 Nov 2026"),
        ("2026-11-18T11:06:40.000+0000", "18 Nov 2026 11:06"),
        (None, "–"),
    ],
)
def test_moments(value: int | str | None, text: str) -> None:
    assert wording.moment(value) == text


def test_how_often_a_price_bills() -> None:
    assert wording.every({"interval": "year", "interval_count": 1}) == "year"
    assert wording.every({"interval": "month", "interval_count": 3}) == "3 months"


def test_a_status_has_its_tone_in_either_systems_words() -> None:
    assert [wording.tone(word) for word in ("Active", "past_due", "Past Due", "draft", None)] == [
        "good",
        "bad",
        "bad",
        "plain",
        "none",
    ]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"unit_amount_decimal": "60000", "currency": "gbp"}, "£600.00"),
        ({"unit_amount_decimal": "0.25", "currency": "gbp"}, "£0.0025"),
        ({"unit_amount_decimal": None, "currency": "gbp"}, "in tiers"),
    ],
)
def test_unit_prices(price: dict[str, Any], expected: str) -> None:
    assert wording.unit(price) == expected


@pytest.mark.parametrize(
    ("status", "due", "expected"),
    [("open", 99, "overdue"), ("open", 100, "open"), ("open", None, "open"), ("paid", 99, "paid")],
)
def test_an_open_invoice_is_overdue_once_its_date_has_passed(status: str, due: int | None, expected: str) -> None:
    assert wording.standing({"status": status, "due_date": due}, 100) == expected
