"""What a table comes to, as a small table in Markdown: what Dagster shows of it, because rows may name people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from sync_pipeline.engine.markdown import table as markdown_table
from sync_pipeline.warehouse.charts import (
    MOVEMENTS,
    SPARKS_SHOWN,
    agreement,
    amount,
    inline,
    money,
    months_of,
    recurring,
    spark,
    waterfall,
)

MOST_LINES = 36
EMPTY = "No rows."
COUNT = "count of rows"


@dataclass(frozen=True, slots=True)
class Summary:
    """A line for each combination of values in `by`; a column of days counts by its month, the latest first unless
    `latest_first` says otherwise.

    `count` heads the number of rows; it is left out where it is empty. `money` are the columns whose sums are shown,
    minor units of the currency, which is in `by` then; `middle` are columns of numbers whose median is shown.
    """

    by: tuple[str, ...]
    count: str
    money: Mapping[str, str] = field(default_factory=dict)
    middle: Mapping[str, str] = field(default_factory=dict)
    latest_first: bool = True


MEASURED = ("measure", "currency")
SUMMARIES: Mapping[str, Summary] = {
    "snapshot/salesforce/opportunities": Summary(("stage",), "Opportunities"),
    "snapshot/stripe/subscriptions": Summary(("status",), "Subscriptions"),
    "snapshot/stripe/invoices": Summary(
        ("currency", "status"), "Invoices", {"Total": "total", "To be paid": "amount_remaining"}
    ),
    "snapshot/stripe/disputes": Summary(("currency", "status"), "Disputes", {"Amount": "amount"}),
    "quarantine/rows": Summary(("table_name", "column_name", "problem"), "Rows"),
    "mapping/account_customers": Summary(("evidence", "state"), "Customers"),
    "mapping/deal_subscriptions": Summary(("evidence", "state"), "Deals"),
    "derived/account_ltv": Summary(
        ("currency",),
        "Accounts",
        {
            "Billed": "billed_minor",
            "Collected": "collected_minor",
            "Refunded": "refunded_minor",
            "Disputed": "disputed_minor",
            "Lifetime value": "net_minor",
        },
    ),
    "derived/mrr_items": Summary(("definition", "currency", "why_not"), "Items", {"MRR": "mrr_minor"}),
    "derived/mrr_subscriptions": Summary(("definition", "currency"), "Subscriptions", {"MRR": "mrr_minor"}),
    "derived/account_mrr": Summary(("definition", "currency"), "Payers", {"MRR": "mrr_minor"}),
    "derived/mrr_bridge": Summary(("definition", "currency", "reason"), "Steps", {"MRR": "mrr_minor"}),
    "derived/mrr_movements": Summary(
        ("day_date", "definition", "currency", "kind"), "Movements", {"MRR": "movement_minor"}
    ),
    "derived/mrr_at_risk": Summary(
        ("cause", "currency"), "Subscriptions", {"MRR at risk": "mrr_minor", "Open": "open_minor"}
    ),
    "derived/churn_records": Summary(
        ("effective_date", "state", "is_voluntary", "currency"), "Subscriptions", {"Lost MRR": "lost_mrr_minor"}
    ),
    "derived/renewal_pipeline": Summary(
        ("term_end_date", "renewal_stage", "currency"), "Deals", {"Next term": "next_term_minor"}, latest_first=False
    ),
    "derived/deal_to_cash": Summary(
        ("currency", "stage"),
        "Deals",
        {"Billed": "billed_minor", "Collected": "collected_minor", "Refunded": "refunded_minor"},
        {"Median days to cash": "days_to_cash"},
    ),
    "derived/cohorts": Summary(
        ("definition", "currency", "age_months"),
        "Cohorts",
        {"First month": "first_month_minor", "MRR": "mrr_minor"},
    ),
    "sync/plan": Summary(("action", "rule"), "Writes"),
    "sync/certificate": Summary(
        MEASURED,
        "",
        {"Salesforce": "salesforce_minor", "Stripe": "stripe_minor", "Difference": "difference_minor"},
    ),
    "sync/certificate_accounts": Summary(
        (*MEASURED, "difference_class"), "Figures", {"Difference": "difference_minor", "Left": "left_minor"}
    ),
}


def summary(name: str, frame: pl.DataFrame) -> str | None:
    """The summary of a table of this name in Markdown; None for a table that has none."""
    asked = SUMMARIES.get(name)
    if asked is None:
        return None
    if frame.is_empty():
        return EMPTY
    days = [column for column in asked.by if frame.schema[column] == pl.Date]
    sums = {heading: pl.col(column).sum().alias(heading) for heading, column in asked.money.items()}
    middles = {heading: pl.col(column).median().alias(heading) for heading, column in asked.middle.items()}
    lines = (
        frame.with_columns(pl.col(days).dt.strftime("%Y-%m"))
        .group_by(asked.by)
        .agg(pl.len().alias(COUNT), *sums.values(), *middles.values())
        .sort(asked.by, descending=[asked.latest_first and column in days for column in asked.by], nulls_last=True)
    )
    rows = [
        [
            *(_word(line[column]) for column in asked.by),
            *([f"{line[COUNT]:,}"] if asked.count else []),
            *(amount(line[heading], line["currency"]) for heading in sums),
            *("" if line[heading] is None else f"{line[heading]:,.0f}" for heading in middles),
        ]
        for line in lines.head(MOST_LINES).iter_rows(named=True)
    ]
    numbers = (*([asked.count] if asked.count else []), *sums, *middles)
    headings = [_heading(column) for column in asked.by]
    more = f"\n\n{lines.height - MOST_LINES:,} lines more." if lines.height > MOST_LINES else ""
    return markdown_table([*headings, *numbers], rows, numbers=numbers) + more


def months(rollforward: pl.DataFrame, reporting: str) -> str:
    """Recurring revenue by month with its plots, in the reporting currency, by Stripe's definition.

    Says which currencies are not in it, because Stripe has settled nothing of them in the reporting currency.
    """
    plots = {"Recurring revenue": recurring(rollforward, reporting), "Movements": waterfall(rollforward, reporting)}
    latest = months_of(rollforward, reporting).sort("from_date", descending=True).head(MOST_LINES)
    headings = ("Start", *(name.capitalize() for name in MOVEMENTS), "End")
    rows = [[f"{day:%Y-%m}", *(money(minor, reporting) for minor in parts)] for day, *parts in latest.iter_rows()]
    lines = markdown_table(["Month", *headings], rows, numbers=headings) if rows else EMPTY
    monthly = rollforward.filter(definition="stripe", period="month")
    without = set(monthly["currency"]) - set(monthly.filter(in_currency=reporting)["currency"])
    left = [f"Not in it, for want of a rate: {', '.join(sorted(without))}."] if without else []
    return "\n\n".join([*(inline(name, svg) for name, svg in plots.items() if svg), *left, lines])


def trend(rollforward: pl.DataFrame, reporting: str) -> str:
    """Recurring revenue at the end of the latest months, within the 1,000 characters that Dagster shows open."""
    ends = [int(minor) for minor in months_of(rollforward, reporting)["end_minor"]]
    name = f"{reporting} at the end of {min(len(ends), SPARKS_SHOWN)} months"
    svg = spark(name, ends)
    return f"{inline(name, svg)}\n\n{money(ends[-1], reporting)}" if svg else EMPTY


def agreement_over_time(history: pl.DataFrame) -> str:
    """The plot of the certificates, as Markdown."""
    svg = agreement(history)
    return inline("Agreement over time", svg) if svg else EMPTY


def _word(value: str | bool | int | None) -> str:
    if value is None:
        return ""
    return ("no", "yes")[value] if isinstance(value, bool) else str(value).replace("_", " ")


def _heading(column: str) -> str:
    """day_date -> Month, why_not -> Why not."""
    words = column.removeprefix("is_").split("_")
    return "Month" if words[-1] == "date" else " ".join(words).capitalize()
