"""The claims that a process works on: their leases last as long as it does, whatever it waits for.

They are prolonged before every call to a system, so that no number of calls outlasts them. A lease that has run out is
never prolonged, even if nobody has taken the account: who stood still for longer than that, or waited so long for one
answer, does not write from what was seen before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sync_pipeline.engine.env import Env
from sync_pipeline.ledger import work
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.work import Claim

LEASE_US = 120 * 1_000_000
KEEP_EVERY_US = LEASE_US // 4


@dataclass(slots=True)
class Held:
    """A batch's claims that are still its `owner`'s; `lost` are those whose lease has run out."""

    owner: str
    claims: list[Claim]
    lost: list[Claim] = field(default_factory=list)


@dataclass
class Leases:
    """Those of all batches of a process: one may let a more urgent one by, and waits for its end."""

    _batches: list[Held] = field(default_factory=list)
    _kept_wall: int = 0
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def holding(self, owner: str, claims: Sequence[Claim]) -> Iterator[Held]:
        """Keeps the leases of claims that were just made until the end of the block."""
        held = Held(owner, list(claims))
        self._batches.append(held)
        try:
            yield held
        finally:
            self._batches.remove(held)

    def keep(self, ledger: Ledger, env: Env, *, every_us: int = KEEP_EVERY_US) -> None:
        """Prolongs the leases, unless that was done less than `every_us` ago."""
        is_due = bool(self._batches) and env.wall() - self._kept_wall >= every_us
        if not is_due or not self._keeping.acquire(blocking=False):
            return
        try:
            with ledger.tx() as conn:
                self._kept_wall = wall = env.wall()
                for held in self._batches:
                    kept = work.extend(conn, held.claims, owner=held.owner, now_wall=wall, lease_us=LEASE_US)
                    held.lost += sorted(set(held.claims) - set(kept), key=lambda claim: claim.account)
                    held.claims = kept
        finally:
            self._keeping.release()
