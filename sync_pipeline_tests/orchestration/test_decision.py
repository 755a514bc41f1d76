"""When a drain run is started, case by case."""

from __future__ import annotations

import pytest

from sync_pipeline.orchestration.decision import DrainRun, why_not

SECOND = 1_000_000
WALL = 1_000 * SECOND
WAITING = DrainRun("waiting", None)
YOUNG = DrainRun("young", WALL - 10 * SECOND)
OLD = DrainRun("old", WALL - 60 * SECOND)


@pytest.mark.parametrize(
    ("needed", "runs", "requested_ago", "said"),
    [
        (False, [], 60, "no work is due"),
        (False, [OLD], 60, "no work is due"),
        (True, [], 60, None),
        (True, [WAITING], 60, "run waiting is about to start"),
        (True, [YOUNG], 60, "run young has just started"),
        # It gave no sign of life, or is about to hand over: the ledger says that it will not take the work.
        (True, [OLD], 60, None),
        (True, [OLD, WAITING], 60, "run waiting is about to start"),
        (True, [OLD, YOUNG], 60, "run young has just started"),
        (True, [], 9, "requested a moment ago"),
        (True, [], 10, None),
        (True, [OLD], 0, "requested a moment ago"),
    ],
)
def test_one_drain_run_for_due_work(needed: bool, runs: list[DrainRun], requested_ago: int, said: str | None) -> None:
    found = why_not(needed=needed, runs=runs, failed_wall=[], requested_wall=WALL - requested_ago * SECOND, wall=WALL)
    assert (found is None) == (said is None)
    assert said is None or said in str(found)


@pytest.mark.parametrize(
    ("failures", "ended_ago", "left"),
    [(1, 0, None), (2, 0, 40), (2, 39, 1), (2, 40, None), (3, 10, 70), (5, 0, 320), (6, 0, 600), (8, 0, 600)],
)
def test_runs_that_fail_again_and_again_are_started_ever_more_seldom(
    failures: int, ended_ago: int, left: int | None
) -> None:
    """A run that was killed is followed at once; rules that cannot be read made eight runs in 90 s."""
    ended = [WALL - ended_ago * SECOND - number * SECOND for number in range(failures)]
    found = why_not(needed=True, runs=[], failed_wall=ended, requested_wall=0, wall=WALL)
    assert found == (left and f"the last {failures} runs have failed; the next one is tried in {left} s")
