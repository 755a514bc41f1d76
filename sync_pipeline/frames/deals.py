"""From a deal that was won to its money, and what became of the payers of each month."""

from __future__ import annotations

import polars as pl

from sync_pipeline.frames.amounts import minor_units
from sync_pipeline.frames.cash import wide_sum
from sync_pipeline.frames.ltv import BILLED
from sync_pipeline.frames.movements import day_of
from sync_pipeline.frames.schema import dtypes
from sync_pipeline.frames.tables import COHORTS, DEAL_TO_CASH


def deal_to_cash(
    opportunities: pl.DataFrame,
    deals: pl.DataFrame,
    subscriptions: pl.DataFrame,
    invoices: pl.DataFrame,
    payments: pl.DataFrame,
    refunds: pl.DataFrame,
    zone: str,
) -> pl.DataFrame:
    """derived/deal_to_cash: every won Opportunity that is to be billed, with its invoices and payments."""
    # What an amendment sold is billed by the deal that it amends, and is in that deal's amount.
    own = pl.col("renewal_key").is_null() & pl.col("amends_opportunity_id").is_null()
    won = (
        opportunities.filter(pl.col("is_won") & own & pl.col("account_id").is_not_null())
        .select(
            pl.col("id").alias("opportunity_id"),
            "account_id",
            pl.col("currency").alias("deal_in"),
            pl.col("close_date").alias("won_date"),
            "amount",
        )
        .join(_money(deals, subscriptions, invoices, payments, refunds, zone), on="opportunity_id", how="left")
        .with_columns(
            pl.coalesce("billed_in", "deal_in", pl.lit("")).alias("currency"),
            pl.col("billed_minor", "collected_minor", "refunded_minor").fill_null(0),
        )
    )
    stage = (
        pl.when(pl.col("subscription_id").is_null())
        .then(pl.lit("not billed"))
        .when(pl.col("collected_minor") == 0)
        .then(pl.when(pl.col("billed_minor") > 0).then(pl.lit("billed")).otherwise(pl.lit("subscribed")))
        .when(pl.col("collected_minor") < pl.col("billed_minor"))
        .then(pl.lit("partly collected"))
        .otherwise(pl.lit("collected"))
    )
    return won.with_columns(
        minor_units(won, "amount", "deal_in").alias("won_minor"),
        pl.col("deal_in").alias("won_currency"),
        stage.alias("stage"),
        (pl.col("first_invoice_date") - pl.col("won_date")).dt.total_days().alias("days_to_invoice"),
        (pl.col("first_payment_date") - pl.col("won_date")).dt.total_days().alias("days_to_cash"),
    ).select(pl.col(name).cast(dtype) for name, dtype in dtypes(DEAL_TO_CASH).items())


def cohorts(moved: pl.DataFrame, last_day: object) -> pl.DataFrame:
    """derived/cohorts from derived/mrr_movements, month by month up to that of a day (a date).

    Whoever comes back stays in the month of the first time.
    """
    by = ["definition", "currency", "cohort_date"]
    month = pl.col("day_date").dt.month_start()
    changes = (
        moved.with_columns(
            month.alias("month_date"),
            month.min().over("definition", "payer", "currency").alias("cohort_date"),
            ((pl.col("end_minor") != 0).cast(pl.Int64) - (pl.col("start_minor") != 0).cast(pl.Int64)).alias("come"),
            (pl.col("kind") == "new").cast(pl.Int64).alias("began"),
        )
        .group_by(*by, "month_date")
        .agg(pl.col("come", "began").sum(), wide_sum("movement_minor").alias("moved"))
    )
    months = (
        changes.select(by)
        .unique()
        .with_columns(pl.date_ranges("cohort_date", pl.lit(last_day), interval="1mo").alias("month_date"))
        .explode("month_date")
        .drop_nulls("month_date")
    )

    def of_each(value: pl.Expr) -> pl.Expr:
        return value.over(by, order_by="month_date")

    table = (
        months.join(changes, on=[*by, "month_date"], how="left")
        .with_columns(pl.col("come", "began", "moved").fill_null(0))
        .with_columns(
            of_each(pl.col("come").cum_sum()).alias("active_payers"),
            of_each(pl.col("moved").cum_sum()).alias("mrr_minor"),
            pl.col("began").sum().over(by).alias("payers"),
            (of_each(pl.col("month_date").cum_count()) - 1).alias("age_months"),
        )
        .with_columns(of_each(pl.col("mrr_minor").first()).alias("first_month_minor"))
    )
    return table.select(pl.col(name).cast(dtype) for name, dtype in dtypes(COHORTS).items())


def _money(
    deals: pl.DataFrame,
    subscriptions: pl.DataFrame,
    invoices: pl.DataFrame,
    payments: pl.DataFrame,
    refunds: pl.DataFrame,
    zone: str,
) -> pl.DataFrame:
    """What the subscriptions of each Opportunity billed and collected: one, or of a split deal one for every part."""
    currency = subscriptions.select(pl.col("id").alias("subscription_id"), pl.col("currency").alias("billed_in"))
    collected = _collected(invoices, payments, refunds, zone)
    return (
        deals.filter(state="matched")
        .join(currency, on="subscription_id", how="left")
        .join(_billed(invoices, zone), left_on="subscription_id", right_on="subscription", how="left")
        .join(collected, left_on="subscription_id", right_on="subscription", how="left")
        .sort("deal_id")
        .group_by("opportunity_id")
        .agg(
            pl.col("subscription_id", "billed_in").first(),
            pl.col("billed_minor", "collected_minor", "refunded_minor").sum(),
            pl.col("first_invoice_date", "first_payment_date").min(),
            pl.col("last_payment_date").max(),
        )
    )


def _billed(invoices: pl.DataFrame, zone: str) -> pl.DataFrame:
    credited = pl.col("credited_before_payment") + pl.col("credited_after_payment")
    return (
        invoices.filter(pl.col("status").is_in(BILLED), pl.col("subscription").is_not_null())
        .with_columns((pl.col("total") - credited).alias("billed"), day_of("created_at", zone).alias("day"))
        .group_by("subscription")
        .agg(wide_sum("billed").alias("billed_minor"), pl.col("day").min().alias("first_invoice_date"))
    )


def _collected(invoices: pl.DataFrame, payments: pl.DataFrame, refunds: pl.DataFrame, zone: str) -> pl.DataFrame:
    """A refund counts for the subscription of the first invoice that its payment paid."""
    of_invoice = invoices.filter(pl.col("subscription").is_not_null()).select(
        pl.col("id").alias("invoice"), "subscription"
    )
    paid = (
        payments.filter(status="paid").join(of_invoice, on="invoice").with_columns(day_of("paid_at", zone).alias("day"))
    )
    back = (
        refunds.filter(status="succeeded")
        .join(paid.sort("id").unique("payment", keep="first").select("payment", "subscription"), on="payment")
        .group_by("subscription")
        .agg(wide_sum("amount").alias("refunded_minor"))
    )
    return (
        paid.group_by("subscription")
        .agg(
            wide_sum("amount_paid").alias("collected_minor"),
            pl.col("day").min().alias("first_payment_date"),
            pl.col("day").max().alias("last_payment_date"),
        )
        .join(back, on="subscription", how="left")
    )
