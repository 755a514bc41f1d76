"""I20: of Salesforce's calls of a day, each class of work leaves the more urgent ones their part.

Told from the header of each answer, by whoever has read it, and from what is claimed from the queue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sync_pipeline.core.units import HOUR_US, MICROS

KEPT_PERCENT = (0, 2, 5, 10, 25, 35)
"""By class, from failed payments to sweeps: so much of the day's calls has to be left for its work to begin."""
OLD_SECONDS = 10 * 60
"""What was told so long ago binds nobody: calls have come back since."""
SLACK = 50
"""So many calls more may have been left a moment before, when another worker heard of it that tells it only now."""
USAGE = re.compile(r"api-usage=(\d+)/(\d+)")


class Reserves:
    def __init__(self, breaks: Callable[[str], None]) -> None:
        self._breaks = breaks
        self._told: dict[str, tuple[int, int, int]] = {}

    def told(self, worker: str, micros: int, headers: Mapping[str, str]) -> None:
        """A worker has read an answer of Salesforce."""
        if found := USAGE.search(headers.get("Sforce-Limit-Info", "")):
            self._told[worker] = (int(found[1]), int(found[2]), micros)

    def claimed(self, worker: str, micros: int, account: str, priority: int, due_at: int) -> None:
        """A worker takes an Account. One that has waited counts as one class more urgent for each hour, but never as a
        failed payment."""
        used, allowed, told_at = self._told.get(worker, (0, 1, micros))
        counts_as = priority if priority == 0 else max(1, priority - (micros - due_at) // HOUR_US)
        left = allowed - used
        if micros - told_at <= OLD_SECONDS * MICROS and 100 * (left + SLACK) <= KEPT_PERCENT[counts_as] * allowed:
            self._breaks(f"I20: {account}, of class {counts_as}, is begun with {left} of {allowed} calls left")
