"""The org's records: reading by id, by indexed value and in full; the one place that writes rows.

It knows rows, indexes, ids and stamps. What a write must satisfy and cause is `saving`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.salesforce.ids import Ids
from sync_pipeline.sandbox.salesforce.schema import Field, Schema, SObject
from sync_pipeline.sandbox.salesforce.values import datetime_text
from sync_pipeline.sandbox.store import Row, Store


class Database:
    """Rows by object. `visibility_delay` is for how many seconds queries still miss a committed write.

    It can be raised for a single call, up to the `kept_seconds` that were set when the rows were written.
    """

    def __init__(self, schema: Schema, store: Store, clock: Clock, ids: Ids, visibility_delay: int = 0) -> None:
        self.schema = schema
        self.store = store
        self.clock = clock
        self.ids = ids
        self.visibility_delay = visibility_delay
        self.kept_seconds = 0
        # Ids that may hold a value, per object and field. Entries are never removed, so that a rollback
        # needs no care: whoever reads an entry checks the row.
        self._indexes: dict[tuple[str, str], dict[Any, dict[str, None]]] = {}
        self.rebuild_indexes()

    def now(self) -> str:
        return datetime_text(self.clock.now())

    def get(self, o: SObject, record_id: str | None) -> Row | None:
        """The row, deleted or not."""
        return self.store.get(o.name, record_id) if record_id else None

    def live(self, o: SObject, record_id: str | None) -> Row | None:
        row = self.get(o, record_id)
        return None if row is None or row.get("IsDeleted") else row

    def by_id(self, record_id: str | None) -> Row | None:
        """The row of whatever object the id's prefix names."""
        o = self.schema.of_id(record_id) if record_id else None
        return self.get(o, record_id) if o else None

    def record_types(self, o: SObject) -> list[Row]:
        """The record types of an object, in the order in which the org lists them."""
        rows = sorted(self.store.table("RecordType").values(), key=lambda row: row["Id"])
        return [row for row in rows if row["SobjectType"] == o.name]

    def where(self, o: SObject, f: Field, value: Any) -> list[Row]:
        """Live rows whose field holds the value, oldest first."""
        return [row for row in self.candidates(o, f, [value]) if not row.get("IsDeleted")]

    def candidates(self, o: SObject, f: Field, values: Iterable[Any]) -> list[Row]:
        """Rows, deleted ones too, whose field holds one of the values, in order of id."""
        table = self.store.table(o.name)
        if f.type == "id":
            return [table[k] for k in sorted({v for v in values if v in table})]
        keys = {f.index_key(v) for v in values if v is not None}
        index = self._indexes.get((o.name, f.name))
        if index is None:
            return [table[k] for k in sorted(table) if f.index_key(table[k].get(f.name)) in keys]
        found = {}
        for key in keys:
            for record_id in index.get(key, ()):
                row = table.get(record_id)
                if row is not None and f.index_key(row.get(f.name)) == key:
                    found[record_id] = row
        return [found[k] for k in sorted(found)]

    def scan(self, o: SObject) -> Iterator[Row]:
        """Every row that a query can see by now, deleted ones too, in no particular order."""
        rows = self.store.table(o.name)
        held_back = self._held_back(o)
        if not held_back:
            yield from rows.values()
            return
        for record_id, row in rows.items():
            shown = held_back.get(record_id, row)
            if shown is not None:
                yield shown
        yield from (row for record_id, row in held_back.items() if row is not None and record_id not in rows)

    def choices(self, f: Field) -> tuple[str, ...]:
        """A picklist's values in their set-up order; stages and currencies are records."""
        if f.values_from == "OpportunityStage":
            stages = sorted(self.store.table("OpportunityStage").values(), key=lambda s: s["SortOrder"])
            return tuple(s["ApiName"] for s in stages if s["IsActive"])
        return f.values

    def put(self, o: SObject, row: Row) -> Row:
        record_id: str = row["Id"]
        self._hold_back(o, record_id)
        self.store.put(o.name, record_id, row)
        self._enter(o, row)
        return row

    def remove(self, o: SObject, record_id: str) -> None:
        """Removes a row for good."""
        self._hold_back(o, record_id)
        self.store.delete(o.name, record_id)

    def rebuild_indexes(self) -> None:
        """To be called when the store was replaced."""
        self._indexes = {(o.name, f.name): {} for o in self.schema.objects.values() for f in o.indexed}
        for o in self.schema.objects.values():
            for row in self.store.table(o.name).values():
                self._enter(o, row)

    def _enter(self, o: SObject, row: Row) -> None:
        for f in o.indexed:
            value = row.get(f.name)
            if value is not None:
                self._indexes[o.name, f.name].setdefault(f.index_key(value), {})[row["Id"]] = None

    def _hold_back(self, o: SObject, record_id: str) -> None:
        """Keeps what queries go on seeing until the delay has passed."""
        kept = max(self.visibility_delay, self.kept_seconds)
        if not kept:
            return
        key = f"{o.name}/{record_id}"
        now = self.clock.now()
        earlier = self.store.get("_held_back", key)
        before = earlier["row"] if earlier and earlier["at"] + kept > now else self.store.get(o.name, record_id)
        self.store.put("_held_back", key, {"id": record_id, "row": before, "at": now})

    def _held_back(self, o: SObject) -> dict[str, Row | None]:
        held = self.store.table("_held_back")
        if not held or not self.visibility_delay:
            return {}
        fresh, prefix = self.clock.now() - self.visibility_delay, f"{o.name}/"
        return {h["id"]: h["row"] for key, h in held.items() if key.startswith(prefix) and h["at"] > fresh}
