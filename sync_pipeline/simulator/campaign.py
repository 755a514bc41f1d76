"""Many seeds, several at a time, in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator

from sync_pipeline.simulator.play import Result, plan_of, play


def campaign(seeds: Iterable[int], processes: int) -> Iterator[Result]:
    """The results in the order of the seeds."""
    if processes == 1:
        yield from map(_play, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_play, seeds)


def _play(seed: int) -> Result:
    return play(plan_of(seed))
