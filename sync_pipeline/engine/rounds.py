"""Bringing claimed accounts to rest: resolve, observe, plan, apply, and again until the plan is empty.

At most four rounds; an account that is not at rest by then, or that has to wait, is given back with a growing
delay. What one account does never stops another; only missing access stops everything.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import VERSION
from sync_pipeline.core.commands import Command, Plan, Review
from sync_pipeline.core.deal import customer_intent
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.world import NOT_READ, World
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
from sync_pipeline.engine.lists import FRESH_US, FromLists, Lists
from sync_pipeline.engine.observe import found_links, observe
from sync_pipeline.engine.resolve import resolve
from sync_pipeline.engine.retries import delay_us
from sync_pipeline.ledger import attempts, audit, base, commands, conflicts, links, reviews, work
from sync_pipeline.ledger.commands import CommandRow, NewCommand
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline.systems.stripe.errors import KEY_REUSED

MAX_ROUNDS = 4
LEASE_US = 120 * 1_000_000
ACCOUNTS_PER_TRANSACTION = 100
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


@dataclass(frozen=True, slots=True)
class Recorded:
    """A plan in the ledger: the commands that may be sent, and whether more can be planned now that it is there: a
    customer was linked, or a conflict found."""

    rows: list[CommandRow]
    leads_on: bool


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
    lists = lists or Lists(engine)
    report = BatchReport(accounts=len(claims))
    unsettled = list(claims)
    known: dict[str, World] = {}
    seen: dict[str, AccountRecords] = {}
    seen_from = engine.env.wall()
    try:
        for _ in range(MAX_ROUNDS + 1):
            if not unsettled:
                break
            report.rounds += 1
            unsettled, seen_from = _round(engine, unsettled, owner, report, between, lists, known, seen, seen_from)
    except ReadFailed as error:
        _give_back(engine, unsettled, report)
        raise Halted(str(error)) from error
    except Halted:
        _give_back(engine, unsettled, report)
        raise
    _give_back(engine, unsettled, report)
    return report


def _round(
    engine: Engine,
    claims: Sequence[Claim],
    owner: str,
    report: BatchReport,
    between: Callable[[], None],
    lists: Lists,
    known: dict[str, World],
    seen: dict[str, AccountRecords],
    seen_from: int,
) -> tuple[list[Claim], int]:
    """One round; returns the accounts that need another, and when it began to look. How old lists may be is theirs.

    `known` are those whose Stripe side stays as it was seen, `seen` those whose Salesforce side the last write's call
    has shown; both since `seen_from` at the earliest. What was seen longer ago than a lease is looked at again: a
    process that stood still goes on with what people may have edited meanwhile.
    """
    extended = 0

    def keep_going() -> None:
        nonlocal claims, extended
        between()
        if (wall := engine.env.wall()) - extended >= LEASE_US // 4:
            with engine.ledger.tx() as conn:
                claims = work.extend(conn, claims, owner=owner, now_wall=wall, lease_us=LEASE_US)
            extended = wall

    keep_going()
    resolved = resolve(engine, claims, between=keep_going)
    _stop_if_halted(resolved)
    rows, calls = engine.salesforce.rows, engine.salesforce.calls
    listed = lists.of([claim for claim in claims if claim.account not in known], keep_going)
    if (began := engine.env.wall()) - seen_from > LEASE_US:
        known.clear()
        seen.clear()
    names = [claim.account for claim in claims]
    worlds = observe(engine, names, known=known, seen=seen, listed=listed, between=keep_going)
    report.least += least_salesforce_reads(engine.salesforce.rows - rows, engine.salesforce.calls - calls)
    report.looked += looked_at(world for name, world in worlds.items() if name not in known)
    report.worlds |= worlds
    plans = _plans(engine, worlds, report)
    outdated = [name for name, by in listed.items() if name in plans and _needs_a_look(engine, by, plans[name])]
    if outdated := list(plans) if engine.env.wall() - began > LEASE_US else outdated:
        fresh = observe(engine, outdated, between=keep_going)
        worlds |= fresh
        plans |= _plans(engine, fresh, report)
    approved = engine.approval.approved(worlds, plans)
    _give_back(engine, [claim for claim in claims if claim.account not in approved], report)
    claims = [claim for claim in claims if claim.account in approved]
    recorded = _record_all(engine, claims, worlds, plans, report)
    claims = [claim for claim in claims if claim.account in recorded]
    applied = apply(engine, [(claim, recorded[claim.account].rows) for claim in claims], between=keep_going)
    known.clear()
    known.update((name, worlds[name]) for name, made in recorded.items() if not _touches_stripe(made.rows))
    seen.clear()
    seen.update(applied.seen)
    report.least += applied.least
    report.writes += applied.done + resolved.done
    report.parked += len(applied.parked) + len(resolved.parked)
    _stop_if_halted(applied)
    waiting, held = applied.waiting | resolved.waiting, applied.held | resolved.held
    again, back, kept, resting, settled = [], [], [], [], []
    for claim in claims:
        name = claim.account
        if name in applied.lost:
            continue
        unknown = _unknown(worlds[name])
        report.problems.update(unknown)
        if name in waiting or unknown:
            back.append(claim)
        elif name in held:
            kept.append(claim)
        elif len(recorded[name].rows) > applied.gathered[name] or recorded[name].leads_on:
            again.append(claim)
        elif plans[name].look_again_at is not None:
            resting.append(claim)
        else:
            settled.append(claim)
    _give_back(engine, back, report)
    _give_back(engine, kept, report, for_us=HELD_US)
    with engine.ledger.tx() as conn:
        wall = engine.env.wall()
        for claim in sorted(resting, key=lambda claim: claim.account):
            seen_at = worlds[claim.account].now
            due_at = wall + max(0, (plans[claim.account].look_again_at or 0) - seen_at)
            work.rest(conn, claim, due_at_wall=due_at, now=seen_at, now_wall=wall)
        for claim in sorted(settled, key=lambda claim: claim.account):
            work.release(conn, claim, now=worlds[claim.account].now, now_wall=wall)
    report.resting += len(resting)
    report.settled += len(settled)
    return again, began


def _needs_a_look(engine: Engine, by: FromLists, planned: Plan) -> bool:
    """Nothing is written to Stripe from what its lists have shown long ago: somebody may have changed it since."""
    is_old = engine.env.wall() - by.began_wall > FRESH_US
    return is_old and any(command.action.startswith("stripe.") for command in planned.commands)


def _touches_stripe(rows: Iterable[CommandRow]) -> bool:
    return any(row.kind.startswith("stripe.") for row in rows)


def _plans(engine: Engine, worlds: Mapping[str, World], report: BatchReport) -> dict[str, Plan]:
    """The plans of the accounts. One that cannot be planned, by a defect of ours, waits and stops nobody else."""
    plans = {}
    for name, world in worlds.items():
        try:
            plans[name] = plan(world, engine.rules, engine.personal_key)
        except Exception as defect:
            # Only the place is told: the message of an unexpected error may quote data.
            place = traceback.extract_tb(defect.__traceback__)[-1]
            where = f"{type(defect).__name__} in {place.name}, line {place.lineno}"
            report.problems.add(f"Account {name} cannot be planned ({where}); it is tried again later")
    return plans


def _record_all(
    engine: Engine, claims: Sequence[Claim], worlds: Mapping[str, World], plans: Mapping[str, Plan], report: BatchReport
) -> dict[str, Recorded]:
    """Writes the plans into the ledger, some accounts in a transaction.

    An account that is not ours any more is left out: then its new holder's plan stands, and nothing is written.
    """
    recorded = {}
    ordered = sorted(claims, key=lambda claim: claim.account)
    for start in range(0, len(ordered), ACCOUNTS_PER_TRANSACTION):
        some = ordered[start : start + ACCOUNTS_PER_TRANSACTION]
        with engine.ledger.tx() as conn:
            ours = work.held(conn, some, now_wall=engine.env.wall(), margin_us=0)
            stopped = commands.parked_with(conn, ours, error=KEY_REUSED, code_version=engine.code_version)
            for name in sorted(ours):
                recorded[name] = _record(conn, engine, worlds[name], plans[name], report, stopped.get(name, ()))
    return recorded


def _record(
    conn: Connection, engine: Engine, world: World, planned: Plan, report: BatchReport, stopped: Sequence[CommandRow]
) -> Recorded:
    """Writes one account's plan into the ledger. Nothing of it may be sent while a defect of ours has `stopped` it."""
    now = engine.env.now()
    open_reviews = list(planned.reviews)
    if stopped:
        key = f"{KEY_REUSED}:{stopped[0].key}"
        open_reviews.append(Review(key, world.account_id, KEY_REUSED, stopped[0].target, str(stopped[0].error)))
    entries = [base.BaseEntry(a.subject, a.rule, a.value, VERSION) for a in planned.agreements]
    base.put(conn, world.account_id, entries, now)
    wanted = [
        links.Link(world.account_id, "stripe", found.kind, found.external_id, subject=found.subject)
        for found in found_links(world)
    ]
    refused = (_put_link(conn, link, now) for link in wanted)
    open_reviews.extend(each for each in refused if each is not None)
    known = {each.key for each in world.conflicts}
    leads_on = any(conflict.key not in known for conflict in planned.conflicts)
    conflicts.put(conn, planned.conflicts)
    for command in planned.commands:
        if command.action == "link":
            kind, external_id = command.body["kind"], command.body["external_id"]
            link = links.Link(world.account_id, "stripe", kind, external_id, subject=command.subject)
            if (conflict := _put_link(conn, link, now)) is not None:
                open_reviews.append(conflict)
            else:
                leads_on = True
                report.linked += 1
                _audit_link(engine, conn, command, now)
    for customer_id, seen in sorted(world.customers.items()):
        if isinstance(seen, Present) and seen.value.deleted:
            _forget_customer(conn, engine, world, customer_id, now)
    versions = _versions(world)
    sendable = [command for command in planned.commands if command.action != "link"]
    if stopped:
        reviews.reconcile(conn, world.account_id, open_reviews, now)
        return Recorded([], leads_on)
    if not _unknown(world):
        # A plan from half a look wants less than there is: what it does not mention is not settled by it.
        reviews.reconcile(conn, world.account_id, open_reviews, now)
        commands.retire(conn, world.account_id, wanted=[command.key for command in sendable], now=now)
    rows = commands.propose(
        conn,
        [as_new_command(command, versions) for command in sendable],
        now=now,
        code_version=engine.code_version,
        new_id=engine.env.token,
    )
    return Recorded(rows, leads_on)


def _put_link(conn: Connection, link: links.Link, now: int) -> Review | None:
    """Stores a link, or says that somebody else has it."""
    try:
        links.put(conn, link, now)
    except links.LinkConflict as conflict:
        key = f"link_conflict:{link.kind}:{link.external_id}"
        return Review(key, link.account, "link_conflict", link.subject, str(conflict))
    return None


def _forget_customer(conn: Connection, engine: Engine, world: World, customer_id: str, now: int) -> None:
    """A customer that was deleted at Stripe makes room for another; the key that made it would only repeat it."""
    if links.set_state(conn, "stripe", "customer", customer_id, "tombstoned", now):
        for link in world.links:
            if (link.kind, link.external_id) == ("customer", customer_id):
                attempts.renew(conn, customer_intent(world.org_id, link.subject))


def _versions(world: World) -> dict[str, int | None]:
    """SystemModstamp by record: what was refused is tried again once somebody has touched the record."""
    parts = [
        part for deal in world.deals for part in (deal.opportunity, *deal.lines, deal.contract) if part is not None
    ]
    account = [world.account.value] if isinstance(world.account, Present) else []
    return {record.id: record.modified_at for record in (*account, *parts)}


def as_new_command(command: Command, versions: Mapping[str, int | None]) -> NewCommand:
    """A command as the outbox takes it. `versions` are those of the records that it was planned from."""
    return NewCommand(
        key=command.key,
        account=command.account,
        target=command.target,
        kind=command.action,
        priority=int(command.priority),
        body=canonical.encode(command.body),
        input_hash=canonical.sha256(
            [command.digest(), versions.get(command.body.get("id", "")) or versions.get(command.subject)]
        ),
        reason=command.reason,
        changes=canonical.encode(command.changes),
        agreements=canonical.encode(command.agreements),
    )


def _audit_link(engine: Engine, conn: Connection, command: Command, now: int) -> None:
    audit.append(
        conn,
        account=command.account,
        attempt_id=None,
        at=now,
        actor="sync",
        what=f"link {command.target}",
        fields="[]",
        reason=command.reason,
        evidence=canonical.encode(command.body),
        run=engine.run,
        code_version=engine.code_version,
        request_id=None,
    )


def _unknown(world: World) -> list[str]:
    """Why the look must be repeated, if it must; what was known has been planned."""
    return [part.why for part in (world.account, world.billing) if isinstance(part, Unknown) and part is not NOT_READ]


def _stop_if_halted(applied: Applied) -> None:
    if applied.halted:
        raise Halted(applied.halted)


def _give_back(engine: Engine, claims: Sequence[Claim], report: BatchReport, *, for_us: int | None = None) -> None:
    """Defers accounts: the first time for seconds, then longer and longer, spread by full jitter, unless told for how
    long."""
    if not claims:
        return
    with engine.ledger.tx() as conn:
        wall = engine.env.wall()
        for claim in sorted(claims, key=lambda claim: claim.account):
            delay = delay_us(claim.fails, engine.env.jitter()) if for_us is None else for_us
            work.defer(conn, claim, due_at_wall=wall + delay, now_wall=wall)
    report.deferred += len(claims)
