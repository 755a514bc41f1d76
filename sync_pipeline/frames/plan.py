"""The plans of all accounts as a table: one row per field that would be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.frames.rows import PlannedWrite


def planned_writes(plans: Iterable[Plan]) -> list[PlannedWrite]:
    """The rows of sync/plan. The body of a create is left out, because it holds personal data."""
    return [row for plan in plans for command in plan.commands for row in _rows(command)]


def _rows(command: Command) -> Iterator[PlannedWrite]:
    common: dict[str, Any] = {
        "account_id": command.account,
        "target": command.target,
        "action": command.action,
        "priority": int(command.priority),
    }
    if not command.changes:
        yield PlannedWrite(**common, field="", rule=None, old=None, new=None, reason=command.reason)
    for change in command.changes:
        yield PlannedWrite(
            **common,
            field=change.field,
            rule=change.rule,
            old=canonical.encode(change.old),
            new=canonical.encode(change.new),
            reason=change.reason,
        )
