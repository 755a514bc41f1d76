"""I15: nothing is written while another write of it is open, at Stripe, in the hands of a worker or in a bulk job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sync_pipeline.core.units import MICROS
from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.wire import Call
from sync_pipeline.simulator.calls import is_named_by_us, records_of_job, target, targets
from sync_pipeline.simulator.stage import Stage

UNDER_WAY = ("UploadComplete", "InProgress")
"""States of a bulk job whose records are being written."""
GRACE_SECONDS = 120
"""So long after its last call an object may still come into being; then the list tells whether it did."""


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A write to Stripe of which the engine cannot know whether it took effect."""

    key: str
    sent_at: int


class Alone:
    """Told of every write before it can take effect. `jobs` are Salesforce's bulk jobs, as the sandbox has them."""

    def __init__(self, stage: Stage, jobs: Callable[[], Mapping[str, Row]], breaks: Callable[[str], None]) -> None:
        self._stage, self._jobs, self._breaks = stage, jobs, breaks
        self._unanswered: dict[str, _Unanswered] = {}
        self._in_flight: dict[str, set[str]] = {}

    def at_stripe(self, call: Call, key: str) -> None:
        """A write that may still arrive is waited for before the same object is written again."""
        about = target(call)
        if is_named_by_us(call):
            return
        before = self._unanswered.get(about)
        if before is not None and before.key != key:
            waited = self._stage.micros - before.sent_at
            if waited < GRACE_SECONDS * MICROS:
                self._breaks(f"I15: {about} is written again while another write to it is open")
        self._unanswered[about] = _Unanswered(key, self._stage.micros)

    def is_known(self, call: Call) -> None:
        """What has become of a write to Stripe."""
        self._unanswered.pop(target(call), None)

    def in_salesforce(self, worker: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Nobody else writes a record before the last write of it has arrived, or is given up."""
        mine = {names[0] for names in targets(records)}
        for job in self._jobs().values():
            both = {names[0] for names in targets(records_of_job(job))} & mine
            if both and job["info"]["state"] in UNDER_WAY:
                self._breaks(f"I15: {', '.join(sorted(both))} is written, and a bulk job that writes it is under way")
        living = {each.name for each in self._stage.workers}
        for other, theirs in self._in_flight.items():
            if other != worker and other in living and mine & theirs:
                self._breaks(f"I15: {', '.join(sorted(mine & theirs))} is written by two at a time")
        self._in_flight[worker] = mine

    def given_up(self, worker: str) -> None:
        """The worker's write has arrived, or is waited for no longer."""
        self._in_flight.pop(worker, None)
