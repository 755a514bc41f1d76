"""The plans of all accounts as a table: one row per field that would be written, in the order of the writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command
from sync_pipeline.core.foresight import Foreseen
from sync_pipeline.frames.rows import PlannedWrite

PERSONAL_PARAMS = {"customer": frozenset({"name", "address", "email", "tax_id_data"}), "tax_id": frozenset({"value"})}
WHEN_WRITTEN = "(when it is written)"


def planned_writes(ahead: Iterable[Foreseen]) -> list[PlannedWrite]:
    """The rows of sync/plan. What is personal in the body of a create is left out."""
    return [
        row
        for each in ahead
        for step, commands in enumerate(each.rounds, start=1)
        for row in planned_commands(commands, step=step, now=each.before.now)
    ]


def planned_commands(commands: Iterable[Command], *, step: int, now: int) -> list[PlannedWrite]:
    """The rows of the commands of one round, planned at `now` (microseconds UTC). A moment from then on is that of the
    writing, whenever that will be."""
    return [row for command in commands for row in _rows(command, step, now // 1_000_000)]


def _rows(command: Command, step: int, now: int) -> Iterator[PlannedWrite]:
    common: dict[str, Any] = {
        "account_id": command.account,
        "step": step,
        "target": command.target,
        "action": command.action,
        "owner": "salesforce" if command.system == "stripe" else "stripe",
        "priority": int(command.priority),
        "sends": _sends(command, now),
    }
    if not command.changes:
        made = canonical.encode(_without_personal(command.body)) if command.system == "stripe" else None
        yield PlannedWrite(**common, field="", rule=None, old=None, new=made, reason=command.reason)
    for change in command.changes:
        yield PlannedWrite(
            **common,
            field=change.field,
            rule=change.rule,
            old=canonical.encode(change.old),
            new=canonical.encode(WHEN_WRITTEN if change.new == now else change.new),
            reason=change.reason,
        )


def _without_personal(body: Mapping[str, Any]) -> dict[str, Any]:
    of_a_person = PERSONAL_PARAMS.get(body["object"], frozenset())
    return {name: value for name, value in body["params"].items() if name not in of_a_person}


def _sends(command: Command, now: int) -> str | None:
    """A digest of what changes at Stripe beside the fields that are told: at which price, from which moment."""
    if command.action != "stripe.update":
        return None
    said = _without_personal(command.body)
    return canonical.sha256({name: value for name, value in said.items() if name != "proration_date" or value < now})
