"""The merge base: per account, the canonical values on which both systems last agreed.

It advances when both sides were seen to hold a value, or when one side was seen to hold it and the other
acknowledged its write; never on sending. Personal fields arrive here as keyed hashes; making them is
not this module's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import sqlite

from sync_pipeline.ledger.statements import SOME, batches, insert_for
from sync_pipeline.ledger.tables import base


@dataclass(frozen=True, slots=True)
class BaseEntry:
    """`subject` is the record id; `canon_version` the version of the canonical form of `value`."""

    subject: str
    field: str
    value: str
    canon_version: int


def put(conn: Connection, account: str, entries: Iterable[BaseEntry], now: int) -> None:
    """Both systems are known, at `now`, to hold these values."""
    rows = [
        {
            "account": account,
            "subject": entry.subject,
            "field": entry.field,
            "value": entry.value,
            "canon_version": entry.canon_version,
            "agreed_at": now,
        }
        for entry in entries
    ]
    if rows:
        conn.execute(_agreed(conn.dialect.name), rows)


@cache
def _agreed(dialect: str) -> sqlite.Insert:
    statement = insert_for(dialect, base)
    return statement.on_conflict_do_update(
        index_elements=[base.c.account, base.c.subject, base.c.field],
        set_={
            "value": statement.excluded.value,
            "canon_version": statement.excluded.canon_version,
            "agreed_at": statement.excluded.agreed_at,
        },
    )


def agreed_at(conn: Connection, account: str, subjects: Collection[str], field: str) -> int:
    """When both systems were last known to agree on a field of these records (microseconds UTC); 0 for never."""
    of_field = (base.c.account == account, base.c.subject.in_(subjects), base.c.field == field)
    return conn.execute(select(func.max(base.c.agreed_at)).where(*of_field)).scalar() or 0


_OF_ACCOUNTS = select(base.c.account, base.c.subject, base.c.field, base.c.value).where(base.c.account.in_(SOME))


def for_accounts(conn: Connection, accounts: Iterable[str]) -> dict[str, dict[tuple[str, str], str]]:
    """Account -> (subject, field) -> value; an account without a base is not in the result."""
    found: defaultdict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for batch in batches(accounts):
        for row in conn.execute(_OF_ACCOUNTS, {"some": batch}):
            found[row.account][(row.subject, row.field)] = row.value
    return dict(found)
