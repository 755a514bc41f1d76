"""Won deals of which no period has been billed: what they say, against nothing, as rows of the certificate."""

from __future__ import annotations

import polars as pl

from sync_pipeline.core.rules import MASTER, Commercial
from sync_pipeline.frames.amounts import minor_units
from sync_pipeline.frames.certificate import MEASURE, PERIODIC, fitted


def unbilled_deals(
    opportunities: pl.DataFrame,
    deals: pl.DataFrame,
    subscriptions: pl.DataFrame,
    schedules: pl.DataFrame,
    invoices: pl.DataFrame,
    commercial: Commercial,
    at: int,
) -> pl.DataFrame:
    """Rows of sync/certificate_accounts for the deals that have none from certificate.period_invoices because there is
    no invoice: missing where Stripe has no subscription, a matter of time where one runs or is scheduled, and real
    where it is over.

    Amendments and renewals are billed by the deal before them; what was won before go-live is somebody else's. A deal
    whose subscription is ambiguous counts for nothing, as everywhere.
    """
    own = pl.col("renewal_key").is_null() & pl.col("amends_opportunity_id").is_null()
    record_type = pl.col("record_type").replace("", MASTER).fill_null(MASTER)
    amending = pl.col("type").is_in(sorted(commercial.amendment_types)).fill_null(False) | record_type.is_in(
        sorted(commercial.amendment_record_types)
    )
    of_deals = commercial.deal_record_types
    is_deal = record_type.is_in(sorted(of_deals)) if of_deals else pl.lit(True)
    since = pl.col("close_date").fill_null("") >= commercial.go_live if commercial.go_live else pl.lit(True)
    won = opportunities.filter(
        pl.col("is_won"), own, ~amending, is_deal, since, pl.col("account_id").is_not_null()
    ).select(
        pl.col("id").alias("subject"),
        "account_id",
        "amount",
        pl.coalesce("currency", pl.lit(commercial.default_currency)).alias("currency"),
    )
    begun = invoices.filter(pl.col("billing_reason").is_in(PERIODIC), pl.col("status") != "void")["subscription"]
    counted = (pl.col("state") == "matched") & ~pl.col("subscription_id").is_in(begun.implode())
    over = pl.col("ended_at").is_not_null()
    begins = [
        deals.filter(counted)
        .join(subscriptions, left_on="subscription_id", right_on="id")
        .select(pl.col("opportunity_id").alias("subject"), over.alias("over")),
        schedules.filter(pl.col("subscription").is_null(), pl.col("opportunity_id").is_not_null()).select(
            pl.col("opportunity_id").alias("subject"), (pl.col("status") != "not_started").alias("over")
        ),
    ]
    table = won.join(deals.filter(~counted), left_on="subject", right_on="opportunity_id", how="anti").join(
        pl.concat(begins).group_by("subject").agg(pl.col("over").all()), on="subject", how="left"
    )
    cause = pl.when("over").then(pl.lit("real")).when(~pl.col("over")).then(pl.lit("timing"))
    said = table.with_columns(minor_units(table, "amount").alias("salesforce_minor")).drop_nulls("salesforce_minor")
    return fitted(
        said.filter(pl.col("salesforce_minor") != 0).select(
            "account_id",
            "currency",
            "subject",
            "salesforce_minor",
            pl.lit(MEASURE).alias("measure"),
            cause.otherwise(pl.lit("missing")).alias("difference_class"),
            pl.lit(0, pl.Int64).alias("stripe_minor"),
            pl.col("salesforce_minor").alias("difference_minor"),
            pl.lit(None, pl.String).alias("repair"),
            pl.lit(0, pl.Int64).alias("left_minor"),
        ),
        at,
    )
