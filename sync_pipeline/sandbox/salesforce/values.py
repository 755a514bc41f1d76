"""Values in and out: what a field accepts from JSON or CSV, and the form in which the sandbox keeps it.

Kept as API responses show them: dateTimes as UTC text to the second, dates as text, ids with 18 characters,
numbers unrounded (Salesforce rounds to a field's scale only on the screen). Empty text is null.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.sandbox.salesforce import ids
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, bad_json
from sync_pipeline.sandbox.salesforce.schema import NUMBER_TYPES, Field

_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:?\d\d)$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d$")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$")


def datetime_text(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def epoch_of(text: str) -> int:
    """Epoch seconds of a dateTime as the sandbox keeps it."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.000%z").timestamp())


def parse_datetime(text: str) -> str | None:
    """The kept form of a dateTime with a zone, None if it is not one."""
    match = _DATETIME.match(text)
    if not match:
        return None
    day, clock, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone == 'Z' else zone}")
        return datetime_text(int(moment.timestamp()))
    except (ValueError, OverflowError):
        return None


def parse_date(text: str) -> str | None:
    if not _DATE.match(text):
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


def decimal_of(value: float | int | None) -> Decimal:
    """A kept number for exact arithmetic: the shortest decimal that reads back as the same double."""
    return Decimal(repr(value)) if value is not None else Decimal(0)


def double_of(value: Decimal) -> float:
    """Salesforce keeps numbers as doubles; this is the one place where a result becomes one."""
    return float(value)


def accept(field: Field, value: Any) -> Any:
    """The kept form of a JSON value. Raises SalesforceError with the field's name."""
    if value is None or value == "":
        if not field.nillable and field.type == "boolean":
            raise bad_json(
                "Cannot deserialize instance of boolean from VALUE_NULL value null or request may be "
                "missing a required field"
            )
        return None
    if field.type == "boolean":
        return _boolean(value)
    if field.type in NUMBER_TYPES:
        return _number(field, value)
    if not isinstance(value, str):
        raise _mistyped(field, value)
    if field.type == "date":
        return parse_date(value) or _refuse(field, value)
    if field.type == "datetime":
        return parse_datetime(value) or _refuse(field, value)
    if field.type in ("reference", "id"):
        return _reference(field, value)
    if field.type == "email" and not _EMAIL.match(value):
        raise SalesforceError("INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {value}", [field.name])
    return _text(field, value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    raise bad_json(
        f"Cannot deserialize instance of boolean from {_token(value)} value {value} or request may be "
        "missing a required field"
    )


def _number(field: Field, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _mistyped(field, value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _mistyped(field, value) from None
    whole = field.digits if field.type == "int" else field.precision - field.scale
    if not math.isfinite(number) or abs(number) >= 10 ** (whole or 15):
        message = f"{field.label}: value outside of valid range on numeric field: {value}"
        raise SalesforceError("NUMBER_OUTSIDE_VALID_RANGE", message, [field.name])
    if field.type != "int":
        return number
    if number != int(number):
        raise _mistyped(field, value)
    return int(number)


def _text(field: Field, value: str) -> str:
    if field.length and len(value) > field.length:
        message = f"{field.label}: data value too large: {value} (max length={field.length})"
        raise SalesforceError("STRING_TOO_LONG", message, [field.name])
    if field.restricted:
        for choice in value.split(";") if field.type == "multipicklist" else [value]:
            if choice not in field.values:
                message = f"{field.label}: bad value for restricted picklist field: {choice}"
                raise SalesforceError("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, [field.name])
    return value


def _reference(field: Field, value: str) -> str:
    record_id = ids.normalise(value)
    if record_id is None:
        message = f"{field.label}: id value of incorrect type: {value}"
        raise SalesforceError("MALFORMED_ID", message, [field.name])
    return record_id


def _refuse(field: Field, value: Any) -> str:
    raise _mistyped(field, value)


def _mistyped(field: Field, value: Any) -> SalesforceError:
    kind = "string" if field.type not in NUMBER_TYPES | {"date", "datetime"} else field.type
    return bad_json(
        f"Cannot deserialize instance of {kind} from {_token(value)} value {value} or request may be "
        f"missing a required field at [{field.name}]"
    )


def _token(value: Any) -> str:
    names: list[tuple[type, str]] = [
        (bool, "VALUE_TRUE" if value is True else "VALUE_FALSE"),
        (int, "VALUE_NUMBER_INT"),
        (float, "VALUE_NUMBER_FLOAT"),
        (str, "VALUE_STRING"),
        (list, "START_ARRAY"),
        (dict, "START_OBJECT"),
    ]
    return next(name for kind, name in names if isinstance(value, kind))
