"""Setting back what a run has written to Salesforce: planned from the audit and a fresh look, sent like every write.

What a plan shows may be hours old when it is carried out, so nothing of it is sent: each batch of accounts is claimed,
looked at and reversed anew, and whatever somebody has changed in the meantime stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import merge
from itertools import groupby

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.foresight import Foreseen, imagine
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.quiet import quiet_until
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.undo import Stays, Written, reverse
from sync_pipeline.core.world import Billing, World
from sync_pipeline.engine import guard, queue
from sync_pipeline.engine.apply import Applied, apply
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.plan_text import shown
from sync_pipeline.engine.planning import PlanDocument, document, foresee_world, not_read
from sync_pipeline.engine.recording import as_new_command
from sync_pipeline.ledger import audit, commands, links, work
from sync_pipeline.ledger.audit import AuditRow
from sync_pipeline.ledger.work import Claim

DONE = ": done"
BY_HAND = "where nothing is undone by itself"
CHANGED = {"stripe.update": "changed", "stripe.delete": "deleted"}


class UndoError(ValueError):
    """There is nothing to undo; the message says why."""


@dataclass(slots=True)
class Undo:
    """`written` is what the run has set, by account; `commands` set back what of it still stands; `stays` is what they
    cannot or must not set back; `again` are those of their lines that the present rules would write once more, and
    `leads_to` is what these rules then write to Stripe, and would not otherwise. `ahead` is what guards judge: the
    worlds before and after the commands. Accounts that are `unread` could not be looked at, and why: of them nothing is
    set back."""

    run: str
    written: dict[str, list[Written]] = field(default_factory=dict)
    commands: dict[str, list[Command]] = field(default_factory=dict)
    ahead: list[Foreseen] = field(default_factory=list)
    stays: list[Stays] = field(default_factory=list)
    again: list[Stays] = field(default_factory=list)
    leads_to: PlanDocument | None = None
    unread: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Undone:
    """What was set back, and what `stays` after all, because it was changed since the undo was planned."""

    total: Applied = field(default_factory=Applied)
    stays: list[Stays] = field(default_factory=list)


def plan_undo(engine: Engine, run: str) -> Undo:
    """What would be set back now. Reads both systems. Raises UndoError for a run that wrote nothing."""
    with engine.ledger.read() as conn:
        rows = audit.of_run(conn, run)
        moved = links.merged_into(conn, {row.account for row in rows})
    if not rows:
        raise UndoError(f"the audit has no write of a run {run!r}; `sync-pipeline undo` lists the runs")
    # What was an Account's is now that of the one that it was merged into, in the order in which all was written.
    histories = [list(of_one) for _, of_one in groupby(rows, key=lambda row: row.account)]
    rows = [
        replace(row, account=moved.get(row.account, row.account)) for row in merge(*histories, key=lambda row: row.at)
    ]
    undo = Undo(run, stays=list(_cannot_be_undone(rows)))
    for each in _written(rows, "salesforce.update"):
        undo.written.setdefault(each.account, []).append(each)
    then: list[Foreseen] = []
    for accounts in queue.at_a_time(undo.written):
        worlds = observe(engine, accounts)
        undo.unread |= {each.account_id: each.why for each in not_read(worlds.values())}
        for name, world in worlds.items():
            if name in undo.unread:
                continue
            found = contained(name, partial(_of_account, engine, undo, world))
            if isinstance(found, Unknown):
                undo.unread[name] = found.why
            elif found is not None:
                then.append(found)
    if then:
        undo.leads_to = document(engine, then)
    return undo


def _of_account(engine: Engine, undo: Undo, world: World) -> Foreseen | None:
    """Adds what there is to undo of an account, and returns what that leads to at Stripe, if it does."""
    undone, stays = _reversed(engine, undo, world)
    if not undone:
        undo.stays += stays
        return None
    after, is_whole = imagine(world, undone, engine.rules, lambda _: Billing())
    # What was edited is billed when it has been left alone for a while.
    quiet_at = quiet_until(world.now, engine.rules.commercial)
    anyway, then = (foresee_world(engine, replace(each, now=quiet_at), engine.stripe) for each in (world, after))
    undo.stays += stays
    undo.commands[world.account_id] = undone
    undo.ahead.append(Foreseen(world, after, Plan(tuple(undone)), (tuple(undone),), is_whole))
    undo.again += _written_again(then.now, undone)
    billed = (tuple(c for c in some if c.system == "stripe" and c not in anyway.commands) for some in then.rounds)
    if not (rounds := tuple(filter(None, billed))):
        return None
    return Foreseen(anyway.after, then.after, Plan(), rounds, then.is_whole)


def carry_out(engine: Engine, undo: Undo, *, allow: bool = False) -> Undone:
    """Sets back what still stands of the plan. The accounts are due right after, so that their rules have the last
    word.

    With `allow` no guard stops it. Raises Halted, GuardTripped.
    """
    if not allow:
        with engine.ledger.read() as conn:
            billed = links.all_accounts(conn, "stripe", "customer")
        guard.check(engine, undo.ahead, among=len({*billed, *undo.commands}), remedy=guard.REMEDY_OF_UNDO)
    undone, owner = Undone(), engine.env.token()
    for accounts in queue.at_a_time(undo.commands):
        claims = queue.claim_named(engine, owner, accounts, Priority.WRITE_BACK)
        with engine.leases.holding(owner, claims):
            applied = _set_back(engine, undo, claims, undone)
        with engine.ledger.tx() as conn:
            for claim in claims:
                wall = engine.env.wall()
                work.defer(conn, claim, due_at_wall=wall, now_wall=wall)
        if applied.halted:
            raise Halted(applied.halted)
        undone.total.done += applied.done
        undone.total.parked += applied.parked
        undone.total.waiting |= (
            applied.waiting | applied.held | applied.lost | (set(accounts) - {claim.account for claim in claims})
        )
    return undone


def _set_back(engine: Engine, undo: Undo, claims: Sequence[Claim], undone: Undone) -> Applied:
    """Looks at the claimed accounts again, in Salesforce alone, and writes what is still as the run has left it."""
    looked_at = {each.before.account_id: each.before for each in undo.ahead}
    worlds = observe(engine, [claim.account for claim in claims], known=looked_at)
    unread = {each.account_id for each in not_read(worlds.values())}
    found: dict[str, list[Command]] = {}
    told = set(undo.stays)
    for name in sorted(worlds.keys() - unread):
        reversed_now = contained(name, partial(_reversed, engine, undo, worlds[name]))
        if isinstance(reversed_now, Unknown):
            unread.add(name)
            continue
        found[name], stays = reversed_now
        undone.stays += [each for each in stays if each not in told]
    with engine.ledger.tx() as conn:
        now = engine.env.now()
        ready = [
            (
                claim,
                commands.propose(
                    conn,
                    [as_new_command(command, {}) for command in found[claim.account]],
                    now=now,
                    code_version=engine.code_version,
                    new_id=engine.env.token,
                ),
            )
            for claim in claims
            if claim.account in found
        ]
    applied = apply(engine, ready)
    applied.waiting |= unread
    return applied


def _reversed(engine: Engine, undo: Undo, world: World) -> tuple[list[Command], list[Stays]]:
    found = list(reverse(world, engine.rules, undo.written[world.account_id], undo.run))
    return [each for each in found if isinstance(each, Command)], [each for each in found if isinstance(each, Stays)]


def _written(rows: Iterable[AuditRow], *actions: str) -> Iterator[Written]:
    """The fields that a run has set by some actions, each once: before its first write and after its last.

    What somebody else has made of a field in between is theirs: from there the run's writes count anew.
    """
    found: dict[tuple[str, str, str], Written] = {}
    for row in rows:
        action, target = _told(row)
        if action not in actions:
            continue
        for change in canonical.decode(row.fields):
            line = (row.account, target, change["field"])
            earlier = found.get(line)
            old = earlier.old if earlier is not None and earlier.new == change["old"] else change["old"]
            found[line] = Written(*line, old=old, new=change["new"], personal=change["personal"])
    yield from found.values()


def _cannot_be_undone(rows: Sequence[AuditRow]) -> Iterator[Stays]:
    """What was made; and each field that was changed at Stripe, with what a person needs to set it back there."""
    for row in rows:
        action, target = _told(row)
        made = canonical.decode(row.evidence).get("object") or target
        if action == "stripe.create":
            yield Stays(row.account, target, "", f"{made} was made at Stripe, {BY_HAND}")
        elif action in ("salesforce.upsert", "salesforce.once"):
            yield Stays(row.account, target, "", f"{made} was made in Salesforce; delete it there if it is wrong")
        elif action.startswith("stripe.") and not canonical.decode(row.fields):
            yield Stays(row.account, target, "", f"{made} was {CHANGED[action]} at Stripe, {BY_HAND}")
    for each in _written(rows, *CHANGED):
        values = "a personal value" if each.personal else f"{shown(each.old)} -> {shown(each.new)}"
        yield Stays(each.account, each.target, each.field, f"{values} was written at Stripe, {BY_HAND}")


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
