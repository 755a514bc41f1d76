"""What a column is, read off the annotations of a row class: the one source of dtypes, schemas and documentation.

Light on purpose: definitions that show a table's columns need neither Polars nor pandera for it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

PERSONAL_MARK = "(personal data)"
WIDE = ("_minor", "_numerator", "_denominator")
MOMENTS = frozenset({"period_start", "period_end"})

Type = Literal["text", "flag", "integer", "number", "texts", "date", "moment", "amount"]

SQL_TYPES: Mapping[Type, str] = {
    "text": "VARCHAR",
    "flag": "BOOLEAN",
    "integer": "BIGINT",
    "number": "DECIMAL(38,18)",
    "texts": "VARCHAR[]",
    "date": "DATE",
    "moment": "TIMESTAMP WITH TIME ZONE",
    "amount": "DECIMAL(38,0)",
}
"""What a reader of the tables meets."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type` names what it holds:

    text, flag, integer, number (exact decimal), texts (list of text), date, moment (microseconds UTC),
    amount (an integer of up to 38 digits: signed minor units, or part of an exact fraction of them).
    """

    name: str
    type: Type
    nullable: bool
    description: str
    allowed: tuple[str, ...] = ()

    @property
    def personal(self) -> bool:
        """Holds data about a person or names a customer: never leaves the warehouse."""
        return PERSONAL_MARK in self.description


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the warehouse. `name` is its asset key and its path; `key` are the columns that identify a row.

    A `daily` one is kept by the day on which its objects were created, and each day is replaced by itself.
    """

    name: str
    row: type[Any]
    key: tuple[str, ...]
    description: str
    daily: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return columns_of(self.row)


def columns_of(row: type[Any]) -> tuple[Column, ...]:
    """The columns of a row class, in the order of its fields. Raises TypeError for a field that no column can hold."""
    return tuple(_column(row, name, hint) for name, hint in get_type_hints(row, include_extras=True).items())


def _column(row: type[Any], name: str, hint: Any) -> Column:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"{row.__name__}.{name} has no description: annotate it")
    inner, description = get_args(hint)
    nullable = get_origin(inner) in (Union, types.UnionType)
    if nullable:
        (inner,) = (each for each in get_args(inner) if each is not type(None))
    if get_origin(inner) is Literal:
        return Column(name, "text", nullable, description, get_args(inner))
    return Column(name, _type(row, name, inner), nullable, description)


def _type(row: type[Any], name: str, inner: Any) -> Any:
    """Names carry the units (`_at`, `_date`, `_minor`), so they decide where the Python type leaves it open."""
    if inner is int:
        if name.endswith("_at") or name in MOMENTS:
            return "moment"
        return "amount" if name.endswith(WIDE) else "integer"
    if inner is str:
        return "date" if name.endswith(("_date", "_on")) else "text"
    plain = {bool: "flag", Decimal: "number", tuple[str, ...]: "texts"}
    if inner not in plain:
        raise TypeError(f"{row.__name__}.{name}: no column type for {inner}")
    return plain[inner]
