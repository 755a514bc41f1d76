"""The certificate of agreement as tables: every figure of every account, its difference, its class and its repair.

Computed over whole tables, apart from the planner, by the same rules: what the planner has left to do, it tells. Parts
of one difference add up to it exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from sync_pipeline.core.lifecycle import EARNING
from sync_pipeline.core.mrr_definitions import STRIPE
from sync_pipeline.frames.amounts import minor_units
from sync_pipeline.frames.cash import account_of, wide_sum
from sync_pipeline.frames.exact import round_ratio, rounded, total
from sync_pipeline.frames.mrr import PRICED, Recurring, billed_units
from sync_pipeline.frames.risk import CAUSES
from sync_pipeline.frames.schema import DTYPES, NUMBER_SCALE, dtypes
from sync_pipeline.frames.tables import CERTIFICATE_ACCOUNTS, CERTIFICATE_HISTORY

MEASURES = ("mrr", "mrr_at_risk", "lifetime_value")
"""The Account's fields that hold money, by the name of their rule's field."""
BASE = {"account_id": pl.String(), "measure": pl.String(), "value": pl.String()}
"""Schema of what both systems last agreed on for MEASURES: canonical JSON of major units."""
PERIODIC = ("subscription_create", "subscription_cycle")
MEASURE = "period_invoice"
_KEY = ["account_id", "measure", "currency", "subject", "difference_class"]
_PARTS = ("discount", "tax", "proration", "rest")
_MISSING_AT_STRIPE = (pl.col("difference_class") == "missing") & (pl.col("salesforce_minor") != 0)


@dataclass(frozen=True, slots=True)
class Money:
    """What the figures of the Accounts are made of: what recurs, what of it is at risk, and the cash."""

    recurring: Recurring
    at_risk: pl.DataFrame
    cash: pl.DataFrame


def account_figures(
    money: Money, accounts: pl.DataFrame, mapping: pl.DataFrame, base: pl.DataFrame, default_currency: str, at: int
) -> pl.DataFrame:
    """Rows of sync/certificate_accounts for the money on every Account that has a customer, in every currency, and for
    what is shown on one that has none.

    The Account's own figures are in its currency; what there is in others has no exact amount in that, and is shown
    in the field of other currencies instead.
    """
    owned = pl.col("account_id").is_in(account_of(mapping)["account_id"].implode())
    own = (
        accounts.rename({"id": "account_id"})
        .filter(owned | pl.any_horizontal(pl.col(*MEASURES) != 0))
        .with_columns(pl.coalesce("currency", pl.lit(default_currency)).str.to_uppercase().alias("currency"))
    )
    stripe = _by_stripe(money, own.select("account_id", pl.col("currency").alias("own")), mapping)
    shown = own.select("account_id", "currency", *MEASURES).unpivot(
        MEASURES, index=["account_id", "currency"], variable_name="measure", value_name="shown"
    )
    agreed = base.with_columns(pl.col("value").str.strip_chars('"').str.to_decimal(scale=NUMBER_SCALE).alias("agreed"))
    both = shown.join(stripe, on=["account_id", "currency", "measure"], how="left").join(
        agreed.select("account_id", "measure", "agreed"), on=["account_id", "measure"], how="left"
    )
    minor = both.with_columns(
        minor_units(both, "shown").cast(pl.Int128).alias("shown_minor"),
        minor_units(both, "agreed").cast(pl.Int128).alias("agreed_minor"),
        pl.col("stripe_minor").fill_null(0),
    ).with_columns(pl.col("shown_minor").fill_null(0).alias("salesforce_minor"))
    apart = pl.col("salesforce_minor") != pl.col("stripe_minor")
    known = (
        pl.when(~apart)
        .then(pl.lit("none"))
        .when(pl.col("shown_minor").is_null() | ~owned)
        .then(pl.lit("missing"))
        .when(pl.col("agreed_minor") == pl.col("stripe_minor"))
        .then(pl.lit("human_edit"))
        .when(pl.col("agreed_minor") == pl.col("shown_minor"))
        .then(pl.lit("timing"))
        .otherwise(pl.lit("real"))
    )
    elsewhere = (
        stripe.join(own.select("account_id", pl.col("currency").alias("own")), on="account_id")
        .filter((pl.col("currency") != pl.col("own")) & (pl.col("stripe_minor") != 0))
        .with_columns(pl.lit(0, pl.Int128).alias("salesforce_minor"), pl.lit("fx").alias("difference_class"))
    )
    columns = ["account_id", "measure", "currency", "salesforce_minor", "stripe_minor", "difference_class"]
    shown_or_owned = minor.filter(owned | apart).with_columns(known.alias("difference_class"))
    rows = pl.concat([shown_or_owned.select(columns), elsewhere.select(columns)])
    return fitted(
        rows.with_columns(
            pl.col("account_id").alias("subject"),
            (pl.col("salesforce_minor") - pl.col("stripe_minor")).alias("difference_minor"),
            pl.lit(None, pl.String).alias("repair"),
            pl.lit(0, pl.Int64).alias("left_minor"),
        ),
        at,
    )


def _by_stripe(money: Money, own: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """What follows from Stripe's records: columns account_id, currency, measure, stripe_minor.

    Recurring revenue is Stripe's definition of it. Cash that was settled in the Account's currency counts
    in that.
    """
    items = money.recurring.amounts(len(STRIPE.discounts)).filter(
        pl.col("account_id").is_not_null() & pl.col("not_known").is_null()
    )
    risky = money.at_risk.filter(pl.col("cause").is_in(CAUSES[:3]))
    by = ("account_id", "currency")
    earning = items.filter(pl.col("status").is_in(sorted(EARNING)))
    monthly = total(earning, by)
    at_risk = total(earning.join(risky, on="subscription", how="semi"), by)
    entries = (
        money.cash.join(account_of(mapping), left_on="customer", right_on="customer_id")
        .join(own, on="account_id")
        .with_columns(
            ((pl.col("currency") != pl.col("own")) & (pl.col("settled_currency") == pl.col("own")))
            .fill_null(False)
            .alias("settles")
        )
    )
    settled = pl.when("settles")
    worth = pl.when(pl.col("amount") != 0).then("settled").otherwise(0)
    cash = (
        entries.select(
            "account_id",
            settled.then("own").otherwise("currency").alias("currency"),
            settled.then(worth).otherwise("amount").alias("amount"),
        )
        .group_by(by)
        .agg(wide_sum("amount").alias("stripe_minor"))
    )
    parts = [
        ("mrr", monthly.select(*by, rounded().cast(pl.Int128).alias("stripe_minor"))),
        ("mrr_at_risk", at_risk.select(*by, rounded().cast(pl.Int128).alias("stripe_minor"))),
        ("lifetime_value", cash),
    ]
    return pl.concat(part.select(*by, pl.lit(measure).alias("measure"), "stripe_minor") for measure, part in parts)


def repaired(rows: pl.DataFrame, left: Iterable[str]) -> pl.DataFrame:
    """The rows with what was done about them; `left` are Accounts that still wait for a write or for a person."""
    waits = pl.col("account_id").is_in(list(left))
    cause = pl.col("difference_class")
    billing = pl.col("measure") == MEASURE
    unbilled = billing & _MISSING_AT_STRIPE
    nothing = cause.is_in(["timing", "proration", "tax", "discount"]) & billing
    done = (
        pl.when(cause == "none")
        .then(pl.lit(None, pl.String))
        .when((cause == "fx") & billing)
        .then(pl.lit("none: the deal and its subscription are in two currencies; bill it anew in that of the deal"))
        .when(cause == "fx")
        .then(pl.lit("shown in the field of other currencies"))
        .when(nothing)
        .then(pl.lit("none needed: it is as it should be"))
        .when(billing & ~unbilled)
        .then(pl.lit("none: compare the deal with its subscription"))
        .when(waits & ~billing & _MISSING_AT_STRIPE)
        .then(pl.lit("none: the Account has no customer at Stripe; clear the field, or bill a deal of it"))
        .when(waits)
        .then(pl.lit("not yet: see what the plan has left for this Account"))
        .when(unbilled)
        .then(pl.lit("billed by this run, unless the deal names what Stripe does not have"))
        .otherwise(pl.lit("written to the Account"))
    )
    # What a deal says of its invoice is for reading; the Account's figures have to be equal, and a deal to be billed.
    stays = waits & (~billing | unbilled) & ~cause.is_in(["none", "fx"])
    return rows.with_columns(
        done.alias("repair"),
        pl.when(stays).then("difference_minor").otherwise(0).cast(DTYPES["amount"]).alias("left_minor"),
    )


def period_invoices(
    opportunities: pl.DataFrame,
    deals: pl.DataFrame,
    items: pl.DataFrame,
    invoices: pl.DataFrame,
    lines: pl.DataFrame,
    at: int,
) -> pl.DataFrame:
    """What a won deal says that a period costs, against the latest invoice of a period: rows of
    sync/certificate_accounts, one per class of what lies between, or one without where nothing does.

    The rest is a matter of time where the running items already cost what the deal says.
    """
    off = lines.select(
        "invoice",
        "is_proration",
        "amount",
        pl.col("discounts")
        .list.eval(pl.element().str.extract(r":(-?\d+)$").cast(pl.Int64))
        .list.sum()
        .alias("discount"),
    )
    of_lines = off.group_by("invoice").agg(
        pl.col("amount").filter(~pl.col("is_proration")).sum().alias("full"),
        pl.col("amount").filter("is_proration").sum().alias("prorated"),
        pl.col("discount").sum(),
    )
    latest = (
        invoices.filter(pl.col("billing_reason").is_in(PERIODIC), pl.col("status") != "void")
        .sort("created_at", "id")
        .group_by("subscription")
        .agg(pl.col("id").last().alias("invoice"), pl.col("total", "tax", "currency").last())
    )
    cost = (
        items.filter(PRICED.is_not_null() & pl.col("quantity").is_not_null())
        .with_columns((PRICED.to_physical().cast(pl.Int128) * billed_units()).alias("cost"))
        .group_by("subscription")
        .agg(round_ratio(pl.col("cost").sum(), pl.lit(10**NUMBER_SCALE, pl.Int128)))
    )
    won = opportunities.filter(pl.col("is_won") & pl.col("amount").is_not_null()).select(
        pl.col("id").alias("subject"), "amount", pl.col("currency").alias("deal_in")
    )
    table = (
        deals.filter(state="matched")
        .select(
            pl.col("opportunity_id").alias("subject"), "account_id", pl.col("subscription_id").alias("subscription")
        )
        .join(won, on="subject")
        .join(latest.join(of_lines, on="invoice"), on="subscription", how="left")
        .join(cost, on="subscription", how="left")
        # Of a split deal all parts together are what was sold.
        .group_by("subject", "account_id", "amount", "deal_in")
        .agg(
            pl.col("currency").max(),
            pl.col("total", "tax", "full", "prorated", "discount").sum(),
            pl.when(pl.col("cost").is_not_null().all()).then(pl.col("cost").sum()).alias("cost"),
        )
        .drop_nulls("currency")
        .with_columns(pl.col("deal_in").str.to_uppercase().fill_null(pl.col("currency")))
    )
    apart = _in_two_currencies(table.filter(pl.col("deal_in") != pl.col("currency")))
    table = table.filter(pl.col("deal_in") == pl.col("currency"))
    table = table.with_columns(minor_units(table, "amount").alias("salesforce_minor")).drop_nulls("salesforce_minor")
    said = pl.col("salesforce_minor").cast(pl.Int64)
    parts = table.with_columns(
        said.alias("salesforce_minor"),
        (-pl.col("tax")).alias("tax"),
        (-pl.col("prorated")).alias("proration"),
        # What is on the invoice beside lines of the subscription, one-time charges say, is in the rest too.
        (said - pl.col("total") - pl.col("discount") + pl.col("tax") + pl.col("prorated")).alias("rest"),
        pl.when(pl.col("cost") == said).then(pl.lit("timing")).otherwise(pl.lit("real")).alias("rest_is"),
    )
    long = parts.unpivot(
        _PARTS, index=["account_id", "subject", "currency", "salesforce_minor", "total", "rest_is"],
        variable_name="part", value_name="difference_minor",
    ).filter(pl.col("difference_minor") != 0)  # fmt: skip
    different = long.with_columns(
        pl.when(pl.col("part") == "rest").then("rest_is").otherwise("part").alias("difference_class")
    )
    same = parts.join(long, on="subject", how="anti").with_columns(
        pl.lit("none").alias("difference_class"), pl.lit(0, pl.Int64).alias("difference_minor")
    )
    both = ["account_id", "subject", "currency", "salesforce_minor", "total", "difference_class", "difference_minor"]
    return fitted(
        pl.concat([different.select(both), same.select(both), apart.select(both)]).with_columns(
            pl.lit(MEASURE).alias("measure"),
            pl.col("total").alias("stripe_minor"),
            pl.lit(None, pl.String).alias("repair"),
            pl.lit(0, pl.Int64).alias("left_minor"),
        ),
        at,
    )


def _in_two_currencies(table: pl.DataFrame) -> pl.DataFrame:
    """Deals whose subscription bills another currency than theirs: each side stands by itself, against nothing."""
    said = table.with_columns(minor_units(table, "amount", "deal_in").alias("salesforce_minor"))
    said = said.drop_nulls("salesforce_minor").with_columns(pl.col("salesforce_minor", "total").cast(pl.Int64))
    sides = [
        said.with_columns(pl.col("deal_in").alias("currency"), pl.lit(0, pl.Int64).alias("total")),
        said.with_columns(pl.lit(0, pl.Int64).alias("salesforce_minor")),
    ]
    return pl.concat(sides).with_columns(
        pl.lit("fx").alias("difference_class"),
        (pl.col("salesforce_minor") - pl.col("total")).alias("difference_minor"),
    )


def fitted(rows: pl.DataFrame, at: int) -> pl.DataFrame:
    """Rows with the columns of sync/certificate_accounts, first seen at this moment (microseconds UTC)."""
    differs = pl.col("difference_class") != "none"
    since = pl.when(differs).then(pl.lit(at).cast(DTYPES["moment"]))
    return rows.with_columns(since.alias("since_at")).select(
        pl.col(name).cast(dtype) for name, dtype in dtypes(CERTIFICATE_ACCOUNTS).items()
    )


def since_when(rows: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """The rows, with what differed in the same way in the certificate before dated back to when that began."""
    known = before.filter(pl.col("difference_class") != "none").select(*_KEY, pl.col("since_at").alias("before"))
    return (
        rows.join(known, on=_KEY, how="left")
        .with_columns(pl.coalesce("before", "since_at").alias("since_at"))
        .drop("before")
    )


def unlike_the_planner(rows: pl.DataFrame, quiet: Iterable[str]) -> pl.DataFrame:
    """Own figures that differ on Accounts where the planner found nothing to write; it says nothing of what is shown
    where there is no customer."""
    own = pl.col("measure").is_in(MEASURES) & ~pl.col("difference_class").is_in(["none", "fx"]) & ~_MISSING_AT_STRIPE
    return rows.filter(own & pl.col("account_id").is_in(sorted(quiet)))


def with_history(rows: pl.DataFrame, before: pl.DataFrame, at: int) -> pl.DataFrame:
    """sync/certificate_history: what it was, and the sums of the certificate of this moment (microseconds UTC)."""
    dated = rows.with_columns(pl.lit(at).cast(DTYPES["moment"]).alias("certified_at"))
    sums = dated.group_by("certified_at", "measure", "currency", "difference_class").agg(
        pl.len().alias("figures"),
        (pl.col("left_minor") != 0).sum().alias("still_different"),
        *(wide_sum(name).alias(name) for name in ("difference_minor", "left_minor")),
    )
    now = sums.select(pl.col(name).cast(dtype) for name, dtype in dtypes(CERTIFICATE_HISTORY).items())
    return pl.concat([before.join(now, on="certified_at", how="anti"), now])


def does_not_add_up(rows: pl.DataFrame) -> pl.DataFrame:
    """Figures whose classes do not add up to what lies between the two systems."""
    by = ["account_id", "measure", "currency", "subject"]
    sums = rows.group_by(by).agg(
        pl.col("salesforce_minor", "stripe_minor").first(), wide_sum("difference_minor").alias("parts")
    )
    return sums.filter((pl.col("salesforce_minor") - pl.col("stripe_minor")).cast(pl.Int128) != pl.col("parts"))
