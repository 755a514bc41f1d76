"""The full comparison of both systems and its certificate: what agrees, what was repaired, what is left.

It plans from whole tables with the planner of the event path; accounts whose plan is not empty go through the
ordinary queue, which looks at them afresh before it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Plan
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.deal import account_currency
from sync_pipeline.core.differences import DifferenceClass, class_of_figure
from sync_pipeline.core.facts import lifetime_value
from sync_pipeline.core.foresight import Foreseen
from sync_pipeline.core.money import MoneyError, minor_units
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.readings import account_other_currencies, subjects
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.world import Billing, World
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.cost import Cost, calls_so_far
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.guard import check_everything
from sync_pipeline.engine.intake import try_again
from sync_pipeline.engine.lists import by_cost, keep_count
from sync_pipeline.engine.observe import find_merges, observe, proved_facts
from sync_pipeline.engine.planning import foresee_one, not_read, without_answer
from sync_pipeline.engine.recording import LINK_CONFLICT
from sync_pipeline.engine.rounds import BatchReport
from sync_pipeline.engine.snapshot import (
    ACCOUNT_FIGURES,
    SalesforceTables,
    StripeTables,
    Tables,
    least_for_tables,
    read_salesforce,
    read_stripe,
)
from sync_pipeline.ledger import commands, links, reviews, work
from sync_pipeline.systems.stripe.errors import KEY_REUSED

OF_THE_LEDGER = (LINK_CONFLICT, KEY_REUSED)
"""Reviews of what was found when a plan was written down: none of these is in a plan."""


@dataclass(frozen=True, slots=True)
class Compared:
    """All accounts that billing concerns, with what is ahead of each as the tables show it.

    Of `unrecorded` the ledger does not know the money in full; of `mistold` it tells people something else than what
    they have to decide; of `unread` the tables do not tell what they need.
    """

    ahead: Mapping[str, Foreseen]
    unrecorded: frozenset[str]
    mistold: frozenset[str]
    unread: frozenset[str]

    def different(self) -> list[str]:
        """Accounts with something to write, to link or to put into the ledger, or that have to be looked at again: also
        for what is in doubt."""
        to_write = {name for name, each in self.ahead.items() if each.rounds or each.in_doubt}
        return sorted(to_write | self.unrecorded | self.mistold | self.unread)


@dataclass(slots=True)
class Total:
    """One measure in one currency over all accounts, minor units: what each system says."""

    salesforce: int = 0
    stripe: int = 0

    @property
    def difference(self) -> int:
        return self.salesforce - self.stripe


@dataclass(frozen=True, slots=True)
class Left:
    """Something that still differs, or that a person has to decide."""

    account: str
    subject: str
    what: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of an Account: what each system says, what sort of difference that is, and what of it is left after
    the repair. Minor units."""

    account: str
    measure: str
    currency: str
    salesforce: int
    stripe: int
    difference_class: DifferenceClass
    left: int = 0

    @property
    def difference(self) -> int:
        return self.salesforce - self.stripe


@dataclass(slots=True)
class Certificate:
    """The result of a reconcile. `totals` is by measure and currency, minor units, after the repair; `differences` are
    the figures that differed before it; `beside` tells by Account what is billed there in other currencies than its
    own, which no total has; `cost` is that of the repair, and in a reconcile of all that it did."""

    at: int
    accounts: int = 0
    agreed: int = 0
    repaired: int = 0
    writes: int = 0
    left: list[Left] = field(default_factory=list)
    differences: list[Figure] = field(default_factory=list)
    totals: dict[str, dict[str, Total]] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    @property
    def agrees(self) -> bool:
        """Nothing differs, to the minor unit."""
        return not self.left and not any(t.difference for by in self.totals.values() for t in by.values())


def read_tables(engine: Engine) -> Tables:
    """Complete listings of both systems."""
    return read_salesforce(engine.salesforce) | read_stripe(engine.stripe)


def compare(engine: Engine, tables: Tables) -> Compared:
    """Plans every account that billing concerns from the tables, without writing to either system."""
    salesforce, stripe = SalesforceTables(tables), StripeTables(tables, engine.stripe)
    with engine.ledger.read() as conn:
        linked = links.all_accounts(conn, "stripe", "customer")
        told: dict[str, set[str]] = {}
        for review in reviews.open_reviews(conn):
            if review.rule not in OF_THE_LEDGER:
                told.setdefault(review.account, set()).add(review.key)
    with engine.ledger.tx() as conn:
        keep_count(conn, stripe.pages, engine.env.now())
    if gone := salesforce.not_shown(linked):
        moved = find_merges(engine, gone)
        linked = [moved.get(each, each) for each in linked]
    names = sorted({*salesforce.to_compare(), *linked, *told})
    worlds = observe(engine, names, salesforce=salesforce, stripe=stripe)
    proofs = {name: proved_facts(world, engine.rules) for name, world in worlds.items()}
    worlds = {name: replace(world, facts=(*world.facts, *facts)) for name, (world, facts) in proofs.items()}
    ahead = {name: foresee_one(engine, world, stripe) for name, world in worlds.items()}
    mistold = (name for name, each in ahead.items() if told.get(name, set()) != {r.key for r in each.now.reviews})
    unread = (each.account_id for each in not_read(each.before for each in ahead.values()))
    unrecorded = (name for name, (_, facts) in proofs.items() if facts)
    return Compared(ahead, frozenset(unrecorded), frozenset(mistold), frozenset(unread))


def repair(engine: Engine, accounts: Iterable[str], *, allow: bool = False) -> BatchReport:
    """Brings the accounts to rest through the queue, and tries once more what was refused to them.

    With `allow` no guard stops it. Raises Halted, GuardTripped.
    """
    accounts = list(accounts)
    with engine.ledger.tx() as conn:
        try_again(conn, accounts, engine.env)
        work.mark_dirty(conn, accounts, priority=int(Priority.SWEEP), now_wall=engine.env.wall())
    return drain(engine, DrainPlan(allow=allow)).total


def certify(engine: Engine, compared: Compared, written: BatchReport) -> Certificate:
    """What agrees now: the compared worlds, with the different accounts looked at afresh after their repair."""
    different = compared.different()
    fresh = observe(engine, different, listed=by_cost(engine, different)) if different else {}
    with engine.ledger.read() as conn:
        refused = {(row.account, row.key): f"; refused: {row.error}" for row in commands.parked(conn)}
    certificate = Certificate(
        at=engine.env.now(), accounts=len(compared.ahead), writes=written.writes, cost=written.cost
    )
    for name, before in compared.ahead.items():
        world = fresh.get(name, before.before)
        judged = contained(name, partial(_judge, engine, before, fresh.get(name)))
        if isinstance(judged, Unknown):
            world, judged = replace(world, account=judged), (Plan(), [], [])
        planned, differed, figures = judged
        left = [Left(name, name, each.why) for each in not_read([world])]
        left += [Left(name, c.target, c.reason + refused.get((name, c.key), "")) for c in planned.commands]
        left += [Left(name, each.target, each.why) for each in without_answer(planned.in_doubt)]
        left += [Left(name, review.subject, review.detail) for review in planned.reviews]
        left += _without_customer(world)
        certificate.left.extend(left)
        certificate.agreed += not left and name not in fresh
        certificate.repaired += not left and name in fresh
        if (beside := _beside(engine, world)) is not None:
            certificate.beside[name] = beside
        now = {figure.measure: figure for figure in figures}
        for figure in differed:
            after = now.get(figure.measure, figure)
            certificate.differences.append(replace(figure, left=after.difference))
        for figure in figures:
            total = certificate.totals.setdefault(figure.measure, {}).setdefault(figure.currency, Total())
            total.salesforce += figure.salesforce
            total.stripe += figure.stripe
    return certificate


def _judge(engine: Engine, before: Foreseen, fresh: World | None) -> tuple[Plan, list[Figure], list[Figure]]:
    """What is still to be done for an account, the figures that differed when it was compared, and those of now."""
    compared = list(_figures(engine, before.before))
    differed = [figure for figure in compared if figure.difference]
    if fresh is None:
        return before.now, differed, compared
    return plan(fresh, engine.rules, engine.personal_key), differed, list(_figures(engine, fresh))


def reconcile(engine: Engine, *, allow: bool = False) -> Certificate:
    """Full comparison and repair. With `allow` no guard stops it. Raises Halted, GuardTripped."""
    before = calls_so_far(engine.salesforce, engine.stripe)
    tables = read_tables(engine)
    least = least_for_tables(tables)
    compared = compare(engine, tables)
    if not allow:
        check_everything(engine, compared.ahead.values())
    written = repair(engine, compared.different(), allow=allow)
    certificate = certify(engine, compared, written)
    used = calls_so_far(engine.salesforce, engine.stripe) - before
    return replace(certificate, cost=Cost(used, least + written.cost.least))


def _without_customer(world: World) -> Iterator[Left]:
    """Money that an Account shows though it never had a customer: nothing says what should be there instead."""
    if not isinstance(world.account, Present) or not _never_had_a_customer(world):
        return
    account = world.account.value
    if shown := [field for field in ACCOUNT_FIGURES if getattr(account, field)]:
        what = f"it shows money ({', '.join(shown)}), but has no customer at Stripe; clear that, or bill a deal of it"
        yield Left(account.id, account.id, what)


def _never_had_a_customer(world: World) -> bool:
    """A customer that was deleted is a matter that the planner tells, and its Account's figures are as they were."""
    linked = any(link.kind == "customer" for link in world.links)
    return isinstance(world.billing, Absent) and not linked and not world.facts


def _beside(engine: Engine, world: World) -> str | None:
    """What is billed in other currencies than the Account's, in words."""
    account = next((each for each in subjects(world) if each.object == "account"), None)
    if account is None:
        return None
    found = contained(world.account_id, partial(account_other_currencies, world, engine.rules, account))
    return found.value if isinstance(found, Present) else None


def _figures(engine: Engine, world: World) -> Iterator[Figure]:
    billing = Billing() if _never_had_a_customer(world) else own_billing(world)
    if not isinstance(world.account, Present) or billing is None:
        return
    account = world.account.value
    currency = account_currency(account, engine.rules.commercial)
    try:
        measures = {
            "mrr": (account.mrr, monthly_recurring_revenue(billing, currency)),
            "lifetime_value": (account.lifetime_value, lifetime_value(world.facts, currency)),
        }
    except MoneyError:
        return
    for measure, (value, billed) in measures.items():
        base = canonical.decode(world.base.get((account.id, f"account.{measure}"), "null"))
        shown, agreed = (
            None if each is None else round(minor_units(Decimal(each), currency)) for each in (value, base)
        )
        what = class_of_figure(shown, billed.minor, agreed, has_customer=not _never_had_a_customer(world))
        yield Figure(account.id, measure, currency, shown or 0, billed.minor, what)
