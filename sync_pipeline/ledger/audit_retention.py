"""Removing the oldest rows of the audit so that what is left still proves itself.

The last row that goes leaves its number and hash as an anchor, from which the chain is verified on. The chain itself
tells of every removal in a row of its own, which the hashes cover; the database refuses an anchor of which the chain
does not tell, and the removal of any row that stands under none.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select
from sqlalchemy import insert as plain_insert

from sync_pipeline.ledger import audit as chains
from sync_pipeline.ledger.audit import RETENTION, Anchor
from sync_pipeline.ledger.tables import audit, audit_anchor, audit_head


def accounts_with_rows_before(conn: Connection, before: int) -> list[str]:
    """Accounts whose audit has rows from before that moment; those that only tell of a removal do not count."""
    old = select(audit.c.account).where(audit.c.at < before, audit.c.what != RETENTION).distinct()
    return sorted(conn.execute(old).scalars())


def remove(conn: Connection, account: str, *, before: int, at: int, reason: str, run: str, code_version: str) -> int:
    """Removes the account's oldest rows up to the first one from `before` or later; returns how many went.

    All moments are microseconds UTC. Do it in a transaction of its own: it keeps the account's chain locked.
    """
    head = conn.execute(select(audit_head).where(audit_head.c.account == account).with_for_update()).one_or_none()
    if head is None:
        return 0
    kept = select(func.min(audit.c.seq)).where(audit.c.account == account, audit.c.at >= before)
    last = (conn.execute(kept).scalar() or head.seq + 1) - 1
    going = select(audit.c.seq, audit.c.hash, audit.c.what).where(audit.c.account == account, audit.c.seq <= last)
    rows = conn.execute(going.order_by(audit.c.seq)).all()
    if all(row.what == RETENTION for row in rows):
        return 0
    anchor = Anchor(last, rows[-1].hash, len(rows))
    chains.append(
        conn,
        account=account,
        attempt_id=None,
        at=at,
        actor=run,
        what=RETENTION,
        fields="[]",
        reason=reason,
        evidence=chains.as_evidence(anchor),
        run=None,  # not one that has written to a system and could be undone
        code_version=code_version,
        request_id=None,
    )
    conn.execute(
        plain_insert(audit_anchor).values(
            account=account, seq=anchor.seq, hash=anchor.hash, removed=anchor.removed, at=at
        )
    )
    conn.execute(delete(audit).where(audit.c.account == account, audit.c.seq <= last))
    return anchor.removed
