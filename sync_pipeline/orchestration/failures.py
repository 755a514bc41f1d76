"""Known errors as one clear line in Dagster, instead of a stack trace through the engine."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

MOST_WRITES_SHOWN = 200


@contextmanager
def one_clear_failure() -> Iterator[None]:
    """Turns the errors that name their own remedy into a Failure that Dagster does not retry.

    Retrying is the engine's own work: what was left is due again with a growing delay.
    """
    from sync_pipeline.config.rules import RulesError
    from sync_pipeline.engine.binding import WrongSystem
    from sync_pipeline.engine.by_name import NoSuchThing
    from sync_pipeline.engine.context import Halted
    from sync_pipeline.engine.env import ClockUnreachable
    from sync_pipeline.engine.explain import NothingToExplain
    from sync_pipeline.engine.guard import GuardTripped
    from sync_pipeline.engine.plan_text import as_markdown
    from sync_pipeline.engine.planning import PlanError
    from sync_pipeline.engine.undo import UndoError
    from sync_pipeline.frames.convert import FrameError
    from sync_pipeline.ledger.database import LedgerError
    from sync_pipeline.systems.outcomes import ReadFailed
    from sync_pipeline.warehouse.parquet import TableMissing

    of_the_systems = (WrongSystem, ClockUnreachable, Halted, ReadFailed)
    of_the_house = (RulesError, FrameError, LedgerError, TableMissing)
    of_what_was_asked = (NoSuchThing, NothingToExplain, PlanError, UndoError)
    try:
        yield
    except GuardTripped as stopped:
        plan = dg.MetadataValue.md(as_markdown(stopped.plan, most_writes=MOST_WRITES_SHOWN))
        raise dg.Failure(str(stopped), metadata={"plan": plan}, allow_retries=False) from None
    except (*of_the_systems, *of_the_house, *of_what_was_asked) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
