"""What an explanation is: a field, whose value counts, what stands behind it, and what the audit has of its writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.evidence import Evidence
from sync_pipeline.core.rules import FieldRule
from sync_pipeline.ledger.audit import RETENTION, AuditRow

MADE = ""
"""The field of a write that is of a whole record: it was made, or linked."""


@dataclass(frozen=True, slots=True)
class Written:
    """One write of a field, from the audit. `target` is what it touched; `outcome` is done, rejected, throttled ...;
    values are canonical. Of a whole record (field MADE) both values are None."""

    at: int
    target: str
    field: str
    old: Any
    new: Any
    rule: str
    reason: str
    outcome: str
    actor: str
    run: str | None
    request_id: str | None
    evidence: Any


@dataclass(frozen=True, slots=True)
class Explanation:
    """One field of one record. Values are canonical; `verdict` says in words what is made of them now.

    `rule` is the row of the field table that keeps it, or else `authority` says in words whose value counts; neither
    where the field is only known from what was written. `known_since` is the moment (microseconds UTC) before which
    retention has removed what was written to the Account; None where it has removed nothing.
    """

    object: str
    id: str
    account: str
    field: str
    rule: FieldRule | None
    shown: Any
    wanted: Any
    agreed: Any
    verdict: str
    behind: tuple[Evidence, ...]
    writes: tuple[Written, ...]
    authority: str | None = None
    known_since: int | None = None


def history(rows: Iterable[AuditRow], of: Collection[str]) -> list[Written]:
    """The writes, as `rows` are ordered, that touched or made one of some records. `of` are ids, keys, or targets."""
    return [written for row in rows if _is_about(row, of) for written in _writes(row)]


def known_since(rows: Iterable[AuditRow]) -> int | None:
    """Since when the rows of one account are all there, where retention has removed older ones."""
    kept: list[int] = []
    removals: list[int] = []
    for row in rows:
        (removals if row.what == RETENTION else kept).append(row.at)
    return min(kept, default=max(removals)) if removals else None


def target_of(row: AuditRow) -> str:
    what, told, _ = row.what.rpartition(": ")
    return (what if told else row.what).partition(" ")[2]


def _is_about(row: AuditRow, of: Collection[str]) -> bool:
    """Its target is one of them or ends with one of their ids, a word behind it aside; or its answer named one."""
    target = target_of(row)
    if any(target == each or f"/{each}/" in f"{target}/" for each in of):
        return True
    told = canonical.decode(row.evidence)
    return told.get("object") in of or told.get("external_id") in of


def _writes(row: AuditRow) -> Iterator[Written]:
    outcome = row.what.rpartition(": ")[2] if ": " in row.what else "done"
    nothing_named = {"field": MADE, "old": None, "new": None, "rule": "", "reason": row.reason}
    for change in canonical.decode(row.fields) or [nothing_named]:
        yield Written(
            at=row.at,
            target=target_of(row),
            field=change["field"],
            old=change["old"],
            new=change["new"],
            rule=change["rule"],
            reason=change["reason"],
            outcome=outcome,
            actor=row.actor,
            run=row.run,
            request_id=row.request_id,
            evidence=canonical.decode(row.evidence),
        )
