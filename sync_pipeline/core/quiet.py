"""A burst of edits is let rest before it is billed: a slip that is mended at once moves no money."""

from __future__ import annotations

from sync_pipeline.core.commands import LookAgain
from sync_pipeline.core.rules import Commercial
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import World


def quiet_until(edited_at: int | None, commercial: Commercial) -> int:
    """When what happened at this moment has rested, microseconds UTC."""
    return (edited_at or 0) + commercial.quiet_seconds * MICROS


def resting(world: World, commercial: Commercial, edited_at: int | None, subject: str) -> LookAgain | None:
    """What an edit of a Salesforce record waits for; None once it has rested."""
    until = quiet_until(edited_at, commercial)
    if world.now >= until:
        return None
    return LookAgain(
        until, subject, f"edited just now, and written once it has rested for {commercial.quiet_seconds} s"
    )
