"""Monthly recurring revenue at risk: which running subscriptions may be lost, and over what.

A subscription has one cause, the first that holds in the order of CAUSES, so that amounts add up without counting
twice; the others stand beside it. One that does not count as recurring revenue stands there with nothing, so that what
is at risk is never more than there is. The first three causes are core.at_risk's, and a property test holds the two
against each other.
"""

from __future__ import annotations

import polars as pl

from sync_pipeline.core.at_risk import CLOSED_DISPUTES
from sync_pipeline.core.lifecycle import AT_RISK
from sync_pipeline.core.mrr_definitions import STRIPE
from sync_pipeline.frames.exact import rounded, total
from sync_pipeline.frames.mrr import ENDED, Recurring
from sync_pipeline.frames.schema import DTYPES, dtypes
from sync_pipeline.frames.tables import MRR_AT_RISK

CAUSES = ("failing_payment", "overdue_invoice", "dispute", "scheduled_cancel", "trial_without_payment_method")


def mrr_at_risk(
    found: Recurring,
    subscriptions: pl.DataFrame,
    customers: pl.DataFrame,
    invoices: pl.DataFrame,
    payments: pl.DataFrame,
    disputes: pl.DataFrame,
    at: int,
) -> pl.DataFrame:
    """derived/mrr_at_risk at a moment (microseconds UTC); amounts are Stripe's definition."""
    moment = pl.lit(at).cast(DTYPES["moment"])
    unpaid = _unpaid(invoices, moment)
    card = customers.filter(pl.col("payment_method").is_not_null()).select(pl.col("id").alias("customer"))
    sent = pl.col("collection_method") == "send_invoice"
    late = pl.col("status").is_in(sorted(AT_RISK))
    at_stake = (
        subscriptions.filter(~pl.col("status").is_in(ENDED))
        .rename({"id": "subscription"})
        .join(unpaid, on="subscription", how="left")
        .join(_disputed(invoices, payments, disputes), on="subscription", how="left")
        .join(card.with_columns(pl.lit(True).alias("has_card")), on="customer", how="left")
    )
    holds = {
        "failing_payment": pl.col("failing") | (late & ~sent),
        "overdue_invoice": pl.col("overdue") | (late & sent),
        "dispute": pl.col("disputed"),
        "scheduled_cancel": pl.col("cancel_at").is_not_null() | pl.col("cancel_at_period_end"),
        "trial_without_payment_method": (pl.col("status") == "trialing")
        & pl.col("payment_method").is_null()
        & pl.col("has_card").is_null(),
    }
    causes = pl.concat_list(
        pl.when(holds[cause].fill_null(False)).then(pl.lit(cause)) for cause in CAUSES
    ).list.drop_nulls()
    risky = at_stake.with_columns(causes.alias("causes")).filter(pl.col("causes").list.len() > 0)
    amounts = found.amounts(len(STRIPE.discounts)).join(risky.select("subscription"), on="subscription", how="semi")
    by = ("subscription", "payer", "account_id", "currency")
    counts = pl.col("status").is_in(sorted(STRIPE.statuses))
    return (
        total(amounts, by)
        .join(risky.drop("account_id", "currency"), on="subscription")
        .with_columns(
            pl.col("causes").list.first().alias("cause"),
            pl.col("causes").list.slice(1).alias("other_causes"),
            counts.alias("in_mrr"),
            pl.when(counts).then(rounded()).otherwise(0).alias("mrr_minor"),
            pl.col("open_minor").fill_null(0),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in dtypes(MRR_AT_RISK).items())
    )


def _unpaid(invoices: pl.DataFrame, moment: pl.Expr) -> pl.DataFrame:
    """Per subscription: what is open and failing or overdue, and since when the oldest of it is due."""
    sent = pl.col("collection_method") == "send_invoice"
    overdue = sent & (pl.col("due_at") < moment)
    failing = ~sent & (pl.col("attempt_count") > 0)
    return (
        invoices.filter((pl.col("status") == "open") & (pl.col("amount_remaining") > 0))
        .with_columns(overdue.fill_null(False).alias("overdue"), failing.fill_null(True).alias("failing"))
        .filter(pl.col("overdue") | pl.col("failing"))
        .group_by("subscription")
        .agg(
            pl.col("overdue", "failing").any(),
            pl.col("amount_remaining").cast(pl.Int128).sum().alias("open_minor"),
            pl.coalesce("due_at", "created_at").min().alias("oldest_due_at"),
        )
    )


def _disputed(invoices: pl.DataFrame, payments: pl.DataFrame, disputes: pl.DataFrame) -> pl.DataFrame:
    """Subscriptions of which a payment is being disputed."""
    running = disputes.filter(~pl.col("status").is_in(sorted(CLOSED_DISPUTES)))
    disputed = payments.join(running, left_on="payment", right_on="payment_intent", how="semi")
    return (
        invoices.join(disputed, left_on="id", right_on="invoice", how="semi")
        .select("subscription", pl.lit(True).alias("disputed"))
        .drop_nulls()
        .unique()
    )
