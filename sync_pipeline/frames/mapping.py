"""Which records of the two systems belong together, over whole tables, and what says so.

The same evidence in the same order as core.crosswalk, which decides it for one account at a time; a property test
holds the two against each other. What is ambiguous keeps all its rows, so that a person can see the claims, and
counts for nothing downstream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from sync_pipeline.core.deal import customer_intent, subscription_intent
from sync_pipeline.core.part_ids import MAX_PARTS
from sync_pipeline.frames.schema import dtypes
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, BILLED_LINES, DEAL_SUBSCRIPTIONS

LINKS = {"account_id": pl.String(), "kind": pl.String(), "subject": pl.String(), "external_id": pl.String()}
"""Schema of the ledger's links to Stripe, the live primary ones and those of deleted customers; `subject` is the
Salesforce record."""


def account_customers(
    accounts: pl.DataFrame, customers: pl.DataFrame, links: pl.DataFrame, org_id: str
) -> pl.DataFrame:
    """mapping/account_customers: each customer with the Account that claims it by the strongest evidence."""
    named = customers.filter(pl.col("account_id").is_not_null()).select(
        pl.col("id").alias("customer_id"), "account_id", "intent"
    )
    claims = _ranked(
        ("link", links.filter(kind="customer").select(pl.col("external_id").alias("customer_id"), "account_id")),
        (
            "metadata.sf_intent",
            named.filter(pl.col("intent") == _named(_around(customer_intent, org_id), "account_id")),
        ),
        ("metadata.sf_account_id", named),
        (
            "Account field",
            accounts.filter(pl.col("stripe_customer_id").is_not_null()).select(
                pl.col("stripe_customer_id").alias("customer_id"), pl.col("id").alias("account_id")
            ),
        ),
        columns=("customer_id", "account_id"),
    )
    return (
        _strongest(claims, of="customer_id")
        .with_columns(
            pl.col("account_id").is_in(accounts["id"].implode()).alias("in_salesforce"),
            pl.col("customer_id").is_in(customers["id"].implode()).alias("in_stripe"),
        )
        .select(list(dtypes(ACCOUNT_CUSTOMERS)))
    )


def deal_subscriptions(
    opportunities: pl.DataFrame,
    subscriptions: pl.DataFrame,
    mapping: pl.DataFrame,
    links: pl.DataFrame,
    org_id: str,
) -> pl.DataFrame:
    """mapping/deal_subscriptions: each deal with the subscription of its Account that bills it.

    A deal is an Opportunity, or a further part of one that is split; only links and metadata name such a part.
    """
    account_of = mapping.filter(state="matched").select("customer_id", "account_id")
    billed = subscriptions.join(account_of, left_on="customer", right_on="customer_id", suffix="_of_customer").select(
        pl.col("id").alias("subscription_id"),
        pl.col("account_id_of_customer").alias("account_id"),
        pl.col("opportunity_id").alias("named_opportunity"),
        "intent",
    )
    whole = opportunities.filter(pl.col("account_id").is_not_null()).select(
        pl.col("id").alias("deal_id"),
        pl.col("id").alias("opportunity_id"),
        "account_id",
        "stripe_subscription_id",
        "amends_opportunity_id",
    )
    linked = links.filter(kind="subscription").select(
        "account_id", pl.col("subject").alias("deal_id"), pl.col("external_id").alias("subscription_id")
    )
    around = _around(subscription_intent, org_id)
    pairs = pl.concat([whole, _further_parts(whole, linked, billed, around)]).join(billed, on="account_id")
    claims = _ranked(
        ("link", pairs.join(linked, on=["account_id", "deal_id", "subscription_id"], how="semi")),
        ("metadata.sf_intent", pairs.filter(pl.col("intent") == _named(around, "deal_id"))),
        ("metadata.sf_opportunity_id", pairs.filter(pl.col("named_opportunity") == pl.col("deal_id"))),
        ("Opportunity field", _not_copied(pairs, linked)),
        columns=("deal_id", "opportunity_id", "subscription_id", "account_id"),
    )
    return _strongest(claims, of="deal_id").select(list(dtypes(DEAL_SUBSCRIPTIONS)))


def billed_lines(lines: pl.DataFrame, items: pl.DataFrame, deals: pl.DataFrame) -> pl.DataFrame:
    """mapping/billed_lines: each line with the item that bills it; `deals` is mapping/deal_subscriptions.

    Of several items that claim a line the first by id bills it, as the planner has it; the others are ambiguous.
    """
    pairs = (
        lines.select(pl.col("id").alias("line_id"), "opportunity_id", "stripe_item_id")
        .join(deals.filter(state="matched").drop("deal_id", "evidence", "state"), on="opportunity_id")
        .join(
            items.select(pl.col("id").alias("item_id"), pl.col("subscription").alias("subscription_id"), "line_ids"),
            on="subscription_id",
        )
    )
    claims = _ranked(
        ("metadata.sf_line_id", pairs.filter(pl.col("line_ids").list.contains(pl.col("line_id")))),
        ("OpportunityLineItem field", pairs.filter(pl.col("stripe_item_id") == pl.col("item_id"))),
        columns=("line_id", "item_id", "opportunity_id", "subscription_id", "account_id"),
    )
    first = pl.col("item_id") == pl.col("item_id").min().over("line_id")
    return (
        _strongest(claims, of="line_id")
        .with_columns(pl.when(first).then(pl.lit("matched")).otherwise(pl.lit("ambiguous")).alias("state"))
        .select(list(dtypes(BILLED_LINES)))
    )


def _further_parts(
    whole: pl.DataFrame, linked: pl.DataFrame, billed: pl.DataFrame, around: tuple[str, str]
) -> pl.DataFrame:
    """The further parts of the deals, as far as anything names them. The Opportunity's field is its first part's."""
    of_intent = pl.col("intent").str.strip_prefix(around[0]).str.strip_suffix(around[1])
    named = pl.concat(
        [linked["deal_id"], billed["named_opportunity"], billed.select(of_intent).to_series()]
    ).unique()  # fmt: skip
    parts = named.filter(named.str.contains(f"^[^:]+:[2-{MAX_PARTS}]$")).to_frame("deal_id")
    return (
        parts.with_columns(pl.col("deal_id").str.split(":").list.first().alias("opportunity_id"))
        .join(whole.drop("deal_id"), on="opportunity_id")
        .with_columns(pl.lit(None, pl.String).alias("stripe_subscription_id"))
        .select(whole.columns)
    )


def _not_copied(pairs: pl.DataFrame, linked: pl.DataFrame) -> pl.DataFrame:
    """The pairs that the Opportunity's field names, unless the subscription is that of another deal.

    Only an amendment shares the subscription of another deal.
    """
    named = pairs.filter(pl.col("stripe_subscription_id") == pl.col("subscription_id"))
    amending = pl.col("amends_opportunity_id").is_not_null() & (pl.col("amends_opportunity_id") != "")
    own = pl.col("named_opportunity").is_null() | (pl.col("named_opportunity") == pl.col("opportunity_id"))
    free = named.join(linked, on=["account_id", "subscription_id"], how="anti")
    return pl.concat([named.filter(amending), free.filter(own & ~amending)])


def _around(intent: Callable[[str, str], str], org_id: str) -> tuple[str, str]:
    """What our own create puts before and behind the id of the record in the intent, as the function makes it."""
    before, after = intent(org_id, "\0").split("\0")
    return before, after


def _named(around: tuple[str, str], column: str) -> pl.Expr:
    """The intent of the record whose id is in the column."""
    return pl.concat_str(pl.lit(around[0]), pl.col(column), pl.lit(around[1]))


def _ranked(*claims: tuple[str, pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    """All claims in one frame, each with its evidence and the evidence's rank, 0 for the strongest."""
    return pl.concat(
        frame.select(*columns)
        .unique()
        .with_columns(pl.lit(evidence).alias("evidence"), pl.lit(rank, dtype=pl.Int8).alias("rank"))
        for rank, (evidence, frame) in enumerate(claims)
    )


def _strongest(claims: pl.DataFrame, *, of: str) -> pl.DataFrame:
    """The claims of the strongest evidence there is for each `of`; several of them are ambiguous."""
    several = pl.len().over(of) > 1
    return claims.filter(pl.col("rank") == pl.col("rank").min().over(of)).with_columns(
        pl.when(several).then(pl.lit("ambiguous")).otherwise(pl.lit("matched")).alias("state")
    )
