"""One value of a part of the rules file that holds settings (`commercial`, `guards` ...), as the type of its setting.

The types are those of the classes in `core.rules`, so that a new setting needs nothing here unless its values are
narrower than its type says.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, get_args, get_origin

from sync_pipeline.core.money import MoneyError, exponent
from sync_pipeline.core.mrr import PERIODS_PER_YEAR
from sync_pipeline.core.salesforce_ids import record_id


def setting_value(name: str, hint: Any, value: Any) -> Any:
    """The value of the setting `name`; ValueError says what was expected."""
    if value is None and type(None) in get_args(hint):
        return None
    return NARROWER[name](value) if name in NARROWER else _of_type(hint, value)


def _of_type(hint: Any, value: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _of_type(next(each for each in inner if each is not type(None)), value)
    if origin is typing.Literal:
        if value not in inner:
            near = difflib.get_close_matches(str(value), inner, n=1)
            raise ValueError(f"did you mean {near[0]}?" if near else f"expected {' or '.join(inner)}")
        return value
    if origin in (tuple, frozenset):
        if not isinstance(value, list):
            raise ValueError("expected a list, as [a, b]")
        return origin(_of_type(inner[0], each) for each in value)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise ValueError("expected names with a value each")
        return {str(key): _of_type(inner[1], each) for key, each in value.items()}
    return PLAIN[hint](value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _whole_number(value: Any, at_least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"expected a whole number from {at_least}")
    return value


def _amount(value: Any) -> Decimal:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("expected a whole amount in major units")
    return Decimal(value)


def _amounts(value: Any) -> dict[str, Decimal]:
    if not isinstance(value, dict):
        raise ValueError("expected currencies with an amount each, as {GBP: 10000}")
    return {_currency(currency): _amount(amount) for currency, amount in value.items()}


def _currency(value: Any) -> str:
    """One that Stripe bills: no deal in another one is billed, and no limit in it is ever met."""
    if not isinstance(value, str) or not re.fullmatch("[A-Z]{3}", value):
        raise ValueError("expected an ISO code of three capital letters")
    try:
        exponent(value)
    except MoneyError as error:
        raise ValueError(f"{error}; expected one that Stripe bills") from None
    return value


def _percent(value: Any) -> int:
    if (found := _whole_number(value)) > 100:
        raise ValueError("expected percent from 0 to 100")
    return found


def _month_or_more(value: Any) -> int:
    """Days. Stripe lists events of 30 days, and may know an idempotency key again for one."""
    return _whole_number(value, at_least=31)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a text")
    return value


def _day(value: Any) -> str:
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError("expected a day as 2026-01-31") from None


def _task_owner(value: Any) -> str:
    """The 18 characters of the id, as a Task shows its owner."""
    found = record_id(value) if isinstance(value, str) else None
    if found is None or not found.startswith(("005", "00G")):
        raise ValueError("expected the id of a user (005...) or a queue (00G...), 15 or 18 characters")
    return found


def _intervals(value: Any) -> dict[str, tuple[str, int]]:
    if not isinstance(value, dict):
        raise ValueError("expected names with a unit and a count each")
    return {name: _interval(name, pair) for name, pair in value.items()}


def _interval(name: str, pair: Any) -> tuple[str, int]:
    if not isinstance(pair, list) or len(pair) != 2 or pair[0] not in PERIODS_PER_YEAR:
        units = ", ".join(PERIODS_PER_YEAR)
        raise ValueError(f"{name}: expected a unit ({units}) and a count, as [month, 3]")
    return pair[0], _whole_number(pair[1], at_least=1)


PLAIN: Mapping[Any, Callable[[Any], Any]] = {bool: _flag, int: _whole_number, str: _text}
NARROWER: Mapping[str, Callable[[Any], Any]] = {
    "go_live": _day,
    "default_currency": _currency,
    "task_queue": _task_owner,
    "intervals": _intervals,
    "most_records": partial(_whole_number, at_least=1),
    "mrr": _amounts,
    "share": _percent,
    "hours": partial(_whole_number, at_least=1),
    "audit_days": _month_or_more,
    "attempts_days": _month_or_more,
    "commands_days": _month_or_more,
    "inbox_days": _month_or_more,
    "whole_listing_days": lambda value: _whole_number(value, at_least=1),
}
"""Settings whose values are fewer than their type allows."""
