"""One Parquet file per table, replaced whole: a reader sees the old table or the new one, never half of one.

Where a table lies is its name (`snapshot/stripe/invoices` -> snapshot/stripe/invoices.parquet). What its columns
are is in frames.tables.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sync_pipeline.frames.columns import Table
from sync_pipeline.frames.schema import dtypes, empty

FOOTER_LENGTH_AND_MAGIC = 8


class TableMissing(Exception):
    """A table that was never written; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Written:
    """A table as it was written. `content_hash` depends on its rows and columns only, in any order of rows."""

    path: Path
    rows: int
    size_bytes: int
    content_hash: str


class Warehouse:
    """The Parquet tables below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, table: Table) -> Path:
        return self.folder / f"{table.name}.parquet"

    def write(self, table: Table, frame: pl.DataFrame, provenance: Mapping[str, str]) -> Written:
        """Replaces the table. `provenance` goes into the file with the rows and is read back by `provenance`."""
        ordered = frame.sort(*table.key).rechunk()
        buffer = io.BytesIO()
        ordered.write_parquet(buffer, compression="zstd", metadata=dict(provenance))
        content = buffer.getvalue()
        path = self.path(table)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
        return Written(path, ordered.height, len(content), _content_hash(ordered.schema, content))

    def read(self, table: Table) -> pl.DataFrame:
        """The whole table. Raises TableMissing."""
        return pl.read_parquet(self._existing(table))

    def read_or_empty(self, table: Table, taken: str = "taken_at") -> tuple[pl.DataFrame, int | None]:
        """The table as it was last written and when, by its provenance of that name (microseconds UTC).

        Empty and None where it was never written, or by a version with other columns: it is then made anew.
        """
        if not self.path(table).is_file():
            return empty(table), None
        found = self.read(table)
        if found.schema != pl.Schema(dtypes(table)):
            return empty(table), None
        return found, int(self.provenance(table)[taken])

    def content_hash(self, table: Table) -> str:
        """The hash with which the table was written. Raises TableMissing."""
        path = self._existing(table)
        return _content_hash(pl.read_parquet_schema(path), path.read_bytes())

    def provenance(self, table: Table) -> dict[str, str]:
        """What `write` was told about where the table comes from. Raises TableMissing."""
        found = pl.read_parquet_metadata(self._existing(table))
        return {name: value for name, value in found.items() if name != "ARROW:schema"}

    def _existing(self, table: Table) -> Path:
        path = self.path(table)
        if not path.is_file():
            raise TableMissing(f"table {table.name} is not in the warehouse yet: materialize it first")
        return path


def replace_file(path: Path, content: bytes) -> None:
    """Writes the file whole: a reader sees the old one or this one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; the data team reads these.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _content_hash(schema: Mapping[str, pl.DataType], content: bytes) -> str:
    """Of the columns and the data pages, without the footer, in which the provenance is."""
    footer = int.from_bytes(content[-FOOTER_LENGTH_AND_MAGIC:-4], "little")
    digest = hashlib.sha256(repr(list(schema.items())).encode())
    digest.update(content[: -FOOTER_LENGTH_AND_MAGIC - footer])
    return digest.hexdigest()
