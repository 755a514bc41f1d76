"""Events as they came in: ids only, one row each, so that a repeated delivery changes nothing.

The inbox is not a queue: an event is done with as soon as its account is marked dirty. What stays
open is an event whose account is not known yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Integer, Row, bindparam, delete, func, select, update

from sync_pipeline.ledger import work
from sync_pipeline.ledger.statements import insert
from sync_pipeline.ledger.tables import inbox

Source = Literal["stripe", "salesforce"]

# account = '': looked up, and the event concerns none of our accounts.
NO_ACCOUNT = ""
_WAITS = inbox.c.account.is_(None)
_NAMES_CUSTOMER = inbox.c.object_ids.contains('"cus_', autoescape=True)


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """One event. `created_at` is the sender's time in microseconds UTC; `account` None: not known yet."""

    source: Source
    event_id: str
    type: str
    object_ids: tuple[str, ...]
    created_at: int
    account: str | None


@dataclass(frozen=True, slots=True)
class InboxStatus:
    total: int
    unresolved: int
    oldest_unresolved_wall: int | None


def receive(
    conn: Connection,
    events: Iterable[InboxEvent],
    *,
    received_wall: int,
    priority: Callable[[InboxEvent], int] | int,
) -> int:
    """Stores the events that are new and makes their accounts dirty; returns how many were new."""
    by_id = {(event.source, event.event_id): event for event in events}
    if not by_id:
        return 0
    inserted = conn.execute(
        insert(conn, inbox).on_conflict_do_nothing().returning(inbox.c.source, inbox.c.event_id),
        [_values(event, received_wall) for _, event in sorted(by_id.items())],
    ).all()
    new = [by_id[(row.source, row.event_id)] for row in inserted]
    _mark_dirty(conn, [(each, each.account) for each in new if each.account], priority, received_wall)
    return len(inserted)


def latest(conn: Connection, account: str, limit: int) -> list[str]:
    """The ids of the newest events heard of the account, newest first."""
    return list(conn.execute(_LATEST, {"of": account, "most": limit}).scalars())


_LATEST = (
    select(inbox.c.event_id)
    .where(inbox.c.account == bindparam("of"))
    .order_by(inbox.c.received_wall.desc(), inbox.c.event_id)
    .limit(bindparam("most", type_=Integer))
)


def newest_of(conn: Connection, account: str, object_id: str) -> InboxEvent | None:
    """The newest event of Stripe's that names an object of the account."""
    named = inbox.c.object_ids.contains(json.dumps(object_id), autoescape=True)
    found = select(inbox).where(inbox.c.account == account, inbox.c.source == "stripe", named)
    row = conn.execute(found.order_by(inbox.c.created_at.desc(), inbox.c.event_id).limit(1)).first()
    return _event(row) if row is not None else None


def waiting(conn: Connection, limit: int, *, after: str, with_customer: bool) -> list[InboxEvent]:
    """Events whose account is not known yet, those that name a customer or the others.

    By their ids, from the one `after` this on, and round again: what waits for long keeps nothing from its turn.
    """
    wanted = _NAMES_CUSTOMER if with_customer else ~_NAMES_CUSTOMER
    in_turn = (inbox.c.event_id <= after, inbox.c.event_id)
    return [_event(row) for row in conn.execute(select(inbox).where(_WAITS, wanted).order_by(*in_turn).limit(limit))]


def newest_without_customer(conn: Connection) -> int | None:
    """When the newest was received of the events that wait and name no customer."""
    newest: int | None = conn.execute(_NEWEST_WITHOUT_CUSTOMER).scalar()
    return newest


_NEWEST_WITHOUT_CUSTOMER = select(func.max(inbox.c.received_wall)).where(_WAITS, ~_NAMES_CUSTOMER)


def resolve(
    conn: Connection,
    found: Collection[tuple[InboxEvent, str]],
    *,
    now_wall: int,
    priority: Callable[[InboxEvent], int] | int,
) -> None:
    """The events belong to these accounts, which become dirty."""
    for event, account in found:
        _set_account(conn, event.source, event.event_id, account)
    _mark_dirty(conn, found, priority, now_wall)


def dismiss(conn: Connection, source: Source, event_id: str) -> None:
    """The event concerns none of our accounts, so nobody needs to look for it again."""
    _set_account(conn, source, event_id, NO_ACCOUNT)


def status(conn: Connection) -> InboxStatus:
    """Counts for people and metrics."""
    row = conn.execute(
        select(
            func.count().label("total"),
            func.count().filter(_WAITS).label("unresolved"),
            func.min(inbox.c.received_wall).filter(_WAITS).label("oldest"),
        )
    ).one()
    return InboxStatus(row.total, row.unresolved, row.oldest)


def prune(conn: Connection, before_wall: int) -> int:
    """Deletes events received before `before_wall`, except those that still look for their account."""
    return conn.execute(delete(inbox).where(inbox.c.received_wall < before_wall, inbox.c.account.is_not(None))).rowcount


def _mark_dirty(
    conn: Connection,
    heard: Collection[tuple[InboxEvent, str]],
    priority: Callable[[InboxEvent], int] | int,
    now_wall: int,
) -> None:
    """All accounts at once, in their order, each as urgent as the most urgent that was heard of it."""
    dirty: dict[str, int] = {}
    for event, account in heard:
        level = priority if isinstance(priority, int) else priority(event)
        dirty[account] = min(level, dirty.get(account, level))
    work.mark_dirty_with(conn, dirty, now_wall=now_wall)


def _set_account(conn: Connection, source: Source, event_id: str, account: str) -> None:
    conn.execute(update(inbox).where(inbox.c.source == source, inbox.c.event_id == event_id).values(account=account))


def _values(event: InboxEvent, received_wall: int) -> dict[str, object]:
    return {
        "source": event.source,
        "event_id": event.event_id,
        "type": event.type,
        "object_ids": json.dumps(event.object_ids),
        "created_at": event.created_at,
        "received_wall": received_wall,
        "account": event.account,
    }


def _event(row: Row[tuple[object, ...]]) -> InboxEvent:
    return InboxEvent(
        row.source, row.event_id, row.type, tuple(json.loads(row.object_ids)), row.created_at, row.account
    )
