"""The tables of Salesforce, brought up to date: what has moved since the last time by SystemModstamp, or everything.

A stamp moves with every change of a record and with its deletion; a merge deletes one Account and moves what belonged
to it. It does not move with what a record only refers to (the name of a product, whether an owner is active), nor with
who may see it: that is why everything is read once in a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from sync_pipeline.engine.snapshot import SALESFORCE_OBJECTS
from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.days import COLUMNS, OVERLAP_US, TAKEN_AT, WHOLE_AT, fingerprint
from sync_pipeline.frames.quarantine import convert, quarantine_of
from sync_pipeline.frames.tables import SNAPSHOTS
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.warehouse.parquet import TableMissing, Warehouse

TASKS = "salesforce/failure_tasks"
"""Open Tasks are few and always read whole: a Task that is closed leaves its table."""
ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A table as it is now, the quarantine of rows that it could not take, where it comes from, and how many rows were
    read for it."""

    table: Table
    frame: pl.DataFrame
    rejected: pl.DataFrame
    provenance: Mapping[str, str]
    rows_read: int


def refresh(
    warehouse: Warehouse, salesforce: Salesforce, now: int, whole_every_us: int, *, whole: bool = False
) -> Iterator[Refreshed]:
    """All tables; `now` is the time at which the reading begins (microseconds UTC)."""
    seen = {name: _seen(warehouse, salesforce, name) for name in SALESFORCE_OBJECTS}
    if whole or any(each is None or now - int(each[WHOLE_AT]) >= whole_every_us for each in seen.values()):
        for name, kind in SALESFORCE_OBJECTS.items():
            records = list(salesforce.everything(kind))
            yield _refreshed(salesforce, name, records, {TAKEN_AT: str(now), WHOLE_AT: str(now)})
    else:
        yield from _changes(warehouse, salesforce, {name: each for name, each in seen.items() if each}, now)
    yield _refreshed(salesforce, TASKS, list(salesforce.open_tasks()), {TAKEN_AT: str(now)})


def _seen(warehouse: Warehouse, salesforce: Salesforce, name: str) -> Mapping[str, str] | None:
    """What is remembered of a table; None where it was not read from this org with these fields."""
    try:
        found = warehouse.provenance(SNAPSHOTS[name])
    except TableMissing:
        return None
    expected = {ORIGIN: salesforce.org_id, COLUMNS: _columns(salesforce, name)}
    return found if {key: found.get(key) for key in expected} == expected and WHOLE_AT in found else None


def _changes(
    warehouse: Warehouse, salesforce: Salesforce, seen: Mapping[str, Mapping[str, str]], now: int
) -> Iterator[Refreshed]:
    since = {SALESFORCE_OBJECTS[name]: int(each[TAKEN_AT]) - OVERLAP_US for name, each in seen.items()}
    moved = salesforce.moved_since(since)
    deals = moved["opportunity"]
    for name, kind in SALESFORCE_OBJECTS.items():
        table = SNAPSHOTS[name]
        before, aside = warehouse.read(table), warehouse.read(quarantine_of(table))
        stale = pl.col("id").is_in(moved[kind].ids)
        if kind == "line":
            # A line that is deleted is gone for good, and shows in its Opportunity alone.
            stale |= pl.col("opportunity_id").is_in(deals.ids)
        kept = before.filter(~stale.fill_null(False))
        aside = aside.filter(~pl.col("row_key").is_in(moved[kind].ids))
        provenance = {TAKEN_AT: str(now), WHOLE_AT: seen[name][WHOLE_AT]}
        found = _refreshed(salesforce, name, moved[kind].records, provenance)
        yield Refreshed(
            table, kept.vstack(found.frame), aside.vstack(found.rejected), found.provenance, found.rows_read
        )


def _refreshed(salesforce: Salesforce, name: str, records: list[Any], provenance: Mapping[str, str]) -> Refreshed:
    table = SNAPSHOTS[name]
    frame, rejected = convert(records, table)
    origin = {ORIGIN: salesforce.org_id, COLUMNS: _columns(salesforce, name)}
    return Refreshed(table, frame, rejected, {**provenance, **origin}, len(records))


def _columns(salesforce: Salesforce, name: str) -> str:
    """The columns of a table, and from which fields they are read."""
    kind = SALESFORCE_OBJECTS.get(name, "task")
    fields = ",".join(f"{own}={api}" for own, api in sorted(salesforce.fields[kind].items()))
    return f"{fingerprint(SNAPSHOTS[name])};{fields};{salesforce.team_role if kind == 'account' else ''}"
