"""What goes wrong with one account alone: it is told, and stops nobody else."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from sync_pipeline.core.observation import Unknown
from sync_pipeline.engine.context import Halted
from sync_pipeline.systems.outcomes import ReadFailed

Found = TypeVar("Found")
Item = TypeVar("Item")
DEFECT = "a defect of this program"
OF_EVERYBODY = (Halted, OperationalError)
"""What has nothing to do with the account at hand: a stop, a database that does not answer."""


def contained(account_id: str, work: Callable[[], Found]) -> Found | Unknown:
    """What the work on an account finds, or why that cannot be told. Raises ReadFailed for missing access."""
    try:
        return work()
    except OF_EVERYBODY:
        raise
    except ReadFailed as error:
        if error.access:
            raise
        return Unknown(str(error))
    except Exception as defect:
        # Only the place is told: the message of an unexpected error may quote data.
        place = traceback.extract_tb(defect.__traceback__)[-1]
        where = f"{type(defect).__name__} in {place.name}, line {place.lineno}"
        return Unknown(f"Account {account_id} cannot be served: {DEFECT} ({where}); it is tried again later")


def together(
    items: Sequence[Item], account_of: Callable[[Item], str], work: Callable[[Sequence[Item]], None]
) -> list[tuple[Item, Unknown]]:
    """Work that is done on all items in one transaction; where that goes wrong, on each in one of its own.

    What goes wrong then is returned with its item.
    """
    try:
        work(items)
    except OF_EVERYBODY:
        raise
    except Exception:
        alone = [(item, contained(account_of(item), partial(work, [item]))) for item in items]
        return [(item, found) for item, found in alone if isinstance(found, Unknown)]
    return []
