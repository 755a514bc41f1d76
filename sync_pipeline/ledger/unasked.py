"""How much was written lately that nobody was asked about, counted for the guards by all runs and workers together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Connection, delete, func, select

from sync_pipeline.ledger.statements import insert
from sync_pipeline.ledger.tables import unasked


def add(conn: Connection, account: str, counts: Mapping[str, int], *, at_wall: int) -> None:
    """Counts writes of an account as of a moment; what comes to nothing is taken back by negative counts."""
    statement = insert(conn, unasked)
    more = statement.on_conflict_do_update(
        index_elements=[unasked.c.account, unasked.c.at_wall, unasked.c.what],
        set_={"amount": unasked.c.amount + statement.excluded.amount},
    )
    rows = [{"account": account, "at_wall": at_wall, "what": what, "amount": n} for what, n in counts.items() if n]
    if rows:
        conn.execute(more, rows)


def since(conn: Connection, wall: int) -> Counter[str]:
    """What was counted after a moment; what was counted before it is forgotten."""
    conn.execute(delete(unasked).where(unasked.c.at_wall <= wall))
    counted = select(unasked.c.what, func.sum(unasked.c.amount)).group_by(unasked.c.what)
    return Counter({what: int(amount) for what, amount in conn.execute(counted)})
