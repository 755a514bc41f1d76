"""The guards: what is written unasked is stopped before it is more than the rules allow, until a person has looked.

What counts is what all runs and workers have written within the guards' hours, whatever became of the runs. A stop
holds for all of them, and what counts when it begins goes on counting until it ends: time alone ends none. It ends when
a person allows what is to be written, everything or all Accounts that were about to be written, or when a full
comparison finds that what is still to be written is within the guards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.foresight import Foreseen, imagine
from sync_pipeline.core.guards import breaches, counted, share_breaches
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.units import HOUR_US
from sync_pipeline.core.world import Billing, World
from sync_pipeline.engine.context import Approval, Engine, Halted
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.planning import PlanDocument, document, foresee_one
from sync_pipeline.engine.recording import as_new_commands
from sync_pipeline.ledger import commands, cursors, unasked
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.database import Ledger

# Cursors: why runs are stopped at present, and the Accounts whose writes they are stopped for.
HOLD = "guard.hold"
HELD = "guard.held_accounts"
REMEDY = (
    "Look at it with `sync-pipeline plan --out FILE`. If it is right, write just that with `sync-pipeline apply FILE "
    "--allow`, or all there is with `sync-pipeline reconcile --allow` (`allow: true` for the job in the launchpad). "
    "If it is not, set it right; `sync-pipeline reconcile` goes on once that is within the guards"
)
REMEDY_OF_UNDO = "If it is right, allow it once: `sync-pipeline undo RUN --write --allow`, or `allow: true` for the job"


class GuardTripped(Halted):
    """A run was stopped before it wrote more than it may unasked; `plan` has what it was about to write."""

    def __init__(self, found: Sequence[str], plan: PlanDocument, remedy: str) -> None:
        super().__init__(_message(found, remedy))
        self.plan = plan


class RunGuard(Approval):
    """Counts what is about to be written, and approves it account by account or stops everybody.

    It is counted before it is written, in one transaction with the look at what others have written, and what comes to
    nothing is taken back after it: a worker that dies in between has counted too much.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counted: dict[str, tuple[int, Counter[str], list[Command]]] = {}

    def approved(
        self, worlds: Mapping[str, World], plans: Mapping[str, Plan], tell: Callable[[str], None]
    ) -> Collection[str]:
        """The accounts whose plans may be written now. Raises GuardTripped, Halted while another stop holds.

        What cannot be counted is not written.
        """
        engine = self._engine
        fresh = _not_counted_yet(engine, {name: planned.commands for name, planned in plans.items()})
        fresh = _without_refused(engine, worlds, fresh)
        counts = _countable(fresh, lambda name: _count(engine, worlds[name], fresh[name]), tell)
        total = sum(counts.values(), Counter())
        if not total:
            refuse_if_held(engine.ledger)
            return counts.keys()
        with engine.ledger.tx() as conn:
            held = cursors.take(conn, HOLD, engine.env.now())
            wall = engine.env.wall()
            found = [] if held else breaches(_counted_lately(conn, engine) + total, engine.rules.guards)
            if not held and not found:
                for name, count in sorted(counts.items()):
                    unasked.add(conn, name, count, at_wall=wall)
        if held:
            raise Halted(held)
        if found:
            ours = [name for name in counts if plans[name].commands]
            stop(engine, found, [worlds[name] for name in ours], {name for name in ours if counts[name]})
        self._counted |= {name: (wall, count, fresh[name]) for name, count in counts.items() if count}
        return counts.keys()

    def wrote(self, worlds: Mapping[str, World], plans: Mapping[str, Plan], rows: Iterable[CommandRow]) -> None:
        """Takes back what was counted and has certainly not taken effect."""
        counts = {name: self._counted.pop(name) for name in sorted(plans) if name in self._counted}
        if not counts:
            return
        with self._engine.ledger.tx() as conn:
            known = commands.get_all(conn, [row.id for row in rows if row.account in counts])
            took = {row.key for row in known.values() if row.state == "done" or row.is_unresolved}
            written = {name: [each for each in some if each.key in took] for name, (_, _, some) in counts.items()}
            more = _countable(written, lambda name: _count(self._engine, worlds[name], written[name]))
            for name, took_effect in more.items():
                wall, count, _ = counts[name]
                took_effect.subtract(count)
                unasked.add(conn, name, took_effect, at_wall=wall)


def check(engine: Engine, ahead: Collection[Foreseen], *, among: int | None = None, remedy: str = REMEDY) -> None:
    """Stops before the first of these writes when they are more than may be written unasked. Raises GuardTripped.

    `among` is how many Accounts there are, where the share of those that are written to counts as well.
    """
    by_name = {each.before.account_id: each for each in ahead}
    fresh = _not_counted_yet(engine, {name: each.commands for name, each in by_name.items()})
    counts = _countable(fresh, lambda name: counted(fresh[name], by_name[name].before, by_name[name].after))
    guards = engine.rules.guards
    with engine.ledger.tx() as conn:
        found = breaches(_counted_lately(conn, engine) + sum(counts.values(), Counter()), guards)
    if among is not None:
        found += share_breaches(sum(bool(each.commands) for each in ahead), among, guards)
    if found:
        raise GuardTripped(found, document(engine, [each for each in ahead if each.rounds], invoices=False), remedy)


def check_everything(engine: Engine, ahead: Collection[Foreseen]) -> None:
    """`check` of a full comparison: what is within the guards ends a stop that holds."""
    check(engine, ahead, among=len(ahead))
    lift(engine)


def refuse_if_held(ledger: Ledger) -> None:
    """Raises Halted while a stop holds."""
    if (held := hold(ledger)) is not None:
        raise Halted(held)


def hold(ledger: Ledger) -> str | None:
    """Why runs are stopped at present, in words; None while they are not."""
    with ledger.read() as conn:
        return cursors.get(conn, HOLD) or None


def lift(engine: Engine, accounts: Collection[str] | None = None) -> list[str]:
    """What runs were stopped for has been allowed or set right: of these accounts, or all of it.

    Returns the accounts for which the stop goes on.
    """
    if hold(engine.ledger) is None:
        return []
    now = engine.env.now()
    with engine.ledger.tx() as conn:
        cursors.take(conn, HOLD, now)
        held: list[str] = canonical.decode(cursors.get(conn, HELD) or "[]")
        left = [] if accounts is None else sorted(set(held) - set(accounts))
        cursors.put(conn, HELD, canonical.encode(left), now)
        if not left:
            cursors.put(conn, HOLD, "", now)
    return left


def stop(engine: Engine, found: Sequence[str], worlds: Sequence[World], counting: Collection[str]) -> None:
    """Holds this run and those after it, for the accounts that are `counting`."""
    ahead = [foresee_one(engine, world, engine.stripe) for world in worlds]
    now = engine.env.now()
    with engine.ledger.tx() as conn:
        cursors.take(conn, HOLD, now)
        held: list[str] = canonical.decode(cursors.get(conn, HELD) or "[]")
        cursors.put(conn, HOLD, _message(found, REMEDY), now)
        cursors.put(conn, HELD, canonical.encode(sorted({*held, *counting})), now)
    raise GuardTripped(found, document(engine, ahead, invoices=False), REMEDY)


def _not_counted_yet(engine: Engine, writes: Mapping[str, Sequence[Command]]) -> dict[str, list[Command]]:
    """The writes to Stripe, by account, without those in doubt, which were counted when they were sent first."""
    to_stripe = {name: [each for each in some if each.system == "stripe"] for name, some in writes.items()}
    with engine.ledger.read() as conn:
        in_doubt = commands.unresolved(conn, [name for name, some in to_stripe.items() if some])
    known = {row.key for rows in in_doubt.values() for row in rows}
    return {name: [each for each in some if each.key not in known] for name, some in to_stripe.items()}


def _without_refused(
    engine: Engine, worlds: Mapping[str, World], writes: Mapping[str, list[Command]]
) -> dict[str, list[Command]]:
    """The writes that would be sent: what is parked waits, and comes to nothing."""
    with engine.ledger.read() as conn:
        wanted = (each for name, some in writes.items() if some for each in as_new_commands(worlds[name], some))
        refused = commands.still_refused(conn, wanted, code_version=engine.code_version)
    return {name: [each for each in some if each.key not in refused] for name, some in writes.items()}


def _countable(
    accounts: Iterable[str], count: Callable[[str], Counter[str]], tell: Callable[[str], None] = lambda _: None
) -> dict[str, Counter[str]]:
    """The counts of the accounts. What cannot be counted is told and left out: whoever is about to write it counts it
    once more, and does not."""
    counts: dict[str, Counter[str]] = {}
    for name in accounts:
        found = contained(name, partial(count, name))
        if isinstance(found, Unknown):
            tell(found.why)
        else:
            counts[name] = found
    return counts


def _count(engine: Engine, world: World, writes: Sequence[Command]) -> Counter[str]:
    if not any(each.system == "stripe" for each in writes):
        # What a wave of figures would change is not worth imagining.
        return Counter()
    after, _ = imagine(world, writes, engine.rules, lambda _: Billing())
    return counted(writes, world, after)


def _counted_lately(conn: Connection, engine: Engine) -> Counter[str]:
    """What was written within the guards' hours; while a stop holds, all that has counted since it began, too."""
    is_held = bool(cursors.get(conn, HOLD))
    return unasked.since(conn, 0 if is_held else engine.env.wall() - engine.rules.guards.hours * HOUR_US)


def _message(found: Sequence[str], remedy: str) -> str:
    return f"stopped by a guard before it was written: {'; '.join(found)}. {remedy}"
