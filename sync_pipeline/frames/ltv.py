"""Lifetime value per Account and currency from the full listings of Stripe.

Computed apart from the ledger's facts, which the event path collects one by one: that both come to the same minor
unit is a nightly check. Sums are 128 bits wide, so that no total can wrap around.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.frames.schema import DTYPES, dtypes
from sync_pipeline.frames.tables import ACCOUNT_LTV

LEDGER_SUMS = {"account_id": pl.String(), "currency": pl.String(), "amount_minor": DTYPES["amount"]}
"""Schema of the ledger's fold over its facts."""

_KEY = ("account_id", "currency")


def account_ltv(payments: pl.DataFrame, refunds: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """derived/account_ltv: paid invoice payments less their succeeded refunds, of the customers of each Account."""
    account_of = mapping.filter(state="matched").select("customer_id", "account_id")
    collected = (
        paid(payments)
        .join(account_of, left_on="customer", right_on="customer_id")
        .group_by(*_KEY)
        .agg(
            _sum("amount_paid").alias("collected_minor"),
            pl.len().cast(pl.Int64).alias("payments"),
            pl.col("paid_at").min().alias("first_payment_at"),
            pl.col("paid_at").max().alias("last_payment_at"),
        )
    )
    returned = (
        refunds.filter(status="succeeded")
        .join(payments.select("payment").unique(), on="payment", how="semi")
        .join(account_of, left_on="customer", right_on="customer_id")
        .group_by(*_KEY)
        .agg(_sum("amount").alias("refunded_minor"), pl.len().cast(pl.Int64).alias("refunds"))
    )
    sums = pl.col("collected_minor", "refunded_minor", "payments", "refunds")
    table = (
        collected.join(returned, on=_KEY, how="full", coalesce=True)
        .with_columns(sums.fill_null(0))
        .with_columns((pl.col("collected_minor") - pl.col("refunded_minor")).alias("net_minor"))
    )
    net = [_major(minor, currency) for minor, currency in table.select("net_minor", "currency").iter_rows()]
    return table.with_columns(pl.Series("net", net, dtype=DTYPES["number"])).select(
        pl.col(name).cast(dtype) for name, dtype in dtypes(ACCOUNT_LTV).items()
    )


def paid(payments: pl.DataFrame) -> pl.DataFrame:
    """The payments that are collected cash."""
    return payments.filter(status="paid")


def unassigned_cash(payments: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """Collected cash of customers that no Account has, per currency: columns currency, payments, amount_minor."""
    account_of = mapping.filter(state="matched").select("customer_id")
    return (
        paid(payments)
        .join(account_of, left_on="customer", right_on="customer_id", how="anti")
        .group_by("currency")
        .agg(pl.len().alias("payments"), _sum("amount_paid").cast(DTYPES["amount"]).alias("amount_minor"))
        .sort("currency")
    )


def disagreements(table: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
    """Where the table and the ledger's sums (LEDGER_SUMS) differ; no row on one side counts as 0.

    Columns account_id, currency, listing_minor, ledger_minor.
    """
    return (
        table.select(*_KEY, pl.col("net_minor").alias("listing_minor"))
        .join(ledger.rename({"amount_minor": "ledger_minor"}), on=_KEY, how="full", coalesce=True)
        .with_columns(pl.col("listing_minor", "ledger_minor").fill_null(0))
        .filter(pl.col("listing_minor") != pl.col("ledger_minor"))
        .sort(*_KEY)
    )


def _sum(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int128).sum()


def _major(minor: int, currency: str) -> Decimal | None:
    """Major units; empty for a currency whose decimals are not known."""
    try:
        return Money(minor, currency).decimal()
    except MoneyError:
        return None
