"""What an undo would set back, and what stays as it is, as tables for people. Personal values are not shown."""

from __future__ import annotations

from collections.abc import Sequence

from sync_pipeline.core.undo import Stays
from sync_pipeline.engine import plan_text
from sync_pipeline.engine.markdown import table
from sync_pipeline.engine.plan_text import shown
from sync_pipeline.engine.undo import Undo

RECORD = ("Account", "Record", "Field")
WHY = (*RECORD, "Why")


def as_markdown(undo: Undo, *, most: int) -> str:
    """At most so many lines of each kind."""
    changes = [
        (command.account, command.target, change.field, *_values(change.old, change.new, personal=change.personal))
        for commands in undo.commands.values()
        for command in commands
        for change in command.changes
    ]
    parts = [
        *_part("Set back", (*RECORD, "Now", "Back to"), changes, most),
        *_part("The rules would write it again", WHY, _reasons(undo.again), most),
        *_then(undo, most),
        *_part("Stays", WHY, _reasons(undo.stays), most),
        *_part("Could not be read, and is left", ("Account", "Why"), sorted(undo.unread.items()), most),
    ]
    return "\n\n".join(parts) or "Nothing of it stands any more."


def _then(undo: Undo, most: int) -> list[str]:
    if undo.leads_to is None:
        return []
    return ["**The rules would then write to Stripe**", plan_text.as_markdown(undo.leads_to, most_writes=most)]


def _values(*values: object, personal: bool) -> tuple[str, ...]:
    return tuple("(personal)" if personal and value is not None else shown(value) for value in values)


def _reasons(stays: Sequence[Stays]) -> list[tuple[str, ...]]:
    return [(each.account, each.target, each.field, each.why) for each in stays]


def _part(name: str, headings: Sequence[str], lines: Sequence[Sequence[str]], most: int) -> list[str]:
    if not lines:
        return []
    more = [f"{len(lines) - most:,} more."] if len(lines) > most else []
    return [f"**{name}**", table(headings, lines[:most]), *more]
