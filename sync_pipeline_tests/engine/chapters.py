"""The story in two chapters, played once undisturbed: which calls it takes, and what must stand at its end."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_pipeline_tests.engine.installation import installed
from sync_pipeline_tests.engine.people import is_write, mark, pay, requests_since, win
from sync_pipeline_tests.engine.story import story
from sync_pipeline_tests.sandbox_process import SandboxHandle

LOOK_CALLS = {"salesforce": 1, "stripe": 4}
"""How many calls one look at an account takes."""


@dataclass(frozen=True)
class Call:
    """The `nth` call to one side."""

    side: str
    nth: int
    endpoint: str
    is_write: bool


@dataclass(frozen=True)
class Chapter:
    """`ledger` is a SQLite file from before the chapter; `wanted` the state after it, `calls` what it took."""

    ledger: Path
    wanted: dict[str, Any]
    calls: list[Call]

    def until_the_end(self) -> list[Call]:
        """The calls of each side up to its last write and the look after it; later ones find nothing to do."""
        chosen = []
        for side in ("salesforce", "stripe"):
            of_side = [call for call in self.calls if call.side == side]
            last = max((call.nth for call in of_side if call.is_write), default=LOOK_CALLS[side])
            chosen += [call for call in of_side if call.nth <= last + LOOK_CALLS[side]]
        return chosen

    def begin(self, sandbox: SandboxHandle, folder: Path) -> str:
        """Puts the sandbox back to before the chapter; the URL of a ledger that is there as well."""
        sandbox.control("DELETE", "/faults")
        sandbox.control("POST", "/snapshot", {"restore": "chapter"})
        return f"sqlite:///{shutil.copy(self.ledger, folder / 'again.db')}"


def play(sandbox: SandboxHandle, folder: Path, chapter: str) -> Chapter:
    """`won`: from Closed Won to the written-back ids. `paid`: from the payment to the activated deal."""
    file = folder / "played.db"
    with installed(sandbox, folder) as sync:
        win(sandbox)
        if chapter == "paid":
            sync.drain()
            pay(sandbox)
        shutil.copy(str(sync.settings.database_url).removeprefix("sqlite:///"), file)
    before = folder / "before.db"
    shutil.copy(file, before)
    sandbox.control("POST", "/snapshot", {"save": "chapter"})
    since = mark(sandbox)
    with installed(sandbox, folder, url=f"sqlite:///{file}") as sync:
        sync.drain()
        seen = requests_since(sandbox, since)
    calls = [
        Call(side, nth, entry["endpoint"], is_write(entry))
        for side in ("salesforce", "stripe")
        for nth, entry in enumerate((entry for entry in seen if entry["side"] == side), start=1)
    ]
    return Chapter(before, story(sandbox), calls)
