"""Whose turn it is: what a worker claims next from the queue of dirty accounts.

The urgent classes come first, in small batches that are soon over. The rest comes in large ones, because a call to
Salesforce takes a thousand records; a large batch lets urgent accounts by while it is at work. Every fifth batch goes
to whoever has waited longest, so that no flood of urgent work starves anybody. And while Salesforce's daily allowance
runs low, only those classes are claimed that may still use it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import budget
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.rounds import LEASE_US
from sync_pipeline.ledger import allowances, work
from sync_pipeline.ledger.allowances import Allowance
from sync_pipeline.ledger.work import Claim

BATCH = 50
LARGE_BATCH = 1_000
TURNS = 5
LEAST_URGENT = Priority.WRITE_BACK
"""The urgent classes are this one and those before it."""
AGEING_US = 3_600 * 1_000_000
SYSTEM = "salesforce"


def next_batch(engine: Engine, owner: str, *, turn: int) -> list[Claim]:
    """The accounts to work on now, none when nothing is due; `turn` counts the batches before."""
    if turn % TURNS == TURNS - 1:
        return _claim(engine, owner, limit=BATCH, oldest_first=True)
    return urgent(engine, owner) or _claim(engine, owner, limit=LARGE_BATCH)


def urgent(engine: Engine, owner: str) -> list[Claim]:
    """The due accounts of the urgent classes."""
    return _claim(engine, owner, limit=BATCH, most=int(LEAST_URGENT))


def due(conn: Connection, now_wall: int) -> int:
    """How many accounts could be claimed now."""
    up_to = budget.admitted(allowances.get(conn, SYSTEM), now_wall)
    return work.due(conn, now_wall, up_to=up_to, ageing_us=AGEING_US)


def held_back(engine: Engine) -> list[str]:
    """In words, how many due accounts wait because the allowance runs low; nothing when none does."""
    wall = engine.env.wall()
    with engine.ledger.read() as conn:
        waiting = work.due(conn, wall) - due(conn, wall)
        seen = allowances.get(conn, SYSTEM)
    if not waiting or seen is None:
        return []
    used = f"{seen.used} of Salesforce's {seen.allowed} calls of the day are used"
    return [f"{waiting} accounts wait: {used}, and the rest is kept for more urgent work"]


def _claim(
    engine: Engine, owner: str, *, limit: int, most: int = max(Priority), oldest_first: bool = False
) -> list[Claim]:
    wall = engine.env.wall()
    with engine.ledger.tx() as conn:
        if (usage := engine.salesforce.news_of_usage()) is not None:
            allowances.put(conn, Allowance(SYSTEM, *usage, seen_wall=wall))
        up_to = budget.admitted(allowances.get(conn, SYSTEM), wall)
        if up_to == budget.NOBODY:
            return []
        return work.claim(
            conn,
            owner=owner,
            limit=limit,
            now_wall=wall,
            lease_us=LEASE_US,
            up_to=min(up_to, most),
            ageing_us=AGEING_US if most >= up_to else None,
            oldest_first=oldest_first,
        )
