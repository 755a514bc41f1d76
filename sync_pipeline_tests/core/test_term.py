"""Terms end when Stripe's months do, and keep the names by which records know them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.deal import today
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.term import running_term, term_of_day, term_of_name
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import subscription

LONDON, BERLIN = (Commercial(time_zone=f"Europe/{city}") for city in ("London", "Berlin"))
ZONES = st.sampled_from([LONDON, BERLIN, *(Commercial(time_zone=z) for z in ("Asia/Tokyo", "America/Los_Angeles"))])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * MICROS


@pytest.mark.parametrize(
    ("commercial", "start", "months", "ends_at", "day", "name"),
    [
        # At ten in the morning all three are of one day.
        (LONDON, "2026-01-15T10:00", 12, "2027-01-15T10:00", "2027-01-15", "2027-01-15"),
        # Midnight of the 15th of July in London is 23:00 of the 14th in UTC, and so is the end, in winter time.
        (LONDON, "2026-07-14T23:00", 6, "2027-01-14T23:00", "2027-01-14", "2027-01-15"),
        (LONDON, "2026-07-14T23:00", 12, "2027-07-14T23:00", "2027-07-15", "2027-07-15"),
        # Midnight of the 1st of March in Berlin is in February for Stripe, which comes back to the 28th.
        (BERLIN, "2026-02-28T23:00", 6, "2026-08-28T23:00", "2026-08-29", "2026-09-01"),
        (BERLIN, "2027-02-28T23:00", 12, "2028-02-28T23:00", "2028-02-29", "2028-03-01"),
    ],
)
def test_a_term_ends_with_stripes_months(
    commercial: Commercial, start: str, months: int, ends_at: str, day: str, name: str
) -> None:
    term = running_term(subscription(start_at=at(start)), months, commercial, at(start))
    assert (term.ends_at, term.day.isoformat(), term.name.isoformat()) == (at(ends_at), day, name)


def test_a_term_runs_until_its_very_end() -> None:
    of, end = subscription(start_at=at("2026-01-15T10:00")), at("2027-01-15T10:00")
    assert running_term(of, 12, LONDON, end - 1).ends_at == end
    assert running_term(of, 12, LONDON, end).ends_at == at("2028-01-15T10:00")


@pytest.mark.parametrize(
    ("day", "ends_on"),
    [
        ("2027-01-13", "2027-01-14"),
        ("2027-01-14", "2027-01-14"),
        # Who counts half a year from the 15th of July comes to this day.
        ("2027-01-15", "2027-01-14"),
        ("2027-01-16", "2027-07-15"),
    ],
)
def test_a_day_belongs_to_the_term_that_ends_on_it_or_next(day: str, ends_on: str) -> None:
    of = subscription(start_at=at("2026-07-14T23:00"))
    assert term_of_day(of, 6, LONDON, date.fromisoformat(day)).day.isoformat() == ends_on


@given(MOMENTS, st.integers(1, 36), MOMENTS, ZONES)
def test_the_term_that_runs_is_ahead_and_is_found_by_its_name(
    start: datetime, months: int, now: datetime, commercial: Commercial
) -> None:
    of, moment = subscription(start_at=int(start.timestamp()) * MICROS), int(now.timestamp()) * MICROS
    term = running_term(of, months, commercial, moment)
    assert term.ends_at > moment
    assert term.day == today(term.ends_at, commercial)
    assert term_of_name(of, term.name, commercial) == term
    # A calendar and Stripe are apart by what a month may be shorter than another at most.
    assert abs((term.name - term.day).days) <= 3
