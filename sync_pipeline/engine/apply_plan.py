"""Writing a plan that was kept: the Accounts that still look as they did are brought to rest, the others are left.

The same loop writes as always. Its first look must ask for exactly what the plan says, or the Account is refused,
with the lines that moved; what follows from the first writes follows as planned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync_pipeline.core.commands import Plan
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
    """`refused` are Accounts whose lines have `moved`, `unread` tells by Account why it could not be read: nothing of
    either was written."""

    total: BatchReport = field(default_factory=BatchReport)
    moved: list[Moved] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

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
    with engine.ledger.tx() as conn:
        try_again(conn, names, engine.env)
    approval = _AsPlanned(planned, report, EVERYTHING if allow else RunGuard(engine))
    engine, me = replace(engine, approval=approval), engine.env.token()
    for accounts in queue.at_a_time(names):
        claims = queue.claim_named(engine, me, accounts, Priority.CREATE)
        report.total.add(bring_to_rest(engine, claims, owner=me))
        if left := len(set(accounts) - {claim.account for claim in claims}):
            report.total.deferred += left
            report.total.problems.add(f"{left} accounts are in other hands at present; apply the plan again")
    if allow and fitting and not report.moved:
        lift(engine)
    report.total.used += calls_so_far(engine.salesforce, engine.stripe) - before
    return report


@dataclass(slots=True)
class _AsPlanned(Approval):
    """Approves what the plan says, as the world is when it is written."""

    planned: Mapping[str, Sequence[PlannedWrite]]
    report: ApplyReport
    guard: Approval
    begun: set[str] = field(default_factory=set)

    def approved(
        self, worlds: Mapping[str, World], plans: Mapping[str, Plan], tell: Callable[[str], None]
    ) -> Collection[str]:
        unread = {each.account_id: each.why for each in not_read(worlds.values()) if each.account_id not in self.begun}
        self.report.unread |= unread
        for name in plans.keys() - self.begun - unread.keys():
            first = [write for write in self.planned[name] if write.step == 1]
            if _only_records(plans[name], first):
                self.begun.add(name)
                continue
            moved = list(_moved(name, first, planned_commands(plans[name].sent_first, step=1)))
            self.report.moved.extend(moved)
            if not moved:
                self.begun.add(name)
        return self.guard.approved(worlds, {name: plans[name] for name in self.begun & plans.keys()}, tell)

    def wrote(self, worlds: Mapping[str, World], plans: Mapping[str, Plan], rows: Iterable[CommandRow]) -> None:
        self.guard.wrote(worlds, plans, rows)


def _only_records(planned: Plan, first: Sequence[PlannedWrite]) -> bool:
    """Whether this round records new conflicts and writes nothing yet: the first writes of the plan show just these."""
    shown = {conflict.key for conflict in planned.conflicts}
    return not planned.commands and bool(first) and all(each.target.rpartition("/")[2] in shown for each in first)


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
