"""Movements of monthly recurring revenue by day and month, and the roll-forward that adds up exactly.

The roll-forward is Stripe's own (facts/stripe.md 6.1): the first change from nothing is new, a later one a
reactivation, to nothing is churn, and movements are valued at the rate of the day before, so that the rate's own
change stands by itself. Days are the company's.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import polars as pl

from sync_pipeline.frames.cash import account_of, wide_sum
from sync_pipeline.frames.exact import DENOMINATOR, NUMERATOR, fractions, round_ratio, rounded, total
from sync_pipeline.frames.history import believed_at
from sync_pipeline.frames.schema import dtypes
from sync_pipeline.frames.tables import EXCHANGE_RATES, MRR_MOVEMENTS, MRR_ROLLFORWARD

KINDS = ("new", "expansion", "contraction", "churn", "reactivation")
_PARTS = tuple(f"{kind}_minor" for kind in KINDS)
_OF_PAYER = ["definition", "payer", "currency"]
_OF_CURRENCY = ["definition", "currency"]


def day_of(column: str, zone: str) -> pl.Expr:
    """The day of a moment in a time zone (IANA name)."""
    return pl.col(column).dt.convert_time_zone(zone).dt.date()


def movements(history: pl.DataFrame, mapping: pl.DataFrame, zone: str, known_at: int | None = None) -> pl.DataFrame:
    """derived/mrr_movements from derived/mrr_history, as known now, or at a moment (microseconds UTC)."""
    steps = _changes(believed_at(history, known_at), mapping, zone)
    by_day = total(steps, (*_OF_PAYER, "day_date")).sort("day_date")
    after = _running(by_day)
    before = pl.col("end_minor").shift(1).over(_OF_PAYER, order_by="day_date").fill_null(0)
    moved = after.with_columns(rounded().alias("end_minor")).with_columns(before.alias("start_minor"))
    changed = moved.filter(pl.col("start_minor") != pl.col("end_minor"))
    begins = pl.col("start_minor") == 0
    first = pl.col("day_date") == pl.col("day_date").min().over(_OF_PAYER)
    kind = (
        pl.when(begins & first)
        .then(pl.lit("new"))
        .when(begins)
        .then(pl.lit("reactivation"))
        .when(pl.col("end_minor") == 0)
        .then(pl.lit("churn"))
        .when(pl.col("end_minor") > pl.col("start_minor"))
        .then(pl.lit("expansion"))
        .otherwise(pl.lit("contraction"))
    )
    accounts = mapping.select("account_id").unique()
    return (
        changed.with_columns(kind.alias("kind"), (pl.col("end_minor") - pl.col("start_minor")).alias("movement_minor"))
        .join(accounts.with_columns(pl.col("account_id").alias("payer")), on="payer", how="left")
        .select(pl.col(name).cast(dtype) for name, dtype in dtypes(MRR_MOVEMENTS).items())
    )


def exchange_rates(charges: pl.DataFrame, reporting: str, zone: str) -> pl.DataFrame:
    """derived/exchange_rates: what Stripe settled in the reporting currency for what customers paid in others."""
    foreign = charges.filter(
        (pl.col("status") == "succeeded")
        & (pl.col("settled_currency") == reporting)
        & (pl.col("currency") != reporting)
        & (pl.col("amount") > 0)
        & (pl.col("settled") > 0)
    )
    return (
        foreign.group_by(day_of("created_at", zone).alias("day_date"), "currency")
        .agg(
            wide_sum("amount").alias("charged_minor"),
            wide_sum("settled").alias("settled_minor"),
            pl.len().alias("payments"),
        )
        .with_columns(pl.lit(reporting).alias("reporting_currency"))
        .select(pl.col(name).cast(dtype) for name, dtype in dtypes(EXCHANGE_RATES).items())
    )


def rollforward(moved: pl.DataFrame, rates: pl.DataFrame, reporting: str, last_day: object) -> pl.DataFrame:
    """derived/mrr_rollforward from derived/mrr_movements and derived/exchange_rates, up to a day (a date).

    In the reporting currency at the last rate that Stripe settled at up to that day, before the first one at that. A
    currency that was never settled in it has no rows there.
    """
    own = _by_day(moved, last_day)
    converted = _converted(own.filter(pl.col("currency") != reporting), rates, reporting)
    days = pl.concat([own, converted])
    months = (
        days.sort("from_date")
        .group_by(*_OF_CURRENCY, "in_currency", pl.col("from_date").dt.month_start())
        .agg(pl.col("start_minor").first(), pl.col(*_PARTS, "fx_minor").sum(), pl.col("end_minor").last())
    )
    parts = [("day", days), ("month", months)]
    return pl.concat(
        each.with_columns(pl.lit(period).alias("period")).select(
            pl.col(name).cast(dtype) for name, dtype in dtypes(MRR_ROLLFORWARD).items()
        )
        for period, each in parts
    )


def does_not_add_up(rolled: pl.DataFrame) -> pl.DataFrame:
    """The rows of derived/mrr_rollforward where start and movements are not the end, or that do not begin where the
    period before ended."""
    by = [*_OF_CURRENCY, "in_currency", "period"]
    parts = pl.sum_horizontal(pl.col("start_minor", *_PARTS, "fx_minor").cast(pl.Int128))
    previous = pl.col("end_minor").shift(1).over(by, order_by="from_date").fill_null(0)
    return rolled.filter((parts != pl.col("end_minor").cast(pl.Int128)) | (pl.col("start_minor") != previous))


def apart_from(rolled: pl.DataFrame, account_mrr: pl.DataFrame) -> pl.DataFrame:
    """Where the last day does not end with what recurs now: columns definition, currency, ended, recurs."""
    own = rolled.filter((pl.col("period") == "day") & (pl.col("currency") == pl.col("in_currency")))
    ended = own.group_by(_OF_CURRENCY).agg(pl.col("end_minor").sort_by("from_date").last().alias("ended"))
    recurs = account_mrr.group_by(_OF_CURRENCY).agg(pl.col("mrr_minor").sum().alias("recurs"))
    return (
        ended.join(recurs, on=_OF_CURRENCY, how="full", coalesce=True)
        .with_columns(pl.col("ended", "recurs").fill_null(0))
        .filter(pl.col("ended") != pl.col("recurs"))
        .sort(_OF_CURRENCY)
    )


def _changes(states: pl.DataFrame, mapping: pl.DataFrame, zone: str) -> pl.DataFrame:
    """What each step adds to its payer, as exact yearly amounts: the new amount, and the one before taken away."""
    owned = states.join(account_of(mapping), left_on="customer", right_on="customer_id", how="left").with_columns(
        pl.coalesce("account_id", "customer").alias("payer"), pl.col(NUMERATOR, DENOMINATOR).cast(pl.Int128)
    )
    shown = [*_OF_PAYER, "day_date", NUMERATOR, DENOMINATOR]
    begins = owned.with_columns(day_of("true_from_at", zone).alias("day_date"))
    ends = owned.filter(pl.col("true_until_at").is_not_null()).with_columns(
        day_of("true_until_at", zone).alias("day_date"), pl.col(NUMERATOR) * -1
    )
    return pl.concat([begins.select(shown), ends.select(shown)]).filter(pl.col(NUMERATOR) != 0)


def _running(by_day: pl.DataFrame) -> pl.DataFrame:
    """Running sums per payer of exact amounts: in columns where a payer's denominators are all the same."""
    several = pl.col(DENOMINATOR).n_unique().over(_OF_PAYER) > 1
    plain = by_day.filter(~several).with_columns(pl.col(NUMERATOR).cum_sum().over(_OF_PAYER, order_by="day_date"))
    mixed = (
        by_day.filter(several).group_by(_OF_PAYER).agg(pl.col("day_date", NUMERATOR, DENOMINATOR).sort_by("day_date"))
    )
    sums = [
        sum_
        for numerators, denominators in mixed.select(NUMERATOR, DENOMINATOR).iter_rows()
        for sum_ in accumulate(Fraction(n, d) for n, d in zip(numerators, denominators, strict=True))
    ]
    listed = mixed.select(*_OF_PAYER, "day_date").explode("day_date").with_columns(*fractions(sums))
    return pl.concat([plain.select(listed.columns), listed])


def _by_day(moved: pl.DataFrame, last_day: object) -> pl.DataFrame:
    """Every day from a currency's first movement on, days without one included."""
    sums = moved.group_by(*_OF_CURRENCY, pl.col("day_date").alias("from_date")).agg(
        wide_sum_of(kind).alias(f"{kind}_minor") for kind in KINDS
    )
    days = (
        sums.group_by(_OF_CURRENCY)
        .agg(pl.col("from_date").min().alias("first"))
        .with_columns(pl.date_ranges("first", pl.lit(last_day)).alias("from_date"))
        .select(*_OF_CURRENCY, "from_date")
        .explode("from_date")
        .drop_nulls("from_date")
    )
    net = pl.sum_horizontal(pl.col(_PARTS))
    return (
        days.join(sums, on=[*_OF_CURRENCY, "from_date"], how="left")
        .with_columns(pl.col(_PARTS).fill_null(0))
        .sort("from_date")
        .with_columns(net.cum_sum().over(_OF_CURRENCY, order_by="from_date").alias("end_minor"))
        .with_columns(
            pl.col("currency").alias("in_currency"),
            (pl.col("end_minor") - net).alias("start_minor"),
            pl.lit(0, pl.Int128).alias("fx_minor"),
        )
        .select(*_OF_CURRENCY, "in_currency", "from_date", "start_minor", *_PARTS, "fx_minor", "end_minor")
    )


def wide_sum_of(kind: str) -> pl.Expr:
    """The movements of one kind, in 128 bits."""
    return pl.col("movement_minor").filter(pl.col("kind") == kind).cast(pl.Int128).sum()


def _converted(days: pl.DataFrame, rates: pl.DataFrame, reporting: str) -> pl.DataFrame:
    """Days in the reporting currency. Every running sum is rounded, and a part is the difference of two of them, so
    that the parts add up and a day without a change of the rate has none from it."""
    known = rates.select("currency", "day_date", pl.col("charged_minor", "settled_minor").cast(pl.Int128)).sort(
        "day_date"
    )
    first = known.group_by("currency").agg(
        pl.col("charged_minor").sort_by("day_date").first().alias("first_charged"),
        pl.col("settled_minor").sort_by("day_date").first().alias("first_settled"),
    )
    rated = (
        days.join(first, on="currency")
        .sort("from_date")
        .join_asof(known, left_on="from_date", right_on="day_date", by="currency", check_sortedness=False)
        .with_columns(
            pl.coalesce("charged_minor", "first_charged").alias("charged"),
            pl.coalesce("settled_minor", "first_settled").alias("settled"),
        )
        .with_columns(
            pl.col("charged", "settled").shift(1).over(_OF_CURRENCY, order_by="from_date").name.suffix("_before")
        )
        .with_columns(
            pl.col("charged_before").fill_null(pl.col("charged")), pl.col("settled_before").fill_null(pl.col("settled"))
        )
    )
    sums = _partial_sums("start_minor", *_PARTS)
    at_old = [
        round_ratio(each * pl.col("settled_before"), pl.col("charged_before")).cast(pl.Int128).alias(f"sum_{n}")
        for n, each in enumerate(sums)
    ]
    at_new = round_ratio(pl.col("end_minor") * pl.col("settled"), pl.col("charged")).cast(pl.Int128)
    return rated.with_columns(*at_old, at_new.alias("sum_end")).select(
        *_OF_CURRENCY,
        pl.lit(reporting).alias("in_currency"),
        "from_date",
        pl.col("sum_0").alias("start_minor"),
        *((pl.col(f"sum_{n}") - pl.col(f"sum_{n - 1}")).alias(name) for n, name in enumerate(_PARTS, 1)),
        (pl.col("sum_end") - pl.col(f"sum_{len(_PARTS)}")).alias("fx_minor"),
        pl.col("sum_end").alias("end_minor"),
    )


def _partial_sums(*names: str) -> Sequence[pl.Expr]:
    return [pl.sum_horizontal(pl.col(names[: n + 1])) for n in range(len(names))]
