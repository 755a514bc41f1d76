"""Bringing claimed accounts to rest: resolve, observe, plan, apply, and again until the plan is empty.

At most nine rounds; an account that is not at rest by then, or that has to wait, is given back with a growing
delay. What one account does never stops another; only missing access stops everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sync_pipeline.core.commands import Plan
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.world import World
from sync_pipeline.engine.apply import Applied, apply
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.cost import (
    NOTHING,
    NOTHING_LOOKED_AT,
    Calls,
    Cost,
    Looked,
    least_salesforce_reads,
    looked_at,
)
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.leases import LEASE_US, Held
from sync_pipeline.engine.lists import FRESH_US, FromLists, Lists
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.recording import Recorded, record_all
from sync_pipeline.engine.resolve import by_the_look, probe, resolve
from sync_pipeline.engine.retries import delay_us
from sync_pipeline.ledger import work
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.reads import AccountRecords

MAX_ROUNDS = 8
"""A new deal takes four; every product that another deal makes at the same moment costs one more."""
HELD_US = 30 * 60 * 1_000_000
"""Longer than a bulk job runs: its end wakes the accounts that wait for it."""


@dataclass(slots=True)
class BatchReport:
    """What a batch of accounts came to. `writes` counts commands that took effect at a vendor; `resting` accounts wait
    for a moment, `deferred` ones for a system; `problems` says in words what could not be read. `least` is how few
    calls would have done what was written and read of Salesforce, `looked` what there was to be seen of Stripe; `used`
    is known of a whole drain only."""

    accounts: int = 0
    settled: int = 0
    deferred: int = 0
    resting: int = 0
    writes: int = 0
    linked: int = 0
    parked: int = 0
    rounds: int = 0
    used: Calls = NOTHING
    least: Calls = NOTHING
    looked: Looked = NOTHING_LOOKED_AT
    problems: set[str] = field(default_factory=set)
    worlds: dict[str, World] = field(default_factory=dict)

    def add(self, other: BatchReport) -> None:
        """Adds another batch's counts; its worlds are not kept."""
        self.accounts += other.accounts
        self.settled += other.settled
        self.deferred += other.deferred
        self.resting += other.resting
        self.writes += other.writes
        self.linked += other.linked
        self.parked += other.parked
        self.rounds += other.rounds
        self.used += other.used
        self.least += other.least
        self.looked += other.looked
        self.problems |= other.problems

    @property
    def cost(self) -> Cost:
        return Cost(self.used, self.least + self.looked.least)


def bring_to_rest(
    engine: Engine,
    claims: Sequence[Claim],
    *,
    owner: str,
    between: Callable[[], None] = lambda: None,
    lists: Lists | None = None,
) -> BatchReport:
    """Works on the accounts that `owner` claimed until each is released or given back. Raises Halted.

    `between` is called every now and then while nothing is in flight, and may work on other accounts. `lists` are what
    the owner has read of Stripe's lists, where it serves several batches.
    """
    report = BatchReport(accounts=len(claims))
    with engine.leases.holding(owner, claims) as held:
        rounds = _Rounds(engine, held, between, lists or Lists(engine), report)
        try:
            while held.claims and report.rounds <= MAX_ROUNDS:
                rounds.play_one()
        except ReadFailed as error:
            _give_back(engine, held.claims + held.lost, report)
            raise Halted(str(error)) from error
        except Halted:
            _give_back(engine, held.claims + held.lost, report)
            raise
    _give_back(engine, held.claims + held.lost, report)
    if held.lost:
        report.problems.add(f"{len(held.lost)} accounts are left for later: they took longer than a lease of the queue")
    return report


@dataclass(slots=True)
class _Rounds:
    """The rounds of one batch: `held` are the claims of the accounts that are not at rest yet.

    `known` are those whose Stripe side stays as it was seen, `seen` those whose Salesforce side the last write's call
    has shown; both since `seen_from` at the earliest. What was seen longer ago than a lease is looked at again: a
    process that stood still goes on with what people may have edited meanwhile. How old lists may be is theirs.
    """

    engine: Engine
    held: Held
    between: Callable[[], None]
    lists: Lists
    report: BatchReport
    known: dict[str, World] = field(default_factory=dict)
    seen: dict[str, AccountRecords] = field(default_factory=dict)
    seen_from: int = 0

    def play_one(self) -> None:
        """Resolves, observes, plans and applies; leaves in `held` the accounts that need another round."""
        self.report.rounds += 1
        self.between()
        self.engine.leases.keep(self.engine.ledger, self.engine.env, every_us=0)
        resolved = resolve(self.engine, self.held.claims, between=self._keep_going)
        _stop_if_halted(resolved)
        worlds, plans = self._look_and_plan(resolved.in_doubt)
        tell = self.report.problems.add
        approved = self.engine.approval.approved(worlds, plans, tell)
        _give_back(self.engine, [each for each in self.held.claims if each.account not in approved], self.report)
        self.held.claims = [claim for claim in self.held.claims if claim.account in approved]
        recorded = record_all(self.engine, self.held.claims, worlds, plans, resolved.in_doubt, tell)
        for claim in self.held.claims:
            for row in recorded[claim.account].unlisted if claim.account in recorded else ():
                asked = contained(claim.account, partial(probe, self.engine, claim, row, resolved))
                if isinstance(asked, Unknown):
                    resolved.failed(claim.account, asked)
        self.report.linked += sum(made.linked for made in recorded.values())
        rows = [(each, recorded[each.account].rows) for each in self.held.claims if each.account in recorded]
        applied = apply(self.engine, rows, between=self._keep_going, last=self.report.rounds > MAX_ROUNDS)
        self.engine.approval.wrote(worlds, plans, [row for _, some in rows for row in some])
        unchanged = [name for name, made in recorded.items() if not made.unlisted and not _touches_stripe(made.rows)]
        self.known = {name: worlds[name] for name in unchanged}
        self.seen = dict(applied.seen)
        self.report.least += applied.least
        self.report.writes += applied.done + resolved.done
        self.report.parked += len(applied.parked) + len(resolved.parked)
        self.report.problems |= applied.problems | resolved.problems
        _stop_if_halted(applied)
        self._part(worlds, plans, recorded, applied, resolved)

    def _keep_going(self) -> None:
        """Lets others in, and keeps the leases."""
        self.between()
        self.engine.leases.keep(self.engine.ledger, self.engine.env)

    def _look_and_plan(self, in_doubt: dict[str, list[CommandRow]]) -> tuple[dict[str, World], dict[str, Plan]]:
        """Accounts with a write to Stripe in doubt are looked at by themselves: what lists have shown may be older."""
        salesforce = self.engine.salesforce
        rows, calls = salesforce.rows, salesforce.calls
        unknown = [claim for claim in self.held.claims if claim.account not in self.known]
        alone = {row.account for rows in in_doubt.values() for row in rows if row.system == "stripe"}
        listed = self.lists.of([each for each in unknown if each.account not in alone], self._keep_going)
        self.lists.put_off(listed, self.held.lost)
        if (began := self.engine.env.wall()) - self.seen_from > LEASE_US:
            self.known, self.seen = {}, {}
        self.seen_from = began
        names = [claim.account for claim in self.held.claims]
        worlds = observe(self.engine, names, known=self.known, seen=self.seen, listed=listed, between=self._keep_going)
        if settled := by_the_look(self.engine, self.held.claims, worlds, in_doubt, self.report.problems.add):
            at_stripe = {row.account for row in settled if row.system == "stripe"}
            more = list(dict.fromkeys(row.account for row in settled))
            as_seen = {name: worlds[name] for name in more if name not in at_stripe}
            worlds |= observe(self.engine, more, known=as_seen, between=self._keep_going)
        self.report.least += least_salesforce_reads(salesforce.rows - rows, salesforce.calls - calls)
        self.report.looked += looked_at(world for name, world in worlds.items() if name not in self.known)
        self.report.worlds |= worlds
        plans = _plans(self.engine, worlds, self.report)
        outdated = [name for name, by in listed.items() if name in plans and _is_outdated(self.engine, by, plans[name])]
        if self.engine.env.wall() - began > LEASE_US:
            ours = [claim.account for claim in self.held.claims if claim.account in plans]
            outdated = [name for name in ours if plans[name].commands]
        if outdated:
            fresh = observe(self.engine, outdated, between=self._keep_going)
            worlds |= fresh
            plans |= _plans(self.engine, fresh, self.report)
        return worlds, plans

    def _part(
        self,
        worlds: Mapping[str, World],
        plans: Mapping[str, Plan],
        recorded: Mapping[str, Recorded],
        applied: Applied,
        resolved: Applied,
    ) -> None:
        """Each account goes where it belongs after what was applied: on, back, to rest until a moment, or home."""
        waiting, held = applied.waiting | resolved.waiting, applied.held | resolved.held
        waiting |= {name for name, each in recorded.items() if each.holds}
        again, back, kept, resting, settled, lost = [], [], [], [], [], []
        for claim in self.held.claims:
            name = claim.account
            unknown = worlds[name].unknown_parts
            self.report.problems.update(unknown)
            if name in applied.lost or name not in recorded:
                lost.append(claim)
            elif name in waiting or unknown:
                back.append(claim)
            elif name in held:
                kept.append(claim)
            elif len(recorded[name].rows) > applied.gathered[name] or recorded[name].leads_on:
                again.append(claim)
            elif plans[name].look_again_at is not None:
                resting.append(claim)
            else:
                settled.append(claim)
        _give_back(self.engine, back, self.report)
        _give_back(self.engine, kept, self.report, for_us=HELD_US)
        self.held.claims, self.held.lost = again, self.held.lost + lost
        with self.engine.ledger.tx() as conn:
            wall = self.engine.env.wall()
            for claim in sorted(resting, key=lambda claim: claim.account):
                seen_at, planned = worlds[claim.account].now, plans[claim.account]
                due_at = wall + max(0, (planned.look_again_at or 0) - seen_at)
                priority = int(planned.look_again_as)
                work.rest(conn, claim, due_at_wall=due_at, priority=priority, now=seen_at, now_wall=wall)
            for claim in sorted(settled, key=lambda claim: claim.account):
                work.release(conn, claim, now=worlds[claim.account].now, now_wall=wall)
        self.report.resting += len(resting)
        self.report.settled += len(settled)


def _is_outdated(engine: Engine, by: FromLists, planned: Plan) -> bool:
    """Nothing is written to Stripe from what its lists have shown long ago: somebody may have changed it since."""
    is_old = engine.env.wall() - by.began_wall > FRESH_US
    return is_old and any(command.system == "stripe" for command in planned.commands)


def _touches_stripe(rows: Iterable[CommandRow]) -> bool:
    return any(row.system == "stripe" for row in rows)


def _plans(engine: Engine, worlds: Mapping[str, World], report: BatchReport) -> dict[str, Plan]:
    """The plans of the accounts. One that cannot be planned, by a defect of ours, waits and stops nobody else."""
    plans = {}
    for name, world in worlds.items():
        planned = contained(name, partial(plan, world, engine.rules, engine.personal_key))
        if isinstance(planned, Unknown):
            report.problems.add(planned.why)
        else:
            plans[name] = planned
    return plans


def _stop_if_halted(applied: Applied) -> None:
    if applied.halted:
        raise Halted(applied.halted)


def _give_back(engine: Engine, claims: Sequence[Claim], report: BatchReport, *, for_us: int | None = None) -> None:
    """Defers accounts: the first time for seconds, then longer and longer, with full jitter, unless told for how long.

    What failed together comes back together: it shares its calls again, and the lists of Stripe.
    """
    if not claims:
        return
    jitter = engine.env.jitter()
    with engine.ledger.tx() as conn:
        wall = engine.env.wall()
        for claim in sorted(claims, key=lambda claim: claim.account):
            delay = delay_us(claim.fails, jitter) if for_us is None else for_us
            work.defer(conn, claim, due_at_wall=wall + delay, now_wall=wall)
    report.deferred += len(claims)
