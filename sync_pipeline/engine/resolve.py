"""Commands whose outcome is not known: settled before anything else is planned for their account.

What moves money waits for the next look, which tells whether it was done, and for the next plan, which tells whether it
is still wanted. It is sent again with its own key where the plan wants the same; otherwise it is planned anew, under a
new key, once it can arrive no more, as is an update that Stripe refuses now: that tells nothing of the request before.
An update whose key Stripe answers with a failure that it has kept is planned anew at once (settling.py). Other creates
are sent again with their own key at once. Where Stripe keeps a create's key no more, has answered it with 5xx twice (it
saves and repeats a failure), refuses now what it may have done before, or the plan wants no such thing, the strongly
consistent list is asked whether the object exists: adopted if it does; if it does not, a new key, once the request can
arrive no more, or at once where what it names can be made once only. An update or upsert of Salesforce sets absolute
values, and the next look tells whether it was done: if not, it is planned anew. Only what goes both ways holds its
record until it is shown there or can arrive no more, because late it would be taken for an edit of sales. What is made
once there is sent again, and found by the same call. An alert that may have been sent is never sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Plan
from sync_pipeline.core.foresight import LOOKED_AT, shown
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.world import World
from sync_pipeline.engine.apply import Applied, key_is_old, resend
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.settling import finish, may_come_late, settle, still_ours
from sync_pipeline.ledger import attempts, bulk_jobs, commands
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.alerts import UNANSWERED
from sync_pipeline.systems.outcomes import Outcome, ReadFailed

NO_ANSWER = Outcome("throttled", message="no answer, and no look shows that it took effect")
NAMED_BY_US = frozenset({"product", "price", "coupon"})
"""Stripe makes no second one with their id or lookup key, so that a request which arrives late is refused."""
TURNED_AWAY = (401, 403, 409, 429)
"""Answers that say nothing of a request, so that its key is as good as before."""
GRACE_US = 360 * 1_000_000
"""A request that nobody waits for any more arrives within this time of its write-ahead, or never: it leaves within
`SEND_WITHIN_US`, and five minutes are long for what lies between."""
SALESFORCE_GRACE_US = 630 * 1_000_000
"""The same for a call of Salesforce, which works on one for ten minutes at most, whether anybody waits or not."""


def resolve(engine: Engine, claims: Sequence[Claim], *, between: Callable[[], None]) -> Applied:
    """Tries to settle every unresolved command of the claimed accounts; what stays open blocks its target.

    `between` is called before each account that has some, while nothing is in flight.
    """
    result = Applied()
    with engine.ledger.read() as conn:
        open_rows = commands.unresolved(conn, [claim.account for claim in claims])
    for claim in [claim for claim in claims if claim.account in open_rows]:
        between()
        tried = contained(claim.account, partial(_resolve_one, engine, claim, open_rows[claim.account], result))
        if isinstance(tried, Unknown):
            result.failed(claim.account, tried)
    return result


def _resolve_one(engine: Engine, claim: Claim, rows: Sequence[CommandRow], result: Applied) -> None:
    for row in rows:
        taken_out = _taken_out(engine, claim, row, row.job) if row.job and row.state == "sending" else None
        if taken_out is not None:
            result.held.update([] if taken_out else [claim.account])
        elif row.state == "sending" and (row.deadline_wall or 0) >= engine.env.wall():
            result.waiting.add(claim.account)
        elif row.kind == "stripe.create" and _key_is_spent(engine, row):
            probe(engine, claim, row, result)
        elif row.moves_money or row.kind in LOOKED_AT:
            result.in_doubt.setdefault(claim.account, []).append(row)
        elif row.system == "salesforce":
            settle(engine, claim, row, NO_ANSWER)
        elif row.kind == "alert.send":
            settle(engine, claim, row, UNANSWERED)
        else:
            resend(engine, claim, row, result)


def by_the_look(
    engine: Engine,
    claims: Sequence[Claim],
    worlds: dict[str, World],
    in_doubt: dict[str, list[CommandRow]],
    tell: Callable[[str], None],
) -> list[CommandRow]:
    """Takes out of `in_doubt` what is shown to have happened, and returns it: of its accounts more is known now.

    What Salesforce shows not to have happened is not in doubt either, and its record is free again in `worlds`, unless
    it may come late and must not. What cannot be written down is told, and stays in doubt.
    """
    settled = []
    for claim in [claim for claim in claims if claim.account in in_doubt and claim.account in worlds]:
        for row in in_doubt.pop(claim.account):
            world = worlds[claim.account]
            found = shown(world, engine.rules, row.kind, canonical.decode(row.body))
            seen = None if found is None else Outcome("done", object_id=found, message="seen by a look")
            if row.kind in LOOKED_AT and not isinstance(world.account, Unknown) and not may_come_late(engine, row):
                seen = seen or NO_ANSWER
            written = contained(claim.account, partial(settle, engine, claim, row, seen)) if seen else None
            if isinstance(written, Unknown):
                tell(written.why)
            if seen is None or isinstance(written, Unknown):
                in_doubt.setdefault(claim.account, []).append(row)
            elif found is not None:
                settled.append(row)
            else:
                worlds[claim.account] = replace(world, blocked=world.blocked - {row.target})
    return settled


@dataclass(frozen=True, slots=True)
class Doubts:
    """What the plan makes of an account's commands in doubt: those that may be sent `again`, those that are `left` in
    doubt and hold their targets, and creates of which Stripe's list has to tell (`unlisted`)."""

    again: list[CommandRow] = field(default_factory=list)
    left: list[CommandRow] = field(default_factory=list)
    unlisted: list[CommandRow] = field(default_factory=list)


def by_the_plan(
    conn: Connection, engine: Engine, world: World, planned: Plan, in_doubt: Sequence[CommandRow]
) -> Doubts:
    """Where the plan wants the same, the same key makes it happen once, also if it happened and was edited since.

    Where it wants something else, the old request must not follow the new one: it is waited for until it can arrive no
    more.
    """
    bodies = {command.key: canonical.encode(command.body) for command in planned.commands}
    doubts = Doubts()
    for row in in_doubt:
        if bodies.get(row.key) == row.body and not _key_is_spent(engine, row):
            doubts.again.append(row)
        elif world.unknown_parts or (row.kind != "stripe.create" and not _is_given_up(row, world.now)):
            doubts.left.append(row)
        elif row.kind == "stripe.create":
            doubts.unlisted.append(row)
        elif commands.get(conn, row.id).account == world.account_id:
            attempts.next_generation(conn, row.id)
    return doubts


def probe(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> None:
    """Asks the list whether a create has happened. If not, it gets a new key once the old one can do no harm."""
    body = canonical.decode(row.body)
    try:
        found = engine.stripe.find_created(body["object"], body["params"], since=row.first_sent or 0)
    except ReadFailed:
        result.waiting.add(row.account)
        return
    if found is not None:
        settle(engine, claim, row, Outcome("done", object_id=found, message="found in the list"))
        return
    if body["object"] not in NAMED_BY_US and not _is_given_up(row, engine.env.now()):
        result.waiting.add(row.account)
        return
    with engine.ledger.tx() as conn:
        if still_ours(conn, engine, claim) and commands.get(conn, row.id).account == claim.account:
            attempts.next_generation(conn, row.id)


def _taken_out(engine: Engine, claim: Claim, row: CommandRow, job: str) -> bool | None:
    """Takes an update out of its bulk job, to be planned anew; False when the job is on its way, and will tell.

    None when the job is over, and what it told of this update could not be written down.
    """
    with engine.ledger.tx() as conn:
        if (gathers := bulk_jobs.gathers(conn, job)) is None:
            return None
        if not gathers or not still_ours(conn, engine, claim):
            return False
        again = Outcome("throttled", message="the account was looked at again before its bulk job left")
        if (attempt_id := attempts.unanswered(conn, row.id)) is not None:
            finish(conn, engine, row, attempt_id, again, calls=0)
    return True


def _key_is_spent(engine: Engine, row: CommandRow) -> bool:
    """Whether sending it again with its key would not tell what became of it.

    A failure of Stripe itself is no such answer to an update: one that was kept is known as such (settling.py).
    """
    answered = row.http_status or 0
    of_the_key = 400 <= answered < (600 if row.kind == "stripe.create" else 500) and answered not in TURNED_AWAY
    return key_is_old(engine, row) or ((row.attempt_number or 0) > 1 and of_the_key)


def _is_given_up(row: CommandRow, now: int) -> bool:
    """Whether its last request, if it ever arrives, had arrived at this moment."""
    grace = SALESFORCE_GRACE_US if row.system == "salesforce" else GRACE_US
    return row.last_sent is None or now - row.last_sent >= grace
