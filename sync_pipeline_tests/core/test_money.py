"""Money: exponents as Stripe has them, exact conversion both ways, one rounding."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.money import (
    THREE_DECIMAL,
    TWO_DECIMAL,
    ZERO_DECIMAL,
    Money,
    MoneyError,
    exponent,
    minor_units,
    round_half_even,
)

CURRENCIES = sorted(ZERO_DECIMAL | TWO_DECIMAL | THREE_DECIMAL)


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("GBP", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("BHD", 3), ("UGX", 2), ("ISK", 2), ("gbp", 2)],
)
def test_exponents_are_stripes(currency: str, decimals: int) -> None:
    assert exponent(currency) == decimals


@pytest.mark.parametrize("currency", ["XXX", "", "POUND", "BTC", "GB"])
def test_an_unknown_currency_is_an_error_that_names_it(currency: str) -> None:
    with pytest.raises(MoneyError, match=f"currency '{currency}' is not known"):
        exponent(currency)


def test_no_currency_has_two_exponents() -> None:
    assert not ZERO_DECIMAL & TWO_DECIMAL
    assert not ZERO_DECIMAL & THREE_DECIMAL
    assert not TWO_DECIMAL & THREE_DECIMAL


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Money(4_500_000, "GBP"), "45000.00"),
        (Money(-5, "EUR"), "-0.05"),
        (Money(4500, "JPY"), "4500"),
        (Money(1_230, "KWD"), "1.230"),
        (Money(500_000, "UGX"), "5000.00"),
        (Money(0, "GBP"), "0.00"),
    ],
)
def test_an_amount_in_major_units_has_exactly_its_currencys_decimals(amount: Money, text: str) -> None:
    assert str(amount.decimal()) == text


@given(st.integers(min_value=-(2**53), max_value=2**53), st.sampled_from(CURRENCIES))
def test_there_and_back_is_exact(minor: int, currency: str) -> None:
    assert minor_units(Money(minor, currency).decimal(), currency) == minor


def test_a_price_below_a_penny_keeps_its_fraction() -> None:
    assert minor_units(Decimal("0.0125"), "GBP") == Decimal("1.25")


def test_currencies_are_never_added_to_each_other() -> None:
    with pytest.raises(MoneyError, match="cannot add USD to GBP"):
        Money(1, "GBP") + Money(1, "USD")


@pytest.mark.parametrize(("value", "whole"), [((5, 2), 2), ((7, 2), 4), ((-5, 2), -2), ((1, 3), 0), ((2, 3), 1)])
def test_the_one_rounding_is_to_even(value: tuple[int, int], whole: int) -> None:
    assert round_half_even(Fraction(*value)) == whole
