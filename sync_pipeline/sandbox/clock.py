"""The one virtual clock that both sandbox systems live by."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds since the Unix epoch, UTC: wall time plus an offset, or standing still.

    It ticks with wall time unless it is frozen, so that a client which compares ``created`` with
    its own clock sees what it would see at the real vendor. It never goes back, except by `restore`.
    """

    def __init__(self, now: int | None = None, *, frozen: bool = False, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._offset = 0.0 if now is None else now - wall()
        self._frozen_at: int | None = self.now() if frozen else None

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def now(self) -> int:
        """Whole seconds: neither system shows finer time to its clients."""
        frozen_at = getattr(self, "_frozen_at", None)
        return frozen_at if frozen_at is not None else int(self._wall() + self._offset)

    def move_to(self, now: int) -> None:
        """Jump forward to `now`. Raises ValueError for a moment that has passed."""
        if now < self.now():
            raise ValueError(f"the clock is at {self.now()} and cannot go back to {now}")
        self._set(now)

    def freeze(self) -> None:
        self._frozen_at = self.now()

    def unfreeze(self) -> None:
        now = self.now()
        self._frozen_at = None
        self._set(now)

    def snapshot(self) -> dict[str, int | bool]:
        return {"now": self.now(), "frozen": self.frozen}

    def restore(self, state: dict[str, int | bool]) -> None:
        now = int(state["now"])
        self._frozen_at = now if state["frozen"] else None
        self._set(now)

    def _set(self, now: int) -> None:
        self._offset = now - self._wall()
        if self._frozen_at is not None:
            self._frozen_at = now
