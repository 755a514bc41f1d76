"""The daily tables from Stripe: which days are read again, and how a day becomes a file of each of its tables.

A listing runs from the newest object to the oldest, so a day is complete as soon as an older object appears, and is
written then: who is stopped half-way leaves whole days behind, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.days import (
    COLUMNS,
    EVENTS_KEPT_US,
    TAKEN_AT,
    WHOLE_AT,
    Span,
    day_of,
    fingerprint,
    must_be_read_whole,
    read_again_from,
    spans,
    touched,
)
from sync_pipeline.frames.quarantine import convert, quarantine_of, set_aside
from sync_pipeline.frames.tables import DAILY, FIRST_DAY, SNAPSHOTS
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.stripe import listings
from sync_pipeline.systems.stripe.client import PAGE, Stripe
from sync_pipeline.warehouse.parquet import TableMissing, Warehouse, Written

LOCK = "stripe-days"
_MADE_BY = "made_by"


@dataclass(frozen=True, slots=True)
class DayRead:
    """A day of a listing that is on disk now: its files by table name (`stripe/invoices`), None where there is nothing
    of that day, and whether any of them is another one than before. No files at all: it could not be read any more."""

    listing: str
    day: date
    files: Mapping[str, Written | None]
    changed: bool


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads days of Stripe's listings into the warehouse.

    `now` is the time that it begins (microseconds UTC). `made_by` names the work: what the same work has finished
    before it was stopped is not read again.
    """

    warehouse: Warehouse
    stripe: Stripe
    now: int
    made_by: str

    def some(self, listing: str, days: Iterable[date]) -> Iterator[DayRead]:
        """These days of a listing, newest first; days of events that Stripe has forgotten stay as they are, and come
        last."""
        chosen = set(days)
        readable = set(self._readable(listing, chosen))
        with self.warehouse.alone(LOCK):
            for span in spans(readable):
                yield from self._read(listing, span)
        yield from (DayRead(listing, day, {}, changed=False) for day in sorted(chosen - readable, reverse=True))

    def refresh(self, whole_every_us: int, *, whole: bool = False) -> Iterator[DayRead]:
        """All that has changed since the last time: new objects, and days of objects that events tell of.

        The whole history where that is not known, once in so many microseconds, or when `whole`.
        """
        with self.warehouse.alone(LOCK):
            for listing in DAILY:
                yield from self._refresh(listing, whole_every_us, whole=whole)

    def _refresh(self, listing: str, whole_every_us: int, *, whole: bool) -> Iterator[DayRead]:
        seen = self._seen(listing)
        today = day_of(self.now)
        if whole or seen is None or must_be_read_whole(seen, self.now, whole_every_us):
            wanted, whole_at = set(Span(FIRST_DAY, today).newest_first()), str(self.now)
        else:
            since = read_again_from(seen)
            wanted, whole_at = set(Span(day_of(since), today).newest_first()), seen[WHOLE_AT]
            if listing != "events":
                wanted |= self._touched(listing, since)
        # What an earlier attempt at this work has finished is as old as that: changes since then are looked for.
        main = SNAPSHOTS[DAILY[listing][-1]]
        finished = [day for day in self._finished(main) if day in wanted]
        taken = [int(self.warehouse.provenance(main, day)[TAKEN_AT]) for day in finished]
        for span in spans(self._readable(listing, wanted)):
            yield from self._read(listing, span)
        for name in DAILY[listing]:
            table = SNAPSHOTS[name]
            note = {TAKEN_AT: str(min([self.now, *taken])), WHOLE_AT: whole_at, COLUMNS: fingerprint(table)}
            self.warehouse.note(table, note)

    def _seen(self, listing: str) -> Mapping[str, str] | None:
        """What is remembered of a listing, None where one of its tables has to be read whole for its columns."""
        found = None
        for name in DAILY[listing]:
            try:
                found = self.warehouse.provenance(SNAPSHOTS[name])
            except TableMissing:
                return None
            if found[COLUMNS] != fingerprint(SNAPSHOTS[name]):
                return None
        return found

    def _touched(self, listing: str, since: int) -> set[date]:
        """The days of the objects that events since then are about."""
        main, events = SNAPSHOTS[DAILY[listing][-1]], SNAPSHOTS["stripe/events"]
        recent = self.warehouse.scan(events, [*Span(day_of(since), day_of(self.now)).newest_first()]).collect()
        about = touched(recent, listing, since)
        shown = about["created_at"].drop_nulls().cast(pl.Int64)
        hidden = about.filter(pl.col("created_at").is_null())["id"].to_list()
        days = {day_of(moment) for moment in shown}
        days |= set(self.warehouse.holding(main, "id", hidden).values())
        return days | set(self.warehouse.holding(quarantine_of(main), "row_key", hidden).values())

    def _readable(self, listing: str, days: Iterable[date]) -> Iterable[date]:
        if listing != "events":
            return days
        oldest = day_of(self.now - EVENTS_KEPT_US)
        # Of the oldest day a part is forgotten already.
        return (day for day in days if day > oldest)

    def _finished(self, main: Table) -> list[date]:
        """The days that the same work has written before."""
        days = self.warehouse.days(main)
        return [day for day in days if self.warehouse.provenance(main, day).get(_MADE_BY) == self.made_by]

    def _read(self, listing: str, span: Span) -> Iterator[DayRead]:
        """The days of a span, newest first; without those that were finished before."""
        main = SNAPSHOTS[DAILY[listing][-1]]
        finished = min((day for day in self._finished(main) if span.first <= day <= span.last), default=None)
        days = [day for day in span.newest_first() if finished is None or day < finished]
        if not days:
            return
        open_span = Span(span.first, days[0])
        gathered: list[tuple[date, Mapping[str, list[Any]]]] = []
        waiting = iter(days)
        for each in listings.dated(self.stripe, listing, open_span.since, open_span.until):
            day = day_of(each.created_at)
            if gathered and day > gathered[-1][0]:
                raise ReadFailed("Stripe", f"the list of {listing} is not in the order of creation")
            # So often, because checking a table has its price, however short the table is.
            if len(gathered) >= PAGE and day < gathered[-1][0]:
                yield from self._write(listing, gathered, _until(waiting, gathered[-1][0]))
                gathered = []
            gathered.append((day, each.rows))
        yield from self._write(listing, gathered, list(waiting))

    def _write(
        self, listing: str, gathered: list[tuple[date, Mapping[str, list[Any]]]], days: list[date]
    ) -> Iterator[DayRead]:
        """Writes whole days; the table of the listed objects last, so that its file says that the day is finished."""
        provenance = {TAKEN_AT: str(self.now), _MADE_BY: self.made_by}
        parts = {name: self._by_day(name, gathered) for name in DAILY[listing]}
        for day in days:
            files: dict[str, Written | None] = {}
            changed = False
            for name, (frames, aside) in parts.items():
                table = SNAPSHOTS[name]
                self._put(quarantine_of(table), day, aside.get(day), provenance)
                files[name], other = self._put(table, day, frames.get(day), provenance)
                changed = changed or other
            yield DayRead(listing, day, files, changed)

    def _put(
        self, table: Table, day: date, frame: pl.DataFrame | None, provenance: Mapping[str, str]
    ) -> tuple[Written | None, bool]:
        if frame is None:
            return None, self.warehouse.remove(table, day)
        written = self.warehouse.write(table, frame, provenance, day)
        return written, written.changed

    def _by_day(
        self, name: str, gathered: list[tuple[date, Mapping[str, list[Any]]]]
    ) -> tuple[dict[date, pl.DataFrame], dict[date, pl.DataFrame]]:
        """The rows of a table that fit, and the quarantine of those that do not, by day."""
        table = SNAPSHOTS[name]
        short = name.partition("/")[2]
        rows = [(day, row) for day, found in gathered for row in found.get(short, ())]
        if not rows:
            return {}, {}
        days = {row.id: day for day, row in rows}
        frame, rejected = convert([row for _, row in rows], table)
        frame, aside = set_aside(frame, table)
        return _split(frame, "id", days), _split(aside.vstack(rejected), "row_key", days)


def _until(days: Iterator[date], oldest: date) -> list[date]:
    """The next days down to that one."""
    found = []
    for day in days:
        found.append(day)
        if day == oldest:
            break
    return found


def _split(frame: pl.DataFrame, key: str, days: Mapping[str, date]) -> dict[date, pl.DataFrame]:
    if frame.is_empty():
        return {}
    marked = frame.with_columns(pl.col(key).replace_strict(days, return_dtype=pl.Date).alias("_day"))
    parts = marked.partition_by("_day", as_dict=True, include_key=False)
    return {day: part for (day,), part in parts.items()}
