"""Writing a plan that was kept: the Accounts that still look as they did are brought to rest, the others are left.

The same loop writes as always. Its first look must ask for exactly what the plan says, or the Account is refused,
with the lines that moved; what follows from the first writes follows as planned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sync_pipeline.core.commands import Plan
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.world import World
from sync_pipeline.engine import queue
from sync_pipeline.engine.context import Approval, Engine
from sync_pipeline.engine.cost import calls_so_far
from sync_pipeline.engine.guard import check, lift
from sync_pipeline.engine.intake import try_again
from sync_pipeline.engine.planning import PlanDocument, PlanError, foresee_accounts, not_read, stripe_account
from sync_pipeline.engine.rounds import BatchReport, bring_to_rest
from sync_pipeline.frames.plan import planned_commands, planned_writes
from sync_pipeline.frames.rows import PlannedWrite


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
        check(engine, fitting)
    names = [each.before.account_id for each in fitting]
    with engine.ledger.tx() as conn:
        try_again(conn, names, engine.env)
    approval = _AsPlanned(planned, report)
    engine, me = replace(engine, approval=approval), engine.env.token()
    for accounts in queue.at_a_time(names):
        claims = queue.claim_named(engine, me, accounts, Priority.CREATE)
        report.total.add(bring_to_rest(engine, claims, owner=me))
    if allow:
        lift(engine)
    report.total.used += calls_so_far(engine.salesforce, engine.stripe) - before
    return report


@dataclass(slots=True)
class _AsPlanned(Approval):
    """Approves what the plan says, as the world is when it is written."""

    planned: Mapping[str, Sequence[PlannedWrite]]
    report: ApplyReport
    begun: set[str] = field(default_factory=set)

    def approved(self, worlds: Mapping[str, World], plans: Mapping[str, Plan]) -> Collection[str]:
        unread = {each.account_id: each.why for each in not_read(worlds.values()) if each.account_id not in self.begun}
        self.report.unread |= unread
        for name in plans.keys() - self.begun - unread.keys():
            first = [write for write in self.planned[name] if write.step == 1]
            moved = list(_moved(name, first, planned_commands(plans[name].sent_first, step=1)))
            self.report.moved.extend(moved)
            if not moved:
                self.begun.add(name)
        return self.begun & plans.keys()


def _moved(account: str, planned: Iterable[PlannedWrite], now: Iterable[PlannedWrite]) -> Iterator[Moved]:
    """The lines in which two lists of one account's writes differ."""
    before, after = _by_line(planned), _by_line(now)
    for line in sorted(before.keys() | after.keys()):
        target, _, name = line
        if line not in after:
            yield Moved(account, target, name, "is not to be written any more")
        elif line not in before:
            yield Moved(account, target, name, f"is to be written now: {_told(after[line])}")
        elif before[line] != after[line]:
            yield Moved(account, target, name, f"planned {_told(before[line])}, now {_told(after[line])}")


def _by_line(writes: Iterable[PlannedWrite]) -> dict[tuple[str, str, str], list[tuple[str | None, str | None]]]:
    found: dict[tuple[str, str, str], list[tuple[str | None, str | None]]] = defaultdict(list)
    for write in writes:
        found[write.target, write.action, write.field].append((write.old, write.new))
    return found


def _told(values: Iterable[tuple[str | None, str | None]]) -> str:
    return ", then ".join(f"{old or 'nothing'} -> {new or 'nothing'}" for old, new in values)
