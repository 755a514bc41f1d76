"""The tables as Parquet files, each replaced whole: a reader sees the old file or the new one, never half of one.

Where a table lies is its name: snapshot/stripe/customers.parquet. A daily table is a folder with a file per day,
snapshot/stripe/invoices/2026-01-15.parquet. What its columns are is in frames.tables; a file that an earlier version
wrote is read with the columns of today. How daily tables are brought up to date is in `days.py`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from sync_pipeline.frames.columns import Column, Table
from sync_pipeline.frames.schema import dtypes, empty

FOOTER_LENGTH_AND_MAGIC = 8
NOTE = "_taken.json"


class TableMissing(Exception):
    """A table that was never written, or by a version with other columns; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file as it was written. `content_hash` depends on its rows and columns only, in any order of rows; `changed`
    says that it is another one than before."""

    path: Path
    rows: int
    size_bytes: int
    content_hash: str
    changed: bool


class Warehouse:
    """The Parquet tables below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, table: Table, day: date | None = None) -> Path:
        """The file of a table, or of one day of a daily one; without a day the folder of that."""
        if not table.daily:
            return self.folder / f"{table.name}.parquet"
        return self.folder / table.name / f"{day}.parquet" if day else self.folder / table.name

    def write(
        self, table: Table, frame: pl.DataFrame, provenance: Mapping[str, str], day: date | None = None
    ) -> Written:
        """Replaces the table, or the `day` of a daily one. `provenance` goes into the file with the rows and is read
        back by `provenance`."""
        if table.daily != (day is not None):
            raise ValueError(f"{table.name} is written {'day by day' if table.daily else 'as a whole'}")
        ordered = frame.sort(*table.key).rechunk()
        buffer = io.BytesIO()
        ordered.write_parquet(buffer, compression="zstd", metadata=dict(provenance))
        content = buffer.getvalue()
        found = _content_hash(ordered.schema, content)
        path = self.path(table, day)
        changed = not path.is_file() or _hash_of(path) != found
        replace_file(path, content)
        return Written(path, ordered.height, len(content), found, changed)

    def remove(self, table: Table, day: date) -> bool:
        """Takes a day without objects out of a daily table; whether it was there."""
        path = self.path(table, day)
        there = path.is_file()
        path.unlink(missing_ok=True)
        # A table of which every day is empty is there, too.
        path.parent.mkdir(parents=True, exist_ok=True)
        return there

    def days(self, table: Table) -> list[date]:
        """The days of a daily table that hold something, oldest first."""
        return sorted(date.fromisoformat(path.stem) for path in self.path(table).glob("*-*-*.parquet"))

    def scan(self, table: Table, days: Collection[date] | None = None) -> pl.LazyFrame:
        """The table, read when it is collected; of a daily one only these `days`. Raises TableMissing.

        Columns that its file does not have yet are empty, or what a record has by default.
        """
        if table.daily:
            known = self.days(table)
            paths = [self.path(table, day) for day in known if days is None or day in days]
            if not known and not self.path(table).is_dir():
                raise _missing(table)
        else:
            paths = [self._existing(table)]
        if not paths:
            return empty(table).lazy()
        scanned = pl.scan_parquet(
            paths, schema=dtypes(table), missing_columns="insert", extra_columns="ignore", hive_partitioning=False
        )
        return scanned.with_columns(
            pl.col(column.name).fill_null(default)
            for column in table.columns
            if not column.nullable and (default := _default(table, column)) is not None
        )

    def read(self, table: Table) -> pl.DataFrame:
        """The whole table. Raises TableMissing."""
        return self.scan(table).collect()

    def read_or_empty(self, table: Table, taken: str = "taken_at") -> tuple[pl.DataFrame, int | None]:
        """The table as it was last written and when, by its provenance of that name (microseconds UTC).

        Empty and None where it was never written, or by a version whose columns do not fit: it is then made anew.
        """
        try:
            return self.read(table), int(self.provenance(table)[taken])
        except TableMissing:
            return empty(table), None

    def content_hash(self, table: Table) -> str:
        """The hash with which the table was written; of a daily one, over all its days. Raises TableMissing."""
        if not table.daily:
            return _hash_of(self._existing(table))
        digest = hashlib.sha256()
        for day in self.days(table):
            digest.update(f"{day} {_hash_of(self.path(table, day))}\n".encode())
        return digest.hexdigest()

    def provenance(self, table: Table, day: date | None = None) -> dict[str, str]:
        """What `write` or `note` was told about where the table, or a day of it, comes from. Raises TableMissing."""
        if table.daily and day is None:
            note = self.path(table) / NOTE
            if not note.is_file():
                raise TableMissing(f"table {table.name} has only some days yet: materialize {table.name}")
            return dict(json.loads(note.read_text("utf-8")))
        path = self.path(table, day)
        if not path.is_file():
            raise _missing(table)
        found = pl.read_parquet_metadata(path)
        return {name: value for name, value in found.items() if name != "ARROW:schema"}

    def note(self, table: Table, provenance: Mapping[str, str]) -> None:
        """Keeps where a daily table as a whole comes from."""
        replace_file(self.path(table) / NOTE, json.dumps(dict(provenance)).encode())

    def holding(self, table: Table, column: str, values: Collection[str]) -> dict[str, date]:
        """On which day of a daily table each of the values is, where it is there. Raises TableMissing."""
        paths = [self.path(table, day) for day in self.days(table)]
        if not paths or not values:
            return {}
        found = (
            pl.scan_parquet(paths, include_file_paths="_path", missing_columns="insert", extra_columns="ignore")
            .filter(pl.col(column).is_in(list(values)))
            .select(column, "_path")
            .collect()
        )
        return {value: date.fromisoformat(Path(path).stem) for value, path in found.iter_rows()}

    def clear(self, before: int) -> int:
        """Deletes what writers that were killed left half-written before then (microseconds UTC); how many files."""
        left = [path for path in self.folder.rglob(".*.tmp") if path.stat().st_mtime_ns // 1000 < before]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Only one at a time, over all processes that use this folder, is inside; the others wait."""
        path = self.folder / f".{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _existing(self, table: Table) -> Path:
        path = self.path(table)
        if not path.is_file():
            raise _missing(table)
        found = pl.read_parquet_schema(path)
        for column in table.columns:
            if column.name not in found:
                fits = column.nullable or _default(table, column) is not None
            else:
                fits = found[column.name] == dtypes(table)[column.name]
            if not fits:
                raise TableMissing(
                    f"table {table.name} was written by a version in which {column.name} was not the same: "
                    "materialize it again"
                )
        return path


def replace_file(path: Path, content: bytes) -> None:
    """Writes the file whole: a reader sees the old one or this one."""
    with whole_file(path) as half:
        half.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` at the end of the block, unless that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    half = Path(name)
    try:
        # Open, and never by its name: a sink of Polars that has failed may open a path after that, and so leave a file.
        with os.fdopen(handle, "wb") as written:
            yield written
            written.flush()
            os.fsync(handle)
        # mkstemp makes files that only their owner may read; the data team reads these.
        half.chmod(0o644)
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def _missing(table: Table) -> TableMissing:
    return TableMissing(f"table {table.name} is not in the warehouse yet: materialize it first")


def _default(table: Table, column: Column) -> Any:
    """What a record has in a column that it is not given; None where it has to be given one."""
    (field,) = (field for field in dataclasses.fields(table.row) if field.name == column.name)
    if field.default is dataclasses.MISSING:
        return None
    return list(field.default) if isinstance(field.default, tuple) else field.default


def _hash_of(path: Path) -> str:
    return _content_hash(pl.read_parquet_schema(path), path.read_bytes())


def _content_hash(schema: Mapping[str, pl.DataType], content: bytes) -> str:
    """Of the columns and the data pages, without the footer, in which the provenance is."""
    footer = int.from_bytes(content[-FOOTER_LENGTH_AND_MAGIC:-4], "little")
    digest = hashlib.sha256(repr(list(schema.items())).encode())
    digest.update(content[: -FOOTER_LENGTH_AND_MAGIC - footer])
    return digest.hexdigest()
