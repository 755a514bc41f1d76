"""The certificate of agreement as one page that needs nothing else: no script, no font, no picture from outside.

Record ids only, no names: the page is linked from Dagster and travels by mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

import polars as pl

from sync_pipeline.core.differences import CLASSES
from sync_pipeline.core.money import Money, MoneyError

ROWS_SHOWN = 50
WIDTH, HEIGHT, MARGIN = 720, 220, 36
COLOURS = {
    "agreed": "#2e7d5b",
    "repaired": "#d9a441",
    "left": "#b3403a",
    "up": "#2e7d5b",
    "down": "#b3403a",
    "sum": "#44546a",
}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2733; max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } caption { text-align: left; color: #5a6675; }
th, td { border-bottom: 1px solid #dde3ea; padding: .3rem .5rem; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; } .good { color: #2e7d5b; } .bad { color: #b3403a; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #5a6675; }
.none { color: #5a6675; }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page is made of: the tables of their names, and the time in microseconds UTC."""

    at: int
    agrees: bool
    amounts: pl.DataFrame
    history: pl.DataFrame
    rollforward: pl.DataFrame
    at_risk: pl.DataFrame
    reporting: str


def page(shown: Shown) -> str:
    """The whole page in HTML."""
    verdict = "agree to the penny" if shown.agrees else "differ"
    kind = "good" if shown.agrees else "bad"
    verdict = f'<strong class="{kind}">{verdict}</strong>'
    sections = [
        f"<h1>Certificate of agreement</h1><p>{_moment(shown.at)}: Salesforce and Stripe {verdict}.</p>",
        _totals(shown.amounts),
        "<h2>Agreement over time</h2>" + _agreement(shown.history),
        f"<h2>Monthly recurring revenue, latest months ({escape(shown.reporting)})</h2>" + _waterfall(shown),
        "<h2>At risk</h2>" + _at_risk(shown.at_risk),
        "<h2>Oldest differences</h2>" + _oldest(shown.amounts),
        "<h2>Classes</h2>" + _classes(),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Certificate of agreement</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(sections)}</body></html>"
    )


def _totals(amounts: pl.DataFrame) -> str:
    figures = ["account_id", "measure", "currency", "subject"]
    once = amounts.group_by(figures).agg(
        pl.col("salesforce_minor", "stripe_minor").first(), pl.col("difference_minor", "left_minor").sum()
    )
    sums = (
        once.group_by("measure", "currency")
        .agg(pl.len(), pl.col("salesforce_minor", "stripe_minor", "difference_minor", "left_minor").sum())
        .sort("measure", "currency")
    )
    by_class = (
        amounts.filter(pl.col("difference_class") != "none")
        .group_by("measure", "currency", "difference_class")
        .agg(pl.len(), pl.col("difference_minor", "left_minor").sum())
        .sort("measure", "currency", "difference_class")
    )
    whole = _table(
        "Before the repair. The difference is Salesforce less Stripe; what is left should be nothing.",
        ["Measure", "Currency", "Figures", "Salesforce", "Stripe", "Difference", "Left"],
        [
            [measure, currency, f"{n:,}", *(_money(minor, currency) for minor in minors)]
            for measure, currency, n, *minors in sums.iter_rows()
        ],
        numbers_from=2,
    )
    classes = _table(
        "The differences by class.",
        ["Measure", "Currency", "Class", "Figures", "Difference", "Left"],
        [
            [measure, currency, cause, f"{n:,}", *(_money(minor, currency) for minor in minors)]
            for measure, currency, cause, n, *minors in by_class.iter_rows()
        ],
        numbers_from=3,
    )
    return f"<h2>What both systems say</h2>{whole}{classes}"


def _agreement(history: pl.DataFrame) -> str:
    """A bar per certificate: figures that agreed, that were repaired or explained, and that are left."""
    none = pl.col("difference_class") == "none"
    nights = (
        history.group_by("certified_at")
        .agg(
            pl.col("figures").filter(none).sum().alias("agreed"),
            (pl.col("figures") - pl.col("still_different")).filter(~none).sum().alias("repaired"),
            pl.col("still_different").sum(),
        )
        .sort("certified_at")
        .tail(60)
    )
    most = max((sum(parts) for _, *parts in nights.iter_rows()), default=0)
    if not most:
        return _none("No certificate yet.")
    wide = (WIDTH - 2 * MARGIN) / nights.height
    bars = []
    for place, (at, *parts) in enumerate(nights.iter_rows()):
        below = 0
        for name, count in zip(("agreed", "repaired", "left"), parts, strict=True):
            title = f"{at:%Y-%m-%d}: {count} {name}"
            bars.append(_bar(MARGIN + place * wide, below, count, most, min(wide * 0.8, 60), COLOURS[name], title))
            below += count
    first, last = (nights["certified_at"][place].strftime("%Y-%m-%d") for place in (0, -1))
    legend = "figures that agreed (green), were repaired or explained (yellow), are left (red)"
    return _chart("Agreement over time", bars, [(MARGIN, first), (WIDTH - MARGIN - 70, last)], f"{most:,} {legend}")


def _waterfall(shown: Shown) -> str:
    """Start, every movement and end over the latest twelve months together."""
    names = ("new", "expansion", "reactivation", "contraction", "churn", "fx")
    months = (
        shown.rollforward.filter(definition="stripe", period="month", in_currency=shown.reporting)
        .group_by("from_date")
        .agg(pl.col("start_minor", *(f"{name}_minor" for name in names), "end_minor").sum())
        .sort("from_date")
        .tail(12)
    )
    if months.is_empty():
        return _none("Nothing recurs.")
    start, end = int(months["start_minor"][0]), int(months["end_minor"][-1])
    steps = [(name, int(months[f"{name}_minor"].sum())) for name in names]
    heights, level = [start, end], start
    for _, minor in steps:
        level += minor
        heights.append(level)
    most = max(*heights, 1)
    wide = (WIDTH - 2 * MARGIN) / (len(steps) + 2)
    bars, labels, level = [], [], 0
    for place, (name, minor) in enumerate([("start", start), *steps, ("end", end)]):
        whole = name in ("start", "end")
        below = 0 if whole else min(level, level + minor)
        colour = COLOURS["sum" if whole else "up" if minor >= 0 else "down"]
        title = f"{name}: {_money(minor, shown.reporting)}"
        bars.append(_bar(MARGIN + place * wide, below, abs(minor), most, wide * 0.8, colour, title))
        labels.append((MARGIN + place * wide, name))
        level = minor if whole else level + minor
    rows = [
        [f"{day:%Y-%m}", *(_money(minor, shown.reporting) for minor in minors)] for day, *minors in months.iter_rows()
    ]
    table = _table("By month.", ["Month", "Start", *(name.capitalize() for name in names), "End"], rows, numbers_from=1)
    return _chart("Waterfall of recurring revenue", bars, labels, f"up to {_money(most, shown.reporting)}") + table


def _at_risk(at_risk: pl.DataFrame) -> str:
    worst = at_risk.sort("mrr_minor", "subscription", descending=[True, False]).head(ROWS_SHOWN)
    rows = [
        [payer, subscription, cause.replace("_", " "), _money(minor, currency), _money(due, currency), _day(oldest)]
        for payer, subscription, cause, currency, minor, due, oldest in worst.select(
            "payer", "subscription", "cause", "currency", "mrr_minor", "open_minor", "oldest_due_at"
        ).iter_rows()
    ]
    caption = f"{at_risk.height:,} subscriptions; each counts once."
    columns = ["Account", "Subscription", "Cause", "MRR", "Open", "Due since"]
    return _table(caption, columns, rows, numbers_from=3) if rows else _none("Nothing is at risk.")


def _oldest(amounts: pl.DataFrame) -> str:
    different = amounts.filter(pl.col("difference_class") != "none").sort("since_at", "account_id", "measure")
    rows = [
        [account, measure, subject, cause, _money(apart, currency), _money(left, currency), _day(since), repair or ""]
        for account, measure, subject, cause, currency, apart, left, since, repair in different.select(
            "account_id", "measure", "subject", "difference_class", "currency", "difference_minor", "left_minor",
            "since_at", "repair",
        ).head(ROWS_SHOWN).iter_rows()
    ]  # fmt: skip
    columns = ["Account", "Measure", "Record", "Class", "Difference", "Left", "Since", "Repair"]
    return _table(f"{different.height:,} in all.", columns, rows) if rows else _none("Nothing differed.")


def _classes() -> str:
    items = (
        f"<li><strong>{escape(name)}</strong>: {escape(text)}</li>" for name, text in CLASSES.items() if name != "none"
    )
    return f"<ul>{''.join(items)}</ul>"


def _bar(left: float, below: int, size: int, most: int, wide: float, colour: str, title: str) -> str:
    room = HEIGHT - 2 * MARGIN
    top = HEIGHT - MARGIN - room * (below + size) / most
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{room * size / most:.1f}" fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _chart(name: str, shapes: Iterable[str], labels: Sequence[tuple[float, str]], top: str) -> str:
    texts = "".join(f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}">{escape(text)}</text>' for x, text in labels)
    return (
        f'<svg role="img" aria-label="{escape(name)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<text x="{MARGIN}" y="{MARGIN - 14}">{escape(top)}</text>{"".join(shapes)}{texts}</svg>'
    )


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 99) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if place >= numbers_from else ''}>{escape(value)}</{tag}>"
            for place, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    return f"<table><caption>{escape(caption)}</caption>{head}<tbody>{body}</tbody></table>"


def _none(text: str) -> str:
    return f'<p class="none">{escape(text)}</p>'


def _money(minor: Any, currency: str) -> str:
    try:
        return f"{Money(int(minor), currency).decimal():,} {currency}"
    except MoneyError:
        return f"{int(minor):,} minor units of {currency}"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at is not None else ""
