"""The inbox of conflicts as the ledger keeps it: each is written down once, and never forgotten.

What a conflict is and how it moves on is in core; here it is stored, found again, and ruled on from the command line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace

from sqlalchemy import Connection, Row, or_, select, update

from sync_pipeline.core.conflict import Conflict, Side
from sync_pipeline.ledger import base, inbox
from sync_pipeline.ledger.statements import SOME, batches, insert, record
from sync_pipeline.ledger.tables import conflict

UNSAID = {"ruling": None, "ruled_by": None, "ruled_at": None}


def put(conn: Connection, conflicts: Iterable[Conflict]) -> None:
    """Stores conflicts that are new, and those that moved on.

    A new one gets the newest event of its Stripe object, where that is of after the last agreement. What is older is of
    another edit, often of our own; that of the edit is not heard of yet.
    """
    for each in sorted(conflicts, key=lambda found: found.key):
        known = conn.execute(select(conflict.c.key).where(conflict.c.key == each.key)).first()
        if known is None and each.stripe_object is not None:
            event = inbox.newest_of(conn, each.account, each.stripe_object)
            agreed_at = base.agreed_at(conn, each.account, (each.subject, each.record_id), each.rule)
            if event is not None and event.created_at > agreed_at:
                each = replace(each, stripe_event=event.event_id, stripe_edited_at=event.created_at)
        values = {**asdict(each), "shown": int(each.shown)}
        # Somebody may have ruled since this was read.
        changed = {name: value for name, value in values.items() if name not in ("key", *UNSAID)}
        statement = insert(conn, conflict).values(values)
        conn.execute(statement.on_conflict_do_update(index_elements=[conflict.c.key], set_=changed))
        if each.ruling is None:
            done = or_(conflict.c.status == "Overtaken", conflict.c.ruling == conflict.c.winner)
            over = (conflict.c.key == each.key, conflict.c.status != "Open", done)
            conn.execute(update(conflict).where(*over).values(UNSAID))


_OF_ACCOUNTS = select(conflict).where(conflict.c.account.in_(SOME)).order_by(conflict.c.key)


def for_accounts(conn: Connection, accounts: Iterable[str]) -> dict[str, tuple[Conflict, ...]]:
    """All conflicts of each account, by key; an account without any is not in the result."""
    found: defaultdict[str, list[Conflict]] = defaultdict(list)
    for batch in batches(accounts):
        for row in conn.execute(_OF_ACCOUNTS, {"some": batch}):
            found[row.account].append(_conflict(row))
    return {account: tuple(conflicts) for account, conflicts in found.items()}


def everything(conn: Connection) -> list[Conflict]:
    """All conflicts, the newest first."""
    rows = conn.execute(select(conflict).order_by(conflict.c.opened_at.desc(), conflict.c.key))
    return [_conflict(row) for row in rows]


def beginning_with(conn: Connection, key: str) -> list[Conflict]:
    """The conflicts whose key begins so."""
    rows = conn.execute(
        select(conflict).where(conflict.c.key.startswith(key, autoescape=True)).order_by(conflict.c.key)
    )
    return [_conflict(row) for row in rows]


def rule(conn: Connection, key: str, side: Side, *, by: str, now: int) -> None:
    """Somebody says whose value shall count; the next look at the account carries it out."""
    said = {"ruling": side, "ruled_by": by, "ruled_at": now}
    conn.execute(update(conflict).where(conflict.c.key == key).values(**said))


def _conflict(row: Row[tuple[object, ...]]) -> Conflict:
    return Conflict(**{**record(row), "shown": bool(row.shown)})
