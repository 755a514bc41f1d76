"""Billing periods: counted from the anchor, so that the 31st comes back after short months."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache

from dateutil.relativedelta import relativedelta

_UNITS = {"day": "days", "week": "weeks", "month": "months", "year": "years"}
_SECONDS = {"day": 86_400, "week": 604_800, "month": 2_551_443, "year": 31_536_000}
_ORDER = {"day": 1, "week": 7, "month": 30, "year": 360}


@lru_cache(maxsize=100_000)  # the items of a subscription, and subscriptions of one day, share their periods
def add_interval(moment: int, interval: str, count: int) -> int:
    """`moment` (epoch seconds, UTC) plus `count` intervals; the end of short months clamps the day."""
    stepped = datetime.fromtimestamp(moment, UTC) + relativedelta(**{_UNITS[interval]: count})  # type: ignore[arg-type]
    return int(stepped.timestamp())


def period_at(anchor: int, interval: str, count: int, moment: int) -> tuple[int, int]:
    """The whole period [start, end) on the anchor's grid that contains `moment`, before or after the anchor."""
    n = (moment - anchor) // (_SECONDS[interval] * count)
    while add_interval(anchor, interval, (n + 1) * count) <= moment:
        n += 1
    while add_interval(anchor, interval, n * count) > moment:
        n -= 1
    return add_interval(anchor, interval, n * count), add_interval(anchor, interval, (n + 1) * count)


def compatible(intervals: list[tuple[str, int]]) -> bool:
    """Flexible billing: every interval is a multiple of the shortest one."""
    shortest = min(intervals, key=lambda i: _ORDER[i[0]] * i[1])
    return all(_multiple(longer, shortest) for longer in intervals)


def _multiple(longer: tuple[str, int], shorter: tuple[str, int]) -> bool:
    if longer[0] == shorter[0]:
        return longer[1] % shorter[1] == 0
    factors = {("year", "month"): 12, ("week", "day"): 7}
    factor = factors.get((longer[0], shorter[0]))
    if factor is not None:
        return (longer[1] * factor) % shorter[1] == 0
    return shorter == ("day", 1)


def share(moment: int, start: int, end: int) -> Fraction:
    """How much of [start, end) is left at `moment`, to the second."""
    return Fraction(end - moment, end - start)
