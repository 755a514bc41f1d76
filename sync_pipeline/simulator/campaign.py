"""Many plans, several at a time, in processes of their own."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable, Iterator

from sync_pipeline.simulator.play import Plan, Result, play


def campaign(plans: Iterable[Plan], processes: int) -> Iterator[Result]:
    """The results in the order of the plans."""
    if processes == 1:
        _settle_in()
        yield from map(play, plans)
        return
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_settle_in) as pool:
        yield from pool.imap(play, plans)
        # They end by themselves, and clean up.
        pool.close()
        pool.join()


def _settle_in() -> None:
    """Collections of garbage look at less, and seldom: a seed makes little of it, and the modules never become any."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
