"""Money: integer minor units plus a currency, and the exact way to and from decimal amounts.

The exponents are Stripe's (docs.stripe.com/currencies), which differ from ISO 4217 in two places: UGX and
ISK have no minor unit but are sent times 100. An unknown currency is an error, never two decimals by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

ZERO_DECIMAL = frozenset("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split())
THREE_DECIMAL = frozenset("BHD JOD KWD OMR TND".split())
TWO_DECIMAL = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP
    CRC CVE CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD KES
    KGS KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD
    PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD
    TZS UAH UGX USD UYU UZS WST XCD YER ZAR ZMW
    """.split()
)


class MoneyError(ValueError):
    """An amount or a currency that cannot be represented exactly. The message names it."""


def exponent(currency: str) -> int:
    """How many decimals an amount in `currency` has at Stripe. Raises MoneyError for an unknown currency."""
    code = currency.upper()
    if code in TWO_DECIMAL:
        return 2
    if code in ZERO_DECIMAL:
        return 0
    if code in THREE_DECIMAL:
        return 3
    raise MoneyError(f"currency {currency!r} is not known")


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount: `minor` signed minor units of `currency` (ISO code, upper case)."""

    minor: int
    currency: str

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise MoneyError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.minor + other.minor, self.currency)

    def decimal(self) -> Decimal:
        """The amount in major units, with exactly the currency's decimals: 4500000 GBP is 45000.00."""
        return Decimal(self.minor).scaleb(-exponent(self.currency))


def minor_units(amount: Decimal, currency: str) -> Decimal:
    """An amount in major units as minor units, exactly; the result may have a fraction (sub-cent prices)."""
    return Decimal(amount).scaleb(exponent(currency))


def round_half_even(value: Fraction) -> int:
    """The one rounding at the end of a computation: to the nearest minor unit, ties to even."""
    return round(value)
