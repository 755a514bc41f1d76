"""What goes wrong with one account alone: it is told, and stops nobody else."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from sync_pipeline.core.observation import Unknown
from sync_pipeline.systems.outcomes import ReadFailed

Found = TypeVar("Found")


def contained(account_id: str, work: Callable[[], Found]) -> Found | Unknown:
    """What the work on an account finds, or why that cannot be told. Raises ReadFailed for missing access."""
    try:
        return work()
    except ReadFailed as error:
        if error.access:
            raise
        return Unknown(str(error))
    except Exception as defect:
        # Only the place is told: the message of an unexpected error may quote data.
        place = traceback.extract_tb(defect.__traceback__)[-1]
        where = f"{type(defect).__name__} in {place.name}, line {place.lineno}"
        return Unknown(f"Account {account_id} cannot be planned ({where}); it is tried again later")
