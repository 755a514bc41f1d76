"""The data dictionary as a page: every table, view and column with what it is, and examples to copy.

It is made from the row classes that the checks and the tables are made from, so it cannot say anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sync_pipeline.frames.columns import SQL_TYPES, Column, Table
from sync_pipeline.frames.tables import PUBLISHED, TABLES
from sync_pipeline.warehouse.queries import EXAMPLES, OVER_FILES, Query
from sync_pipeline.warehouse.views import VIEWS

LAYERS = {
    "snapshot": "Complete listings of both systems, as read. Only in Parquet, because they hold personal data.",
    "quarantine": "Rows that did not fit their table, with what is wrong with them.",
    "mapping": "Which records of the two systems belong together, and what says so.",
    "derived": "What follows from them.",
    "sync": "What the sync wants to write, and what both systems say afterwards.",
}
INTRODUCTION = """\
# Data dictionary

Made from the schemas that the checks use, every night anew; `sync-pipeline tables` prints it too.

Every table is one Parquet file, `SYNC_HOME/warehouse/<name>.parquet`, which Polars, DuckDB and Spark read; a daily one
is a folder, `SYNC_HOME/warehouse/<name>/<day>.parquet`. Each file is replaced whole. The tables that hold no listings
of whole systems are also in SQL, in the ledger's database, where `derived/account_ltv` is `derived_account_ltv`; on
Postgres each table and column has its comment, on SQLite it is in the schema text. All are replaced together: a reader
sees one night's tables or the next one's. The tables are also described in the table `data_dictionary`.

Amounts are integers in minor units of the row's currency. Exact amounts are fractions of yearly minor units
(`yearly_numerator` / `yearly_denominator`); sums are made of those and rounded once. Moments are UTC, dates are the
company's. In SQLite exact numbers and times are text."""


def page() -> str:
    """The page in Markdown."""
    parts = [INTRODUCTION]
    for layer, text in LAYERS.items():
        tables = [table for name, table in TABLES.items() if name.startswith(f"{layer}/")]
        if tables:
            parts.append(f"## {layer}\n\n{text}")
            parts += ["\n".join(_table(table)) for table in tables]
    parts.append("## Views\n\n" + "\n".join(f"- `{view.name}`: {view.description}" for view in VIEWS))
    parts.append("## Examples")
    parts += ["\n".join(_example(query)) for query in EXAMPLES]
    parts.append("## Examples over the files, with DuckDB")
    parts += ["\n".join(_example(query)) for query in OVER_FILES]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> Iterator[str]:
    in_sql = next((f"; `{name}` in SQL" for name, each in PUBLISHED.items() if each is table), "")
    yield f"### {table.name}"
    yield ""
    daily = " One file for each day." if table.daily else ""
    yield f"{table.description}{daily} Key: {', '.join(f'`{name}`' for name in table.key)}{in_sql}."
    yield ""
    yield "| Column | Type | What it is |"
    yield "| --- | --- | --- |"
    yield from (f"| `{column.name}` | {SQL_TYPES[column.type]} | {_what(column)} |" for column in table.columns)


def _what(column: Column) -> str:
    allowed = f" One of: {', '.join(column.allowed)}." if column.allowed else ""
    return f"{column.description}{'.' if allowed else ''}{allowed}"


def _example(query: Query) -> Iterable[str]:
    where = "".join(f"; `{name}` is for example `{value}`" for name, value in query.parameters)
    return [f"{query.question}{where}", "", "```sql", query.sql, "```"]
