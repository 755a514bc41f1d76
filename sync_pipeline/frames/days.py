"""Tables that are kept by day: which day an object belongs to, and which days have to be read again.

A day is a day in UTC on which objects were created. An object may change long after its day, which the events tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from sync_pipeline.core.units import DAY_US, HOUR_US
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.tables import FIRST_DAY

OVERLAP_US = HOUR_US
"""Events show up late, and two clocks differ: so far back is read twice."""
EVENTS_KEPT_US = 30 * DAY_US
"""What is older, Stripe has forgotten."""

TAKEN_AT, WHOLE_AT, COLUMNS = "taken_at", "whole_at", "columns"
"""What is remembered of a daily table: up to when every change is in it, when it was last read whole, and with which
columns. Moments in microseconds UTC, as text."""


@dataclass(frozen=True, slots=True)
class Span:
    """Days in a row, the last one included."""

    first: date
    last: date

    @property
    def since(self) -> int | None:
        """Microseconds UTC at which it begins; None where it has everything before it too."""
        return None if self.first == FIRST_DAY else start_of(self.first)

    @property
    def until(self) -> int:
        """Microseconds UTC at which it is over."""
        return start_of(self.last) + DAY_US

    def newest_first(self) -> Iterable[date]:
        return (self.last - timedelta(days=back) for back in range((self.last - self.first).days + 1))


def day_of(moment: int) -> date:
    """The day under which something is kept that was created then (microseconds UTC)."""
    return max(FIRST_DAY, datetime.fromtimestamp(moment // 1_000_000, UTC).date())


def start_of(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def spans(days: Iterable[date]) -> list[Span]:
    """The days in as few spans as there are gaps between them, newest first."""
    found: list[Span] = []
    for day in sorted(set(days), reverse=True):
        if found and found[-1].first - day == timedelta(days=1):
            found[-1] = Span(day, found[-1].last)
        else:
            found.append(Span(day, day))
    return found


def fingerprint(table: Table) -> str:
    """The columns of a table as one text: where they have changed, what is kept lacks what a new one holds."""
    return ",".join(f"{column.name}:{column.type}" for column in table.columns)


def must_be_read_whole(seen: Mapping[str, str], now: int, whole_every_us: int) -> bool:
    """Whether changes alone do not do: the last whole read is too long ago, or Stripe has forgotten what happened
    since the last one of any kind."""
    return now - int(seen[WHOLE_AT]) >= whole_every_us or now - int(seen[TAKEN_AT]) >= EVENTS_KEPT_US - OVERLAP_US


def read_again_from(seen: Mapping[str, str]) -> int:
    """From when on (microseconds UTC) events and new objects have to be looked at."""
    return int(seen[TAKEN_AT]) - OVERLAP_US


def touched(events: pl.DataFrame, listing: str, since: int) -> pl.DataFrame:
    """The objects of a listing (`invoices` or `charges`) that events since then are about, or about a part of them.

    Columns id and created_at; the latter is empty where no event shows it.
    """
    one = listing.removesuffix("s")
    recent = events.filter(pl.col("created_at").cast(pl.Int64) >= since)
    about = recent.filter(pl.col("object_type") == one).select(
        pl.col("object_id").alias("id"), pl.col("object_created_at").alias("created_at")
    )
    parts = recent.select(pl.col(one).alias("id"), pl.lit(None, about.schema["created_at"]).alias("created_at"))
    return pl.concat([about, parts]).drop_nulls("id").group_by("id").agg(pl.col("created_at").max())
