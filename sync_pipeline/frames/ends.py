"""Subscriptions that end and terms that end: churn as Stripe's records show it, and the renewal pipeline.

Beside each stands the Salesforce record that the sync keeps for it, so that a table shows both systems at once.
"""

from __future__ import annotations

import polars as pl

from sync_pipeline.core.churn import VOLUNTARY
from sync_pipeline.core.lifecycle import EARNING
from sync_pipeline.core.mrr_definitions import STRIPE
from sync_pipeline.frames.amounts import minor_units
from sync_pipeline.frames.cash import account_of
from sync_pipeline.frames.exact import DENOMINATOR, NUMERATOR, round_ratio, rounded, total
from sync_pipeline.frames.history import believed_at
from sync_pipeline.frames.movements import day_of
from sync_pipeline.frames.mrr import Recurring
from sync_pipeline.frames.schema import DTYPES, dtypes
from sync_pipeline.frames.tables import CHURN_RECORDS, RENEWAL_PIPELINE

MONTHS_OF_A_YEAR = 12


def churn_records(
    subscriptions: pl.DataFrame,
    items: pl.DataFrame,
    history: pl.DataFrame,
    records: pl.DataFrame,
    mapping: pl.DataFrame,
    zone: str,
) -> pl.DataFrame:
    """derived/churn_records: every subscription that has ended or is to end, and its latest episode in Salesforce.

    What is lost is what it counted for by Stripe's definition just before its end.
    """
    final = pl.col("status") == "canceled"
    ending = ~final & (pl.col("cancel_at").is_not_null() | pl.col("cancel_at_period_end"))
    period_end = items.group_by("subscription").agg(pl.col("period_end").max())
    leaving = (
        subscriptions.filter((pl.col("status") != "incomplete_expired") & (final | ending))
        .rename({"id": "subscription", "status": "stripe_status", "account_id": "named_account"})
        .join(period_end, on="subscription", how="left")
        .with_columns(pl.coalesce("ended_at", "cancel_at", "period_end").alias("ends_at"))
        .join(account_of(mapping), left_on="customer", right_on="customer_id", how="left")
    )
    until = pl.coalesce("ended_at", pl.lit(2**62).cast(DTYPES["moment"]))
    standing = (pl.col("true_from_at") < until) & (
        pl.col("true_until_at").is_null() | (pl.col("true_until_at") >= until)
    )
    before = (
        believed_at(history)
        .filter(definition=STRIPE.name)
        .join(leaving.select("subscription", "ended_at"), on="subscription")
        .filter(standing)
    )
    lost = total(before, ("subscription",)).select("subscription", rounded().alias("lost_mrr_minor"))
    latest = (
        records.filter(pl.col("subscription_id").is_not_null(), pl.col("kind").fill_null("Churn") == "Churn")
        .with_columns(_episode("key").alias("episode"))
        .sort("episode")
        .group_by("subscription_id")
        .agg(pl.all().last())
        .select(
            pl.col("subscription_id").alias("subscription"),
            pl.col("id").alias("churn_record_id"),
            pl.col("episode"),
            pl.col("status").alias("salesforce_status"),
            pl.col("effective_date").alias("salesforce_date"),
            pl.col("lost_mrr").alias("salesforce_lost_mrr"),
        )
    )
    both = leaving.join(lost, on="subscription", how="left").join(latest, on="subscription", how="left")
    return both.with_columns(
        pl.coalesce("account_id", "customer").alias("payer"),
        pl.when(pl.col("stripe_status") == "canceled").then(pl.lit("Final")).otherwise(pl.lit("Open")).alias("state"),
        pl.col("canceled_at").alias("requested_at"),
        day_of("ends_at", zone).alias("effective_date"),
        pl.col("lost_mrr_minor").fill_null(0),
        pl.col("cancellation_reason").is_in(sorted(VOLUNTARY)).fill_null(False).alias("is_voluntary"),
        pl.col("cancellation_reason").alias("reason"),
        pl.col("cancellation_feedback").alias("feedback"),
        minor_units(both, "salesforce_lost_mrr").alias("salesforce_lost_mrr_minor"),
    ).select(pl.col(name).cast(dtype) for name, dtype in dtypes(CHURN_RECORDS).items())


def renewal_pipeline(
    found: Recurring,
    opportunities: pl.DataFrame,
    subscriptions: pl.DataFrame,
    deals: pl.DataFrame,
    zone: str,
    renewal_days: int,
    at: int,
    at_risk: pl.DataFrame,
) -> pl.DataFrame:
    """derived/renewal_pipeline: the end of the running term of every deal that is billed, its renewal, and its risk.

    `at_risk` is derived/mrr_at_risk of the same moment.
    """
    months = pl.col("term_months")
    won = opportunities.filter("is_won", months > 0, months == months.floor()).select(
        pl.col("id").alias("opportunity_id"), months.cast(pl.Int64).alias("months")
    )
    # As core.term.paid_from has it: a trial with which it began comes before the first term.
    began_with_trial = pl.col("trial_start_at") <= pl.col("start_at") + pl.duration(days=1)
    paid_from = (
        pl.when(began_with_trial)
        .then(pl.max_horizontal("start_at", "trial_end_at"))
        .otherwise("start_at")
        .alias("paid_from")
    )
    running = (
        deals.filter(state="matched")
        .join(won, on="opportunity_id")
        .join(
            subscriptions.filter(pl.col("status").is_in(sorted(EARNING))).select(
                "id", "customer", "currency", paid_from, "cancel_at", "cancel_at_period_end"
            ),
            left_on="subscription_id",
            right_on="id",
        )
        .with_columns(pl.lit(at).cast(DTYPES["moment"]).alias("now_at"))
        .with_columns(day_of("paid_from", zone).alias("start"), day_of("now_at", zone).alias("today"))
    )
    # As core.term.Term has it: it ends when Stripe's months do, which are counted in UTC; its name is the day by local
    # months.
    apart = (pl.col("now_at").dt.year() - pl.col("paid_from").dt.year()) * MONTHS_OF_A_YEAR + (
        pl.col("now_at").dt.month().cast(pl.Int32) - pl.col("paid_from").dt.month()
    )
    terms = pl.max_horizontal(apart // pl.col("months"), 1)
    first, second = (pl.format("{}mo", (terms + more) * pl.col("months")) for more in range(2))
    length = pl.when(pl.col("paid_from").dt.offset_by(first) > pl.col("now_at")).then(first).otherwise(second)
    amounts = found.amounts(len(STRIPE.discounts)).join(
        running, left_on="subscription", right_on="subscription_id", how="semi"
    )
    yearly = total(amounts, ("subscription",))
    renewals = opportunities.filter(pl.col("renewal_key").is_not_null()).select(
        "renewal_key",
        pl.col("id").alias("renewal_opportunity_id"),
        pl.col("stage").alias("renewal_stage"),
        pl.col("amount").alias("renewal_amount"),
        pl.col("is_closed").alias("renewal_is_closed"),
    )
    table = (
        running.with_columns(
            pl.col("paid_from").dt.offset_by(length).alias("term_ends_at"),
            pl.col("start").dt.offset_by(length).alias("term_name"),
        )
        .with_columns(day_of("term_ends_at", zone).alias("term_end_date"))
        .join(yearly, left_on="subscription_id", right_on="subscription")
        .with_columns(pl.format("{}:{}", "subscription_id", pl.col("term_name").dt.to_string("iso")).alias("key"))
        .join(renewals, left_on="key", right_on="renewal_key", how="left")
        .join(
            at_risk.select("subscription", pl.col("cause").alias("risk")),
            left_on="subscription_id",
            right_on="subscription",
            how="left",
        )
    )
    return (
        table.with_columns(
            (pl.col("term_end_date") - pl.col("today")).dt.total_days().alias("days_left"),
            _of_term().alias("next_term_minor"),
            (pl.col("cancel_at").is_not_null() | pl.col("cancel_at_period_end")).alias("is_ending"),
            minor_units(table, "renewal_amount").alias("renewal_amount_minor"),
        )
        .with_columns((pl.col("days_left") <= renewal_days).alias("is_due"))
        .select(pl.col(name).cast(dtype) for name, dtype in dtypes(RENEWAL_PIPELINE).items())
    )


def _of_term() -> pl.Expr:
    """What the next term bills: so many months of the yearly amount, after the discounts that last for ever."""
    return round_ratio(
        pl.col(NUMERATOR).cast(pl.Int128) * pl.col("months"), pl.col(DENOMINATOR).cast(pl.Int128) * MONTHS_OF_A_YEAR
    )


def _episode(column: str) -> pl.Expr:
    """The number of an episode, from its key (sub_...:2)."""
    return pl.col(column).str.extract(r":(\d+)$").cast(pl.Int64).fill_null(0)
