"""A worker for the tests of claiming: it does what the engine does with the queue, and writes down what it did.

Three tables stand beside the ledger's: `truth` counts what happened to each account, in the transaction
that marks it dirty; `synced` is the count that a worker saw before it released the account; `history`
has every claim, how it ended, and the last moment at which its holder would have written to a system.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Connection, text

from sync_pipeline.ledger import work
from sync_pipeline.ledger.database import Ledger, LedgerError, open_ledger

LEASE_US = 150_000
MARGIN_US = 30_000
ACCOUNTS = [f"account-{number}" for number in range(12)]

TABLES = (
    "CREATE TABLE truth (account TEXT PRIMARY KEY, version BIGINT NOT NULL)",
    "CREATE TABLE synced (account TEXT PRIMARY KEY, version BIGINT NOT NULL)",
    """CREATE TABLE history (account TEXT, fence BIGINT, claimed_at BIGINT, lease_until BIGINT, wrote_at BIGINT,
    returned INTEGER DEFAULT 0, PRIMARY KEY (account, fence))""",
)


def wall() -> int:
    """Microseconds since the epoch, the clock that all processes of this machine share."""
    return time.time_ns() // 1_000


def prepare(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        for statement in TABLES:
            conn.execute(text(statement))
        for table in ("truth", "synced"):
            conn.execute(text(f"INSERT INTO {table} VALUES (:account, 0)"), [{"account": name} for name in ACCOUNTS])


def happen(ledger: Ledger, chance: random.Random) -> None:
    """Something happens to one to three accounts, and an event says so."""
    accounts = sorted(chance.sample(ACCOUNTS, chance.randint(1, 3)))
    with ledger.tx() as conn:
        for account in accounts:
            conn.execute(text("UPDATE truth SET version = version + 1 WHERE account = :a"), {"a": account})
        work.mark_dirty(conn, accounts, priority=chance.randint(0, 4), now_wall=wall())


def run_process(url: str, name: str, seed: int) -> None:
    """The worker as a process of its own, until it is killed.

    On a busy machine it may stand frozen for longer than Postgres holds a transaction open for it; then it begins anew.
    """
    chance = random.Random(seed)
    while True:
        with suppress(LedgerError):
            run(open_ledger(url), name, chance, lambda: False)


def run(ledger: Ledger, name: str, chance: random.Random, stopped: Callable[[], bool]) -> None:
    """Claims and works until `stopped`. One claim in ten is abandoned, as by a crash."""
    while not stopped():
        with ledger.tx() as conn:
            now = wall()
            claims = work.claim(conn, owner=name, limit=chance.randint(1, 3), now_wall=now, lease_us=LEASE_US)
            for item in claims:
                conn.execute(
                    text("INSERT INTO history (account, fence, claimed_at, lease_until) VALUES (:a, :f, :c, :l)"),
                    {"a": item.account, "f": item.fence, "c": now, "l": now + LEASE_US},
                )
        for item in claims:
            if chance.random() > 0.1:
                _handle(ledger, name, item, chance)
        if not claims:
            time.sleep(0.005)


def _handle(ledger: Ledger, name: str, item: work.Claim, chance: random.Random) -> None:
    with ledger.tx() as conn:
        seen = conn.execute(text("SELECT version FROM truth WHERE account = :a"), {"a": item.account}).scalar_one()
        now = wall()
        if chance.random() < 0.3 and work.extend(conn, [item], owner=name, now_wall=now, lease_us=LEASE_US):
            _note(conn, item, "lease_until", now + LEASE_US)
        may_write = bool(work.held(conn, [item], now_wall=now, margin_us=MARGIN_US))
    # Most pauses are short; some outlast the lease, as those of a frozen process do.
    time.sleep(chance.choice([0, 0.001, 0.005, 0.02, 0.02, 0.25]))
    at = wall()
    with ledger.tx() as conn:
        if may_write and at <= now + MARGIN_US:
            _note(conn, item, "wrote_at", at)
        if chance.random() < 0.1:
            returned = work.defer(conn, item, due_at_wall=wall() + 20_000, now_wall=wall())
        else:
            returned = work.release(conn, item, now=wall(), now_wall=wall())
            if returned:
                conn.execute(text("UPDATE synced SET version = :v WHERE account = :a"), {"v": seen, "a": item.account})
        if returned:
            _note(conn, item, "returned", 1)


def _note(conn: Connection, item: work.Claim, column: str, value: int) -> None:
    conn.execute(
        text(f"UPDATE history SET {column} = :v WHERE account = :a AND fence = :f"),
        {"v": value, "a": item.account, "f": item.fence},
    )


def wait_until_clean(ledger: Ledger, seconds: float) -> None:
    """Waits until no account is dirty any more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with ledger.read() as conn:
            if work.status(conn, wall()).dirty == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the queue was not drained in time")


def faults(conn: Connection) -> list[str]:
    """What must never be: a lost wake-up, two holders at once, a write under a claim that had passed on."""
    found = [
        f"{row.account}: synced {row.seen} of {row.version} changes"
        for row in conn.execute(
            text(
                "SELECT truth.account, truth.version, synced.version AS seen FROM truth JOIN synced "
                "ON synced.account = truth.account WHERE synced.version <> truth.version"
            )
        )
    ]
    rows = conn.execute(text("SELECT * FROM history ORDER BY account, fence")).all()
    for before, after in itertools.pairwise(rows):
        if before.account != after.account:
            continue
        if after.fence != before.fence + 1:
            found.append(f"{after.account}: fence {before.fence} is followed by {after.fence}")
        if not before.returned and after.claimed_at < before.lease_until:
            found.append(f"{after.account}: fence {after.fence} claimed while {before.fence} was held")
        if before.wrote_at and before.wrote_at > after.claimed_at and not before.returned:
            found.append(f"{after.account}: fence {before.fence} wrote after {after.fence} had claimed")
    return found
