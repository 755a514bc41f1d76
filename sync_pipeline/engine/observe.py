"""Looking at both systems: the worlds of some accounts, each observed whole.

A read that fails makes its part of the world unknown, which plans nothing; it never looks like absence. Money
facts that a look proves are appended to the ledger here, before anything is planned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from sync_pipeline.core.conflict import Conflict
from sync_pipeline.core.crosswalk import BY_FIELD, SCHEDULE, Match, match_schedule, match_subscription, own_billing
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.observation import Absent, Observation, Present, Unknown, Unreadable
from sync_pipeline.core.part_ids import MAX_PARTS, opportunity_of, part_id
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.salesforce_records import Account, Contract, Opportunity
from sync_pipeline.core.stripe_lines import products_to_look_up
from sync_pipeline.core.unrecorded import unrecorded_facts
from sync_pipeline.core.world import Deal, Link, World
from sync_pipeline.engine.context import Engine, SalesforceReads, StripeReads
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.engine.merges import follow_merges
from sync_pipeline.engine.stripe_side import with_stripe
from sync_pipeline.ledger import base, commands, conflicts, facts, links, work
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.reads import AccountRecords

ACCOUNTS_PER_READ = 1_000
ACCOUNTS_PER_BREATH = 20
NOTHING_KNOWN: Mapping[str, World] = {}
NOTHING_SEEN: Mapping[str, AccountRecords] = {}
NOTHING_LISTED: Mapping[str, StripeReads] = {}
NONE: frozenset[str] = frozenset()

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the ledger knows of an account before the look."""

    links: tuple[Link, ...]
    base: Mapping[tuple[str, str], str]
    facts: tuple[Fact, ...]
    blocked: frozenset[str]
    once: frozenset[str]
    untaxed: frozenset[str]
    reverts: Mapping[tuple[str, str], tuple[int, ...]]
    conflicts: tuple[Conflict, ...]


def observe(
    engine: Engine,
    account_ids: Sequence[str],
    *,
    salesforce: SalesforceReads | None = None,
    stripe: StripeReads | None = None,
    known: Mapping[str, World] = NOTHING_KNOWN,
    seen: Mapping[str, AccountRecords] = NOTHING_SEEN,
    listed: Mapping[str, StripeReads] = NOTHING_LISTED,
    between: Callable[[], None] = lambda: None,
) -> dict[str, World]:
    """The worlds of the accounts, from fresh reads unless snapshot tables are given.

    `known` are worlds of an earlier look under the same claims, of accounts to which nothing was written at Stripe
    since: their Stripe side is not read again. A change of somebody else makes the account due once more. `seen` are
    Accounts that the last write's own call has shown: their Salesforce side is not read again. `listed` are those whose
    Stripe side has been read from whole lists.

    `between` is called every few accounts, because the reads of many take minutes.

    Only a fresh read appends the money facts that it proves: a table may be older than what is known.
    """
    remembered = _remember(engine, account_ids)
    worlds: dict[str, World] = {}

    def look(world: World) -> World:
        seen = records.get(world.account_id)
        contracts = seen.contracts if seen is not None else ()
        reads = stripe or listed.get(world.account_id, engine.stripe)
        return with_stripe(engine.rules, world, known.get(world.account_id), reads, contracts)

    for start in range(0, len(account_ids), ACCOUNTS_PER_READ):
        chunk = account_ids[start : start + ACCOUNTS_PER_READ]
        records = {each: seen[each] for each in chunk if each in seen}
        failure = None
        try:
            if left := [each for each in chunk if each not in seen]:
                records |= (salesforce or engine.salesforce).accounts(left)
        except ReadFailed as error:
            if error.access:
                raise
            failure = str(error)
        if merged := _followed(engine, records):
            remembered |= _remember(engine, sorted(merged))
        for account_id, held in _links_elsewhere(engine, records, remembered).items():
            kept = remembered[account_id]
            remembered[account_id] = replace(kept, links=(*kept.links, *held))
        for place in range(0, len(chunk), ACCOUNTS_PER_BREATH):
            between()
            breath, began = chunk[place : place + ACCOUNTS_PER_BREATH], engine.env.wall()
            begun = [_with_salesforce(engine, each, remembered[each], records, failure) for each in breath]
            whole = engine.env.each(look, begun)
            seen_now = {world.account_id: world for world in _with_listed(engine, whole)}
            worlds |= _with_facts(engine, seen_now, began) if stripe is None else seen_now
    return worlds


def find_merges(engine: Engine, account_ids: Sequence[str]) -> dict[str, str]:
    """Those of some vanished Accounts that were merged, each with the one that has what was theirs. Raises ReadFailed.

    The ledger follows.
    """
    left: dict[str, str] = {}
    for start in range(0, len(account_ids), ACCOUNTS_PER_READ):
        left |= _followed(engine, engine.salesforce.accounts(account_ids[start : start + ACCOUNTS_PER_READ]))
    return left


def proved_facts(world: World, rules: Rules) -> tuple[World, list[Fact]]:
    """The money facts that a world proves and the ledger does not have."""
    return _of_billing(world, partial(unrecorded_facts, world, rules), [])


def _of_billing(world: World, work: Callable[[], Found], nothing: Found) -> tuple[World, Found]:
    """What is found out from what Stripe shows; where that goes wrong, the world is as if Stripe had not been read."""
    found = contained(world.account_id, work)
    return (replace(world, billing=found), nothing) if isinstance(found, Unknown) else (world, found)


def found_links(world: World) -> list[Link]:
    """Subscriptions and schedules that metadata or fields identify and the crosswalk does not know yet."""
    billing = own_billing(world)
    if billing is None:
        return []
    known = {link.external_id for link in world.links}
    found = []
    # Where several deals name one subscription, it belongs to the first that was closed.
    for deal in sorted(world.deals, key=lambda each: (each.opportunity.close_date or "", each.opportunity.id)):
        match = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        shared = deal.opportunity.amends_opportunity_id and isinstance(match, Match) and match.evidence == BY_FIELD
        if isinstance(match, Match) and match.id not in known and not shared:
            known.add(match.id)
            found.append(Link("subscription", deal.opportunity.id, match.id))
        schedule = match_schedule(deal.opportunity, billing.schedules, world.links, world.org_id)
        if schedule is not None and schedule.id not in known:
            found.append(Link(SCHEDULE, deal.opportunity.id, schedule.id))
    return found


def _remember(engine: Engine, account_ids: Sequence[str]) -> dict[str, Remembered]:
    since = engine.env.now() - engine.rules.commercial.reverts_within_us
    with engine.ledger.read() as conn:
        linked = links.for_accounts(conn, account_ids)
        bases = base.for_accounts(conn, account_ids)
        known_facts = facts.for_accounts(conn, account_ids)
        unresolved = commands.unresolved(conn, account_ids)
        untaxed = commands.parked_with(conn, account_ids, error="tax_id_invalid", code_version=engine.code_version)
        put_back = commands.put_back(conn, account_ids, since)
        clashed = conflicts.for_accounts(conn, account_ids)
    return {
        account_id: Remembered(
            links=tuple(filter(None, map(_link, linked.get(account_id, [])))),
            base=bases.get(account_id, {}),
            facts=tuple(known_facts.get(account_id, [])),
            blocked=frozenset(row.target for row in unresolved.get(account_id, []) if not row.moves_money),
            once=frozenset(link.external_id for link in linked.get(account_id, []) if link.kind == "once"),
            untaxed=frozenset(row.target for row in untaxed.get(account_id, ())),
            reverts=put_back.get(account_id, {}),
            conflicts=clashed.get(account_id, ()),
        )
        for account_id in account_ids
    }


def _link(known: links.Link) -> Link | None:
    """A line of the crosswalk, if it is one that a plan may depend on."""
    if known.system != "stripe" or (known.kind != "customer" and (known.role, known.state) != ("primary", "live")):
        return None
    return Link(known.kind, known.subject, known.external_id, known.role if known.state == "live" else "former")


def _followed(engine: Engine, records: Mapping[str, AccountRecords]) -> dict[str, str]:
    """The Accounts that were merged into others, each with the one that has now what was theirs."""
    merged = {name: seen.merged_into for name, seen in records.items() if seen.merged_into is not None}
    if not merged:
        return {}
    with engine.ledger.tx() as conn:
        left = follow_merges(conn, merged, engine.env.now())
        work.mark_dirty(conn, left.values(), priority=int(Priority.WRITE_BACK), now_wall=engine.env.wall())
    return left


def _links_elsewhere(
    engine: Engine, records: Mapping[str, AccountRecords], remembered: Mapping[str, Remembered]
) -> dict[str, list[Link]]:
    """By Account the subscriptions and schedules of its deals that it was not remembered to have: they make known that
    a deal is billed already.

    Another Account holds them, because an Opportunity was moved between them; or this one does since somebody else has
    followed a merge, after it was remembered and before Salesforce answered.
    """
    account_of = {o.id: name for name, seen in records.items() for o in seen.opportunities}
    known = {(name, link.external_id) for name in records for link in remembered[name].links}
    with engine.ledger.read() as conn:
        held = _what_bills(conn, sorted(account_of))
        moved = [each.subject for each in held if (account_of[each.subject], each.external_id) not in known]
        parts = {part_id(each, n): account_of[each] for each in moved for n in range(2, MAX_PARTS + 1)}
        held += _what_bills(conn, sorted(parts))
    account_of |= parts
    found: dict[str, list[Link]] = {}
    for each in held:
        if (account_of[each.subject], each.external_id) not in known:
            link = Link(each.kind, each.subject, each.external_id, each.role)
            found.setdefault(account_of[each.subject], []).append(link)
    return found


def _what_bills(conn: Connection, deals: Sequence[str]) -> list[links.Link]:
    return [each for kind in ("subscription", SCHEDULE) for each in links.of_subjects(conn, "stripe", kind, deals)]


def _with_salesforce(
    engine: Engine,
    account_id: str,
    remembered: Remembered,
    records: Mapping[str, AccountRecords],
    failure: str | None,
) -> World:
    seen, of_renewals = records.get(account_id), engine.rules.commercial.renewal_record_type
    account: Observation[Account]
    if seen is None:
        account = Unknown(failure or "not read")
    elif seen.account is None:
        account = Absent(_why_absent(seen))
    elif isinstance(seen.account, Unreadable):
        account = Unknown(seen.account.why)
    else:
        account = Present(seen.account)
    return World(
        account_id=account_id,
        org_id=engine.salesforce.org_id,
        now=engine.env.now(),
        account=account,
        deals=_deals(seen, remembered.links) if seen is not None and isinstance(account, Present) else (),
        churn_records=seen.churn_records if seen is not None else (),
        tasks=seen.tasks if seen is not None else (),
        renewals=tuple(o for o in seen.opportunities if o.renewal_key) if seen is not None else (),
        links=remembered.links,
        base=remembered.base,
        facts=remembered.facts,
        blocked=remembered.blocked,
        once=remembered.once,
        untaxed=remembered.untaxed,
        reverts=remembered.reverts,
        conflicts=remembered.conflicts,
        conflict_records=seen.conflicts if seen is not None else (),
        record_types=engine.salesforce.record_types("opportunity") if of_renewals and seen is not None else {},
    )


def _why_absent(seen: AccountRecords) -> str:
    if seen.merged_into is not None:
        return f"it was merged into {seen.merged_into}"
    if seen.deleted:
        return "it was deleted in Salesforce"
    return "Salesforce does not show it: it was deleted for good, or this user may not see it"


def _deals(seen: AccountRecords, known: Iterable[Link]) -> tuple[Deal, ...]:
    """The won deals, and those that were: what they say of their billing still has to be kept true.

    One that was reopened before it could be told of its subscription is `known` to be billed all the same.
    """
    billed = {opportunity_of(link.subject) for link in known if link.kind == "subscription"}
    deals = [
        o
        for o in seen.opportunities
        if (o.is_won or o.billing_message or o.stripe_subscription_id or o.id in billed) and not o.renewal_key
    ]
    won = [opportunity for opportunity in deals if opportunity.is_won]
    return tuple(
        Deal(
            opportunity=opportunity,
            lines=tuple(line for line in seen.lines if line.opportunity_id == opportunity.id),
            contract=_contract(opportunity, won, seen),
        )
        for opportunity in deals
    )


def _contract(opportunity: Opportunity, won: Sequence[Opportunity], seen: AccountRecords) -> Contract | None:
    """The deal's Contract: the one that it names, that of its subscription, or the only one that an only deal can mean.

    One that another Opportunity names is that Opportunity's.
    """
    if opportunity.contract_id:
        return next((c for c in seen.contracts if c.id == opportunity.contract_id), None)
    if opportunity.stripe_subscription_id:
        for contract in seen.contracts:
            if contract.stripe_subscription_id == opportunity.stripe_subscription_id:
                return contract
    named = {other.contract_id for other in seen.opportunities}
    free = [contract for contract in seen.contracts if contract.id not in named]
    return free[0] if len(won) == 1 and len(free) == 1 else None


def _with_listed(engine: Engine, worlds: Sequence[World]) -> list[World]:
    """Adds the price book entries of products that are billed and on no line: few deals have any."""
    looks = [_of_billing(each, partial(products_to_look_up, each, engine.rules.commercial), NONE) for each in worlds]
    worlds = [world for world, _ in looks]
    products = {world.account_id: found for world, found in looks}
    wanted = NONE.union(*products.values())
    if not wanted:
        return worlds
    try:
        listed = engine.salesforce.price_book_entries(wanted)
    except ReadFailed as error:
        if error.access:
            raise
        unread = Unknown(str(error))
        return [replace(world, billing=unread) if products[world.account_id] else world for world in worlds]
    return [
        replace(world, listed=tuple(each for each in listed if each.product_id in products[world.account_id]))
        for world in worlds
    ]


def _with_facts(engine: Engine, worlds: dict[str, World], began: int) -> dict[str, World]:
    """Appends the money facts that the worlds prove, of a look since `began` (the computer's clock), and returns the
    worlds with them.

    What was seen by a process that stood still meanwhile is not: facts tell the moment of the look, and it is repeated
    before anything is written.
    """
    proofs = {name: proved_facts(world, engine.rules) for name, world in worlds.items()}
    worlds = {name: world for name, (world, _) in proofs.items()}
    new = {name: found for name, (_, found) in proofs.items() if found}
    if not new or engine.env.wall() - began > LEASE_US:
        return worlds
    with engine.ledger.tx() as conn:
        facts.append(conn, [fact for found in new.values() for fact in found])
        known = facts.for_accounts(conn, sorted(new))
    # Somebody may have followed a merge meanwhile: then the ledger has them as another Account's.
    proved = {name: known.get(name, [*worlds[name].facts, *found]) for name, found in new.items()}
    return worlds | {name: replace(worlds[name], facts=tuple(each)) for name, each in proved.items()}
