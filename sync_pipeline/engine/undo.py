"""Setting back what a run has written to Salesforce: planned from the audit and a fresh look, sent like every write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.foresight import Foreseen, imagine
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.undo import Stays, Written, reverse
from sync_pipeline.core.world import Billing
from sync_pipeline.engine import guard, queue
from sync_pipeline.engine.apply import Applied, apply
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.recording import as_new_command
from sync_pipeline.ledger import audit, commands, links, work
from sync_pipeline.ledger.audit import AuditRow

DONE = ": done"


class UndoError(ValueError):
    """There is nothing to undo; the message says why."""


@dataclass(slots=True)
class Undo:
    """`commands` set back what still stands, by account; `stays` is what they cannot or must not set back; `again` are
    those of their lines that the present rules would write once more. `ahead` is what guards judge: the worlds before
    and after the commands."""

    run: str
    commands: dict[str, list[Command]] = field(default_factory=dict)
    ahead: list[Foreseen] = field(default_factory=list)
    stays: list[Stays] = field(default_factory=list)
    again: list[Stays] = field(default_factory=list)


def plan_undo(engine: Engine, run: str) -> Undo:
    """What would be set back now. Reads both systems. Raises UndoError for a run that wrote nothing."""
    with engine.ledger.read() as conn:
        rows = audit.of_run(conn, run)
    if not rows:
        raise UndoError(f"the audit has no write of a run {run!r}; `sync-pipeline undo` lists the runs")
    undo = Undo(run, stays=list(_cannot_be_undone(rows)))
    written: dict[str, list[Written]] = defaultdict(list)
    for each in _written(rows):
        written[each.account].append(each)
    for accounts in queue.at_a_time(written):
        for name, world in observe(engine, accounts).items():
            for found in reverse(world, engine.rules, written[name], run):
                if isinstance(found, Stays):
                    undo.stays.append(found)
                else:
                    undo.commands.setdefault(name, []).append(found)
            if undone := undo.commands.get(name):
                after, is_whole = imagine(world, undone, engine.rules, lambda _: Billing())
                planned = plan(after, engine.rules, engine.personal_key)
                undo.ahead.append(Foreseen(world, after, Plan(tuple(undone)), (tuple(undone),), is_whole))
                undo.again.extend(_written_again(planned, undone))
    return undo


def carry_out(engine: Engine, undo: Undo, *, allow: bool = False) -> Applied:
    """Sends the writes of the plan. The accounts are due right after, so that their rules have the last word.

    With `allow` no guard stops it. Raises Halted, GuardTripped.
    """
    if not allow:
        with engine.ledger.read() as conn:
            billed = links.all_accounts(conn, "stripe", "customer")
        guard.check(engine, undo.ahead, among=len({*billed, *undo.commands}), remedy=guard.REMEDY_OF_UNDO)
    total = Applied()
    owner = engine.env.token()
    for accounts in queue.at_a_time(undo.commands):
        claims = queue.claim_named(engine, owner, accounts, Priority.WRITE_BACK)
        with engine.ledger.tx() as conn:
            now = engine.env.now()
            ready = [
                (
                    claim,
                    commands.propose(
                        conn,
                        [as_new_command(command, {}) for command in undo.commands[claim.account]],
                        now=now,
                        code_version=engine.code_version,
                        new_id=engine.env.token,
                    ),
                )
                for claim in claims
            ]
        with engine.leases.holding(owner, claims):
            applied = apply(engine, ready)
        with engine.ledger.tx() as conn:
            for claim in claims:
                wall = engine.env.wall()
                work.defer(conn, claim, due_at_wall=wall, now_wall=wall)
        if applied.halted:
            raise Halted(applied.halted)
        total.done += applied.done
        total.parked += applied.parked
        total.waiting |= (
            applied.waiting | applied.held | applied.lost | (set(accounts) - {claim.account for claim in claims})
        )
    return total


def _written(rows: Sequence[AuditRow]) -> Iterator[Written]:
    """The fields that a run has set, each once."""
    first: dict[tuple[str, str, str], Written] = {}
    for row in rows:
        action, target = _told(row)
        if action != "salesforce.update":
            continue
        for change in canonical.decode(row.fields):
            line = (row.account, target, change["field"])
            old = first[line].old if line in first else change["old"]
            first[line] = Written(*line, old=old, new=change["new"], personal=change["personal"])
    yield from first.values()


def _cannot_be_undone(rows: Sequence[AuditRow]) -> Iterator[Stays]:
    for row in rows:
        action, target = _told(row)
        made = canonical.decode(row.evidence).get("object") or target
        if action.startswith("stripe."):
            why = "made at Stripe" if action == "stripe.create" else "changed at Stripe"
            yield Stays(row.account, target, "", f"{made} was {why}, where nothing is undone by itself")
        elif action in ("salesforce.upsert", "salesforce.once"):
            yield Stays(row.account, target, "", f"{made} was made in Salesforce; delete it there if it is wrong")


def _told(row: AuditRow) -> tuple[str, str]:
    """Action and target of a row about a write that took effect."""
    action, _, target = row.what.removesuffix(DONE).partition(" ")
    return (action, target) if row.what.endswith(DONE) else ("", target)


def _written_again(planned: Plan, undone: Sequence[Command]) -> Iterator[Stays]:
    wanted = {
        (command.target, change.field): change.reason for command in planned.commands for change in command.changes
    }
    for command in undone:
        for change in command.changes:
            if (why := wanted.get((command.target, change.field))) is not None:
                yield Stays(command.account, command.target, change.field, why)
