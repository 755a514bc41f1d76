"""Exact sums over whole columns: fractions as two 128-bit integers, rounded once at the end.

Almost all amounts have small denominators, and are computed as columns. What could pass 128 bits is computed by
Python's own fractions, row by row; so is a sum over different denominators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import polars as pl

from sync_pipeline.frames.schema import DTYPES

NUMERATOR, DENOMINATOR = "yearly_numerator", "yearly_denominator"
LIMIT = 10**30
"""No numerator and no denominator in a column is larger: sums of a hundred million of them fit into 128 bits."""


BILLIONTHS = 10**9


def fractions(values: Iterable[Fraction]) -> tuple[pl.Series, pl.Series]:
    """Numerators and denominators. What needs more than 30 digits, as after a dozen odd discounts, is kept to a
    billionth of a minor unit."""
    kept = [each if _fits(each) else Fraction(round(each * BILLIONTHS), BILLIONTHS) for each in values]
    return (
        pl.Series(NUMERATOR, [each.numerator for each in kept], dtype=pl.Int128),
        pl.Series(DENOMINATOR, [each.denominator for each in kept], dtype=pl.Int128),
    )


def _fits(value: Fraction) -> bool:
    return max(abs(value.numerator), value.denominator) < LIMIT


def total(frame: pl.DataFrame, by: Sequence[str], *others: pl.Expr) -> pl.DataFrame:
    """The exact sums of the fractions per group: the columns `by`, the fraction, and the `others`, which must be
    sums too."""
    names = [each.meta.output_name() for each in others]
    wide = frame.with_columns(pl.col(NUMERATOR, DENOMINATOR).cast(pl.Int128))
    summed = wide.group_by(*by, DENOMINATOR).agg(pl.col(NUMERATOR).sum(), *others)
    several = pl.len().over(by) > 1
    plain = summed.filter(~several).select(*by, NUMERATOR, DENOMINATOR, *names)
    mixed = summed.filter(several)
    if mixed.is_empty():
        return plain
    return pl.concat([plain, _merged(mixed, by, names)])


def rounded(divisor: int = 12) -> pl.Expr:
    """The fraction divided by `divisor`, to the nearest integer, ties to even: yearly amounts as one of 12 months."""
    return round_ratio(pl.col(NUMERATOR), pl.col(DENOMINATOR).cast(pl.Int128) * divisor)


def round_ratio(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """A quotient to the nearest integer, ties to even; the denominator is positive."""
    numerator, denominator = numerator.cast(pl.Int128), denominator.cast(pl.Int128)
    whole = numerator // denominator
    twice = (numerator - whole * denominator) * 2
    up = (twice > denominator) | ((twice == denominator) & (whole % 2 != 0))
    return (whole + up.cast(pl.Int128)).cast(DTYPES["amount"])


def _merged(mixed: pl.DataFrame, by: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    listed = mixed.group_by(by).agg(NUMERATOR, DENOMINATOR, *(pl.col(name).sum() for name in names))
    sums = [
        sum((Fraction(n, d) for n, d in zip(numerators, denominators, strict=True)), Fraction(0))
        for numerators, denominators in listed.select(NUMERATOR, DENOMINATOR).iter_rows()
    ]
    return listed.with_columns(*fractions(sums)).select(*by, NUMERATOR, DENOMINATOR, *names)
