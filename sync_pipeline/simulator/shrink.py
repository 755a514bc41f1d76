"""From a failing seed to the least of it that still fails: fewer actions, less trouble, better weather."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

from sync_pipeline.simulator.people import Action
from sync_pipeline.simulator.play import Plan, Result, play
from sync_pipeline.simulator.stage import Weather

MOST_PLAYS = 60
Part = TypeVar("Part")


def shrink(failing: Result, play_one: Callable[[Plan], Result] = play) -> Result:
    """A result that fails by the same invariant, with as little as sixty plays can find."""
    broken, smallest, plays = _invariants(failing), failing, 0
    progress = True
    while progress and plays < MOST_PLAYS:
        progress = False
        for plan in _smaller(smallest.plan):
            plays += 1
            result = play_one(plan)
            if _invariants(result) & broken:
                smallest, progress = result, True
                break
            if plays >= MOST_PLAYS:
                break
    return smallest


def _invariants(result: Result) -> set[str]:
    return {violation.partition(":")[0] for violation in result.violations}


def _smaller(plan: Plan) -> Iterator[Plan]:
    if plan.by_bulk:
        yield replace(plan, by_bulk=False)
    if plan.weather != Weather():
        yield replace(plan, weather=Weather())
    for trouble in _without_parts(plan.trouble):
        yield replace(plan, trouble=trouble)
    moments = tuple(accumulate(action.after for action in plan.actions))
    for kept in _without_parts(tuple(zip(moments, plan.actions, strict=True))):
        yield replace(plan, actions=tuple(_at_their_moments(kept)))


def _at_their_moments(kept: Iterable[tuple[int, Action]]) -> Iterator[Action]:
    """What is left out takes no time away: the others happen when they did, which is often what it takes to fail."""
    before = 0
    for moment, action in kept:
        yield replace(action, after=moment - before)
        before = moment


def _without_parts(parts: tuple[Part, ...]) -> Iterator[tuple[Part, ...]]:
    """Without all of them, without halves, quarters ... of them, down to single ones."""
    size = len(parts)
    while size:
        for start in range(0, len(parts), size):
            yield parts[:start] + parts[start + size :]
        size //= 2
