"""What can come of one write at a vendor, and of one read that failed: the same few words for both systems.

The words decide what the engine does next; which vendor answer maps to which word is a total function in each
system's `errors.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["done", "rejected", "ambiguous", "throttled", "stale", "denied"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one write.

    done: it took effect (`object_id` is set for a create). rejected: the vendor refused these very values,
    nothing happened. ambiguous: it may or may not have happened. throttled: nothing happened, later it may.
    stale: the record is not what we thought, look again. denied: access is missing, nothing happened.
    `replayed_failure` marks a saved 5xx that the same key would repeat for ever. `advice` says to a person what a
    refusal means and who can mend it.
    """

    state: State
    object_id: str | None = None
    http_status: int | None = None
    code: str | None = None
    message: str = ""
    request_id: str | None = None
    replayed_failure: bool = False
    advice: str = ""

    @property
    def was_sent(self) -> bool:
        """Whether anything of it may have left this machine; nothing has where the gate or a deadline stopped it."""
        return self.state != "throttled" or self.http_status is not None

    def in_words(self) -> str | None:
        """The refusal for a person; None when there is nothing to say."""
        code = self.code if self.code and self.code not in self.message else ""
        said = f"{code} {self.message}".strip()
        return " - ".join(part for part in (said, self.advice) if part) or None


class ReadFailed(Exception):
    """A read that told us nothing. The message names the system and the cause, never data or tokens."""

    def __init__(self, system: str, why: str, *, access: bool = False) -> None:
        super().__init__(f"{system}: {why}")
        self.access = access


UNKNOWN_SHAPE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What it raises to read an answer that has another shape than this version knows."""


class DeadlinePassed(Exception):
    """A write was about to leave after its deadline; it was not sent."""


Guard = Callable[[], None]
"""Asked immediately before bytes of a write leave (wire.py); raises DeadlinePassed when they must not any more."""


class NotNow(Exception):
    """A call was not made, because the system is to be spared for a while; the message says why and how long."""


@dataclass(frozen=True, slots=True)
class Burden:
    """What a call counts as towards the limits of one record: so many `times` an invoice or a quantity update."""

    of: str
    kind: Literal["invoice", "quantity"]
    times: int = 1


class Gate(Protocol):
    """Asked before every call to a system and told after it: the place of rate limits and circuit breakers."""

    def before(self, system: str, operation: str, burdens: Sequence[Burden] = ()) -> None:
        """Returns when the call may leave, after waiting if need be. Raises NotNow."""

    def worked(self, system: str, operation: str) -> None:
        """The system answered, be it with a refusal of what was asked."""

    def failed(self, system: str, operation: str, why: str) -> None:
        """No answer, or a failure of the system itself."""

    def throttled(self, system: str, operation: str) -> None:
        """The system asked to be called less often."""


class OpenGate:
    """Lets every call through at once."""

    def before(self, system: str, operation: str, burdens: Sequence[Burden] = ()) -> None: ...

    def worked(self, system: str, operation: str) -> None: ...

    def failed(self, system: str, operation: str, why: str) -> None: ...

    def throttled(self, system: str, operation: str) -> None: ...
