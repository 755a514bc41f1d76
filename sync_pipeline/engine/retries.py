"""When something is tried again: the delay of an account that failed, and the budget of retries of a system.

The outbox is the only layer that retries. The budget (after the AWS SDKs' standard mode) keeps an outage from being
answered with more calls than good days have: every retry costs, every success earns a little, and time gives back. What
the gate does not let through is no call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from sync_pipeline.engine.context import Engine
from sync_pipeline.ledger import buckets
from sync_pipeline.ledger.buckets import Bucket
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.systems.outcomes import Outcome

FIRST_DELAY_SECONDS = 2
LONGEST_DELAY_SECONDS = 600
TOKENS = 500
RETRY_COSTS = 5
TIMEOUT_COSTS = 10
TOKENS_PER_SECOND = 1


def delay_us(fails: int, jitter: float) -> int:
    """How long an account waits after its `fails + 1`st failure: exponential, with full jitter in [0, 1)."""
    longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(fails, 10))
    return int(longest * jitter * 1_000_000)


def allowed(engine: Engine, system: str, together: Sequence[CommandRow]) -> bool:
    """Whether what leaves in one call may leave; a call with something that was sent before is a retry."""
    cost = _costs(together)
    if not cost:
        return True
    now = engine.env.wall()
    with engine.ledger.tx() as conn:
        return not isinstance(buckets.take(conn, {_budget(system): cost}, now_wall=now), Bucket)


def settled(conn: Connection, engine: Engine, system: str, together: Sequence[tuple[CommandRow, Outcome]]) -> None:
    """A call that had an effect earns a token; one that was not made at all gets back what it was to cost."""
    tokens = 0
    if any(outcome.state == "done" for _, outcome in together):
        tokens = 1
    elif not any(outcome.was_sent for _, outcome in together):
        tokens = _costs(row for row, _ in together)
    if tokens:
        buckets.give(conn, _budget(system), tokens=tokens, now_wall=engine.env.wall())


def _costs(together: Iterable[CommandRow]) -> int:
    return max(map(_cost, together), default=0)


def _cost(row: CommandRow) -> int:
    if row.attempt_id is None:
        return 0
    return TIMEOUT_COSTS if row.state in ("sending", "ambiguous") else RETRY_COSTS


def _budget(system: str) -> Bucket:
    return Bucket(f"{system} retries", capacity=TOKENS, tokens=TOKENS_PER_SECOND)
