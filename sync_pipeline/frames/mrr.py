"""Monthly recurring revenue per item, subscription and payer, in every definition, and what lies between them.

The arithmetic is core.mrr's over whole columns; a property test holds the two against each other. What has a discount,
or more digits than a column, goes through core.mrr itself. Amounts are exact yearly fractions until the one rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from sync_pipeline.core.mrr import PERIODS_PER_YEAR, periods_per_year, take_off, yearly
from sync_pipeline.core.mrr_definitions import DURATIONS, STRIPE, Definition
from sync_pipeline.core.stripe_records import Discount, SubscriptionItem
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.exact import DENOMINATOR, LIMIT, NUMERATOR, fractions, rounded, total
from sync_pipeline.frames.schema import dtypes
from sync_pipeline.frames.tables import ACCOUNT_MRR, MRR_BRIDGE, MRR_ITEMS, MRR_SUBSCRIPTIONS, SNAPSHOTS

UNIT_SCALE = 12
"""Stripe's prices have at most 12 decimals."""

PRICED = pl.coalesce("unit_amount", "package_amount")
"""What an item's price bills for each of `billed_units`, minor units; null when tiered."""

ENDED = ("canceled", "incomplete_expired")
_WHY_STATUS = {
    "active": None,
    "past_due": "past_due",
    "unpaid": "unpaid",
    "trialing": "trial",
    "paused": "paused",
    "incomplete": "incomplete",
}
_FRACTION = (NUMERATOR, DENOMINATOR)


@dataclass(frozen=True, slots=True)
class Recurring:
    """The items of all living subscriptions at one moment.

    `items`: what they are, with their undiscounted yearly amount; `less`: (item, discounts taken off, amount) for
    those with discounts, where the second is how many of DURATIONS are taken off.
    """

    items: pl.DataFrame
    less: pl.DataFrame

    def amounts(self, durations: int) -> pl.DataFrame:
        """The items with their yearly amounts after so many of DURATIONS."""
        less = self.less.filter(pl.col("durations") == durations).select("item", *_FRACTION)
        own = self.items.join(less, on="item", how="left", suffix="_less")
        return own.with_columns(pl.coalesce(f"{name}_less", name).alias(name) for name in _FRACTION).drop(
            f"{name}_less" for name in _FRACTION
        )


def recurring(
    items: pl.DataFrame,
    subscriptions: pl.DataFrame,
    discounts: pl.DataFrame,
    lines: pl.DataFrame,
    mapping: pl.DataFrame,
    at: int,
) -> Recurring:
    """What recurs at a moment (microseconds UTC), from the listings of that moment.

    Whether a repeating discount is in force is read off its dates; what a `once` discount took is read off the
    invoice lines of the period that runs, because Stripe forgets it as soon as it is spent.
    """
    account_of = mapping.filter(state="matched").select("customer_id", "account_id")
    about = (
        subscriptions.filter(~pl.col("status").is_in(ENDED))
        .join(account_of, left_on="customer", right_on="customer_id", how="left", suffix="_of_customer")
        .select(
            pl.col("id").alias("subscription"),
            "customer",
            pl.coalesce("account_id_of_customer", "customer").alias("payer"),
            pl.col("account_id_of_customer").alias("account_id"),
            "status",
            "collection_paused",
            (pl.col("cancel_at").is_not_null() | pl.col("cancel_at_period_end")).alias("is_ending"),
        )
    )
    living = items.join(about, on="subscription")
    known = with_yearly(living).with_columns(pl.col("id").alias("item"))
    return Recurring(known, _after_discounts(living, discounts, lines, at))


def mrr_items(found: Recurring, definition: Definition) -> pl.DataFrame:
    """derived/mrr_items of one definition."""
    why_not = _why_not(definition)
    amounts = found.amounts(len(definition.discounts)).with_columns(
        pl.lit(definition.name).alias("definition"), why_not.alias("why_not")
    )
    counts = pl.col("why_not").is_null()
    return _shaped(
        amounts.with_columns(
            counts.alias("counts"),
            pl.when(counts).then(NUMERATOR).otherwise(pl.lit(0, pl.Int128)).alias(NUMERATOR),
            pl.when(counts).then(DENOMINATOR).otherwise(pl.lit(1, pl.Int128)).alias(DENOMINATOR),
        ),
        MRR_ITEMS,
    )


def mrr_subscriptions(items: pl.DataFrame) -> pl.DataFrame:
    """derived/mrr_subscriptions: those of which an item counts."""
    by = ("definition", "subscription", "customer", "payer", "currency")
    counted = items.filter("counts")
    return _shaped(total(counted, by, pl.len().cast(pl.Int64).alias("items")), MRR_SUBSCRIPTIONS)


def account_mrr(items: pl.DataFrame) -> pl.DataFrame:
    """derived/account_mrr: exact over all items of a payer and currency, rounded once."""
    by = ("definition", "payer", "account_id", "currency")
    counted = items.filter("counts")
    running = counted.group_by(by).agg(pl.col("subscription").n_unique().cast(pl.Int64).alias("subscriptions"))
    return _shaped(total(counted, by).join(running, on=by, nulls_equal=True), ACCOUNT_MRR)


def mrr_bridge(found: Recurring, definition: Definition) -> pl.DataFrame:
    """derived/mrr_bridge: every step from Stripe's definition to another, item by item; they add up exactly.

    First what each kind of discount takes off, then what does not count at all.
    """
    steps = []
    counted = found.items.filter(_why_not(STRIPE).is_null()).select("item", "payer", "currency")
    for taken in range(len(STRIPE.discounts), len(definition.discounts)):
        cut = found.less.filter(pl.col("durations") == taken + 1)
        step = counted.join(cut, on="item").select(
            *counted.columns,
            pl.lit(f"{DURATIONS[taken]}_discount").alias("reason"),
            (pl.col("cut_numerator") * -1).alias(NUMERATOR),
            pl.col("cut_denominator").alias(DENOMINATOR),
        )
        steps.append(step)
    last = found.amounts(len(definition.discounts)).with_columns(
        _why_not(STRIPE).alias("not_in_stripe"), _why_not(definition).alias("not_in_this")
    )
    lost, won = pl.col("not_in_stripe").is_null(), pl.col("not_in_this").is_null()
    steps.append(
        last.filter(lost != won).select(
            *counted.columns,
            pl.coalesce("not_in_this", "not_in_stripe").alias("reason"),
            pl.when(won).then(NUMERATOR).otherwise(pl.col(NUMERATOR) * -1).alias(NUMERATOR),
            DENOMINATOR,
        )
    )
    rows = pl.concat(steps).filter(pl.col(NUMERATOR) != 0).with_columns(pl.lit(definition.name).alias("definition"))
    return _shaped(rows, MRR_BRIDGE)


def bridge_gaps(items: pl.DataFrame, bridge: pl.DataFrame) -> pl.DataFrame:
    """Payers and currencies where Stripe's amounts and the bridge are not another definition's, to the last fraction.

    Columns definition, payer, currency, and the yearly difference as a fraction.
    """
    by = ["definition", "payer", "currency"]
    stripe = items.filter(definition=STRIPE.name).drop("definition")
    others = items.filter(pl.col("definition") != STRIPE.name)
    names = others.select("definition").unique()
    minus = others.with_columns(pl.col(NUMERATOR) * -1)
    parts = [each.select(*by, *_FRACTION) for each in (stripe.join(names, how="cross"), bridge, minus)]
    return total(pl.concat(parts), by).filter(pl.col(NUMERATOR) != 0)


def _why_not(definition: Definition) -> pl.Expr:
    """Why an item does not count; null where it does. What is not billed at all comes before what is undecided."""
    status = pl.col("status").replace_strict(_WHY_STATUS, default="unknown_status", return_dtype=pl.String())
    none = pl.lit(None, pl.String())
    paused = none if definition.paused_collection_counts else pl.lit("collection_paused")
    ending = none if definition.scheduled_end_counts else pl.lit("scheduled_end")
    return pl.coalesce(
        pl.when(~pl.col("status").is_in(definition.statuses)).then(status),
        "not_known",
        pl.when("collection_paused").then(paused),
        pl.when("is_ending").then(ending),
    )


def with_yearly(items: pl.DataFrame) -> pl.DataFrame:
    """The items with `not_known`, why their amount is not known, and their undiscounted yearly amount (0 then).

    The amount is core.mrr.yearly's. What could pass 128 bits on the way goes through core.mrr itself.
    """
    unit, quantity = PRICED, billed_units()
    committed = (pl.col("usage_type") == "licensed") & unit.is_not_null() & quantity.is_not_null()
    scaled = unit.cast(pl.Decimal(38, UNIT_SCALE))
    is_whole = unit == unit.round(0)
    room = LIMIT // 10**UNIT_SCALE // int(max(PERIODS_PER_YEAR.values()))
    fits = unit.abs().cast(pl.Int128) < room // pl.max_horizontal(quantity.abs(), 1)
    priced = items.join(_often(items), on=["interval", "interval_count"], how="left").with_columns(
        pl.when(~committed)
        .then(pl.lit("no_committed_amount"))
        .when(pl.col("often").is_null())
        .then(pl.lit("unknown_interval"))
        .otherwise(pl.lit(None, pl.String()))
        .alias("not_known")
    )
    known = pl.col("not_known").is_null()
    plain = priced.filter(~known | fits).with_columns(
        pl.when(~known)
        .then(pl.lit(0, pl.Int128))
        .when(is_whole)
        .then(unit.cast(pl.Int128) * quantity * pl.col("often"))
        .otherwise(scaled.to_physical().cast(pl.Int128) * quantity * pl.col("often"))
        .alias(NUMERATOR),
        pl.when(~known)
        .then(pl.lit(1, pl.Int128))
        .when(is_whole)
        .then("per")
        .otherwise(pl.col("per") * 10**UNIT_SCALE)
        .alias(DENOMINATOR),
    )
    large = priced.filter(known & ~fits)
    by_core = large.with_columns(fractions(map(yearly, _records(large))))
    return pl.concat([plain, by_core]).drop("often", "per")


def billed_units() -> pl.Expr:
    """How many units or packages items bill in a period, as core.mrr.of_a_period reckons them; null when metered."""
    quantity, size = pl.col("quantity").cast(pl.Int128), pl.col("package_size").cast(pl.Int128)
    begun = pl.when(pl.col("package_rounding") == "up").then(size - 1).otherwise(0)
    return pl.when(size.is_null()).then(quantity).otherwise((quantity + begun) // size)


def _often(items: pl.DataFrame) -> pl.DataFrame:
    """How often the intervals that occur recur in a year, as `often` / `per`; unknown ones are left out."""
    rows = [
        (interval, count, known.numerator, known.denominator)
        for interval, count in items.select("interval", "interval_count").unique().iter_rows()
        if (known := periods_per_year(interval, count)) is not None
    ]
    schema = {"interval": pl.String, "interval_count": pl.Int64, "often": pl.Int128, "per": pl.Int128}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _after_discounts(items: pl.DataFrame, discounts: pl.DataFrame, lines: pl.DataFrame, at: int) -> pl.DataFrame:
    """Of items with discounts: what is left after 1, 2 and 3 of DURATIONS, and what the last of them takes off."""
    moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
    running = discounts.filter(
        (pl.col("duration") != "once")
        & (pl.col("start_at") <= moment)
        & (pl.col("end_at").is_null() | (pl.col("end_at") > moment))
    )
    once = _taken_once(lines, running, moment)
    touched = items.filter(
        pl.col("subscription").is_in(running["subscription"].implode()) | pl.col("id").is_in(once["item"].implode())
    )
    of_subscription: dict[str, tuple[list[SubscriptionItem], list[Discount]]] = defaultdict(lambda: ([], []))
    for item in _records(touched):
        of_subscription[item.subscription][0].append(item)
    for discount in to_records(running, SNAPSHOTS["stripe/discounts"]):
        of_subscription[discount.subscription][1].append(discount)
    left = _left(of_subscription.values(), dict(once.iter_rows()))
    names, durations = [name for name, _, _, _ in left], [taken for _, taken, _, _ in left]
    numerators, denominators = fractions(after for _, _, after, _ in left)
    cut_numerators, cut_denominators = fractions(cut for _, _, _, cut in left)
    return pl.DataFrame(
        [
            pl.Series("item", names, dtype=pl.String),
            pl.Series("durations", durations, dtype=pl.Int64),
            numerators,
            denominators,
            cut_numerators.alias("cut_numerator"),
            cut_denominators.alias("cut_denominator"),
        ]
    )


def _left(
    subscriptions: Iterable[tuple[list[SubscriptionItem], list[Discount]]], once: Mapping[str, int]
) -> list[tuple[str, int, Fraction, Fraction]]:
    """Per item and number of DURATIONS taken off: the yearly amount that is left, and what the last one took."""
    rows = []
    for items, discounts in subscriptions:
        known = [item for item in items if item.interval in PERIODS_PER_YEAR]
        before = {item.id: yearly(item) for item in known}
        for taken, duration in enumerate(DURATIONS, 1):
            if duration == "once":
                after = {item.id: max(before[item.id] - _yearly_once(item, once), Fraction(0)) for item in known}
            else:
                undiscounted = {item.id: yearly(item) for item in known}
                allowed = [each for each in discounts if each.duration in DURATIONS[:taken]]
                after = take_off(undiscounted, known, allowed)
            rows += [(item.id, taken, after[item.id], before[item.id] - after[item.id]) for item in known]
            before = after
    return rows


def _yearly_once(item: SubscriptionItem, once: Mapping[str, int]) -> Fraction:
    return once.get(item.id, 0) * (periods_per_year(item.interval, item.interval_count) or Fraction(0))


def _taken_once(lines: pl.DataFrame, running: pl.DataFrame, moment: pl.Expr) -> pl.DataFrame:
    """Per item: what other discounts than the running ones took off the line of the period that runs, minor units."""
    parts = (
        lines.filter(
            ~pl.col("is_proration")
            & (pl.col("period_start") <= moment)
            & (pl.col("period_end") > moment)
            & (pl.col("discounts").list.len() > 0)
        )
        .select("item", pl.col("discounts").alias("part"))
        .explode("part")
        .with_columns(pl.col("part").str.split_exact(":", 1).struct.rename_fields(["discount", "minor"]))
        .unnest("part")
    )
    others = parts.join(running, left_on="discount", right_on="id", how="anti")
    return others.group_by("item").agg(pl.col("minor").cast(pl.Int64).sum())


def _records(items: pl.DataFrame) -> list[SubscriptionItem]:
    table = SNAPSHOTS["stripe/subscription_items"]
    found: list[SubscriptionItem] = to_records(items.select([column.name for column in table.columns]), table)
    return found


def _shaped(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The table's columns, with the rounded amount where it is one of them."""
    return frame.with_columns(rounded().alias("mrr_minor")).select(
        pl.col(name).cast(dtype) for name, dtype in dtypes(table).items()
    )
