"""The inbox of conflicts as a table, and those that wait for a person in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sync_pipeline.core.conflict import Conflict
from sync_pipeline.frames.rows import ConflictEntry

SHOWN = 20


def conflict_entries(conflicts: Iterable[Conflict]) -> list[ConflictEntry]:
    """The rows of sync/conflicts. Personal values are in no conflict."""
    return [
        ConflictEntry(
            conflict=each.key,
            account_id=each.account,
            opportunity_id=each.opportunity_id,
            record_id=each.record_id,
            field=each.rule,
            base_value=each.base_in_words,
            salesforce_value=each.salesforce_in_words,
            stripe_value=each.stripe_in_words,
            winner=each.winner,
            status=each.status,
            reason=each.reason,
            opened_at=each.opened_at,
            edited_by_id=each.edited_by_id,
            edited_at=each.edited_at,
            stripe_event=each.stripe_event,
            stripe_edited_at=each.stripe_edited_at,
            decided_by=each.decided_by,
            decided_at=each.decided_at,
        )
        for each in conflicts
    ]


def waiting(entries: Iterable[ConflictEntry]) -> list[ConflictEntry]:
    """Those that a person has to decide, the longest-waiting first."""
    left = (each for each in entries if each.status == "Open" and each.winner is None)
    return sorted(left, key=lambda each: (each.opened_at, each.conflict))


def as_markdown(entries: Iterable[ConflictEntry]) -> str:
    """What waits for a person, as a table; ids and values, no reasons, which may name somebody."""
    return "\n".join(_lines(waiting(entries))) or "Nothing waits for a person."


def _lines(left: list[ConflictEntry]) -> Iterator[str]:
    if left:
        yield "| Conflict | Account | Record | Field | Salesforce | Stripe |\n| --- | --- | --- | --- | --- | --- |"
    for each in left[:SHOWN]:
        parts = [each.conflict, each.account_id, each.record_id, each.field, each.salesforce_value, each.stripe_value]
        yield f"| {' | '.join(part.replace('|', '/') for part in parts)} |"
    if len(left) > SHOWN:
        yield f"| {len(left) - SHOWN} more | | | | | |"
