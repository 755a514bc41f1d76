"""What recurred at any moment, item by item and in every definition, as it is known now and as it was known before.

Stripe keeps no history of subscriptions. What an item billed in the past is read off its invoice lines, which say the
rate, the quantity and from when; what only a look can tell (past due, paused, a change that is not invoiced yet)
holds from the first snapshot that saw it. A later invoice may date a change further back: the row that said otherwise
stays, with the time until which it was believed.
"""

from __future__ import annotations

from fractions import Fraction

import polars as pl

from sync_pipeline.core.mrr_definitions import STRIPE, Definition
from sync_pipeline.frames.exact import DENOMINATOR, NUMERATOR, fractions, round_ratio
from sync_pipeline.frames.mrr import ENDED, with_yearly
from sync_pipeline.frames.schema import DTYPES, dtypes
from sync_pipeline.frames.tables import MRR_HISTORY

MOMENT = DTYPES["moment"]
SLACK = 1
_AMOUNT = (NUMERATOR, DENOMINATOR)
_MINOR = round_ratio(pl.col(NUMERATOR), pl.col(DENOMINATOR) * 12).alias("mrr_minor")
_NOTHING = pl.lit(0).cast(DTYPES["amount"]).alias("mrr_minor")
_BILLS = ("item", "subscription", "price", "amount", "quantity", "unit_amount", "is_proration")
_BEFORE = ((NUMERATOR, 0), (DENOMINATOR, 1))
_STEP = ("item", "true_from_at", *_AMOUNT, "mrr_minor", "source", "seen_otherwise_at")
_STEP_FROM_START = ("item", pl.col("start").alias("true_from_at"), *_STEP[2:])


def billed(lines: pl.DataFrame, items: pl.DataFrame, prices: pl.DataFrame, discounts: pl.DataFrame) -> pl.DataFrame:
    """What every line of an invoice says of its item from the start of its period, until the next one says otherwise.

    Columns item, subscription, start, end, is_proration, gross_* (exact yearly amount before discounts), amount, and
    what was taken off the amount: off_forever by discounts that last for ever, off by all. A credit says that its
    item ended, unless a debit of the same moment says what followed. Periods that say the same are one row.
    """
    packages = ("package_size", "package_rounding")
    about = items.select(pl.col("id").alias("item"), "product", "interval", "interval_count", "usage_type", *packages)
    of_price = prices.select(
        pl.col("id").alias("price"),
        pl.col("product").alias("priced_product"),
        pl.col("interval").alias("priced_interval"),
        pl.col("interval_count").alias("priced_count"),
        pl.col(packages).name.prefix("priced_"),
    )
    billing = lines.filter((pl.col("amount") > 0) | ((pl.col("amount") == 0) & ~pl.col("is_proration")))
    debits = _runs(billing)
    known = (
        debits.join(about, on="item", how="left")
        .join(of_price, on="price", how="left")
        .with_columns(
            pl.coalesce("priced_product", "product", pl.lit("")).alias("product"),
            pl.coalesce("priced_interval", "interval", pl.lit("")).alias("interval"),
            pl.coalesce("priced_count", "interval_count", pl.lit(1)).alias("interval_count"),
            pl.col("usage_type").fill_null("licensed"),
            pl.col("price").fill_null(""),
            # An invoice says the amount of a package as that of a unit.
            *(
                pl.when(pl.col("priced_product").is_null()).then(name).otherwise(f"priced_{name}").alias(name)
                for name in packages
            ),
            pl.lit(None, DTYPES["number"]).alias("package_amount"),
            pl.lit([], pl.List(pl.String)).alias("line_ids"),
        )
    )
    # A free line of a priced item is a trial's.
    gross = pl.when(pl.col("amount") == 0).then(0).otherwise(NUMERATOR)
    rates = with_yearly(known).with_columns(gross.alias(NUMERATOR))
    said = rates.join(_taken_off(debits, discounts), on="id", how="left").select(
        "item",
        "subscription",
        pl.col("period_start").alias("start"),
        pl.col("period_end").alias("end"),
        "is_proration",
        pl.col(NUMERATOR).alias("gross_numerator"),
        pl.col(DENOMINATOR).alias("gross_denominator"),
        "amount",
        pl.col("off_forever", "off").fill_null(0),
    )
    # The latest word of a moment: a renewal bills what a proration of that moment has changed.
    said = said.sort("item", "start", "is_proration", "end").unique(["item", "start"], keep="last")
    credits = lines.filter(pl.col("amount") < 0)
    billed_too = billing.join(credits, on=["item", "period_start"], how="semi")
    ended = (
        credits.join(billed_too, on=["item", "period_start"], how="anti")
        .select("item", "subscription", pl.col("period_start").alias("start"), pl.col("period_end").alias("end"))
        .unique(["item", "start"])
        .with_columns(
            pl.lit(True).alias("is_proration"),
            pl.lit(0, pl.Int128).alias("gross_numerator"),
            pl.lit(1, pl.Int128).alias("gross_denominator"),
            *(pl.lit(0, pl.Int64).alias(name) for name in ("amount", "off_forever", "off")),
        )
    )
    return pl.concat([said, ended.select(said.columns)]).sort("item", "start")


def history(
    said: pl.DataFrame,
    mrr_items: pl.DataFrame,
    subscriptions: pl.DataFrame,
    definition: Definition,
    known: pl.DataFrame,
    at: int,
    looked_before: int | None,
) -> pl.DataFrame:
    """derived/mrr_history of one definition after a look at a moment (microseconds UTC).

    `said` from `billed`; `mrr_items` are the definition's rows of derived/mrr_items, which are what was seen; `known`
    is the table as the look before, if any, left it.
    """
    before = known.filter(definition=definition.name)
    believed = believed_at(before)
    told = _told(said, mrr_items, subscriptions, definition, at)
    seen = _seen(told, mrr_items, believed, at, looked_before)
    looked = believed.filter(source="snapshot").with_columns(pl.col(_AMOUNT).cast(pl.Int128))
    looks = pl.concat([looked.select(_STEP), seen]).unique(["item", "true_from_at"])
    owners = pl.concat([each.select("item", "subscription") for each in (said, mrr_items, believed)]).unique("item")
    about = subscriptions.select(pl.col("id").alias("subscription"), "customer", "currency")
    now = (
        _steps(told, looks, believed, before["known_from_at"].min())
        .join(owners, on="item")
        .join(about, on="subscription")
        .with_columns(
            pl.lit(definition.name).alias("definition"),
            pl.col("true_from_at").shift(-1).over("item", order_by="true_from_at").alias("true_until_at"),
            pl.lit(at).cast(MOMENT).alias("known_from_at"),
            pl.lit(None, MOMENT).alias("known_until_at"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in dtypes(MRR_HISTORY).items())
    )
    same = [name for name in now.columns if not name.startswith("known_")]
    disbelieved = believed.join(now, on=same, how="anti", nulls_equal=True)
    return pl.concat(
        [
            before.filter(pl.col("known_until_at").is_not_null()),
            believed.join(now, on=same, how="semi", nulls_equal=True),
            disbelieved.with_columns(pl.lit(at).cast(MOMENT).alias("known_until_at")),
            now.join(believed, on=same, how="anti", nulls_equal=True),
        ]
    )


def believed_at(table: pl.DataFrame, at: int | None = None) -> pl.DataFrame:
    """The rows of derived/mrr_history that were believed at a moment (microseconds UTC); now without one."""
    if at is None:
        return table.filter(pl.col("known_until_at").is_null())
    moment = pl.lit(at).cast(MOMENT)
    until = pl.col("known_until_at")
    return table.filter((pl.col("known_from_at") <= moment) & (until.is_null() | (until > moment)))


def _runs(lines: pl.DataFrame) -> pl.DataFrame:
    """One line for those of an item that follow each other and bill the same: most of them do."""
    ordered = lines.sort("item", "period_start", "is_proration")
    same = (*map(pl.col, _BILLS), pl.col("discounts").list.join(","))
    repeats = pl.all_horizontal(each.eq_missing(each.shift(1)) for each in same)
    follows = (repeats & (pl.col("period_end").shift(1) >= pl.col("period_start"))).fill_null(False)
    marked = ordered.with_columns((~follows).alias("begins"))
    last_ends = marked.filter(pl.col("begins").shift(-1, fill_value=True))["period_end"]
    return marked.filter("begins").drop("begins").with_columns(last_ends)


def _taken_off(lines: pl.DataFrame, discounts: pl.DataFrame) -> pl.DataFrame:
    """Per line: what discounts took off. One that is not on the subscription any more did not last for ever."""
    forever = discounts.filter(duration="forever").select(pl.col("id").alias("discount"))
    return (
        lines.filter(pl.col("discounts").list.len() > 0)
        .select("id", pl.col("discounts").alias("part"))
        .explode("part")
        .with_columns(pl.col("part").str.split_exact(":", 1).struct.rename_fields(["discount", "minor"]))
        .unnest("part")
        .with_columns(pl.col("minor").cast(pl.Int64))
        .join(forever.with_columns(pl.lit(True).alias("lasts")), on="discount", how="left")
        .group_by("id")
        .agg(pl.col("minor").filter(pl.col("lasts")).sum().alias("off_forever"), pl.col("minor").sum().alias("off"))
    )


def _told(
    said: pl.DataFrame, mrr_items: pl.DataFrame, subscriptions: pl.DataFrame, definition: Definition, at: int
) -> pl.DataFrame:
    """The steps that Stripe's records tell up to the moment: an amount from its start, 0 where nothing followed."""
    off = pl.col("off_forever" if definition.discounts == STRIPE.discounts else "off")
    moment = pl.lit(at).cast(MOMENT)
    is_full = ~pl.col("is_proration")
    # A proration does not list its discounts: those of the item's other lines hold.
    shares = said.with_columns(
        pl.when(is_full).then(pl.col("amount") - off).alias("left"), pl.when(is_full).then("amount").alias("whole")
    ).with_columns(pl.col("left", "whole").forward_fill().backward_fill().over("item", order_by="start"))
    now = mrr_items.filter("counts").select(
        "item",
        pl.col(NUMERATOR).cast(pl.Int128).alias("now_numerator"),
        pl.col(DENOMINATOR).cast(pl.Int128).alias("now_denominator"),
        pl.col("mrr_minor").alias("now_minor"),
    )
    running = (
        _net(shares.filter(pl.col("start") <= moment))
        .join(_ends(subscriptions, definition), on="subscription", how="left")
        .filter(pl.col("ends").is_null() | (pl.col("start") < pl.col("ends")))
        .join(now, on="item", how="left")
        .with_columns(_MINOR)
    )
    # An invoice takes off whole minor units, so what it says of a year is a little beside the exact amount.
    off_by = (pl.col("mrr_minor") - pl.col("now_minor")).cast(pl.Int128).abs()
    same = (off_by <= pl.col("slack")).fill_null(False)
    exact = running.with_columns(
        pl.when(same).then("now_numerator").otherwise(NUMERATOR).alias(NUMERATOR),
        pl.when(same).then("now_denominator").otherwise(DENOMINATOR).alias(DENOMINATOR),
    )
    following = pl.col("start").shift(-1).over("item", order_by="start")
    last = pl.min_horizontal("end", "ends")
    nothing_now = following.is_null() & pl.col("now_minor").is_null() & (last <= moment)
    stops = exact.filter(nothing_now | (following > last)).select(
        "item", last.alias("start"), pl.lit(0, pl.Int128).alias(NUMERATOR), pl.lit(1, pl.Int128).alias(DENOMINATOR)
    )
    return (
        pl.concat([exact.select(stops.columns), stops])
        .with_columns(_MINOR, pl.lit("records").alias("source"), pl.lit(None, MOMENT).alias("seen_otherwise_at"))
        .select(_STEP_FROM_START)
    )


def _net(shares: pl.DataFrame) -> pl.DataFrame:
    """The yearly amounts after discounts, and the `slack` in minor units a month that whole minor units leave."""
    plain = pl.col("whole").is_null() | (pl.col("left") == pl.col("whole")) | (pl.col("whole") == 0)
    by = ["gross_numerator", "gross_denominator", "left", "whole"]
    discounted = shares.filter(~plain)
    different = discounted.select(by).unique()
    net = fractions(Fraction(n, d) * left / whole for n, d, left, whole in different.iter_rows())
    return pl.concat(
        [
            shares.filter(plain).with_columns(
                pl.col("gross_numerator").alias(NUMERATOR),
                pl.col("gross_denominator").alias(DENOMINATOR),
                pl.lit(0, pl.Int128).alias("slack"),
            ),
            discounted.join(different.with_columns(*net), on=by).with_columns(pl.lit(SLACK, pl.Int128).alias("slack")),
        ],
        how="diagonal",
    )


def _ends(subscriptions: pl.DataFrame, definition: Definition) -> pl.DataFrame:
    """Since when an ended subscription counts for nothing: columns subscription, ends."""
    asked = pl.col("ended_at") if definition.scheduled_end_counts else pl.min_horizontal("canceled_at", "ended_at")
    never_paid = pl.col("status") == "incomplete_expired"
    return subscriptions.filter(pl.col("status").is_in(ENDED)).select(
        pl.col("id").alias("subscription"), pl.when(never_paid).then("start_at").otherwise(asked).alias("ends")
    )


def _seen(
    told: pl.DataFrame, mrr_items: pl.DataFrame, believed: pl.DataFrame, at: int, looked_before: int | None
) -> pl.DataFrame:
    """What was seen at the moment: what items count for, and 0 for those that are gone."""
    there = mrr_items.select("item", pl.col(_AMOUNT).cast(pl.Int128), "mrr_minor")
    gone = pl.concat([told.select("item"), believed.select("item")]).unique().join(there, on="item", how="anti")
    nothing = gone.with_columns(
        pl.lit(0, pl.Int128).alias(NUMERATOR), pl.lit(1, pl.Int128).alias(DENOMINATOR), _NOTHING
    )
    return pl.concat([there, nothing.select(there.columns)]).select(
        "item",
        pl.lit(at).cast(MOMENT).alias("true_from_at"),
        *_AMOUNT,
        "mrr_minor",
        pl.lit("snapshot").alias("source"),
        pl.lit(looked_before, pl.Int64).cast(MOMENT).alias("seen_otherwise_at"),
    )


def _steps(told: pl.DataFrame, looks: pl.DataFrame, believed: pl.DataFrame, first_look: object) -> pl.DataFrame:
    """The changes of every item, told and seen.

    Before the first look, and of an item that is new, there are only the records. After it they date a change that
    two looks have between them, if they lead to what the second one saw; if not, something has happened that they do
    not tell, and the second look dates it. What was dated by them once stays so.
    """
    window = looks.select(
        "item",
        pl.col("true_from_at").alias("look"),
        pl.col("mrr_minor").alias("looked"),
        pl.col("seen_otherwise_at").alias("since"),
    )
    dated = told.sort("true_from_at").join_asof(
        window.sort("look"),
        left_on="true_from_at",
        right_on="look",
        by="item",
        strategy="forward",
        check_sortedness=False,
    )
    start = pl.col("true_from_at")
    leads_to = pl.col("mrr_minor").sort_by("true_from_at").last().over("item", "look")
    accepted = believed.filter(source="records").select("item", "true_from_at", pl.lit(True).alias("accepted"))
    kept = (
        dated.join(accepted, on=["item", "true_from_at"], how="left")
        .filter(
            ~pl.col("item").is_in(believed["item"].implode())
            | (start <= pl.lit(first_look, MOMENT))
            | pl.col("accepted")
            | ((start > pl.col("since")) & (leads_to == pl.col("looked")))
        )
        .select(looks.columns)
    )
    both = pl.concat([kept, looks]).sort("item", "true_from_at", "source").unique(["item", "true_from_at"], keep="last")
    was = [pl.col(name).shift(1, fill_value=value).over("item", order_by="true_from_at") for name, value in _BEFORE]
    return both.filter(pl.any_horizontal(pl.col(name) != each for (name, _), each in zip(_BEFORE, was, strict=True)))
