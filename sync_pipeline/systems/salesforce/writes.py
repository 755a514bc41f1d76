"""Writes to Salesforce, pooled: which records travel together in one call, and what the answer means for each.

A composite call takes five collections of 200 records and counts once against the daily limit. Updates share
collections in which each record stands for itself, a second update of one record in a later one; a pair that must be
made together or not at all has a collection of its own. Records of one Account stand together, because a child's
write locks its parent: an Account is claimed by one worker, which has one call in flight, so no two calls in flight
touch one parent; a bulk job holds its Accounts by itself (ledger/bulk_jobs.py).

A collection that is refused as a whole (one malformed record, or an org's trigger that breaks its limits) tells
nothing of its records: it is halved until the guilty ones stand alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline.systems.salesforce.errors import outcome_of_errors

RECORDS_PER_COLLECTION = 200
COLLECTIONS_PER_CALL = 5
ROLLED_BACK = "ALL_OR_NONE_OPERATION_ROLLED_BACK"
TRIGGER_FAILED = "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
"""Also what every row says when an org's trigger breaks its limits on a full collection: fewer rows may pass."""
REFUSED = ("rejected", "stale")


@dataclass(frozen=True, slots=True)
class Update:
    """Set fields of a record. `parent` is the Account that it belongs to, in all three kinds of writes."""

    object: str
    id: str
    fields: Mapping[str, Any]
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Once:
    """Make a record once, ever: together with a marker whose unique key refuses a second time.

    Both are (object, fields). A duplicate marker means that both were made before, which is success.
    """

    marker: tuple[str, Mapping[str, Any]]
    record: tuple[str, Mapping[str, Any]]
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Upsert:
    """Make the record that carries an external id, or set its fields when it exists."""

    object: str
    external_field: str
    external_id: str
    fields: Mapping[str, Any]
    parent: str = ""


Write = Update | Upsert | Once


@dataclass(frozen=True, slots=True)
class Part:
    """One collection of a call: the writes in it by their place in the caller's list."""

    writes: tuple[Write, ...]
    indexes: tuple[int, ...]

    @property
    def once(self) -> bool:
        return isinstance(self.writes[0], Once)

    @property
    def path(self) -> str:
        """Below the collections resource; records that are found by external id name it in the path."""
        first = self.writes[0]
        return f"/{first.object}/{first.external_field}" if isinstance(first, Upsert) else ""

    def records(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for write in self.writes:
            if isinstance(write, Once):
                rows += [{"attributes": {"type": kind}, **fields} for kind, fields in (write.marker, write.record)]
            else:
                named = {write.external_field: write.external_id} if isinstance(write, Upsert) else {"id": write.id}
                rows.append({"attributes": {"type": write.object}, **named, **write.fields})
        return rows

    def outcomes(self, status: int, body: Any) -> dict[int, Outcome]:
        """What this collection's answer means for each of its writes."""
        if status >= 300:
            return self.all(outcome_of_errors(status, body))
        if self.once:
            return {self.indexes[0]: _outcome_once(status, body)}
        return {index: _outcome(status, row) for index, row in zip(self.indexes, body, strict=True)}

    def all(self, outcome: Outcome) -> dict[int, Outcome]:
        return dict.fromkeys(self.indexes, outcome)

    def is_refused_whole(self, status: int, outcomes: Mapping[int, Outcome]) -> bool:
        """Whether the answer is about the collection, so that its halves may fare better."""
        if len(self.writes) == 1:
            return False
        if status < 300:
            return all(outcome.code == TRIGGER_FAILED for outcome in outcomes.values())
        return all(outcome.state in REFUSED for outcome in outcomes.values())

    def only(self, wanted: Callable[[int], bool]) -> Part | None:
        """The collection with those of its writes only, by index; None when none is left."""
        kept = [(write, index) for write, index in zip(self.writes, self.indexes, strict=True) if wanted(index)]
        return Part(tuple(write for write, _ in kept), tuple(index for _, index in kept)) if kept else None

    def halves(self) -> list[Part]:
        middle = len(self.writes) // 2
        return [
            Part(self.writes[:middle], self.indexes[:middle]),
            Part(self.writes[middle:], self.indexes[middle:]),
        ]


def composite_calls(writes: Sequence[Write]) -> Iterator[list[Part]]:
    """The calls to make, each at most five collections."""
    yield from _chunks(collections(writes), COLLECTIONS_PER_CALL)


def collections(writes: Sequence[Write]) -> list[Part]:
    """As few collections as will hold the writes: pairs first, then upserts by object, then updates."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    seen: Counter[str] = Counter()
    for index, write in enumerate(writes):
        turn = index
        if isinstance(write, Update):
            turn = seen[write.id]
            seen[write.id] += 1
        groups.setdefault(_group(turn, write), []).append(index)
    return [
        Part(tuple(writes[index] for index in chunk), tuple(chunk))
        for _, indexes in sorted(groups.items())
        for chunk in _chunks(sorted(indexes, key=lambda index: _place(writes[index])), RECORDS_PER_COLLECTION)
    ]


def _group(turn: int, write: Write) -> tuple[int, str, int]:
    """Which writes may share a collection; `turn` counts the updates of one record, which take no two in one."""
    if isinstance(write, Upsert):
        return (1, f"{write.object}/{write.external_field}", 0)
    return (0 if isinstance(write, Once) else 2, "", turn)


def _place(write: Write) -> tuple[str, str, str]:
    """Records of one object stand together, as a collection may change its object ten times only; then parents."""
    if isinstance(write, Once):
        return ("", write.parent, "")
    return (write.object, write.parent, write.external_id if isinstance(write, Upsert) else write.id)


def composite_body(parts: Sequence[Part], url: str, looks: Sequence[str] = ()) -> dict[str, Any]:
    """The call that makes the writes and after that answers the queries at the addresses `looks`."""
    written = [
        {
            "method": "POST" if part.once else "PATCH",
            "url": url + part.path,
            "referenceId": f"part{number}",
            "body": {"allOrNone": part.once, "records": part.records()},
        }
        for number, part in enumerate(parts)
    ]
    asked = [{"method": "GET", "url": each, "referenceId": f"look{number}"} for number, each in enumerate(looks)]
    return {"allOrNone": False, "collateSubrequests": False, "compositeRequest": written + asked}


def _outcome(status: int, row: Mapping[str, Any]) -> Outcome:
    if row["success"]:
        return Outcome("done", object_id=row.get("id"), http_status=status)
    return outcome_of_errors(400, row["errors"])


def _outcome_once(status: int, rows: Sequence[Mapping[str, Any]]) -> Outcome:
    marker, record = rows
    if marker["success"] and record["success"]:
        return Outcome("done", object_id=record["id"], http_status=status)
    errors = [error for row in rows if not row["success"] for error in row["errors"]]
    if any(error["statusCode"] == "DUPLICATE_VALUE" for error in marker.get("errors", [])):
        return Outcome("done", http_status=status, message="it was made before")
    return outcome_of_errors(400, [error for error in errors if error["statusCode"] != ROLLED_BACK] or errors)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
