"""What passes between the HTTP shell and a simulated system: one call, one reply, one system's duties."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. `headers` has lower-case names; `query` is raw, as received, `body` without its content
    coding."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class System(Protocol):
    """A simulated vendor. It does no I/O and never reads a clock other than the one it was given."""

    compresses: bool
    """Whether the vendor compresses an answer for a client that takes gzip."""

    def handle(self, call: Call) -> Reply:
        """Answer one request. Never raises: what goes wrong inside is the vendor's own error response."""

    def next_due(self) -> int | None:
        """The earliest moment (epoch seconds) at which `run_due` has something to do by itself."""

    def run_due(self) -> None:
        """Do everything that is due at the clock's present moment, in order of time."""

    def truth(self) -> dict[str, Any]:
        """The whole present state as canonical JSON (rows sorted by id), for people and for comparison."""

    def snapshot(self) -> dict[str, Any]:
        """Everything needed by `restore`, including counters of ids and idempotency keys."""

    def restore(self, state: dict[str, Any]) -> None: ...
