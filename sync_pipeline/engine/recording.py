"""The plans of a round, written into the ledger before anything of them is sent.

With the commands go the links that were found, the conflicts and reviews that a person has to see, and what both
systems have come to agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import VERSION
from sync_pipeline.core.commands import Command, Plan, Review
from sync_pipeline.core.deal import customer_intent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.world import World
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.defects import together
from sync_pipeline.engine.observe import found_links
from sync_pipeline.engine.resolve import by_the_plan
from sync_pipeline.engine.settling import LINKED_KINDS
from sync_pipeline.ledger import attempts, audit, base, commands, conflicts, links, reviews, work
from sync_pipeline.ledger.commands import CommandRow, NewCommand
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.stripe.errors import KEY_REUSED

ACCOUNTS_PER_TRANSACTION = 100
LINK_CONFLICT = "link_conflict"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A plan in the ledger: the commands that may be sent, how many links were made, and whether more can be planned
    now that it is there: something was linked, or a conflict found. It `holds` where something stays in doubt that it
    has to wait for; `unlisted` are creates in doubt that the list has to tell of."""

    rows: list[CommandRow]
    linked: int
    leads_on: bool
    holds: bool = False
    unlisted: Sequence[CommandRow] = ()


def record_all(
    engine: Engine,
    claims: Sequence[Claim],
    worlds: Mapping[str, World],
    plans: Mapping[str, Plan],
    in_doubt: Mapping[str, Sequence[CommandRow]],
    tell: Callable[[str], None],
) -> dict[str, Recorded]:
    """Writes the plans into the ledger, some accounts in a transaction.

    Of what is `in_doubt` that may be sent again which the plans still want.
    An account that is not ours any more is left out: then its new holder's plan stands, and nothing is written. One
    whose plan cannot be written down is told, and waits.
    """
    recorded: dict[str, Recorded] = {}

    def record(some: Sequence[Claim]) -> None:
        with engine.ledger.tx() as conn:
            ours = work.held(conn, some, now_wall=engine.env.wall(), margin_us=0)
            stopped = commands.parked_with(conn, ours, error=KEY_REUSED, code_version=engine.code_version)
            recorded.update(
                (name, _record(conn, engine, worlds[name], plans[name], stopped.get(name, ()), in_doubt.get(name, ())))
                for name in sorted(ours)
            )

    ordered = sorted(claims, key=lambda claim: claim.account)
    for start in range(0, len(ordered), ACCOUNTS_PER_TRANSACTION):
        some = ordered[start : start + ACCOUNTS_PER_TRANSACTION]
        for claim, failure in together(some, lambda each: each.account, record):
            tell(failure.why)
            recorded[claim.account] = Recorded([], 0, leads_on=False, holds=True)
    return recorded


def _record(
    conn: Connection,
    engine: Engine,
    world: World,
    planned: Plan,
    stopped: Sequence[CommandRow],
    in_doubt: Sequence[CommandRow],
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
    finds = any(conflict.key not in known for conflict in planned.conflicts)
    linked = 0
    conflicts.put(conn, planned.conflicts)
    for command in planned.commands:
        if command.action == "link":
            kind, external_id = command.body["kind"], command.body["external_id"]
            link = links.Link(world.account_id, "stripe", kind, external_id, subject=command.subject)
            if (conflict := _put_link(conn, link, now)) is not None:
                open_reviews.append(conflict)
            else:
                linked += 1
                _audit_link(engine, conn, command, now)
    for customer_id, seen in sorted(world.customers.items()):
        if isinstance(seen, Present) and seen.value.deleted:
            _forget_customer(conn, engine, world, customer_id, now)
    leads_on = finds or linked > 0
    doubts = by_the_plan(conn, engine, world, planned, in_doubt)
    sendable = [command for command in planned.commands if command.action != "link"]
    if stopped:
        reviews.reconcile(conn, world.account_id, open_reviews, now)
        return Recorded([], linked, leads_on, holds=bool(in_doubt))
    if not world.unknown_parts:
        # A plan from half a look wants less than there is: what it does not mention is not settled by it.
        reviews.reconcile(conn, world.account_id, open_reviews, now)
        commands.retire(conn, world.account_id, wanted=[command.key for command in sendable], now=now)
    creates = {each.key: each.body["object"] for each in sendable if each.action == "stripe.create"}
    newest = commands.newest(conn, creates)
    # Who had this deal before may have finished only after this look: a merge moves it while it is worked on.
    if made := {key for key, row in newest.items() if row.has_made and creates[key] in LINKED_KINDS}:
        sendable = [command for command in sendable if command.key not in made]
        leads_on = True
    for key, row in newest.items():
        if row.has_made and key not in made and not row.moves_money and row.changed_at <= world.now:
            # What it made is gone again, as this look shows: the old key would only repeat the old answer.
            attempts.next_generation(conn, row.id)
    # Whoever has a deal since it was moved waits for what is in doubt where it was.
    waits = any(row.is_unresolved and row.account != world.account_id for row in newest.values())
    rows = commands.propose(
        conn,
        as_new_commands(world, sendable),
        now=now,
        code_version=engine.code_version,
        new_id=engine.env.token,
    )
    unlisted = doubts.unlisted
    # What was kept from a record by a write that can arrive no more is planned by the next round.
    leads_on |= any(row.target in world.blocked and row not in doubts.left for row in in_doubt)
    return Recorded([*doubts.again, *rows], linked, leads_on or bool(unlisted), bool(doubts.left) or waits, unlisted)


def _put_link(conn: Connection, link: links.Link, now: int) -> Review | None:
    """Stores a link, or says that somebody else has it."""
    try:
        links.put(conn, link, now)
    except links.LinkConflict as conflict:
        key = f"{LINK_CONFLICT}:{link.kind}:{link.external_id}"
        return Review(key, link.account, LINK_CONFLICT, link.subject, str(conflict))
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


def _at_stripe(world: World) -> str | None:
    """A hash of what is agreed on at Stripe: what it refused is tried again once somebody has changed that there."""
    if not isinstance(world.billing, Present):
        return None
    held = world.billing.value
    customers = {name: seen.value for name, seen in world.customers.items() if isinstance(seen, Present)}
    return canonical.sha256([customers, held.subscriptions, held.items, held.discounts, held.schedules])


def as_new_commands(world: World, planned: Sequence[Command]) -> list[NewCommand]:
    """Commands as the outbox takes them, with what is known of the records that they were planned from."""
    versions = _versions(world)
    at_stripe = _at_stripe(world) if any(command.system == "stripe" for command in planned) else None
    return [as_new_command(each, versions, at_stripe if each.system == "stripe" else None) for each in planned]


def as_new_command(command: Command, versions: Mapping[str, int | None], at_stripe: str | None = None) -> NewCommand:
    """A command as the outbox takes it. `versions` are those of the records that it was planned from."""
    return NewCommand(
        key=command.key,
        account=command.account,
        target=command.target,
        kind=command.action,
        priority=int(command.priority),
        body=canonical.encode(command.body),
        input_hash=canonical.sha256(
            [command.digest(), versions.get(command.body.get("id", "")) or versions.get(command.subject), at_stripe]
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
