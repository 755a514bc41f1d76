"""Writes to Salesforce, pooled: which records travel together in one call, and what the answer means for each.

A composite call takes five collections of 200 records and counts once against the daily limit. Updates share
collections in which each record stands for itself, a second update of one record in a later one. Pairs that must be
made together or not at all share collections that are made as a whole or not at all: a hundred of them in one, five
hundred in a call, where a composite graph takes 75. Records of one Account stand together, because a child's
write locks its parent: an Account is claimed by one worker, which has one call in flight, so no two calls in flight
touch one parent; a bulk job holds its Accounts by itself (ledger/bulk_jobs.py).

A collection that is refused as a whole (one malformed record, or an org's trigger that breaks its limits) tells
nothing of its records: it is halved until the guilty ones stand alone. One of pairs tells who is to blame: the others,
which were rolled back with them, are sent again without them, in halves.

That a Task is made once is what its marker is for: an upsert would need an External Id that is unique, which Salesforce
does not promise for fields of activities (they belong to Task and Event alike).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline.systems.salesforce.errors import outcome_of_errors

RECORDS_PER_COLLECTION = 200
PAIRS_PER_COLLECTION = RECORDS_PER_COLLECTION // 2
COLLECTIONS_PER_CALL = 5
ROLLED_BACK = "ALL_OR_NONE_OPERATION_ROLLED_BACK"
TRIGGER_FAILED = "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
"""Also what every row says when an org's trigger breaks its limits on a full collection: fewer rows may pass."""
TELLS_NOTHING = (TRIGGER_FAILED, ROLLED_BACK)
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
        """The rows to send. Of pairs all markers come first: a collection may change its object ten times only."""
        pairs = [write for write in self.writes if isinstance(write, Once)]
        rows = [_row(*write.marker) for write in pairs] + [_row(*write.record) for write in pairs]
        for write in self.writes:
            if not isinstance(write, Once):
                named = {write.external_field: write.external_id} if isinstance(write, Upsert) else {"id": write.id}
                rows.append(_row(write.object, {**named, **write.fields}))
        return rows

    def outcomes(self, status: int, body: Any) -> dict[int, Outcome]:
        """What this collection's answer means for its writes; nothing for pairs that were rolled back with others."""
        if status >= 300:
            return self.all(outcome_of_errors(status, body))
        if self.once:
            markers, records = body[: len(self.writes)], body[len(self.writes) :]
            pairs = dict(zip(self.indexes, zip(markers, records, strict=True), strict=True))
            guilty = {index: pair for index, pair in pairs.items() if not _is_rolled_back(pair)}
            return {index: _outcome_once(status, pair) for index, pair in (guilty or pairs).items()}
        return {index: _outcome(status, row) for index, row in zip(self.indexes, body, strict=True)}

    def all(self, outcome: Outcome) -> dict[int, Outcome]:
        return dict.fromkeys(self.indexes, outcome)

    def is_refused_whole(self, status: int, outcomes: Mapping[int, Outcome]) -> bool:
        """Whether the answer is about the collection, so that its halves may fare better."""
        if len(self.writes) == 1:
            return False
        if status < 300:
            return all(outcome.code in TELLS_NOTHING for outcome in outcomes.values())
        return all(outcome.state in REFUSED for outcome in outcomes.values())

    def only(self, wanted: Callable[[int], bool]) -> Part | None:
        """This collection with those of its writes only, by index; None when none is left."""
        kept = [(write, index) for write, index in zip(self.writes, self.indexes, strict=True) if wanted(index)]
        return Part(tuple(write for write, _ in kept), tuple(index for _, index in kept)) if kept else None

    def without(self, told: Collection[int]) -> list[Part]:
        """What is left to send when some writes have their outcomes: in halves, as there may be more that is wrong."""
        left = self.only(lambda index: index not in told)
        return left.halves() if left is not None else []

    def halves(self) -> list[Part]:
        """Two collections with half of the writes each; a single write stays one."""
        middle = (len(self.writes) + 1) // 2
        places = [slice(0, middle), slice(middle, None)]
        return [Part(self.writes[place], self.indexes[place]) for place in places if self.writes[place]]


def composite_calls(writes: Sequence[Write]) -> Iterator[list[Part]]:
    """The calls to make, each at most five collections."""
    yield from _chunks(collections(writes), COLLECTIONS_PER_CALL)


def collections(writes: Sequence[Write]) -> list[Part]:
    """As few collections as will hold the writes: pairs first, then upserts by object, then updates."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    seen: Counter[str] = Counter()
    for index, write in enumerate(writes):
        turn = index
        if not isinstance(write, Upsert):
            name = write.id if isinstance(write, Update) else str(write.marker)
            turn = seen[name]
            seen[name] += 1
        groups.setdefault(_group(turn, write), []).append(index)
    return [
        Part(tuple(writes[index] for index in chunk), tuple(chunk))
        for _, indexes in sorted(groups.items())
        for chunk in _chunks(sorted(indexes, key=lambda index: _place(writes[index])), _at_most(writes[indexes[0]]))
    ]


def _at_most(write: Write) -> int:
    """How many writes of its kind a collection takes."""
    return PAIRS_PER_COLLECTION if isinstance(write, Once) else RECORDS_PER_COLLECTION


def _group(turn: int, write: Write) -> tuple[int, str, int]:
    """Which writes may share a collection; `turn` counts those of one record or marker, of which no two may."""
    if isinstance(write, Upsert):
        return (1, f"{write.object}/{write.external_field}", 0)
    if isinstance(write, Once):
        return (0, f"{write.marker[0]}/{write.record[0]}", turn)
    return (2, "", turn)


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


def _row(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"attributes": {"type": kind}, **fields}


def _is_rolled_back(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records were fine, and were not made only because others of their collection were not."""
    errors = [error for row in rows for error in row["errors"]]
    return bool(errors) and all(error["statusCode"] == ROLLED_BACK for error in errors)


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
