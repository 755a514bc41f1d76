"""The ends of the periods ahead, against months counted by hand and against the periods that the emulator bills."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.deal import today
from sync_pipeline.core.periods import period_end_on
from sync_pipeline.core.units import MICROS
from sync_pipeline.sandbox.stripe.periods import period_at
from sync_pipeline_tests.core.making import RULES, item, subscription

LONDON = RULES.commercial


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * MICROS


def end_on(day: str, anchor: str | None, *items: dict[str, Any]) -> int | None:
    of = subscription(anchor_at=None if anchor is None else at(anchor))
    return period_end_on(
        date.fromisoformat(day), of, [item(id=f"si_{n}", **each) for n, each in enumerate(items)], LONDON
    )


JANUARY = {"interval": "month", "period_end": at("2026-02-28T10:00")}


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-02-28", "2026-02-28T10:00"),
        ("2026-03-28", None),
        ("2026-03-31", "2026-03-31T10:00"),
        ("2026-04-30", "2026-04-30T10:00"),
        # The period that ended on this day is over: none ends on it any more.
        ("2026-01-31", None),
    ],
)
def test_months_from_the_31st_end_on_the_31st_again_after_a_short_one(day: str, expected: str | None) -> None:
    assert end_on(day, "2026-01-31T10:00", JANUARY) == (expected and at(expected))


def test_a_period_ends_on_the_business_day_of_its_moment() -> None:
    """From midnight of the 15th of July in London, which is 23:00 UTC of the 14th, also when summer time is over."""
    quarter = {"interval": "month", "interval_count": 3, "period_end": at("2026-10-14T23:00")}
    assert end_on("2026-10-15", "2026-07-14T23:00", quarter) == at("2026-10-14T23:00")
    assert end_on("2027-01-14", "2026-07-14T23:00", quarter) == at("2027-01-14T23:00")
    assert end_on("2027-01-15", "2026-07-14T23:00", quarter) is None


def test_of_an_interval_that_is_not_known_the_running_period_counts() -> None:
    strange = {"interval": "moon", "period_end": at("2026-02-28T10:00")}
    assert end_on("2026-02-28", "2026-01-31T10:00", strange) == at("2026-02-28T10:00")
    assert end_on("2026-03-31", "2026-01-31T10:00", strange) is None


def test_each_interval_has_its_ends() -> None:
    year = {"interval": "year", "period_end": at("2027-01-31T10:00")}
    assert end_on("2026-06-30", "2026-01-31T10:00", JANUARY, year) == at("2026-06-30T10:00")
    assert end_on("2026-06-30", "2026-01-31T10:00", year) is None
    assert end_on("2028-01-31", "2026-01-31T10:00", JANUARY, year) == at("2028-01-31T10:00")


def test_of_an_anchor_that_does_not_fit_the_period_that_runs_that_period_still_counts() -> None:
    """One that was set to the last day of each month, in February (billing_cycle_anchor_config)."""
    assert end_on("2026-03-31", "2026-02-28T10:00", {"interval": "month", "period_end": at("2026-03-31T10:00")}) == at(
        "2026-03-31T10:00"
    )


def test_without_an_anchor_it_is_counted_from_the_period_that_runs() -> None:
    assert end_on("2026-04-28", None, JANUARY) == at("2026-04-28T10:00")
    assert end_on("2026-04-28", None, {"interval": "month"}) is None


@given(
    st.integers(at("2024-01-01") // MICROS, at("2026-01-01") // MICROS),
    st.sampled_from([("day", 1), ("week", 2), ("month", 1), ("month", 3), ("year", 1)]),
    st.integers(0, 800),
    st.integers(0, 800),
)
def test_the_ends_are_those_at_which_the_emulator_bills(
    anchor: int, interval: tuple[str, int], days: int, ahead: int
) -> None:
    """Whatever period runs now and whichever of the later ones is asked for, that one's end is found on its day."""
    _, running = period_at(anchor, *interval, anchor + days * 86_400)
    _, later = period_at(anchor, *interval, running + ahead * 86_400)
    unit, often = interval
    one = item(interval=unit, interval_count=often, period_end=running * MICROS)
    of = subscription(anchor_at=anchor * MICROS)
    assert period_end_on(today(later * MICROS, LONDON), of, [one], LONDON) == later * MICROS
