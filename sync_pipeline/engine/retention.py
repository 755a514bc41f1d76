"""What the ledger may forget, by the days of the rules. It calls neither system.

Money facts, links, the merge base, reviews and whatever is not settled yet are never removed. One short transaction
for each kind of row and for each account's audit, so that nobody waits for it and it can be stopped at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from sync_pipeline.core.rules import Rules
from sync_pipeline.core.units import DAY_US
from sync_pipeline.engine.context import code_version
from sync_pipeline.engine.env import Env
from sync_pipeline.ledger import attempts, audit_retention, buckets, commands, inbox, workers
from sync_pipeline.ledger.database import Ledger

DEAD_WORKERS_US = 7 * DAY_US
FULL_BUCKETS_US = 2 * DAY_US


@dataclass(slots=True)
class Retained:
    """How many rows were removed; of the audit also from how many chains."""

    audit: int = 0
    chains: int = 0
    commands: int = 0
    attempts: int = 0
    inbox: int = 0
    workers: int = 0
    buckets: int = 0


def retain(ledger: Ledger, rules: Rules, env: Env, *, run: str) -> Retained:
    """Removes what is older than the rules keep it. `run` names this run in the audit, which tells of the removal."""
    kept, removed = rules.retention, Retained()
    _remove_audit(ledger, rules, env, run, removed)
    # Commands first: an attempt goes only after its command.
    removed.commands = _prune(ledger, commands.prune, kept.commands_days, env.now())
    removed.attempts = _prune(ledger, attempts.prune, kept.attempts_days, env.now())
    removed.inbox = _prune(ledger, inbox.prune, kept.inbox_days, env.wall())
    with ledger.tx() as conn:
        removed.workers = workers.prune(conn, env.wall() - DEAD_WORKERS_US)
        removed.buckets = buckets.prune(conn, env.wall() - FULL_BUCKETS_US)
    return removed


def _remove_audit(ledger: Ledger, rules: Rules, env: Env, run: str, removed: Retained) -> None:
    days = rules.retention.audit_days
    if days is None:
        return
    before = env.now() - days * DAY_US
    with ledger.read() as conn:
        accounts = audit_retention.accounts_with_rows_before(conn, before)
    for account in accounts:
        with ledger.tx() as conn:
            rows = audit_retention.remove(
                conn,
                account,
                before=before,
                at=env.now(),
                reason=f"rows older than {days} days are removed",
                run=run,
                code_version=code_version(rules),
            )
        removed.audit += rows
        removed.chains += bool(rows)


def _prune(ledger: Ledger, prune: Callable[[Connection, int], int], days: int | None, now: int) -> int:
    if days is None:
        return 0
    with ledger.tx() as conn:
        return prune(conn, now - days * DAY_US)
