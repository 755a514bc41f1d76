"""Whose turn it is: what a worker claims next from the queue of dirty accounts.

The most urgent class that is due comes first, a thousand accounts of it at a time, because a call to Salesforce takes
a thousand records. A large batch lets more urgent accounts by while it is at work. Every fifth batch goes to whoever
has waited longest, so that no flood of urgent work starves anybody. And while Salesforce's daily allowance runs low,
only those classes are claimed that may still use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from sync_pipeline.core.rules import Priority
from sync_pipeline.core.units import HOUR_US
from sync_pipeline.engine import budget
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.ledger import work
from sync_pipeline.ledger.work import Claim

AT_MOST = 1_000
SOON_OVER = 50
"""Nobody has to be let by while so few accounts are served."""
TURNS = 5
AGEING_US = HOUR_US


@dataclass(frozen=True, slots=True)
class Batch:
    """Accounts to work on together. Those of a priority below `gives_way_to` need not wait for its end."""

    claims: list[Claim]
    gives_way_to: int


def next_batch(engine: Engine, owner: str, *, turn: int) -> Batch:
    """The accounts to work on now, none when nothing is due; `turn` counts the batches before."""
    if turn % TURNS == TURNS - 1:
        # It gives way to failed payments only: what it is there for would starve otherwise.
        return Batch(_claim(engine, owner, oldest_first=True), gives_way_to=Priority.CREATE)
    return more_urgent(engine, owner, than=max(Priority) + 1)


def more_urgent(engine: Engine, owner: str, *, than: int) -> Batch:
    """The due accounts of the most urgent class before `than`."""
    wall = engine.env.wall()
    with engine.ledger.read() as conn:
        first = work.most_urgent(conn, wall)
    if first is None or first >= than:
        return Batch([], gives_way_to=0)
    return Batch(_claim(engine, owner, most=first) or _claim(engine, owner, most=than - 1), gives_way_to=first)


def at_a_time(accounts: Collection[str]) -> Iterator[list[str]]:
    """Accounts that somebody has named, by id, as many at a time as a batch takes."""
    ordered = sorted(accounts)
    return (ordered[start : start + AT_MOST] for start in range(0, len(ordered), AT_MOST))


def claim_named(engine: Engine, owner: str, accounts: Collection[str], priority: Priority) -> list[Claim]:
    """Makes these accounts due and claims those of them that nobody else holds, by id."""
    with engine.ledger.tx() as conn:
        wall = engine.env.wall()
        work.mark_dirty(conn, accounts, priority=int(priority), now_wall=wall)
        claims = work.claim(conn, owner=owner, limit=len(accounts), now_wall=wall, lease_us=LEASE_US, among=accounts)
    return sorted(claims, key=lambda claim: claim.account)


def due(conn: Connection, now_wall: int) -> int:
    """How many accounts could be claimed now."""
    return work.due(conn, now_wall, up_to=budget.admitted(conn, now_wall), ageing_us=AGEING_US)


def held_back(engine: Engine) -> list[str]:
    """In words, how many due accounts wait because the allowance runs low; nothing when none does."""
    wall = engine.env.wall()
    with engine.ledger.read() as conn:
        waiting = work.due(conn, wall) - due(conn, wall)
        seen = budget.told(conn)
    if not waiting or seen is None:
        return []
    used = f"{seen.used} of Salesforce's {seen.allowed} calls of the day are used"
    return [f"{waiting} accounts wait: {used}, and the rest is kept for more urgent work"]


def _claim(engine: Engine, owner: str, *, most: int = max(Priority), oldest_first: bool = False) -> list[Claim]:
    wall = engine.env.wall()
    with engine.ledger.tx() as conn:
        budget.note(conn, engine.salesforce, wall)
        up_to = budget.admitted(conn, wall)
        if up_to == budget.NOBODY:
            return []
        return work.claim(
            conn,
            owner=owner,
            limit=AT_MOST,
            now_wall=wall,
            lease_us=LEASE_US,
            most=most,
            up_to=up_to,
            ageing_us=AGEING_US,
            oldest_first=oldest_first,
        )
