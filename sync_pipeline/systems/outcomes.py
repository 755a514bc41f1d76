"""What can come of one write at a vendor, and of one read that failed: the same few words for both systems.

The words decide what the engine does next; which vendor answer maps to which word is a total function in each
system's `errors.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["done", "rejected", "ambiguous", "throttled", "stale", "denied"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one write.

    done: it took effect (`object_id` is set for a create). rejected: the vendor refused these very values,
    nothing happened. ambiguous: it may or may not have happened. throttled: nothing happened, later it may.
    stale: the record is not what we thought, look again. denied: access is missing, nothing happened.
    `replayed_failure` marks a saved 5xx that the same key would repeat for ever.
    """

    state: State
    object_id: str | None = None
    http_status: int | None = None
    code: str | None = None
    message: str = ""
    request_id: str | None = None
    replayed_failure: bool = False


class ReadFailed(Exception):
    """A read that told us nothing. The message names the system and the cause, never data or tokens."""

    def __init__(self, system: str, why: str, *, access: bool = False) -> None:
        super().__init__(f"{system}: {why}")
        self.access = access


class DeadlinePassed(Exception):
    """A write was about to leave after its deadline; it was not sent."""


Guard = Callable[[], None]
"""Called immediately before a write leaves; raises DeadlinePassed when it must not be sent any more."""
