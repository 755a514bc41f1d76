"""Writing a plan that was kept: the Accounts that still look as they did are brought to rest, the others are left.

The same loop writes as always. Its first look must ask for exactly what the plan says, or the Account is refused, with
the lines that moved. Every later one may ask of Stripe only what the plan shows as still to come; what Stripe makes of
it, a payment for example, is told in Salesforce as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.world import World
from sync_pipeline.engine import queue
from sync_pipeline.engine.context import EVERYTHING, Approval, Engine
from sync_pipeline.engine.cost import calls_so_far
from sync_pipeline.engine.guard import RunGuard, check, lift, refuse_if_held
from sync_pipeline.engine.intake import try_again
from sync_pipeline.engine.planning import PlanDocument, PlanError, foresee_accounts, not_read, stripe_account
from sync_pipeline.engine.rounds import BatchReport, bring_to_rest
from sync_pipeline.frames.plan import planned_commands, planned_writes
from sync_pipeline.frames.rows import PlannedWrite
from sync_pipeline.ledger.commands import CommandRow

FORESEEN = re.compile(r"\(new [^()]*\)")
"""What foresight.py calls a thing that is to be made."""
LINES = re.compile(r'(?<="sf_line_id":")[^"]*')

_Value = tuple[str | None, str | None, str | None]
"""Before, after, and a digest of what is sent."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A line of the plan that does not fit the world any more, or a new one: what was planned and what is now."""

    account_id: str
    target: str
    field: str
    what: str


@dataclass(slots=True)
class ApplyReport:
    """`refused` are Accounts whose lines have `moved`, `unread` tells by Account why it could not be read. Of both
    nothing was written, except of those that were `begun`: they changed while the plan was written."""

    total: BatchReport = field(default_factory=BatchReport)
    moved: list[Moved] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    @property
    def refused(self) -> list[str]:
        return sorted({each.account_id for each in self.moved})


def apply_plan(engine: Engine, plan: PlanDocument, *, allow: bool) -> ApplyReport:
    """Writes what still fits. Raises PlanError, Halted, and GuardTripped unless `allow`."""
    if plan.org_id != engine.salesforce.org_id:
        raise PlanError(f"the plan was made for org {plan.org_id}, this is {engine.salesforce.org_id}")
    if plan.stripe_account != (own := stripe_account(engine)):
        raise PlanError(f"the plan was made for Stripe account {plan.stripe_account}, this is {own}")
    if plan.code_version != engine.code_version:
        raise PlanError("the rules or the version have changed since the plan was made; make it anew")
    before = calls_so_far(engine.salesforce, engine.stripe)
    planned: dict[str, list[PlannedWrite]] = defaultdict(list)
    for write in plan.writes:
        planned[write.account_id].append(write)
    ahead = [each for some in queue.at_a_time(planned) for each in foresee_accounts(engine, some)]
    report = ApplyReport(unread={each.account_id: each.why for each in not_read(one.before for one in ahead)})
    seen = [each for each in ahead if each.before.account_id not in report.unread]
    for each in seen:
        name = each.before.account_id
        report.moved.extend(_moved(name, planned[name], planned_writes([each])))
    fitting = [each for each in seen if each.before.account_id not in report.refused]
    if not allow:
        refuse_if_held(engine.ledger)
        check(engine, fitting)
    names = [each.before.account_id for each in fitting]
    to_come = {each.before.account_id: [c for c in each.commands if c.system == "stripe"] for each in fitting}
    with engine.ledger.tx() as conn:
        try_again(conn, names, engine.env)
    commercial = engine.rules.commercial
    guard, quiet_us = EVERYTHING if allow else RunGuard(engine), commercial.quiet_seconds * 1_000_000
    approval = _AsPlanned(planned, to_come, report, guard, quiet_us)
    engine, me = replace(engine, approval=approval), engine.env.token()
    # A burst of edits is let rest before it is billed. What a person has read in the plan is none.
    at_once = replace(engine, rules=replace(engine.rules, commercial=replace(commercial, quiet_seconds=0)))
    for accounts in queue.at_a_time(names):
        claims = queue.claim_named(engine, me, accounts, Priority.CREATE)
        report.total.add(bring_to_rest(engine, claims, owner=me))
        if resting := approval.resting.intersection(accounts):
            again = bring_to_rest(at_once, queue.claim_named(engine, me, resting, Priority.CREATE), owner=me)
            report.total.add(again)
            report.total.accounts -= again.accounts
            report.total.resting -= again.accounts
        if left := len(set(accounts) - {claim.account for claim in claims}):
            report.total.deferred += left
            report.total.problems.add(f"{left} accounts are in other hands at present; apply the plan again")
    if allow and (held := lift(engine, approval.begun - set(report.refused))):
        report.total.problems.add(
            f"a guard's stop goes on for {', '.join(held)}: this plan has not written what they need"
        )
    report.begun = approval.written.intersection(report.refused)
    report.total.used += calls_so_far(engine.salesforce, engine.stripe) - before
    return report


@dataclass(slots=True)
class _AsPlanned(Approval):
    """Approves what the plan says, as the world is when it is written.

    `to_come` is what it asks of Stripe, `asked` the keys of what was; of `resting` Accounts something is left that
    waits no longer than until a burst of edits is over; `found` are conflicts that were recorded meanwhile; to
    `written` Accounts something was sent.
    """

    planned: Mapping[str, Sequence[PlannedWrite]]
    to_come: Mapping[str, Sequence[Command]]
    report: ApplyReport
    guard: Approval
    quiet_us: int
    begun: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    resting: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def approved(
        self, worlds: Mapping[str, World], plans: Mapping[str, Plan], tell: Callable[[str], None]
    ) -> Collection[str]:
        unread = {each.account_id: each.why for each in not_read(worlds.values()) if each.account_id not in self.begun}
        self.report.unread |= unread
        fitting = set()
        for name in plans.keys() - unread.keys():
            moved = list(self._moved(name, worlds[name], plans[name]))
            self.report.moved.extend(moved)
            if moved:
                continue
            fitting.add(name)
            self.asked |= {command.key for command in plans[name].sent_first}
            due_at = plans[name].look_again_at
            is_left = not plans[name].commands and any(each.key not in self.asked for each in self.to_come[name])
            if is_left and due_at is not None and due_at - worlds[name].now <= self.quiet_us:
                self.resting.add(name)
        return self.guard.approved(worlds, {name: plans[name] for name in sorted(fitting)}, tell)

    def wrote(self, worlds: Mapping[str, World], plans: Mapping[str, Plan], rows: Iterable[CommandRow]) -> None:
        rows = list(rows)
        self.written.update(row.account for row in rows)
        self.guard.wrote(worlds, plans, rows)

    def _moved(self, account: str, world: World, now: Plan) -> Iterator[Moved]:
        """What this round would write otherwise than the plan shows."""
        if account in self.begun:
            # How many rounds it takes, nobody knows beforehand: an answer may be lost.
            known = _names(world, self.to_come[account])
            to_come = {_sent(command, known) for command in self.to_come[account]}
            for command in now.sent_first:
                if command.system == "stripe" and _sent(command) not in to_come:
                    shown = [write for write in self.planned[account] if write.target == command.target]
                    yield from _moved(account, shown, planned_commands([command], step=0, now=world.now))
        elif now.conflicts and not now.commands:
            # This round writes nothing yet, and is not in the plan. What it finds is shown with evidence of the ledger.
            self.found |= {conflict.key for conflict in now.conflicts}
        else:
            self.begun.add(account)
            rows = planned_commands(now.sent_first, step=1, now=world.now)
            first = [write for write in self.planned[account] if write.step == 1]
            yield from _moved(account, *(filter(self._is_known, some) for some in (first, rows)))

    def _is_known(self, write: PlannedWrite) -> bool:
        """Whether a write could be told to the letter; what shows a conflict that was only just found could not."""
        return write.target.rpartition("/")[2] not in self.found


def _sent(command: Command, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """What a command changes at Stripe, in one text; with the ids that are `known` by now in the place of foreseen
    names. From which moment it counts is seen when what leads to it is written."""
    changes = [(change.field, change.old, change.new) for change in command.changes]
    body = {**command.body, "params": {**command.body["params"], "proration_date": None}}
    text = canonical.encode([command.action, command.target, body, changes])
    text = FORESEEN.sub(lambda name: known.get(name[0], name[0]), text)
    # Lines are named in the order of their ids, which a new one has only now.
    return LINES.sub(lambda lines: ",".join(sorted(lines[0].split(","))), text)


def _names(world: World, planned: Iterable[Command]) -> dict[str, str]:
    """The ids of what was made since it was foreseen, by the names that it had there. An item of a planned subscription
    is known by the lines that it bills."""
    kinds = {SCHEDULE: "schedule"}
    found = {f"(new {kinds.get(link.kind, link.kind)} of {link.subject})": link.external_id for link in world.links}
    if isinstance(world.catalogue, Present):
        found |= {f"(new price {key})": price.id for key, price in world.catalogue.value.prices.items()}
    for line in (line for deal in world.deals for line in deal.lines):
        found |= {f"(new OpportunityLineItem {key})": line.id for key in (line.stripe_change_key, line.amends_line_id)}
    items = world.billing.value.items if isinstance(world.billing, Present) else ()
    by_lines = {",".join(item.line_ids): item.id for item in items}
    for command in planned:
        is_made = command.action == "stripe.create" and command.body["object"] == "subscription"
        for number, item in enumerate(command.body["params"]["items"] if is_made else (), start=1):
            if (name := by_lines.get(item["metadata"]["sf_line_id"])) is not None:
                found[f"(new item {number} of {command.subject})"] = name
    return found


def _moved(account: str, planned: Iterable[PlannedWrite], now: Iterable[PlannedWrite]) -> Iterator[Moved]:
    """The lines in which two lists of one account's writes differ."""
    before, after = _by_line(planned), _by_line(now)
    for line in sorted(before.keys() | after.keys()):
        target, _, name = line
        if line not in after:
            yield Moved(account, target, name, "is not to be written any more")
        elif line not in before:
            yield Moved(account, target, name, f"is to be written now: {_told(after[line])}")
        elif before[line] == after[line]:
            continue
        elif _values(before[line]) == _values(after[line]):
            yield Moved(account, target, name, "is sent otherwise now: at another price, or from another moment")
        else:
            yield Moved(account, target, name, f"planned {_told(before[line])}, now {_told(after[line])}")


def _by_line(writes: Iterable[PlannedWrite]) -> dict[tuple[str, str, str], list[_Value]]:
    found: dict[tuple[str, str, str], list[_Value]] = defaultdict(list)
    for write in writes:
        found[write.target, write.action, write.field].append((write.old, write.new, write.sends))
    return found


def _values(found: Iterable[_Value]) -> list[tuple[str | None, str | None]]:
    return [(old, new) for old, new, _ in found]


def _told(values: Iterable[_Value]) -> str:
    return ", then ".join(f"{old or 'nothing'} -> {new or 'nothing'}" for old, new, _ in values)
