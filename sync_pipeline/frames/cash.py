"""Every movement of cash that Stripe's full listings prove, one row per object.

The same rules as core.cash, which reads them account by account for the ledger's facts, computed apart from it over
whole tables: that both come to the same minor unit, kind by kind, is a nightly check.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from sync_pipeline.frames.schema import DTYPES

SUMS = {
    "account_id": pl.String(),
    "kind": pl.String(),
    "currency": pl.String(),
    "amount_minor": DTYPES["amount"],
}
"""Schema of sums per Account, kind of fact and currency: the ledger's, and those of the listings."""

ENTRIES = ("kind", "id", "customer", "currency", "amount", "at", "settled_currency", "settled")


@dataclass(frozen=True, slots=True)
class Listings:
    """The snapshot tables that money is in."""

    invoices: pl.DataFrame
    payments: pl.DataFrame
    charges: pl.DataFrame
    refunds: pl.DataFrame
    disputes: pl.DataFrame
    credit_notes: pl.DataFrame


def cash(listings: Listings) -> pl.DataFrame:
    """Columns ENTRIES: `amount` in minor units, negative for what went back; `settled` is what Stripe moved for the
    object in its balance, where that is in another currency and known."""
    parts = [_payments(listings), _refunds(listings), _disputes(listings), _given_back_elsewhere(listings)]
    foreign = (pl.col("settled_currency") != pl.col("currency")) & pl.col("settled").is_not_null()
    return pl.concat([part.select(ENTRIES) for part in parts]).with_columns(
        pl.when(foreign).then("settled_currency").alias("settled_currency"),
        pl.when(foreign).then("settled").alias("settled"),
    )


def sums(entries: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """SUMS of the customers that Accounts have, settled amounts among them under the ledger's kinds for those."""
    owned = entries.join(account_of(mapping), left_on="customer", right_on="customer_id")
    settled = owned.filter(pl.col("settled").is_not_null()).select(
        "account_id",
        (pl.lit("settled_") + pl.col("kind")).alias("kind"),
        pl.col("settled_currency").alias("currency"),
        pl.when(pl.col("amount") != 0).then("settled").otherwise(0).alias("amount"),
    )
    return (
        pl.concat([owned.select(settled.columns), settled])
        .group_by("account_id", "kind", "currency")
        .agg(wide_sum("amount").cast(DTYPES["amount"]).alias("amount_minor"))
        .select(list(SUMS))
    )


def disagreements(listed: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
    """Where two SUMS differ; no row on one side counts as 0.

    Columns account_id, kind, currency, listing_minor, ledger_minor.
    """
    by = ["account_id", "kind", "currency"]
    return (
        listed.rename({"amount_minor": "listing_minor"})
        .join(ledger.rename({"amount_minor": "ledger_minor"}), on=by, how="full", coalesce=True)
        .with_columns(pl.col("listing_minor", "ledger_minor").fill_null(0))
        .filter(pl.col("listing_minor") != pl.col("ledger_minor"))
        .sort(by)
    )


def unassigned_cash(entries: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """Collected cash of customers that no Account has, per currency: columns currency, payments, amount_minor."""
    return (
        entries.filter(kind="payment")
        .join(account_of(mapping), left_on="customer", right_on="customer_id", how="anti")
        .group_by("currency")
        .agg(pl.len().alias("payments"), wide_sum("amount").cast(DTYPES["amount"]).alias("amount_minor"))
        .sort("currency")
    )


def account_of(mapping: pl.DataFrame) -> pl.DataFrame:
    """Columns customer_id, account_id: the customers whose Account is certain."""
    return mapping.filter(state="matched").select("customer_id", "account_id")


def wide_sum(column: str) -> pl.Expr:
    """A sum in 128 bits, which no total can wrap around."""
    return pl.col(column).cast(pl.Int128).sum()


def _payments(listings: Listings) -> pl.DataFrame:
    """What was settled for a payment is known where one charge collected exactly it."""
    succeeded = listings.charges.filter(status="succeeded")
    behind = pl.concat(
        [
            succeeded.filter(pl.col("payment_intent").is_not_null()).select(
                pl.col("payment_intent").alias("payment"), *_OF_CHARGE
            ),
            succeeded.select(pl.col("id").alias("payment"), *_OF_CHARGE),
        ]
    )
    only = behind.filter(pl.len().over("payment") == 1)
    settled = pl.col("charged") == pl.col("amount_paid")
    return (
        listings.payments.filter(status="paid")
        .join(only, on="payment", how="left")
        .with_columns(
            pl.lit("payment").alias("kind"),
            pl.col("amount_paid").fill_null(0).alias("amount"),
            pl.col("paid_at").alias("at"),
            pl.when(settled).then("settled_currency").alias("settled_currency"),
        )
    )


_OF_CHARGE = (pl.col("amount").alias("charged"), "settled_currency", "settled")


def _refunds(listings: Listings) -> pl.DataFrame:
    return (
        listings.refunds.filter(status="succeeded")
        .join(_invoiced(listings), on="payment", how="semi")
        .with_columns(pl.lit("refund").alias("kind"), -pl.col("amount"), pl.col("created_at").alias("at"))
    )


def _disputes(listings: Listings) -> pl.DataFrame:
    """One row per charge, as the ledger keeps it, in the charge's currencies."""
    by_intent = listings.charges.join(_invoiced(listings), left_on="payment_intent", right_on="payment", how="semi")
    by_charge = listings.charges.join(_invoiced(listings), left_on="id", right_on="payment", how="semi")
    charges = pl.concat([by_intent, by_charge]).unique("id").filter(status="succeeded")
    return (
        listings.disputes.group_by("charge")
        .agg(
            (pl.col("withdrawn").sum() * -1).alias("amount"),
            pl.col("settled").fill_null(0).sum(),
            pl.col("created_at").max().alias("at"),
        )
        .join(charges.select("id", "customer", "currency", "settled_currency"), left_on="charge", right_on="id")
        .with_columns(pl.lit("dispute").alias("kind"), pl.col("charge").alias("id"))
    )


def _given_back_elsewhere(listings: Listings) -> pl.DataFrame:
    return listings.credit_notes.filter((pl.col("status") == "issued") & (pl.col("out_of_band") != 0)).with_columns(
        pl.lit("credit_note").alias("kind"),
        (-pl.col("out_of_band")).alias("amount"),
        pl.col("created_at").alias("at"),
        pl.lit(None, pl.String()).alias("settled_currency"),
        pl.lit(None, pl.Int64()).alias("settled"),
    )


def _invoiced(listings: Listings) -> pl.DataFrame:
    """The payments that are for invoices; other charges are not counted, nor what goes back of them."""
    return listings.payments.select("payment").drop_nulls().unique()
