"""What the rest of the ledger knows of the audit: attempts that must have their row in it, and what keeps it whole.

A chain that was deleted with its head, or whose newest rows were cut off with the head set back, holds in itself.
The attempts still tell that there was more; what they cannot tell, heads that were kept elsewhere can (audit_heads.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select, text

from sync_pipeline.ledger.audit import Problem
from sync_pipeline.ledger.tables import alias, attempt, audit, audit_anchor, command

AUDITED = ("done", "rejected", "throttled", "stale")
"""The outcomes of attempts that have a row in the audit; what is not known yet has none."""
FORGOTTEN = "(an Account whose command is forgotten)"
TRIGGERS = {
    "sqlite": frozenset(
        {
            "audit_append_only_delete",
            "audit_append_only_update",
            "audit_anchor_append_only_delete",
            "audit_anchor_append_only_update",
            "audit_anchor_fits",
            "audit_head_append_only_delete",
            "audit_head_append_only_update",
            "fact_append_only_delete",
            "fact_append_only_update",
        }
    ),
    "postgresql": frozenset(
        {
            "audit_append_only",
            "audit_append_only_delete",
            "audit_anchor_append_only",
            "audit_anchor_fits",
            "audit_head_append_only_delete",
            "audit_head_append_only_update",
            "fact_append_only_delete",
            "fact_append_only_update",
        }
    ),
}
"""By database, the triggers of the migrations that make tables append-only."""
STANDING = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT t.tgname FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') "
    "AND pg_table_is_visible(t.tgrelid)",
}


def missing_rows(conn: Connection, account: str | None = None) -> list[Problem]:
    """The accounts, or the one, with answered attempts that have no row in the audit, though none was removed.

    Retention removes the oldest rows of a chain: an attempt from before the first row that is left is excused.
    """
    wanted = (
        select(command.c.account, command.c.target, attempt.c.id, attempt.c.finished_at)
        .select_from(attempt)
        .outerjoin(command, command.c.id == attempt.c.command_id)
        .outerjoin(audit, audit.c.attempt_id == attempt.c.id)
        .where(attempt.c.outcome.in_(AUDITED), audit.c.account.is_(None))
        .order_by(attempt.c.finished_at, attempt.c.id)
    )
    if account is not None:
        wanted = wanted.where(command.c.account == account)
    lost: dict[str, list[Any]] = {}
    excused: dict[str | None, int] = {}
    for row in conn.execute(wanted).all():
        if row.account not in excused:
            excused[row.account] = _removed_before(conn, row.account)
        if row.finished_at > excused[row.account]:
            lost.setdefault(row.account or FORGOTTEN, []).append(row)
    return [Problem(name, 0, _in_words(rows)) for name, rows in sorted(lost.items())]


def missing_triggers(conn: Connection) -> list[Problem]:
    """What no longer stops changes of the facts and the audit."""
    standing = set(conn.execute(text(STANDING[conn.dialect.name])).scalars())
    gone = sorted(TRIGGERS[conn.dialect.name] - standing)
    return [Problem("(database)", 0, f"nothing stops changes any more: the trigger {name} is gone") for name in gone]


def _removed_before(conn: Connection, account: str | None) -> int:
    """Until when what is missing may have been removed by retention, microseconds UTC; -1 where nothing was."""
    if account is None:
        return conn.execute(select(func.max(audit_anchor.c.at))).scalar() or -1
    # What was merged into it has a chain of its own.
    merged = conn.execute(select(alias.c.old_id).where(alias.c.new_id == account)).scalars()
    chains = [account, *merged]
    cut = set(conn.execute(select(audit_anchor.c.account).where(audit_anchor.c.account.in_(chains))).scalars())
    first = select(func.min(audit.c.at)).where(audit.c.account.in_(cut)).group_by(audit.c.account)
    return max(conn.execute(first).scalars(), default=-1)


def _in_words(rows: Iterable[Any]) -> str:
    first, *others = rows
    at = datetime.fromtimestamp(first.finished_at // 1_000_000, UTC)
    of = f" of {first.target}" if first.target else ""
    return (
        f"{1 + len(others)} answered attempts have no row in the audit, the first of them {first.id}{of} "
        f"at {at:%Y-%m-%d %H:%M:%S}"
    )
