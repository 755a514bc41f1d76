"""Tables of JSON rows in memory, with transactions that roll back and whole-state snapshots.

Rows are plain JSON dicts and are never changed in place: read a row, build the new one, `put` it.
That is what makes rollback, snapshot and events with `previous_attributes` cheap and exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

Row = dict[str, Any]


class _TriedError(Exception):
    pass


class Store:
    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Row]] = {}
        self._journal: list[tuple[str, str, Row | None]] | None = None
        self.writes = 0  # also those that were rolled back

    def table(self, name: str) -> dict[str, Row]:
        """All rows of a table by id, oldest first. Read only: write through `put` and `delete`."""
        return self._tables.setdefault(name, {})

    def get(self, table: str, key: str) -> Row | None:
        return self.table(table).get(key)

    def put(self, table: str, key: str, row: Row) -> Row:
        rows = self.table(table)
        self._note(table, key, rows.get(key))
        rows[key] = row
        return row

    def delete(self, table: str, key: str) -> None:
        rows = self.table(table)
        if key in rows:
            self._note(table, key, rows.pop(key))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: an exception undoes every write since the start. May be nested (a savepoint)."""
        outer, self._journal = self._journal, []
        try:
            yield
        except BaseException:
            for table, key, old in reversed(self._journal):
                if old is None:
                    self._tables[table].pop(key, None)
                else:
                    self._tables[table][key] = old
            self._journal = outer
            raise
        if outer is not None:
            outer.extend(self._journal)
        self._journal = outer

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Everything that is written is undone at the end, whatever happens."""
        with suppress(_TriedError), self.transaction():
            yield
            raise _TriedError

    def snapshot(self) -> dict[str, dict[str, Row]]:
        """The whole state. Shares rows with the live store, which never changes a row in place."""
        return {name: dict(rows) for name, rows in self._tables.items() if rows}

    def restore(self, state: dict[str, dict[str, Row]]) -> None:
        self._tables = {name: dict(rows) for name, rows in state.items()}
        self.writes += 1

    def _note(self, table: str, key: str, old: Row | None) -> None:
        self.writes += 1
        if self._journal is not None:
            self._journal.append((table, key, old))
