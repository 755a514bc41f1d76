"""Date literals: what TODAY, THIS_QUARTER or LAST_N_DAYS:30 stand for, as days from and up to but not including.

Days begin at midnight UTC and the fiscal year is the calendar year: the sandbox's users live in GMT.
"""

from __future__ import annotations

from datetime import date, timedelta

from dateutil.relativedelta import relativedelta

_FIXED = {"YESTERDAY": -1, "TODAY": 0, "TOMORROW": 1}
_UNITS = ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR", "FISCAL_QUARTER", "FISCAL_YEAR")


def bounds(name: str, n: int | None, today: date) -> tuple[date, date] | None:
    """First day and the day after the last; None for a name that is no date literal."""
    if n is None and name in _FIXED:
        day = today + timedelta(days=_FIXED[name])
        return day, day + timedelta(days=1)
    if n is None and name in ("LAST_90_DAYS", "NEXT_90_DAYS"):
        name, n = name.replace("90", "N"), 90
    side, _, rest = name.partition("_")
    if n is None:
        return _period(side, rest, today)
    if n < 0:
        return None
    if side in ("LAST", "NEXT") and rest.startswith("N_") and rest.endswith("S"):
        return _span(side, rest[2:-1], n, today)
    if side == "N" and rest.endswith("S_AGO"):
        return _ago(rest[: -len("S_AGO")], n, today)
    return None


def _period(side: str, unit: str, today: date) -> tuple[date, date] | None:
    if side not in ("LAST", "THIS", "NEXT") or unit not in _UNITS or unit == "DAY":
        return None
    shift = {"LAST": -1, "THIS": 0, "NEXT": 1}[side]
    start = _start(unit, today)
    return start + _step(unit) * shift, start + _step(unit) * (shift + 1)


def _span(side: str, unit: str, n: int, today: date) -> tuple[date, date] | None:
    """The n units before this one, or after it; for days, LAST_N_DAYS includes today."""
    if unit not in _UNITS:
        return None
    start, step = _start(unit, today), _step(unit)
    if side == "LAST":
        return start - step * n, start + step if unit == "DAY" else start
    return start + step, start + step * (n + 1)


def _ago(unit: str, n: int, today: date) -> tuple[date, date] | None:
    if unit not in _UNITS:
        return None
    start = _start(unit, today) - _step(unit) * n
    return start, start + _step(unit)


def _step(unit: str) -> relativedelta:
    unit = unit.removeprefix("FISCAL_")
    months = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
    return relativedelta(months=months[unit]) if unit in months else relativedelta(days=7 if unit == "WEEK" else 1)


def _start(unit: str, today: date) -> date:
    """The first day of the unit that today is in; weeks begin on Sunday."""
    unit = unit.removeprefix("FISCAL_")
    if unit == "WEEK":
        return today - timedelta(days=(today.weekday() + 1) % 7)
    if unit == "MONTH":
        return today.replace(day=1)
    if unit == "QUARTER":
        return today.replace(month=(today.month - 1) // 3 * 3 + 1, day=1)
    return today.replace(month=1, day=1) if unit == "YEAR" else today
