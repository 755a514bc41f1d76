"""Attempts: every send of a command, written before the wire. What a command is stands in commands.py.

An attempt is written in a transaction of its own that checks the claim, before its request leaves the machine;
losing one would lose the knowledge that something may have happened. The outcome is recorded once. The
idempotency key belongs to the intent (of an update to the command) and its generation, not to the attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, exists, func, or_, select, update
from sqlalchemy import insert as plain_insert

from sync_pipeline.ledger import work
from sync_pipeline.ledger.commands import CommandRow, State, get, get_all, newest, unresolved
from sync_pipeline.ledger.database import LedgerError, NewId
from sync_pipeline.ledger.statements import SOME, batches, setting
from sync_pipeline.ledger.tables import OPEN_STATES, UNRESOLVED_STATES, attempt, command

Outcome = Literal["done", "rejected", "ambiguous", "throttled", "stale"]

# What may become of a command by each outcome of its attempt.
STATES_AFTER: dict[Outcome, tuple[State, ...]] = {
    "done": ("done",),
    "rejected": ("rejected", "parked"),
    "ambiguous": ("ambiguous",),
    "throttled": ("planned", "ambiguous"),
    "stale": ("planned",),
}


_WITH_COMMAND = (
    select(attempt.c.outcome, attempt.c.number, attempt.c.cost_calls, command.c.id, command.c.state, command.c.account)
    .join(command, command.c.id == attempt.c.command_id)
    .where(attempt.c.id == bindparam("of"))
    .with_for_update()
)
_ANSWERED = setting(attempt, "outcome", "http_status", "request_id", "error", "cost_calls", "finished_at")
_MOVED_ON = setting(command, "state", "changed_at")
_NEXT_GENERATION = setting(command, "next_generation")
_INSERT = plain_insert(attempt)
_SENDING = (
    update(command)
    .where(command.c.id.in_(SOME))
    .values(
        state="sending",
        first_sent=func.coalesce(command.c.first_sent, bindparam("now")),
        last_sent=bindparam("now"),
        changed_at=bindparam("now"),
    )
)
_NEWEST_NUMBER = select(func.max(command.c.number)).where(command.c.key == bindparam("of"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """Leave to send one command once, until `deadline_wall`; `number` counts the command's attempts from 1."""

    id: str
    command_id: str
    number: int
    idempotency_key: str
    deadline_wall: int


def begin(
    conn: Connection,
    sendings: Sequence[tuple[work.Claim, CommandRow]],
    *,
    now: int,
    now_wall: int,
    deadline_wall: int,
    min_lease_us: int,
    instance_id: str,
    new_id: NewId,
    job: str | None = None,
) -> dict[str, Attempt]:
    """The write-ahead: call it in a transaction of its own, read the clock inside it, commit, then send.

    Returns the attempts by command id. A command is left out, and must not be sent, when its claim's lease does
    not outlast both `now_wall + min_lease_us` and `deadline_wall`, after which the transport must refuse to
    write; what a bulk `job` sends needs no lease until then, because the job holds its target. So is one that has
    ended since the caller read of it, because who had sent it was late to tell, or has another account since, because
    its own was merged. Raises LedgerError for a command that had
    ended before, that may still be in flight, or whose target has another unresolved command.
    """
    margin = min_lease_us if job else max(min_lease_us, deadline_wall - now_wall)
    held = work.held(conn, [claim for claim, _ in sendings], now_wall=now_wall, margin_us=margin)
    ours = [(claim, row) for claim, row in sendings if claim.account in held]
    current = get_all(conn, [row.id for _, row in ours])
    under_way = unresolved(conn, held)
    blocking = {(row.account, row.target): row.id for rows in under_way.values() for row in rows}
    made = []
    for claim, known in ours:
        row = current.get(known.id) or get(conn, known.id)
        if row.account != known.account or (row.state != known.state and row.state not in OPEN_STATES):
            continue
        _check(row, claim, blocking.setdefault((row.account, row.target), row.id), now_wall)
        if row.state == "sending":
            _give_up(conn, row)
        number = (row.attempt_number or 0) + 1
        key = idempotency_key(instance_id, _made_once(row), row.generation)
        made.append((claim.fence, Attempt(new_id(), row.id, number, key, deadline_wall)))
    if not made:
        return {}
    conn.execute(_INSERT, [asdict(item) | {"fence": fence, "sent_at": now, "job": job} for fence, item in made])
    for batch in batches(item.command_id for _, item in made):
        conn.execute(_SENDING, {"some": batch, "now": now})
    return {item.command_id: item for _, item in made}


def finish(
    conn: Connection,
    attempt_id: str,
    *,
    outcome: Outcome,
    state: State,
    http_status: int | None,
    request_id: str | None,
    error: str | None,
    now: int,
    cost_calls: int = 1,
) -> str | None:
    """Records what came of an attempt and puts its command into `state`.

    Returns the Account to which the command belongs by now: it may have been merged while its answer was on the way.
    None, and nothing changes, when it is known already what came of it. An ambiguous attempt may still end as done,
    rejected or throttled (a late answer, or a look that tells) while it is the command's latest without an answer and
    the command is ambiguous. Raises LedgerError for an unknown attempt, or a state that does not follow from the
    outcome.
    """
    if state not in STATES_AFTER[outcome]:
        raise LedgerError(f"a command whose attempt ended {outcome} cannot become {state}")
    row = conn.execute(_WITH_COMMAND, {"of": attempt_id}).first()
    if row is None:
        raise LedgerError(f"there is no attempt {attempt_id} in the ledger")
    settled = outcome in ("done", "rejected", "throttled")
    late = row.outcome == row.state == "ambiguous" and settled and unanswered(conn, row.id) == attempt_id
    if row.outcome is not None and not late:
        return None
    answer = {"http_status": http_status, "request_id": request_id, "error": error, "finished_at": now}
    conn.execute(_ANSWERED, {"of": attempt_id, "outcome": outcome, "cost_calls": row.cost_calls + cost_calls, **answer})
    conn.execute(_MOVED_ON, {"of": row.id, "state": state, "changed_at": now})
    return str(row.account)


def unanswered(conn: Connection, command_id: str) -> str | None:
    """The command's latest attempt whose answer is missing; those after it were turned away, which answers nothing.

    None where there is none any more: the worker that had seemed lost has written its answer down after all.
    """
    missing = or_(attempt.c.outcome.is_(None), attempt.c.outcome == "ambiguous")
    return conn.execute(
        select(attempt.c.id)
        .where(attempt.c.command_id == command_id, missing)
        .order_by(attempt.c.number.desc())
        .limit(1)
    ).scalar()


def idempotency_key(instance_id: str, key: str, generation: int) -> str:
    """Stripe's Idempotency-Key of an intent: the same for every attempt of one generation.

    The body is not part of it: inputs that change between two attempts must not make a second object.
    """
    return "sfs1:" + hashlib.sha256(f"{instance_id}|{key}|{generation}".encode()).hexdigest()[:40]


def _made_once(row: CommandRow) -> str:
    """What Stripe shall not do a second time: the intent of a create, the one command of an update.

    A ledger from a backup counts an intent's generations anew: an update that is wanted again would get the key of one
    that it has forgotten, and Stripe would answer as it did then, and do nothing.
    """
    return f"{row.key}|{row.id}" if row.kind == "stripe.update" else row.key


def next_generation(conn: Connection, command_id: str) -> int:
    """Gives the intent a new idempotency key and returns the new generation.

    For an unresolved command: call it only after its deadline, and after proof that its object does not
    exist; it becomes planned, unsent. For one that has ended: a later command of the key gets the new
    generation, which a repeated absolute write needs, because the old key would replay the old answer.
    LedgerError for a command that is not the newest of its key.
    """
    row = get(conn, command_id)
    if conn.execute(_NEWEST_NUMBER, {"of": row.key}).scalar_one() != row.number:
        raise LedgerError(f"command {command_id} is not the newest of {row.key}: it keeps its idempotency key")
    if row.state == "sending":
        _give_up(conn, row)
    generation = row.next_generation + 1
    if row.state in OPEN_STATES:
        unsent = {"state": "planned", "generation": generation, "first_sent": None, "last_sent": None}
        conn.execute(update(command).where(command.c.id == command_id).values(next_generation=generation, **unsent))
    else:
        conn.execute(_NEXT_GENERATION, {"of": command_id, "next_generation": generation})
    return generation


def renew(conn: Connection, key: str) -> None:
    """The next command of this intent gets a new idempotency key: what the old one made is known to be gone."""
    last = newest(conn, [key]).get(key)
    if last is not None and last.state not in UNRESOLVED_STATES:
        next_generation(conn, last.id)


def prune(conn: Connection, before: int) -> int:
    """Deletes attempts sent before `before` whose command is gone."""
    orphaned = ~exists().where(command.c.id == attempt.c.command_id)
    return conn.execute(delete(attempt).where(attempt.c.sent_at < before, orphaned)).rowcount


def _check(row: CommandRow, claim: work.Claim, first: str, now_wall: int) -> None:
    """Raises LedgerError when the command must not be sent; `first` is the one that has its target."""
    if row.account != claim.account:
        raise LedgerError(f"command {row.id} is of account {row.account}, the claim of {claim.account}")
    died = row.state == "sending" and row.deadline_wall is not None and row.deadline_wall < now_wall
    if row.state not in ("planned", "ambiguous") and not died:
        raise LedgerError(f"command {row.id} is {row.state}: it cannot be sent")
    if first != row.id:
        raise LedgerError(f"command {row.id}: {row.target} has another command whose outcome is not known")


def _give_up(conn: Connection, row: CommandRow) -> None:
    conn.execute(
        update(attempt)
        .where(attempt.c.id == row.attempt_id)
        .values(outcome="ambiguous", error="no outcome was recorded before the deadline")
    )
