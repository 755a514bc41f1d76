"""Commands: what the planner decided, and the attempts to send it. The outbox, written before the wire.

    planned --begin--> sending --done--> done
       |                  |-----rejected--> rejected | parked
       |                  |-----ambiguous--> ambiguous --begin--> sending (the same key and body again)
       |                  |                      '--next_generation--> planned (proven absent, a new key)
       |                  '-----throttled, stale--> planned
       '--another body, or not wanted any more--> superseded

A body never changes once it is stored, and what may have reached its target is never superseded: it
blocks its target until it is resolved. An unsent command is only a note of the last plan; losing it
costs nothing, because the planner decides again. Losing an attempt would: it is written, in a
transaction of its own that checks the claim, before its request leaves the machine.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Select, and_, delete, exists, func, or_, select, update
from sqlalchemy import insert as plain_insert

from sync_pipeline.ledger import work
from sync_pipeline.ledger.database import LedgerError, NewId
from sync_pipeline.ledger.statements import batches, record
from sync_pipeline.ledger.tables import OPEN_STATES, UNRESOLVED_STATES, attempt, command

State = Literal["planned", "sending", "ambiguous", "done", "rejected", "parked", "superseded"]
Outcome = Literal["done", "rejected", "ambiguous", "throttled", "stale"]

# What may become of a command by each outcome of its attempt.
STATES_AFTER: dict[Outcome, tuple[State, ...]] = {
    "done": ("done",),
    "rejected": ("rejected", "parked"),
    "ambiguous": ("ambiguous",),
    "throttled": ("planned",),
    "stale": ("planned",),
}


class LostClaim(Exception):
    """The account is no longer ours, or not for long enough to send: nothing may be sent for it."""


@dataclass(frozen=True, slots=True)
class NewCommand:
    """What the planner wants done.

    `key` names the intent, forever; `target` the object that the command writes; `body` and `changes`
    are canonical JSON, as are the `agreements` that become the merge base when it takes effect; `input_hash`
    covers what the command was planned from.
    """

    key: str
    account: str
    target: str
    kind: str
    priority: int
    body: str
    input_hash: str
    reason: str
    changes: str
    agreements: str


@dataclass(frozen=True, slots=True)
class CommandRow(NewCommand):
    """A stored command. `number` counts the commands of its key from 1.

    `first_sent` is the age of the idempotency key (key and generation), also when an earlier command
    of the key was the one that used it. `attempt_id` and what follows are of its latest attempt.
    """

    id: str
    number: int
    generation: int
    next_generation: int
    state: State
    code_version: str
    created_at: int
    changed_at: int
    first_sent: int | None
    last_sent: int | None
    attempt_id: str | None
    deadline_wall: int | None
    attempt_number: int | None
    http_status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Leave to send one command once, until `deadline_wall`; `number` counts the command's attempts from 1."""

    id: str
    command_id: str
    number: int
    idempotency_key: str
    deadline_wall: int


def propose(
    conn: Connection, commands: Iterable[NewCommand], *, now: int, code_version: str, new_id: NewId
) -> list[CommandRow]:
    """Stores the commands that may be sent and returns them, as planned rows, in the order given.

    Left out: a command whose key or target has an unresolved command, a repetition of a key within
    `commands`, and one that is parked and would meet the same refusal (same inputs, same code).
    """
    wanted = list(commands)
    newest = _newest(conn, (item.key for item in wanted))
    blocked = {
        (row.account, row.target)
        for rows in unresolved(conn, (item.account for item in wanted)).values()
        for row in rows
    }
    admitted: dict[str, CommandRow] = {}
    for item in wanted:
        last = newest.get(item.key)
        if item.key in admitted or (item.account, item.target) in blocked:
            continue
        if last is not None and (last.state in UNRESOLVED_STATES or _still_parked(last, item, code_version)):
            continue
        if last is not None and last.state == "planned" and last.body == item.body:
            admitted[item.key] = _reuse(conn, last, item, now, code_version)
        else:
            admitted[item.key] = _add(conn, last, item, now, code_version, new_id())
    return list(admitted.values())


def unresolved(conn: Connection, accounts: Iterable[str]) -> dict[str, list[CommandRow]]:
    """Per account the commands whose outcome is not known, in the order in which they were sent.

    A row that is still `sending` although its `deadline_wall` has passed is ambiguous too: its process
    died, or failed to say what came of it. `begin` takes it as such.
    """
    found: defaultdict[str, list[CommandRow]] = defaultdict(list)
    for batch in batches(accounts):
        statement = _rows().where(command.c.account.in_(batch), command.c.state.in_(UNRESOLVED_STATES))
        for row in conn.execute(statement.order_by(command.c.last_sent, command.c.id)):
            found[row.account].append(CommandRow(**record(row)))
    return dict(found)


def get(conn: Connection, command_id: str) -> CommandRow:
    """The command with this id; LedgerError when there is none."""
    row = conn.execute(_rows().where(command.c.id == command_id)).first()
    if row is None:
        raise LedgerError(f"there is no command {command_id} in the ledger")
    return CommandRow(**record(row))


def begin(
    conn: Connection,
    *,
    claim: work.Claim,
    rows: Sequence[CommandRow],
    now: int,
    now_wall: int,
    deadline_wall: int,
    min_lease_us: int,
    instance_id: str,
    new_id: NewId,
) -> list[Attempt]:
    """The write-ahead: call it in a transaction of its own, read the clock inside it, commit, then send.

    Raises LostClaim when the claim's lease does not outlast both `now_wall + min_lease_us` and
    `deadline_wall`, after which the transport must refuse to write. Raises LedgerError for a command
    that has ended, that may still be in flight, or whose target has another unresolved command.
    """
    margin = max(min_lease_us, deadline_wall - now_wall)
    if not work.holds(conn, claim, now_wall=now_wall, margin_us=margin, lock=True):
        raise LostClaim(f"the claim on account {claim.account} (fence {claim.fence}) is lost or about to end")
    return [_begin(conn, claim, get(conn, row.id), now, now_wall, deadline_wall, instance_id, new_id()) for row in rows]


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
) -> bool:
    """Records what came of an attempt and puts its command into `state`.

    False, and nothing changes, when that is known already. An ambiguous attempt may still end as done
    or rejected (a late answer, or a look that found the object) while it is the command's latest and
    the command is ambiguous. Raises LedgerError for an unknown attempt, or a state that does not
    follow from the outcome.
    """
    if state not in STATES_AFTER[outcome]:
        raise LedgerError(f"a command whose attempt ended {outcome} cannot become {state}")
    row = conn.execute(
        select(attempt.c.outcome, attempt.c.number, attempt.c.cost_calls, command.c.id, command.c.state)
        .join(command, command.c.id == attempt.c.command_id)
        .where(attempt.c.id == attempt_id)
        .with_for_update()
    ).first()
    if row is None:
        raise LedgerError(f"there is no attempt {attempt_id} in the ledger")
    settled = outcome in ("done", "rejected")
    late = row.outcome == row.state == "ambiguous" and settled and get(conn, row.id).attempt_id == attempt_id
    if row.outcome is not None and not late:
        return False
    conn.execute(
        update(attempt)
        .where(attempt.c.id == attempt_id)
        .values(
            outcome=outcome,
            http_status=http_status,
            request_id=request_id,
            error=error,
            cost_calls=row.cost_calls + cost_calls,
            finished_at=now,
        )
    )
    conn.execute(update(command).where(command.c.id == row.id).values(state=state, changed_at=now))
    return True


def idempotency_key(instance_id: str, key: str, generation: int) -> str:
    """Stripe's Idempotency-Key of an intent: the same for every attempt of one generation.

    The body is not part of it: inputs that change between two attempts must not make a second object.
    """
    return "sfs1:" + hashlib.sha256(f"{instance_id}|{key}|{generation}".encode()).hexdigest()[:40]


def next_generation(conn: Connection, command_id: str) -> int:
    """Gives the intent a new idempotency key and returns the new generation.

    For an unresolved command: call it only after its deadline, and after proof that its object does not
    exist; it becomes planned, unsent. For one that has ended: a later command of the key gets the new
    generation, which a repeated absolute write needs, because the old key would replay the old answer.
    LedgerError for a command that is not the newest of its key.
    """
    row = get(conn, command_id)
    newer = select(func.max(command.c.number)).where(command.c.key == row.key)
    if conn.execute(newer).scalar_one() != row.number:
        raise LedgerError(f"command {command_id} is not the newest of {row.key}: it keeps its idempotency key")
    if row.state == "sending":
        _give_up(conn, row)
    generation = row.next_generation + 1
    values: dict[str, object] = {"next_generation": generation}
    if row.state in OPEN_STATES:
        values |= {"state": "planned", "generation": generation, "first_sent": None, "last_sent": None}
    conn.execute(update(command).where(command.c.id == command_id).values(values))
    return generation


def renew(conn: Connection, key: str) -> None:
    """The next command of this intent gets a new idempotency key: what the old one made is known to be gone."""
    last = _newest(conn, [key]).get(key)
    if last is not None and last.state not in UNRESOLVED_STATES:
        next_generation(conn, last.id)


def retire(conn: Connection, account: str, *, wanted: Iterable[str], now: int) -> int:
    """Supersedes the account's planned and parked commands whose key is not in `wanted` any more.

    Call it with all keys of a complete plan, so that what the plan dropped does not look parked forever.
    """
    keys = set(wanted)
    rows = conn.execute(
        select(command.c.id, command.c.key).where(
            command.c.account == account, command.c.state.in_(("planned", "parked"))
        )
    ).all()
    obsolete = sorted(row.id for row in rows if row.key not in keys)
    for command_id in obsolete:
        _supersede(conn, command_id, now)
    return len(obsolete)


def unpark(conn: Connection, account: str, now: int) -> None:
    """What was refused to the account may be tried once more: a person says that the reason is gone."""
    parked_ones = (command.c.account == account, command.c.state == "parked")
    conn.execute(update(command).where(*parked_ones).values(state="superseded", changed_at=now))


def parked(conn: Connection) -> list[CommandRow]:
    """Commands that were refused and wait for other inputs or other code, the longest-waiting first."""
    rows = conn.execute(_rows().where(command.c.state == "parked").order_by(command.c.changed_at, command.c.id))
    return [CommandRow(**record(row)) for row in rows]


def counts(conn: Connection) -> dict[str, int]:
    """State -> how many commands; states without commands are not in the result."""
    rows = conn.execute(select(command.c.state, func.count()).group_by(command.c.state).order_by(command.c.state))
    return dict(rows.all())


def prune(conn: Connection, before: int) -> int:
    """Deletes commands that ended before `before`, and unsent ones that old; their attempts stay.

    Parked and unresolved commands are kept: they still say something about the present.
    """
    ended = command.c.state.in_(("done", "rejected", "superseded"))
    unsent = and_(command.c.state == "planned", command.c.first_sent.is_(None))
    return conn.execute(delete(command).where(command.c.changed_at < before, or_(ended, unsent))).rowcount


def prune_attempts(conn: Connection, before: int) -> int:
    """Deletes attempts sent before `before` whose command is gone."""
    orphaned = ~exists().where(command.c.id == attempt.c.command_id)
    return conn.execute(delete(attempt).where(attempt.c.sent_at < before, orphaned)).rowcount


def _begin(
    conn: Connection,
    claim: work.Claim,
    row: CommandRow,
    now: int,
    now_wall: int,
    deadline_wall: int,
    instance_id: str,
    attempt_id: str,
) -> Attempt:
    if row.account != claim.account:
        raise LedgerError(f"command {row.id} is of account {row.account}, the claim of {claim.account}")
    if row.state == "sending" and row.deadline_wall is not None and row.deadline_wall < now_wall:
        _give_up(conn, row)
    elif row.state not in ("planned", "ambiguous"):
        raise LedgerError(f"command {row.id} is {row.state}: it cannot be sent")
    elif _target_is_blocked(conn, row):
        raise LedgerError(f"command {row.id}: {row.target} has another command whose outcome is not known")
    first_sent = now if row.first_sent is None else row.first_sent
    earlier = select(func.count()).where(attempt.c.command_id == row.id)
    made = Attempt(
        id=attempt_id,
        command_id=row.id,
        number=conn.execute(earlier).scalar_one() + 1,
        idempotency_key=idempotency_key(instance_id, row.key, row.generation),
        deadline_wall=deadline_wall,
    )
    conn.execute(plain_insert(attempt).values(**asdict(made), fence=claim.fence, sent_at=now))
    conn.execute(
        update(command)
        .where(command.c.id == row.id)
        .values(state="sending", first_sent=first_sent, last_sent=now, changed_at=now)
    )
    return made


def _give_up(conn: Connection, row: CommandRow) -> None:
    conn.execute(
        update(attempt)
        .where(attempt.c.id == row.attempt_id)
        .values(outcome="ambiguous", error="no outcome was recorded before the deadline")
    )


def _target_is_blocked(conn: Connection, row: CommandRow) -> bool:
    other = select(command.c.id).where(
        command.c.account == row.account,
        command.c.target == row.target,
        command.c.state.in_(UNRESOLVED_STATES),
        command.c.id != row.id,
    )
    return conn.execute(other).first() is not None


def _still_parked(last: CommandRow, item: NewCommand, code_version: str) -> bool:
    return last.state == "parked" and (last.input_hash, last.code_version) == (item.input_hash, code_version)


def _reuse(conn: Connection, last: CommandRow, item: NewCommand, now: int, code_version: str) -> CommandRow:
    fresh = asdict(item) | {"code_version": code_version}
    reused = replace(last, **fresh)
    if reused == last:
        return last
    conn.execute(update(command).where(command.c.id == last.id).values(**fresh, changed_at=now))
    return replace(reused, changed_at=now)


def _add(
    conn: Connection, last: CommandRow | None, item: NewCommand, now: int, code_version: str, command_id: str
) -> CommandRow:
    if last is not None and last.state in ("planned", "parked"):
        _supersede(conn, last.id, now)
    generation = last.next_generation if last else 0
    values: dict[str, object] = asdict(item) | {
        "id": command_id,
        "number": last.number + 1 if last else 1,
        "generation": generation,
        "next_generation": generation,
        "state": "planned",
        "code_version": code_version,
        "created_at": now,
        "changed_at": now,
        "first_sent": last.first_sent if last and last.generation == generation else None,
        "last_sent": None,
    }
    conn.execute(plain_insert(command).values(values))
    return get(conn, command_id)


def _supersede(conn: Connection, command_id: str, now: int) -> None:
    conn.execute(update(command).where(command.c.id == command_id).values(state="superseded", changed_at=now))


def _newest(conn: Connection, keys: Iterable[str]) -> dict[str, CommandRow]:
    found: dict[str, CommandRow] = {}
    newer = command.alias("newer_command")
    last = ~exists().where(newer.c.key == command.c.key, newer.c.number > command.c.number)
    for batch in batches(keys):
        rows = conn.execute(_rows().where(command.c.key.in_(batch), last))
        found.update((row.key, CommandRow(**record(row))) for row in rows)
    return found


def _rows() -> Select[tuple[object, ...]]:
    """Commands together with their latest attempt."""
    newer = attempt.alias("newer")
    latest = select(func.max(newer.c.number)).where(newer.c.command_id == command.c.id).scalar_subquery()
    joined = command.outerjoin(attempt, and_(attempt.c.command_id == command.c.id, attempt.c.number == latest))
    latest_columns = (
        attempt.c.id.label("attempt_id"),
        attempt.c.deadline_wall,
        attempt.c.number.label("attempt_number"),
        attempt.c.http_status,
        attempt.c.error,
    )
    return select(command, *latest_columns).select_from(joined)
