"""Commands: what the planner decided, from the plan to its end. Their attempts to be sent are in attempts.py.

    planned --begin--> sending --done--> done
       |                  |-----rejected--> rejected | parked
       |                  |-----ambiguous--> ambiguous --begin--> sending (the same key and body again)
       |                  |                      '--next_generation--> planned (proven absent, a new key)
       |                  '-----throttled, stale--> planned
       '--another body, or not wanted any more--> superseded

A body never changes once it is stored, and what may have reached its target is never superseded: it
blocks its target until it is resolved. An unsent command is only a note of the last plan; losing it
costs nothing, because the planner decides again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Literal

from sqlalchemy import Connection, Select, and_, bindparam, delete, exists, func, or_, select, update
from sqlalchemy import insert as plain_insert

from sync_pipeline.core import canonical
from sync_pipeline.ledger.database import LedgerError, NewId
from sync_pipeline.ledger.statements import SOME, batches, record
from sync_pipeline.ledger.tables import UNRESOLVED_STATES, attempt, command

BILLED = ("subscription", "subscription_schedule", "invoiceitem")

State = Literal["planned", "sending", "ambiguous", "done", "rejected", "parked", "superseded"]


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

    @property
    def system(self) -> str:
        """`stripe` or `salesforce`; `alert` is of neither."""
        return self.kind.partition(".")[0]

    @property
    def moves_money(self) -> bool:
        """Whether it changes what a customer is billed, or may: an update of anything at Stripe, and some creates."""
        made = canonical.decode(self.body)["object"] if self.kind == "stripe.create" else None
        return self.kind == "stripe.update" or made in BILLED


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
    outcome: str | None
    http_status: int | None
    error: str | None
    job: str | None

    @property
    def is_unresolved(self) -> bool:
        """Whether it may have reached its target, and nobody knows."""
        return self.state in UNRESOLVED_STATES

    @property
    def has_made(self) -> bool:
        """Whether it took effect, and its object is not known to be gone since."""
        return self.state == "done" and self.next_generation == self.generation


def propose(
    conn: Connection, commands: Iterable[NewCommand], *, now: int, code_version: str, new_id: NewId
) -> list[CommandRow]:
    """Stores the commands that may be sent and returns them, as planned rows, in the order given.

    Left out: a command whose key or target has an unresolved command, a repetition of a key within
    `commands`, and one that is parked and would meet the same refusal (same inputs, same code).
    """
    wanted = list(commands)
    if not wanted:
        return []
    earlier = newest(conn, (item.key for item in wanted))
    blocked = {
        (row.account, row.target)
        for rows in unresolved(conn, (item.account for item in wanted)).values()
        for row in rows
    }
    admitted: dict[str, CommandRow] = {}
    for item in wanted:
        last = earlier.get(item.key)
        if item.key in admitted or (item.account, item.target) in blocked:
            continue
        if last is not None and (last.is_unresolved or _still_parked(last, item, code_version)):
            continue
        if last is not None and last.state == "planned" and last.body == item.body:
            admitted[item.key] = _reuse(conn, last, item, now, code_version)
        else:
            admitted[item.key] = _add(conn, last, item, now, code_version, new_id())
    return list(admitted.values())


def still_refused(conn: Connection, wanted: Iterable[NewCommand], *, code_version: str) -> set[str]:
    """The keys of those that `propose` leaves out because they are parked."""
    items = {item.key: item for item in wanted}
    earlier = newest(conn, items)
    return {key for key, last in earlier.items() if _still_parked(last, items[key], code_version)}


def unresolved(conn: Connection, accounts: Iterable[str]) -> dict[str, list[CommandRow]]:
    """Per account the commands whose outcome is not known, in the order in which they were sent.

    A row that is still `sending` although its `deadline_wall` has passed is ambiguous too: its process
    died, or failed to say what came of it. `begin` takes it as such.
    """
    found: defaultdict[str, list[CommandRow]] = defaultdict(list)
    for batch in batches(accounts):
        for row in conn.execute(_unresolved_rows(), {"some": batch}):
            found[row.account].append(CommandRow(**record(row)))
    return dict(found)


def in_job(conn: Connection, job_id: str) -> list[tuple[str, str, str]]:
    """Account, id and body of every command that a bulk job sends and whose outcome is not known, by account."""
    wanted = (attempt.c.job == job_id, attempt.c.outcome.is_(None))
    joined = select(command.c.account, command.c.id, command.c.body)
    rows = conn.execute(
        joined.join(attempt, attempt.c.command_id == command.c.id)
        .where(*wanted)
        .order_by(command.c.account, command.c.id)
    )
    return [(row.account, row.id, row.body) for row in rows]


def get(conn: Connection, command_id: str) -> CommandRow:
    """The command with this id; LedgerError when there is none."""
    found = get_all(conn, [command_id]).get(command_id)
    if found is None:
        raise LedgerError(f"there is no command {command_id} in the ledger")
    return found


def get_all(conn: Connection, command_ids: Iterable[str]) -> dict[str, CommandRow]:
    """The commands with these ids, by id, as far as they exist."""
    rows = (row for batch in batches(command_ids) for row in conn.execute(_rows_by_id(), {"some": batch}))
    return {row.id: CommandRow(**record(row)) for row in rows}


def newest(conn: Connection, keys: Iterable[str]) -> dict[str, CommandRow]:
    """The newest command of each key that has one."""
    found: dict[str, CommandRow] = {}
    for batch in batches(keys):
        rows = conn.execute(_newest_rows(), {"some": batch})
        found.update((row.key, CommandRow(**record(row))) for row in rows)
    return found


def retire(conn: Connection, account: str, *, wanted: Iterable[str], now: int) -> int:
    """Supersedes the account's planned and parked commands whose key is not in `wanted` any more.

    Call it with all keys of a complete plan, so that what the plan dropped does not look parked forever.
    """
    keys = set(wanted)
    rows = conn.execute(_WAITING, {"of": account}).all()
    obsolete = sorted(row.id for row in rows if row.key not in keys)
    for command_id in obsolete:
        _supersede(conn, command_id, now)
    return len(obsolete)


def unpark(conn: Connection, command_ids: Iterable[str], now: int) -> None:
    """What was refused may be tried once more: the reason may be gone."""
    for batch in batches(command_ids):
        parked_ones = (command.c.id.in_(batch), command.c.state == "parked")
        conn.execute(update(command).where(*parked_ones).values(state="superseded", changed_at=now))


def put_back(
    conn: Connection, accounts: Iterable[str], since: int
) -> dict[str, dict[tuple[str, str], tuple[int, ...]]]:
    """When fields were put back after a moment: account -> (subject, rule) -> moments, oldest first."""
    found: dict[str, dict[tuple[str, str], tuple[int, ...]]] = {}
    for batch in batches(accounts):
        for account, changes, at in conn.execute(_PUT_BACK, {"some": batch, "since": since}):
            for change in canonical.decode(changes):
                if subject := change.get("put_back"):
                    moments = found.setdefault(account, {})
                    moments[subject, change["rule"]] = (*moments.get((subject, change["rule"]), ()), at)
    return found


def parked(conn: Connection) -> list[CommandRow]:
    """Commands that were refused and wait for other inputs or other code, the longest-waiting first."""
    rows = conn.execute(_rows().where(command.c.state == "parked").order_by(command.c.changed_at, command.c.id))
    return [CommandRow(**record(row)) for row in rows]


def parked_with(
    conn: Connection, accounts: Iterable[str], *, error: str, code_version: str
) -> dict[str, list[CommandRow]]:
    """Per account the commands that this version of the program had refused with an error that names this one."""
    found: defaultdict[str, list[CommandRow]] = defaultdict(list)
    for batch in batches(accounts):
        for row in conn.execute(_parked_rows(), {"some": batch, "by": code_version}):
            if error in (row.error or ""):
                found[row.account].append(CommandRow(**record(row)))
    return dict(found)


def parked_under_other_code(conn: Connection, code_version: str) -> list[str]:
    """Accounts with commands that were refused while other rules or another version of the program were in force."""
    return sorted(set(conn.execute(_PARKED_UNDER_OTHERS, {"by": code_version}).scalars()))


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
    conn.execute(_INSERT, values)
    return get(conn, command_id)


def _supersede(conn: Connection, command_id: str, now: int) -> None:
    conn.execute(update(command).where(command.c.id == command_id).values(state="superseded", changed_at=now))


_INSERT = plain_insert(command)
_PUT_BACK = (
    select(command.c.account, command.c.changes, command.c.changed_at)
    .where(command.c.account.in_(SOME), command.c.state == "done", command.c.changed_at > bindparam("since"))
    .where(command.c.changes.contains('"put_back":"', autoescape=True))
    .order_by(command.c.changed_at)
)
_PARKED_UNDER_OTHERS = select(command.c.account).where(
    command.c.state == "parked", command.c.code_version != bindparam("by")
)
_WAITING = select(command.c.id, command.c.key).where(
    command.c.account == bindparam("of"), command.c.state.in_(("planned", "parked"))
)


@cache
def _newest_rows() -> Select[tuple[object, ...]]:
    newer = command.alias("newer_command")
    latest = ~exists().where(newer.c.key == command.c.key, newer.c.number > command.c.number)
    return _rows().where(latest, command.c.key.in_(SOME))


@cache
def _rows_by_id() -> Select[tuple[object, ...]]:
    return _rows().where(command.c.id.in_(SOME))


@cache
def _parked_rows() -> Select[tuple[object, ...]]:
    parked_ones = (command.c.account.in_(SOME), command.c.state == "parked")
    return _rows().where(*parked_ones, command.c.code_version == bindparam("by"))


@cache
def _unresolved_rows() -> Select[tuple[object, ...]]:
    unresolved_ones = (command.c.account.in_(SOME), command.c.state.in_(UNRESOLVED_STATES))
    return _rows().where(*unresolved_ones).order_by(command.c.last_sent, command.c.id)


@cache
def _rows() -> Select[tuple[object, ...]]:
    """Commands together with their latest attempt. Kept, because putting it together takes longer than running it."""
    newer = attempt.alias("newer")
    latest = select(func.max(newer.c.number)).where(newer.c.command_id == command.c.id).scalar_subquery()
    joined = command.outerjoin(attempt, and_(attempt.c.command_id == command.c.id, attempt.c.number == latest))
    latest_columns = (
        attempt.c.id.label("attempt_id"),
        attempt.c.deadline_wall,
        attempt.c.number.label("attempt_number"),
        attempt.c.outcome,
        attempt.c.http_status,
        attempt.c.error,
        attempt.c.job,
    )
    return select(command, *latest_columns).select_from(joined)
