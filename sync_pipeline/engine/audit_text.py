"""What a run has written, from the audit, as a table for people. Personal values are hashes there and are not shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.engine.markdown import table
from sync_pipeline.engine.plan_text import shown
from sync_pipeline.ledger.audit import AuditRow, RunSummary

DAGSTERS = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HEADINGS = ("Account", "Record", "Field", "Before", "After", "Why", "Outcome")


def as_markdown(rows: Sequence[AuditRow], *, most: int) -> str:
    """A line for each field of each write, in their order; `most` at the most, and how many more there are."""
    lines = [line for row in rows for line in _lines(row)]
    if not lines:
        return "Nothing was written."
    more = f"\n\n{len(lines) - most:,} more are in the audit." if len(lines) > most else ""
    return table(HEADINGS, lines[:most]) + more


def runs_as_markdown(runs: Sequence[RunSummary]) -> str:
    """The runs that wrote something, as they are given; those of Dagster lead to their pages."""
    lines = [
        (
            datetime.fromtimestamp(each.first_at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"[{each.run}](/runs/{each.run})" if DAGSTERS.fullmatch(each.run) else each.run,
            f"{each.writes:,}",
            f"{each.accounts:,}",
        )
        for each in runs
    ]
    headings = ("Began (UTC)", "Run", "Writes", "Accounts")
    return table(headings, lines, numbers=headings[2:]) if lines else "No run in the audit has written anything."


def _lines(row: AuditRow) -> Iterator[tuple[str, ...]]:
    what, _, outcome = row.what.rpartition(": ")
    action, _, target = what.partition(" ")
    changes: list[dict[str, Any]] = canonical.decode(row.fields)
    for change in changes:
        old, new = shown(change["old"]), shown(change["new"])
        yield (row.account, target, change["field"], old, new, change["reason"], outcome)
    if not changes:
        yield (row.account, target, action, "", "", row.reason, outcome)
