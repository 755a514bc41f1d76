"""Lifetime value per Account and currency: billed, collected, and what went back in which way.

In the reporting currency it is what Stripe settled, object by object: an exchange rate is never multiplied by. Where
cash in another currency was not settled in the reporting currency, the value there is not known.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.frames.cash import account_of, wide_sum
from sync_pipeline.frames.schema import DTYPES, dtypes
from sync_pipeline.frames.tables import ACCOUNT_LTV

BILLED = ("open", "paid", "uncollectible")
"""Statuses of invoices that were billed: drafts are not yet, void ones were taken back."""

_KEY = ("account_id", "currency")
_KINDS = {
    "payment": "collected_minor",
    "refund": "refunded_minor",
    "dispute": "disputed_minor",
    "credit_note": "credited_elsewhere_minor",
}


def account_ltv(entries: pl.DataFrame, invoices: pl.DataFrame, mapping: pl.DataFrame, reporting: str) -> pl.DataFrame:
    """derived/account_ltv from the cash (frames.cash.cash) and the invoices of the customers of each Account."""
    owned = entries.join(account_of(mapping), left_on="customer", right_on="customer_id")
    of_payment = pl.col("kind") == "payment"
    here, settled = pl.col("currency") == reporting, pl.col("settled_currency") == reporting
    unknown = ~here & ~settled.fill_null(False) & (pl.col("amount") != 0)
    table = (
        owned.with_columns(
            pl.when(here).then("amount").when(settled & (pl.col("amount") != 0)).then("settled").alias("in_reporting"),
            unknown.alias("unknown"),
        )
        .group_by(_KEY)
        .agg(
            *(
                pl.col("amount").filter(kind=kind).cast(pl.Int128).sum().abs().alias(name)
                for kind, name in _KINDS.items()
            ),
            wide_sum("amount").alias("net_minor"),
            wide_sum("in_reporting").alias("reporting_minor"),
            pl.col("unknown").any(),
            of_payment.sum().cast(pl.Int64).alias("payments"),
            (pl.col("kind") == "refund").sum().cast(pl.Int64).alias("refunds"),
            pl.col("at").filter(of_payment).min().alias("first_payment_at"),
            pl.col("at").filter(of_payment).max().alias("last_payment_at"),
        )
        .join(_billed(invoices, mapping), on=_KEY, how="full", coalesce=True)
        .with_columns(
            pl.col(*_KINDS.values(), "net_minor", "reporting_minor", "billed_minor", "payments", "refunds").fill_null(0)
        )
        .with_columns(
            pl.lit(reporting).alias("reporting_currency"),
            pl.when(~pl.col("unknown").fill_null(False)).then("reporting_minor").alias("reporting_minor"),
            pl.when(here)
            .then(pl.lit("same currency"))
            .when(pl.col("unknown").fill_null(False))
            .then(pl.lit("not settled in it"))
            .otherwise(pl.lit("settled by Stripe"))
            .alias("rate_source"),
        )
    )
    net = [_major(int(minor), currency) for minor, currency in table.select("net_minor", "currency").iter_rows()]
    return table.with_columns(pl.Series("net", net, dtype=DTYPES["number"])).select(
        pl.col(name).cast(dtype) for name, dtype in dtypes(ACCOUNT_LTV).items()
    )


def _billed(invoices: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """What was billed less what credit notes took back. No cash: that is counted by itself."""
    credited = pl.col("credited_before_payment") + pl.col("credited_after_payment")
    return (
        invoices.filter(pl.col("status").is_in(BILLED))
        .join(account_of(mapping), left_on="customer", right_on="customer_id")
        .with_columns((pl.col("total") - credited).alias("billed"))
        .group_by(_KEY)
        .agg(wide_sum("billed").alias("billed_minor"))
    )


def _major(minor: int, currency: str) -> Decimal | None:
    """Major units; empty for a currency whose decimals are not known."""
    try:
        return Money(minor, currency).decimal()
    except MoneyError:
        return None
