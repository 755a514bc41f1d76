"""Many plans, several at a time, in processes of their own."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import replace

from sync_pipeline.simulator.play import Plan, Result, play


def campaign(plans: Iterable[Plan], processes: int, *, timelines: bool = False) -> Iterator[Result]:
    """The results in the order of the plans, each with its timeline where something does not hold or `timelines`."""
    one = play if timelines else _play_in_short
    if processes == 1:
        _settle_in()
        yield from map(one, plans)
        return
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_settle_in) as pool:
        yield from pool.imap(one, plans)
        # They end by themselves, and clean up.
        pool.close()
        pool.join()


def _play_in_short(plan: Plan) -> Result:
    """What happened in a play that holds is long, and nobody asks for it."""
    result = play(plan)
    return replace(result, trace=result.trace if result.violations else [], calls=[], boundaries=[])


def _settle_in() -> None:
    """Collections of garbage look at less, and seldom: a seed makes little of it, and the modules never become any."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
