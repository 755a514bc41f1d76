"""Salesforce's decimal amounts as minor units, over whole columns."""

from __future__ import annotations

import polars as pl

from sync_pipeline.core.money import MoneyError, exponent
from sync_pipeline.frames.exact import round_ratio
from sync_pipeline.frames.schema import NUMBER_SCALE


def minor_units(frame: pl.DataFrame, amount: str, currency: str = "currency") -> pl.Expr:
    """The column of major units in minor units of the currency in the other column, to the nearest one; empty where
    the currency's decimals are not known."""
    powers = {
        code: 10 ** (NUMBER_SCALE - decimals)
        for code in frame[currency].unique().drop_nulls()
        if (decimals := _exponent(code)) is not None
    }
    divisor = pl.col(currency).replace_strict(powers, default=None, return_dtype=pl.Int128)
    return round_ratio(pl.col(amount).to_physical(), divisor)


def _exponent(code: str) -> int | None:
    try:
        return exponent(code)
    except MoneyError:
        return None
