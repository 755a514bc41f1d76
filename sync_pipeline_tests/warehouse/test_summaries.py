"""Summaries and plots: their columns exist, their sums are right, and they need nothing from outside."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, date, datetime
from xml.etree import ElementTree

import polars as pl
import pytest

from sync_pipeline.frames.tables import TABLES
from sync_pipeline.warehouse.summaries import MOST_LINES, SUMMARIES, agreement_over_time, months, summary, trend

RISKS = pl.DataFrame(
    {
        "cause": ["payment_failing", "payment_failing", "payment_failing", "overdue_invoice"],
        "currency": ["GBP", "GBP", "JPY", "GBP"],
        "mrr_minor": [3_900_00, 100_50, 5_000, 1_00],
        "open_minor": [48_136_44, 0, 5_000, 2_00],
    }
)


def plots(markdown: str) -> dict[str, ElementTree.Element]:
    """Name -> the SVG of every plot in the text."""
    found = re.findall(r"!\[([^]]*)]\(data:image/svg\+xml;base64,([^)]*)\)", markdown)
    return {name: ElementTree.fromstring(b64decode(data)) for name, data in found}


def titles(svg: ElementTree.Element) -> list[str]:
    return [str(each.text) for each in svg.iter("{http://www.w3.org/2000/svg}title")]


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_columns_of_every_summary_are_those_of_its_table(name: str) -> None:
    asked, columns = SUMMARIES[name], {column.name for column in TABLES[name].columns}
    assert {*asked.by, *asked.money.values(), *asked.middle.values()} <= columns
    assert not asked.money or "currency" in asked.by, "amounts of several currencies have no sum"
    assert not {column.name for column in TABLES[name].columns if column.personal} & set(asked.by)


def test_a_summary_counts_and_adds_up_by_currency() -> None:
    assert str(summary("derived/mrr_at_risk", RISKS)).splitlines() == [
        "| Cause | Currency | Subscriptions | MRR at risk | Open |",
        "| --- | --- | ---: | ---: | ---: |",
        "| overdue invoice | GBP | 1 | 1.00 | 2.00 |",
        "| payment failing | GBP | 2 | 4,000.50 | 48,136.44 |",
        "| payment failing | JPY | 1 | 5,000 | 5,000 |",
    ]
    assert summary("derived/mrr_at_risk", RISKS.clear()) == "No rows."
    assert summary("derived/exchange_rates", pl.DataFrame()) is None


def test_days_count_by_month_the_latest_first_and_a_long_summary_says_how_much_it_leaves_out() -> None:
    ends = [date(2020 + n // 12, n % 12 + 1, 5) for n in range(MOST_LINES + 2)]
    count = len(ends)
    frame = pl.DataFrame(
        {
            "effective_date": ends,
            "state": ["Final"] * count,
            "is_voluntary": [True] * count,
            "currency": ["GBP"] * count,
            "lost_mrr_minor": [100] * count,
        }
    )
    lines = str(summary("derived/churn_records", frame)).splitlines()
    assert lines[2] == "| 2023-02 | Final | yes | GBP | 1 | 1.00 |"
    assert lines[-1] == "2 lines more."
    assert len(lines) == 2 + MOST_LINES + 2


def test_the_months_have_both_plots_and_every_movement() -> None:
    names = ("start", "new", "expansion", "reactivation", "contraction", "churn", "fx", "end")
    months_of_it = {
        date(2026, 1, 1): (0, 3_750_00, 0, 0, 0, 0, 0, 3_750_00),
        date(2026, 2, 1): (3_750_00, 0, 250_00, 0, -100_00, 0, 0, 3_900_00),
    }
    frame = pl.DataFrame(
        [
            {"definition": "stripe", "period": "month", "currency": now, "in_currency": now, "from_date": day}
            | {f"{name}_minor": minor for name, minor in zip(names, parts, strict=True)}
            for day, parts in months_of_it.items()
            for now in ("GBP", "JPY")
        ]
    )
    told = months(frame, "GBP")
    assert titles(plots(told)["Recurring revenue"]) == ["2026-01: 3,750.00 GBP", "2026-02: 3,900.00 GBP"]
    assert titles(plots(told)["Movements"]) == [
        "start: 0.00 GBP",
        "new: 3,750.00 GBP",
        "expansion: 250.00 GBP",
        "reactivation: 0.00 GBP",
        "contraction: -100.00 GBP",
        "churn: 0.00 GBP",
        "fx: 0.00 GBP",
        "end: 3,900.00 GBP",
    ]
    assert "| 2026-02 | 3,750.00 GBP | 0.00 GBP | 250.00 GBP | 0.00 GBP | -100.00 GBP | 0.00 GBP" in told
    assert "Not in it, for want of a rate: JPY." in told
    assert "want of a rate" not in months(frame.filter(in_currency="GBP"), "GBP")
    assert months(frame.clear(), "USD") == "No rows."


def test_the_trend_is_small_enough_to_be_shown_where_it_stands() -> None:
    ends = [(date(2020 + n // 12, n % 12 + 1, 1), 100_000_00 * n) for n in range(40)]
    parts = ("start", "new", "expansion", "reactivation", "contraction", "churn", "fx")
    frame = pl.DataFrame(
        [
            {"definition": "stripe", "period": "month", "in_currency": "GBP", "from_date": day, "end_minor": end}
            | {f"{name}_minor": 0 for name in parts}
            for day, end in ends
        ]
    )
    told = trend(frame, "GBP")
    assert len(told) < 1_000, "Dagster hides a longer text behind a click"
    assert told.endswith("3,900,000.00 GBP")
    (plot,) = plots(told).values()
    path = plot[1].attrib["d"]
    assert path.count("M") == 24
    # The first bar shown is that of the 17th month, 1.6 of 3.9 millions: 16 of 40 pixels.
    assert path.startswith("M0 40v-16h8V40M10 40v-17h8V40")
    assert path.endswith("M230 40v-40h8V40")
    assert trend(frame.clear(), "GBP") == "No rows."


def test_sixty_nights_of_agreement_are_a_plot_of_less_than_fifty_kilobytes() -> None:
    nights = [datetime(2026, 1 + n // 28, 1 + n % 28, 2, tzinfo=UTC) for n in range(80)]
    frame = pl.DataFrame(
        {
            "certified_at": [night for night in nights for _ in range(2)],
            "difference_class": ["none", "timing"] * len(nights),
            "figures": [100, 7] * len(nights),
            "still_different": [0, 2] * len(nights),
        }
    )
    told = agreement_over_time(frame)
    assert len(told) < 50_000
    (plot,) = plots(told).values()
    assert titles(plot)[-3:] == ["2026-03-24: 100 agreed", "2026-03-24: 5 repaired", "2026-03-24: 2 left"]
    assert len(titles(plot)) == 3 * 60
    assert agreement_over_time(frame.clear()) == "No rows."
