"""From Salesforce's JSON to records, by the API names of the rules file.

A name may be a path to a parent (Product2.Name). Numbers are exact decimals; moments become microseconds UTC;
dates stay ISO texts, because they have no zone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

from sync_pipeline.systems.outcomes import UNKNOWN_SHAPE

Record = TypeVar("Record")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FieldUnreadable(ValueError):
    """A field whose value is not what its column takes. The message is its API name."""


def record(kind: type[Record], names: Mapping[str, str], raw: Mapping[str, Any]) -> Record:
    """One record of `kind` from one row of a query that selected `names`. Raises FieldUnreadable."""
    values = {}
    for name, convert in _converters(cast(Any, kind)):
        if name in names:
            try:
                values[name] = convert(at_path(raw, names[name]))
            except UNKNOWN_SHAPE:
                raise FieldUnreadable(names[name]) from None
    return kind(**values)


@cache
def _converters(kind: Any) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, _converter(f.name, hints[f.name])) for f in dataclasses.fields(kind))


def _converter(name: str, hint: Any) -> Callable[[Any], Any]:
    wanted = str(hint)
    if "Decimal" in wanted:
        return decimal
    if name.endswith("_at"):
        return moment
    if name.endswith(("_date", "_on")):
        return day
    return bool if hint is bool else _text


def decimal(value: Any) -> Decimal | None:
    """Raises ValueError, ArithmeticError for what is no number, as a text in a field of another type may be."""
    number = None if value is None else Decimal(value)
    if number is not None and not number.is_finite():
        raise ValueError
    return number


def moment(value: str | None) -> int | None:
    """Microseconds UTC of a dateTime as Salesforce writes it (2026-01-05T09:00:00.000+0000)."""
    if value is None:
        return None
    return (datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1)


def day(value: Any) -> str | None:
    """A date as an ISO text. Raises TypeError, ValueError for what is no date."""
    return None if value is None else date.fromisoformat(value).isoformat()


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def at_path(raw: Mapping[str, Any], path: str) -> Any:
    """A value of a row, or of its parent's parent; None where a parent is missing."""
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
