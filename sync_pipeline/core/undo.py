"""Undo: what was written to Salesforce is set back, where it still stands.

A value that somebody has changed since is theirs and stays. What is set back counts as an edit by hand from then on:
the rule of the field says whether it lasts, so a rule that is still wrong has to be mended first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_type_hints

from sync_pipeline.core.canon import CANON
from sync_pipeline.core.commands import Command, FieldChange
from sync_pipeline.core.observation import Absent
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.salesforce_records import Contract, kind_of
from sync_pipeline.core.world import World

RULE = "undo"
NOT_SHOWN = "it is not among what is read of this Account any more: it was deleted, moved, reopened or completed"


@dataclass(frozen=True, slots=True)
class Written:
    """What a run made of one field: canonical values before its first write and after its last."""

    account: str
    target: str
    field: str
    old: Any
    new: Any
    personal: bool


@dataclass(frozen=True, slots=True)
class Stays:
    """Something that is not set back, and why."""

    account: str
    target: str
    field: str
    why: str


def reverse(world: World, rules: Rules, written: Sequence[Written], run: str) -> Iterator[Command | Stays]:
    """The writes that set one account's fields back, a command for each record, and what stays as it is."""
    records = {record.id: record for record in world.salesforce_records}
    by_target: dict[str, list[Written]] = defaultdict(list)
    for each in written:
        by_target[each.target].append(each)
    for target, fields in sorted(by_target.items()):
        record = records.get(target.split("/")[2])
        if record is None:
            why = world.account.proof if isinstance(world.account, Absent) else NOT_SHOWN
            yield from (Stays(w.account, target, w.field, why) for w in fields)
            continue
        changes: list[FieldChange] = []
        for each in fields:
            found = _set_back(rules, record, each, run)
            if isinstance(found, Stays):
                yield found
            elif found is not None:
                changes.append(found)
        if changes:
            yield _command(world, rules, record, target, changes, run)


def _set_back(rules: Rules, record: Any, written: Written, run: str) -> FieldChange | Stays | None:
    def stays(why: str) -> Stays:
        return Stays(written.account, written.target, written.field, why)

    name = _own_name(rules, record, written.field)
    if name is None:
        return stays("the rules do not name this field any more")
    shown = CANON[_form(record, name)](getattr(record, name))
    if isinstance(record, Contract) and name == "status":
        return stays("Salesforce takes no Contract back that was activated")
    if written.personal:
        return stays("the value before is personal and was not kept")
    if shown == written.old:
        return None
    if shown != written.new:
        return stays(f"it was changed since: {written.new} was written, {shown} stands there now")
    return FieldChange(written.field, shown, written.old, RULE, f"undo of {run}")


def _command(world: World, rules: Rules, record: Any, target: str, changes: Sequence[FieldChange], run: str) -> Command:
    fields = {c.field: _as_sent(_form(record, _own_name(rules, record, c.field) or ""), c.new) for c in changes}
    names = rules.salesforce["line"].fields
    if names["quantity"] in fields and hasattr(record, "unit_price"):
        # Salesforce would recompute the price from an unchanged total otherwise.
        fields = {names["unit_price"]: record.unit_price, **fields}
    # A second write of one record in a round has a target of its own, with a word behind the id.
    _, kind, record_id, *_ = target.split("/")
    return Command(
        key=f"undo:{run}:{target}",
        account=world.account_id,
        target=target,
        action="salesforce.update",
        priority=Priority.WRITE_BACK,
        reason=f"undo of {run}",
        subject=record_id,
        body={"object": kind, "id": record_id, "fields": fields},
        changes=tuple(changes),
    )


def _own_name(rules: Rules, record: Any, field: str) -> str | None:
    return next((own for own, api in rules.salesforce[kind_of(record)].fields.items() if api == field), None)


def _form(record: Any, name: str) -> str:
    """The canonical form of a field, by what it holds: money is a number like any other here."""
    hint = str(get_type_hints(type(record))[name])
    if "Decimal" in hint:
        return "number"
    if name.endswith("_at"):
        return "moment"
    return "flag" if "bool" in hint else "text"


def _as_sent(form: str, value: Any) -> Any:
    if value is None or form in ("flag", "text"):
        return value
    return Decimal(value) if form == "number" else datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
