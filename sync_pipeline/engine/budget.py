"""How much of Salesforce's daily allowance each class of work may use, so that the urgent never finds it spent.

The allowance is shared with every other program of the org, and there is no Retry-After: when it is gone, it is gone
until the day rolls on. A class is admitted while more than its reserve is left. An account that waits rises by a
class an hour, but never into the class of failed payments, whose reserve is nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping

from sync_pipeline.core.rules import Priority
from sync_pipeline.ledger.allowances import Allowance

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


def admitted(seen: Allowance | None, now_wall: int) -> int:
    """The least urgent class that may use calls now; NOBODY when none are left."""
    if seen is None or now_wall - seen.seen_wall > OLD_US:
        return max(RESERVES)
    left = 100 * (seen.allowed - seen.used)
    return max((p for p, reserve in RESERVES.items() if left > reserve * seen.allowed), default=NOBODY)
