"""A parsed query, before any name in it is known to exist. `at` is the offset of a part in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Path:
    names: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class Call:
    function: str
    path: Path | None
    at: int


@dataclass(frozen=True)
class Literal:
    """`kind`: string, integer, decimal, datetime, date, boolean, null or named (a date literal with its number)."""

    kind: str
    value: Any
    text: str
    at: int


@dataclass(frozen=True)
class Column:
    what: Path | Call
    alias: str | None


@dataclass(frozen=True)
class Compare:
    left: Path | Call
    operator: str
    right: Literal


@dataclass(frozen=True)
class Member:
    """`operator`: in, not in, includes or excludes."""

    left: Path
    operator: str
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class SemiJoin:
    left: Path
    operator: str
    query: Query


@dataclass(frozen=True)
class Not:
    condition: Condition


@dataclass(frozen=True)
class Junction:
    every: bool
    conditions: tuple[Condition, ...]


Condition = Compare | Member | SemiJoin | Not | Junction


@dataclass(frozen=True)
class Sort:
    what: Path | Call
    descending: bool
    nulls_last: bool


@dataclass(frozen=True)
class Query:
    columns: tuple[Column | Query, ...]
    source: Path
    alias: str | None
    where: Condition | None
    group_by: tuple[Path, ...]
    having: Condition | None
    order_by: tuple[Sort, ...]
    limit: int | None
    offset: int | None
    at: int
