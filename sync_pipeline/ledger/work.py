"""The queue of dirty accounts: marking, claiming with a lease and a fence, releasing.

Events are hints that an account may have changed; they only raise its `dirty_seq`. A claim takes the
account for a limited time; releasing it cleans exactly the `dirty_seq` that was claimed, so an event
that arrived meanwhile keeps the account dirty and no wake-up is lost. A holder that dies loses the
account when its lease runs out; the fence tells a late one that somebody else has taken over.

A transaction that touches several accounts must do so in sorted order, as these functions do, or two
such transactions could wait for each other on Postgres.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import ReturningUpdate

from sync_pipeline.ledger.statements import SOME, batches, insert_for
from sync_pipeline.ledger.tables import work

Conditions = tuple[ColumnElement[bool], ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """An account that is ours until its lease ends. `fails` counts the deferrals since the last release."""

    account: str
    fence: int
    dirty_seq: int
    fails: int
    priority: int


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """Counts of accounts: `due` could be claimed now, `leased` are held by a worker now."""

    dirty: int
    due: int
    leased: int
    oldest_due_wall: int | None


def mark_dirty(conn: Connection, accounts: Iterable[str], *, priority: int, now_wall: int) -> None:
    """Makes the accounts due now, at `priority` (0 is most urgent) or at the more urgent one that waits."""
    mark_dirty_with(conn, dict.fromkeys(accounts, priority), now_wall=now_wall)


def mark_dirty_with(conn: Connection, priorities: Mapping[str, int], *, now_wall: int) -> None:
    """`mark_dirty` with a priority of its own for every account."""
    if not priorities:
        return
    conn.execute(
        _marked(conn.dialect.name),
        [
            {"account": account, "dirty_seq": 1, "priority": priority, "due_at_wall": now_wall}
            for account, priority in sorted(priorities.items())
        ],
    )


def wake(conn: Connection, accounts: Iterable[str], *, now_wall: int) -> None:
    """Those of the accounts that wait are due now, also when whoever has one gives it back; clean ones stay so."""
    for batch in batches(accounts):
        conn.execute(_LOCKED, {"some": batch})
        conn.execute(_WOKEN, {"some": batch, "now_wall": now_wall})


def claim(
    conn: Connection,
    *,
    owner: str,
    limit: int,
    now_wall: int,
    lease_us: int,
    among: Collection[str] | None = None,
    most: int | None = None,
    up_to: int | None = None,
    ageing_us: int | None = None,
    oldest_first: bool = False,
) -> list[Claim]:
    """Takes up to `limit` due accounts until `now_wall + lease_us`, the most urgent first.

    Only those of `among`, of priority `most` or more urgent, and that count as `up_to` or more urgent, where given.
    With `ageing_us` an account counts as one more urgent for each such time that it has been due, except that none but
    those of priority 0 ever count as 0.
    With `oldest_first` the longest due come first, whatever their priority. An account that another transaction is
    just claiming is passed over, never waited for.
    """
    wanted, values = _counts_as(up_to, ageing_us)
    if among is not None:
        wanted, values = (*wanted, _AMONG), {**values, "some": list(among)}
    if most is not None:
        wanted, values = (*wanted, _URGENT), {**values, "most": most}
    values |= {"now_wall": now_wall, "at_most": limit, "owner": owner, "until": now_wall + lease_us}
    rows = conn.execute(_claimed(wanted, oldest_first=oldest_first), values).all()
    return [
        Claim(row.account, row.fence, row.dirty_seq, row.fails, row.priority)
        for row in sorted(rows, key=lambda row: (row.priority, row.due_at_wall, row.account))
    ]


def held(conn: Connection, claims: Iterable[Claim], *, now_wall: int, margin_us: int) -> set[str]:
    """The accounts whose claim is still ours and whose lease lasts longer than `margin_us` from now.

    Call it in a write transaction: the answer stays true until its end.
    """
    fences = {claim.account: claim.fence for claim in claims}
    found: set[str] = set()
    for batch in batches(fences):
        rows = conn.execute(_HELD, {"some": batch, "until": now_wall + margin_us})
        found.update(row.account for row in rows if row.fence == fences[row.account])
    return found


def extend(conn: Connection, claims: Iterable[Claim], *, owner: str, now_wall: int, lease_us: int) -> list[Claim]:
    """Prolongs the leases to `now_wall + lease_us`; returns the claims that are still ours, by account.

    A lease that has run out is not prolonged, even if nobody else has claimed the account.
    """
    fences = {claim.account: claim for claim in claims}
    ours = []
    # Whoever locks several accounts does so in their order: two workers would wait for each other otherwise.
    for batch in batches(fences):
        rows = conn.execute(_OF_OWNER, {"some": batch, "owner": owner, "now_wall": now_wall}).all()
        kept = [row.account for row in rows if row.fence == fences[row.account].fence]
        conn.execute(_EXTENDED, {"some": kept, "until": now_wall + lease_us})
        ours += kept
    return [fences[account] for account in sorted(ours)]


def release(conn: Connection, claim: Claim, *, now: int, now_wall: int) -> bool:
    """The account was observed at `now` and nothing is left to do for the events claimed.

    Events that came after the claim keep it dirty, due now. False when the claim was lost: then nothing
    is changed, and the new holder will do the work.
    """
    return _give_back(conn, _RELEASED, claim, now=now, now_wall=now_wall)


def defer(conn: Connection, claim: Claim, *, due_at_wall: int, now_wall: int) -> bool:
    """Gives the account back unfinished, due again at `due_at_wall`, or now if an event came meanwhile.

    False when the claim was lost.
    """
    return _give_back(conn, _DEFERRED, claim, due=due_at_wall, now_wall=now_wall)


def rest(conn: Connection, claim: Claim, *, due_at_wall: int, priority: int, now: int, now_wall: int) -> bool:
    """The account was observed at `now`, and what is left to do comes later by itself: due again at `due_at_wall`.

    Then at `priority`, that of what is left: how urgent the rest was is over. Or now if an event came meanwhile, as
    urgent as all together. It may wait for months, which is no failure. False when the claim was lost.
    """
    return _give_back(conn, _RESTING, claim, due=due_at_wall, by_itself=priority, now=now, now_wall=now_wall)


def most_urgent(conn: Connection, now_wall: int) -> int | None:
    """The highest priority of the accounts that could be claimed now; None when there are none."""
    found: int | None = conn.execute(_MOST_URGENT, {"now_wall": now_wall}).scalar_one()
    return found


def due(conn: Connection, now_wall: int, *, up_to: int | None = None, ageing_us: int | None = None) -> int:
    """How many accounts `claim` would take now, without its limit."""
    wanted, values = _counts_as(up_to, ageing_us)
    return int(conn.execute(_due(wanted), {**values, "now_wall": now_wall}).scalar_one())


def turns(conn: Connection, now_wall: int) -> dict[str, tuple[int, int]]:
    """By account that could be claimed now, the `dirty_seq` and the `fence` that its next claim will have.

    Unless something is heard of it before that, or somebody else claims it.
    """
    claimable = select(work.c.account, work.c.dirty_seq, work.c.fence).where(_CLAIMABLE)
    rows = conn.execute(claimable, {"now_wall": now_wall})
    return {row.account: (row.dirty_seq, row.fence + 1) for row in rows}


def status(conn: Connection, now_wall: int) -> WorkStatus:
    """Counts for people and metrics."""
    row = conn.execute(_STATUS, {"now_wall": now_wall}).one()
    return WorkStatus(row.dirty, row.due, row.leased, row.oldest_due_wall)


def _counts_as(up_to: int | None, ageing_us: int | None) -> tuple[Conditions, dict[str, Any]]:
    """What an account has to be to count so, and the values bound in it."""
    if up_to is None:
        return (), {}
    if ageing_us is None or up_to < 1:
        return (_PLAIN,), {"up_to": up_to}
    return (_AGED,), {"up_to": up_to, "ageing_us": ageing_us}


_WAITING = work.c.dirty_seq > work.c.clean_seq
_CLAIMABLE = and_(
    _WAITING, work.c.due_at_wall <= bindparam("now_wall"), work.c.lease_until_wall <= bindparam("now_wall")
)
_AMONG = work.c.account.in_(SOME)
_URGENT = work.c.priority <= bindparam("most")
_PLAIN = work.c.priority <= bindparam("up_to")
_AGED = or_(
    _PLAIN,
    work.c.due_at_wall + (work.c.priority - bindparam("up_to")) * bindparam("ageing_us") <= bindparam("now_wall"),
)
_MOST_URGENT = select(func.min(work.c.priority)).where(_CLAIMABLE)
_HELD = (
    select(work.c.account, work.c.fence)
    .where(_AMONG, work.c.lease_owner != "", work.c.lease_until_wall > bindparam("until"))
    .order_by(work.c.account)
    .with_for_update()
)
_OF_OWNER = (
    select(work.c.account, work.c.fence)
    .where(_AMONG, work.c.lease_owner == bindparam("owner"), work.c.lease_until_wall > bindparam("now_wall"))
    .order_by(work.c.account)
    .with_for_update()
)
_LOCKED = select(work.c.account).where(_AMONG).order_by(work.c.account).with_for_update()
_WOKEN = (
    update(work)
    .where(_AMONG, _WAITING)
    .values(
        # Whoever has it may be about to give it back for long, because of what has just ended.
        dirty_seq=work.c.dirty_seq + 1,
        due_at_wall=case((work.c.due_at_wall < bindparam("now_wall"), work.c.due_at_wall), else_=bindparam("now_wall")),
    )
)
_EXTENDED = update(work).where(_AMONG).values(lease_until_wall=bindparam("until"))
_STATUS = select(
    func.count().filter(_WAITING).label("dirty"),
    func.count().filter(_CLAIMABLE).label("due"),
    func.count().filter(work.c.lease_until_wall > bindparam("now_wall")).label("leased"),
    func.min(work.c.due_at_wall).filter(_CLAIMABLE).label("oldest_due_wall"),
)


@cache
def _marked(dialect: str) -> sqlite.Insert:
    statement = insert_for(dialect, work)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[work.c.account],
        set_={
            "dirty_seq": work.c.dirty_seq + 1,
            # A clean account forgets its old priority. A waiting one keeps its place in the queue,
            # and one that was backing off comes forward.
            "priority": case((and_(_WAITING, work.c.priority < new.priority), work.c.priority), else_=new.priority),
            "due_at_wall": case(
                (and_(_WAITING, work.c.due_at_wall < new.due_at_wall), work.c.due_at_wall), else_=new.due_at_wall
            ),
        },
    )


@cache
def _claimed(wanted: Conditions, *, oldest_first: bool) -> ReturningUpdate[Any]:
    by_age = (work.c.due_at_wall, work.c.account)
    # A CTE, not a subquery: Postgres may run a subquery with LIMIT more than once and claim too many.
    pick = (
        select(work.c.account)
        .where(_CLAIMABLE, *wanted)
        .order_by(*(by_age if oldest_first else (work.c.priority, *by_age)))
        .limit(bindparam("at_most", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("pick")
    )
    return (
        update(work)
        .where(work.c.account.in_(select(pick.c.account)))
        .values(lease_owner=bindparam("owner"), lease_until_wall=bindparam("until"), fence=work.c.fence + 1)
        .returning(work.c.account, work.c.fence, work.c.dirty_seq, work.c.fails, work.c.priority, work.c.due_at_wall)
    )


@cache
def _due(wanted: Conditions) -> Select[Any]:
    return select(func.count()).select_from(work).where(_CLAIMABLE, *wanted)


_GIVEN_BACK = (
    update(work)
    .where(work.c.account == bindparam("of"), work.c.fence == bindparam("by"), work.c.lease_owner != "")
    .values(lease_owner="", lease_until_wall=0)
)
_DUE = case((work.c.dirty_seq > bindparam("seen"), bindparam("now_wall")), else_=bindparam("due"))
_RELEASED = _GIVEN_BACK.values(
    clean_seq=bindparam("seen"), fails=0, last_observed_at=bindparam("now"), due_at_wall=bindparam("now_wall")
)
_DEFERRED = _GIVEN_BACK.values(fails=work.c.fails + 1, due_at_wall=_DUE)
_RESTING = _GIVEN_BACK.values(
    fails=0,
    last_observed_at=bindparam("now"),
    due_at_wall=_DUE,
    priority=case(
        (and_(work.c.dirty_seq > bindparam("seen"), work.c.priority < bindparam("by_itself")), work.c.priority),
        else_=bindparam("by_itself"),
    ),
)


def _give_back(conn: Connection, statement: Update, claim: Claim, **values: int) -> bool:
    claimed = {"of": claim.account, "by": claim.fence, "seen": claim.dirty_seq}
    return conn.execute(statement, claimed | values).rowcount == 1
