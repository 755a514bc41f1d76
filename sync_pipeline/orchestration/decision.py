"""When a sensor starts a drain run. Pure, so that every case can be tested without Dagster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BOOT_US = 30 * 1_000_000
"""How long a run that has started may take to give its first sign of life in the ledger."""
RESERVED_US = 10 * 1_000_000
"""How long one sensor's request keeps the other from making the same: by then the run shows in Dagster's storage."""
FAILURES_SEEN = 8
"""How many of the latest runs are looked at: more do not lengthen the pause."""
LONGEST_PAUSE_US = 10 * 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class DrainRun:
    """A drain run that is not over. `started_wall` in microseconds; None while it waits for its start."""

    run_id: str
    started_wall: int | None


def why_not(
    *, needed: bool, runs: Iterable[DrainRun], failed_wall: Sequence[int], requested_wall: int, wall: int
) -> str | None:
    """Why no drain run is to be started now; None when one is.

    `needed`: work is due, and no drain is alive that will take it. `failed_wall`: when the latest runs ended that have
    all failed, newest first. `requested_wall`: when one was last requested.
    """
    if not needed:
        return "no work is due, or a drain is at it"
    for run in runs:
        if run.started_wall is None:
            return f"run {run.run_id} is about to start"
        if wall - run.started_wall < BOOT_US:
            return f"run {run.run_id} has just started"
    if wall - requested_wall < RESERVED_US:
        return "a drain was requested a moment ago"
    # One that was killed is followed at once; what fails again and again would only fill the list of runs.
    pause = min(LONGEST_PAUSE_US, RESERVED_US << len(failed_wall)) if len(failed_wall) > 1 else 0
    if failed_wall and (left := failed_wall[0] + pause - wall) > 0:
        return f"the last {len(failed_wall)} runs have failed; the next one is tried in {-(-left // 1_000_000)} s"
    return None
