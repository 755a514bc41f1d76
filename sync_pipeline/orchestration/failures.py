"""Known errors as one clear line in Dagster, instead of a stack trace through the engine."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def one_clear_failure() -> Iterator[None]:
    """Turns the errors that name their own remedy into a Failure that Dagster does not retry.

    Retrying is the engine's own work: what was left is due again with a growing delay.
    """
    from sync_pipeline.config.rules import RulesError
    from sync_pipeline.engine.binding import WrongSystem
    from sync_pipeline.engine.env import ClockUnreachable
    from sync_pipeline.engine.rounds import Halted
    from sync_pipeline.frames.convert import FrameError
    from sync_pipeline.ledger.database import LedgerError
    from sync_pipeline.systems.outcomes import ReadFailed
    from sync_pipeline.warehouse.parquet import TableMissing

    known = (RulesError, WrongSystem, ClockUnreachable, Halted, FrameError, LedgerError, ReadFailed, TableMissing)
    try:
        yield
    except known as error:
        raise dg.Failure(str(error), allow_retries=False) from None
