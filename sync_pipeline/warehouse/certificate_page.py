"""The certificate of agreement as one page that needs nothing else: no script, no font, no picture from outside.

Record ids only, no names: the page is linked from Dagster and travels by mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

import polars as pl

from sync_pipeline.core.differences import CLASSES
from sync_pipeline.warehouse.charts import MONTHS_SHOWN, MOVEMENTS, agreement, money, months_of, waterfall

ROWS_SHOWN = 50
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2733; max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } caption { text-align: left; color: #5a6675; }
th, td { border-bottom: 1px solid #dde3ea; padding: .3rem .5rem; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; } .good { color: #2e7d5b; } .bad { color: #b3403a; }
svg { width: 100%; height: auto; }
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
            [measure, currency, f"{n:,}", *(money(minor, currency) for minor in minors)]
            for measure, currency, n, *minors in sums.iter_rows()
        ],
        numbers_from=2,
    )
    classes = _table(
        "The differences by class.",
        ["Measure", "Currency", "Class", "Figures", "Difference", "Left"],
        [
            [measure, currency, cause, f"{n:,}", *(money(minor, currency) for minor in minors)]
            for measure, currency, cause, n, *minors in by_class.iter_rows()
        ],
        numbers_from=3,
    )
    return f"<h2>What both systems say</h2>{whole}{classes}"


def _agreement(history: pl.DataFrame) -> str:
    return agreement(history) or _none("No certificate yet.")


def _waterfall(shown: Shown) -> str:
    """The latest twelve months together, and each of them."""
    chart = waterfall(shown.rollforward, shown.reporting)
    if chart is None:
        return _none("Nothing recurs.")
    rows = [
        [f"{day:%Y-%m}", *(money(minor, shown.reporting) for minor in minors)]
        for day, *minors in months_of(shown.rollforward, shown.reporting).tail(MONTHS_SHOWN).iter_rows()
    ]
    columns = ["Month", "Start", *(name.capitalize() for name in MOVEMENTS), "End"]
    return chart + _table("By month.", columns, rows, numbers_from=1)


def _at_risk(at_risk: pl.DataFrame) -> str:
    worst = at_risk.sort("mrr_minor", "subscription", descending=[True, False]).head(ROWS_SHOWN)
    rows = [
        [payer, subscription, cause.replace("_", " "), money(minor, currency), money(due, currency), _day(oldest)]
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
        [account, measure, subject, cause, money(apart, currency), money(left, currency), _day(since), repair or ""]
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


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at is not None else ""
