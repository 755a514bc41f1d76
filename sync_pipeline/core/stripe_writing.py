"""Changes of what Stripe has, as commands. What has to be changed, and why, is the business of the rule modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sync_pipeline.core.commands import Agreement, Command, FieldChange
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.world import World


def update(
    world: World,
    kind: str,
    record_id: str,
    params: Mapping[str, Any],
    *,
    subject: str,
    priority: Priority,
    reason: str,
    changes: Iterable[FieldChange],
    agreements: Iterable[Agreement] = (),
    subscription: str | None = None,
    part: str = "",
) -> Command:
    """One request that updates an object.

    `subscription` is the one that an item belongs to. Two commands with different `part`s of an object are two
    requests; else the later plan's command stands for the earlier's.
    """
    target = f"stripe/{kind}/{record_id}{part and f'/{part}'}"
    owner = {} if subscription is None else {"subscription": subscription}
    return Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="stripe.update",
        priority=priority,
        reason=reason,
        subject=subject,
        body={"object": kind, "id": record_id, **owner, "params": params},
        changes=tuple(changes),
        agreements=tuple(agreements),
    )
