"""How much of Salesforce's daily allowance each class of work may use, so that the urgent never finds it spent.

The allowance is shared with every other program of the org, and there is no Retry-After: when it is gone, it is gone
until the day rolls on. A class is admitted while more than its reserve is left. An account that waits rises by a
class an hour, but never into the class of failed payments, whose reserve is nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from sync_pipeline.core.rules import Priority
from sync_pipeline.ledger import allowances
from sync_pipeline.ledger.allowances import Allowance
from sync_pipeline.systems.salesforce.client import Salesforce

RESERVES: Mapping[Priority, int] = {
    Priority.PAYMENT_FAILED: 0,
    Priority.CREATE: 2,
    Priority.SEATS: 5,
    Priority.WRITE_BACK: 10,
    Priority.BULK: 25,
    Priority.SWEEP: 35,
}
"""Percent of the allowance that must be left for a class to run."""
OLD_US = 10 * 60 * 1_000_000
"""A look so old says little: the rolling day has given calls back since, and the next call will tell."""
NOBODY = -1
SYSTEM = "salesforce"


def note(conn: Connection, salesforce: Salesforce, now_wall: int) -> None:
    """Lets all processes know what Salesforce has told this one since the last time."""
    if (usage := salesforce.news_of_usage()) is not None:
        allowances.put(conn, Allowance(SYSTEM, *usage, seen_wall=now_wall))


def told(conn: Connection) -> Allowance | None:
    """What Salesforce told last; None before its first answer."""
    return allowances.get(conn, SYSTEM)


def admitted(conn: Connection, now_wall: int) -> int:
    """The least urgent class that may use calls now; NOBODY when none are left."""
    return least_urgent(told(conn), now_wall)


def least_urgent(seen: Allowance | None, now_wall: int) -> int:
    """`admitted` by what was told."""
    if seen is None or now_wall - seen.seen_wall > OLD_US:
        return max(RESERVES)
    left = 100 * (seen.allowed - seen.used)
    return max((p for p, reserve in RESERVES.items() if left > reserve * seen.allowed), default=NOBODY)
