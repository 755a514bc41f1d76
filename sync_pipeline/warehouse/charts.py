"""Small plots of the tables as SVG that needs nothing else: on the certificate's page, and inline in Dagster."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import polars as pl

from sync_pipeline.core.money import Money, MoneyError

WIDTH, HEIGHT, MARGIN = 720, 220, 36
NIGHTS_SHOWN = 60
MONTHS_SHOWN = 12
SPARKS_SHOWN = 24
MOVEMENTS = ("new", "expansion", "reactivation", "contraction", "churn", "fx")
COLOURS = {
    "agreed": "#2e7d5b",
    "repaired": "#d9a441",
    "left": "#b3403a",
    "up": "#2e7d5b",
    "down": "#b3403a",
    "sum": "#44546a",
}


def inline(name: str, svg: str) -> str:
    """The plot as Markdown that holds it whole, as Dagster shows it; it stays in Dagster's storage for ever."""
    return f"![{name}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def agreement(history: pl.DataFrame) -> str | None:
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
        .tail(NIGHTS_SHOWN)
    )
    most = max((sum(parts) for _, *parts in nights.iter_rows()), default=0)
    if not most:
        return None
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


def waterfall(rollforward: pl.DataFrame, reporting: str) -> str | None:
    """Recurring revenue in the reporting currency: start, every movement and end over the latest months together."""
    months = months_of(rollforward, reporting).tail(MONTHS_SHOWN)
    if months.is_empty():
        return None
    start, end = int(months["start_minor"][0]), int(months["end_minor"][-1])
    steps = [(name, int(months[f"{name}_minor"].sum())) for name in MOVEMENTS]
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
        title = f"{name}: {money(minor, reporting)}"
        bars.append(_bar(MARGIN + place * wide, below, abs(minor), most, wide * 0.8, colour, title))
        labels.append((MARGIN + place * wide, name))
        level = minor if whole else level + minor
    return _chart("Waterfall of recurring revenue", bars, labels, f"up to {money(most, reporting)}")


def recurring(rollforward: pl.DataFrame, reporting: str) -> str | None:
    """A bar per month: what recurred at its end, in the reporting currency."""
    months = months_of(rollforward, reporting).tail(2 * MONTHS_SHOWN)
    most = max(months["end_minor"], default=0)
    if not most:
        return None
    wide = (WIDTH - 2 * MARGIN) / months.height
    bars = [
        _bar(
            MARGIN + place * wide,
            0,
            int(end),
            int(most),
            min(wide * 0.8, 60),
            COLOURS["sum"],
            f"{day:%Y-%m}: {money(end, reporting)}",
        )
        for place, (day, end) in enumerate(months.select("from_date", "end_minor").iter_rows())
    ]
    first, last = (months["from_date"][place].strftime("%Y-%m") for place in (0, -1))
    ends = [(MARGIN, first), (WIDTH - MARGIN - 50, last)]
    return _chart("Recurring revenue by month", bars, ends, f"up to {money(most, reporting)}")


def months_of(rollforward: pl.DataFrame, reporting: str) -> pl.DataFrame:
    """All currencies in the reporting currency, by Stripe's definition, a row for each month, oldest first."""
    parts = ("start", *MOVEMENTS, "end")
    return (
        rollforward.filter(definition="stripe", period="month", in_currency=reporting)
        .group_by("from_date")
        .agg(pl.col(f"{name}_minor" for name in parts).sum())
        .sort("from_date")
    )


def spark(name: str, values: Sequence[int]) -> str | None:
    """The latest of a row of amounts as bars without words, so small that Dagster shows it where it stands."""
    latest = values[-SPARKS_SHOWN:]
    most = max(latest, default=0)
    if most <= 0:
        return None
    bars = (f"M{10 * place} 40v-{max(value, 0) * 40 // most}h8V40" for place, value in enumerate(latest))
    width = 10 * len(latest)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="40"><title>{escape(name)}</title>'
        f'<path fill="{COLOURS["sum"]}" d="{"".join(bars)}"/></svg>'
    )


def money(minor: Any, currency: str) -> str:
    return f"{amount(minor, currency)} {currency}"


def amount(minor: Any, currency: str) -> str:
    """In major units, to stand beside the currency."""
    try:
        return f"{Money(int(minor), currency).decimal():,}"
    except MoneyError:
        return f"{int(minor):,} minor units"


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
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(name)}" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="11" '
        f'fill="#5a6675">'
        f'<text x="{MARGIN}" y="{MARGIN - 14}">{escape(name)}: {escape(top)}</text>{"".join(shapes)}{texts}</svg>'
    )
