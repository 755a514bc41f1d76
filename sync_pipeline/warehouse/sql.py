"""The derived tables in SQL, beside the ledger, with keys, comments and views: one URL for the data team.

SQLite and Postgres get the same tables, views and comments (SQLite keeps them in its schema text). A publication
loads everything beside what is there, in short transactions, and then swaps it in one (`swap.py`): a reader sees all
tables of one night or all of the next. What columns there are is in frames.tables, views are in `views.py`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import polars as pl
from sqlalchemy import Connection

from sync_pipeline.frames.columns import Column, Table
from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.schema import dtypes
from sync_pipeline.frames.tables import PUBLISHED
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.warehouse.swap import NEXT, swap
from sync_pipeline.warehouse.views import VIEWS

BATCH = 20_000

_POSTGRES = {
    "text": 'TEXT COLLATE "C"',
    "flag": "BOOLEAN",
    "integer": "BIGINT",
    "number": "NUMERIC(38, 18)",
    "texts": "TEXT",
    "date": "DATE",
    "moment": "TIMESTAMP WITH TIME ZONE",
}
# SQLite would make a float of what does not fit 64 bits; text is exact, and sorts where it is a time.
_SQLITE = {
    "text": "TEXT",
    "flag": "INTEGER",
    "integer": "INTEGER",
    "number": "TEXT",
    "texts": "TEXT",
    "date": "TEXT",
    "moment": "TEXT",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the dictionary."""

    table_name: Annotated[str, "Table or view"]
    position: Annotated[int, "Place of the column, from 1; 0 for the table or view itself"]
    column_name: Annotated[str, "Column; empty for the table or view itself"]
    type: Annotated[str, "What it holds"]
    nullable: Annotated[str, "It may be empty: yes or no"]
    personal: Annotated[str, "It holds data about a person: yes or no"]
    description: Annotated[str, "What it is"]


DICTIONARY = Table(
    "data_dictionary", Entry, ("table_name", "position"), "Every published table, view and column, and what it is"
)
_TABLES: Mapping[str, Table] = {**PUBLISHED, DICTIONARY.name: DICTIONARY}


def sql_type(column: Column, dialect: str) -> str:
    """The type of a column on `sqlite` or `postgresql`."""
    if column.type == "amount":
        minor = column.name.endswith("_minor")
        if dialect == "sqlite":
            return "INTEGER" if minor else "TEXT"
        return "BIGINT" if minor else "NUMERIC(38, 0)"
    return (_SQLITE if dialect == "sqlite" else _POSTGRES)[column.type]


def publish(ledger: Ledger, frames: Mapping[Table, pl.DataFrame]) -> int:
    """Replaces the published tables by these and the dictionary; returns how many rows they have.

    Tables that are not among them stay, or are made empty where they never were.
    """
    with ledger.tx() as conn:
        dialect = conn.dialect.name
        there = _existing(conn)
        for name in there:
            if name.endswith(NEXT):
                conn.exec_driver_sql(f"DROP TABLE {name}")
    given = {DICTIONARY: to_frame(dictionary(), DICTIONARY), **frames}
    loaded = {name: table for name, table in _TABLES.items() if table in given or name not in there}
    for name, table in loaded.items():
        with ledger.tx() as conn:
            conn.exec_driver_sql(create_table(table, name + NEXT, dialect))
        _load(ledger, name + NEXT, table, given.get(table, pl.DataFrame(schema=dtypes(table))))
    with ledger.tx() as conn:
        swap(conn, loaded)
        _comment(conn, loaded)
    return sum(frame.height for frame in frames.values())


def create_table(table: Table, name: str, dialect: str) -> str:
    """The statement that makes the table, with a comment for every column."""
    lines = [f"-- {table.description}"]
    for column in table.columns:
        null = "" if column.nullable else " NOT NULL"
        check = f" CHECK ({column.name} IN (0, 1))" if column.type == "flag" and dialect == "sqlite" else ""
        if column.allowed:
            check = f" CHECK ({column.name} IN ({', '.join(map(_quoted, column.allowed))}))"
        lines.append(f"{column.name} {sql_type(column, dialect)}{null}{check}, -- {column.description}")
    lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    body = "\n    ".join(lines)
    return f"CREATE TABLE {name} (\n    {body}\n){' STRICT' if dialect == 'sqlite' else ''}"


def dictionary() -> list[Entry]:
    """Every published table and column, and every view."""
    rows = []
    for name, table in PUBLISHED.items():
        rows.append(Entry(name, 0, "", "table", "no", "no", table.description))
        for position, column in enumerate(table.columns, 1):
            nullable, personal = ("yes" if each else "no" for each in (column.nullable, column.personal))
            rows.append(Entry(name, position, column.name, column.type, nullable, personal, column.description))
    rows += [Entry(view.name, 0, "", "view", "no", "no", view.description) for view in VIEWS]
    return rows


def _existing(conn: Connection) -> set[str]:
    tables = (
        "SELECT name FROM sqlite_schema WHERE type = 'table'"
        if conn.dialect.name == "sqlite"
        else "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    mine = {*_TABLES, *(name + NEXT for name in _TABLES)}
    return {name for (name,) in conn.exec_driver_sql(tables)} & mine


def _load(ledger: Ledger, name: str, table: Table, frame: pl.DataFrame) -> None:
    """In transactions of a second or less, because the sync itself writes to the same database."""
    with ledger.read() as conn:
        dialect = conn.dialect.name
    columns = [column.name for column in table.columns]
    for batch in frame.sort(*table.key).iter_slices(BATCH):
        shown = batch.select(_shown(column, batch, dialect) for column in table.columns)
        with ledger.tx() as conn:
            if dialect == "postgresql":
                with _raw_cursor(conn) as cursor:
                    cursor.copy_expert(f"COPY {name} ({', '.join(columns)}) FROM STDIN (FORMAT csv)", _csv(shown))
            else:
                places = ", ".join("?" * len(columns))
                conn.exec_driver_sql(f"INSERT INTO {name} VALUES ({places})", shown.rows())


def _shown(column: Column, frame: pl.DataFrame, dialect: str) -> pl.Expr:
    """A column as the database takes it."""
    value = pl.col(column.name)
    if column.type == "texts":
        texts = [None if each is None else json.dumps(each) for each in frame[column.name].to_list()]
        return pl.lit(pl.Series(column.name, texts, dtype=pl.String))
    if column.type == "moment":
        return value.dt.to_string("%Y-%m-%d %H:%M:%S%.6f+00:00").alias(column.name)
    if column.type == "date":
        return value.dt.to_string("iso")
    if column.type == "flag":
        return value.cast(pl.Int64) if dialect == "sqlite" else value
    if column.type == "amount" and column.name.endswith("_minor"):
        return value.cast(pl.Int64)
    return value.cast(pl.String) if column.type in ("amount", "number") else value


def _csv(frame: pl.DataFrame) -> io.BytesIO:
    buffer = io.BytesIO()
    # An empty text is quoted, so that it is told from none.
    frame.write_csv(buffer, include_header=False, quote_style="non_numeric")
    buffer.seek(0)
    return buffer


def _raw_cursor(conn: Connection) -> Any:
    return conn.connection.cursor()


def _comment(conn: Connection, names: Iterable[str]) -> None:
    if conn.dialect.name == "postgresql":
        for statement in _comments(names):
            conn.exec_driver_sql(statement.replace("%", "%%"))


def _comments(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield f"COMMENT ON TABLE {name} IS {_quoted(_TABLES[name].description)}"
        for column in _TABLES[name].columns:
            yield f"COMMENT ON COLUMN {name}.{column.name} IS {_quoted(column.description)}"
    for view in VIEWS:
        yield f"COMMENT ON VIEW {view.name} IS {_quoted(view.description)}"


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
