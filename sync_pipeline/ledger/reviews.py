"""What a person has to look at, kept level with the latest plan: opened, seen again, closed by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from sync_pipeline.core.commands import Review
from sync_pipeline.ledger.statements import insert, record
from sync_pipeline.ledger.tables import review

_OPEN_KEYS = select(review.c.key).where(review.c.account == bindparam("of"), review.c.closed_at.is_(None))


@dataclass(frozen=True, slots=True)
class OpenReview(Review):
    """A review that nobody has settled. Moments are microseconds UTC."""

    opened_at: int
    last_seen: int


def reconcile(conn: Connection, account: str, reviews: Iterable[Review], now: int) -> list[Review]:
    """Makes `reviews` the open reviews of the account; returns those that were not open before."""
    wanted = {item.key: item for item in reviews}
    strangers = {item.account for item in wanted.values()} - {account}
    if strangers:
        raise ValueError(f"reviews of account {account} name the accounts {sorted(strangers)}")
    open_ = (review.c.account == account, review.c.closed_at.is_(None))
    known = set(conn.execute(_OPEN_KEYS, {"of": account}).scalars())
    for key in sorted(known - wanted.keys()):
        conn.execute(update(review).where(*open_, review.c.key == key).values(closed_at=now))
    for key, item in sorted(wanted.items()):
        statement = insert(conn, review)
        refreshed = {
            "rule": item.rule,
            "subject": item.subject,
            "detail": item.detail,
            "last_seen": now,
            "closed_at": None,
        }
        reopened = {} if key in known else {"opened_at": now}
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=[review.c.account, review.c.key], set_={**refreshed, **reopened}
            ),
            {"account": account, "key": key, "opened_at": now, **refreshed},
        )
    return [item for key, item in wanted.items() if key not in known]


def open_reviews(conn: Connection) -> list[OpenReview]:
    """All open reviews, the oldest first."""
    columns = [column for column in review.c if column.name != "closed_at"]
    rows = conn.execute(
        select(*columns)
        .where(review.c.closed_at.is_(None))
        .order_by(review.c.opened_at, review.c.account, review.c.key)
    )
    return [OpenReview(**record(row)) for row in rows]
