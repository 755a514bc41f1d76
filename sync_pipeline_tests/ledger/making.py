"""Short ways to make what the ledger's tests need."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from sync_pipeline.ledger.commands import NewCommand


def counter(prefix: str = "id") -> Callable[[], str]:
    """Makes the ids prefix-000001, prefix-000002, ..."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):06d}"


def new_command(
    key: str, *, account: str = "A", target: str | None = None, body: str = "{}", input_hash: str = "h"
) -> NewCommand:
    return NewCommand(
        key=key,
        account=account,
        target=target or f"target of {key}",
        kind="create",
        priority=1,
        body=body,
        input_hash=input_hash,
        reason="because",
        changes="[]",
        agreements="[]",
    )
