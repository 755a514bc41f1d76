"""What the sandbox process is told at its start, and the one error for what it cannot do with that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class SandboxError(Exception):
    """The sandbox cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. Port 0 picks a free one; `now` (epoch seconds) freezes the clock there.

    `traffic` is a file to append traffic lines to; `keep` a file that the state is loaded from, if it exists,
    and saved to as it changes; `settings` a file of vendor settings; `ready_file` holds the ready line for as long as
    the sandbox serves.
    """

    salesforce_port: int = 0
    stripe_port: int = 0
    control_port: int = 0
    data: str = "empty"
    accounts: int = 100
    seed: int = 0
    now: int | None = None
    webhook_url: str | None = None
    traffic: Path | None = None
    keep: Path | None = None
    settings: Path | None = None
    ready_file: Path | None = None
