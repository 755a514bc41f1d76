"""The facts that a look at an account proves and that nobody has noted yet."""

from __future__ import annotations

from sync_pipeline.core.cash import proved_cash
from sync_pipeline.core.contraction import recurring_revenue
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.facts import Fact, corrections
from sync_pipeline.core.payment_failures import new_failures
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.world import World


def unrecorded_facts(world: World, rules: Rules) -> list[Fact]:
    """What a world proves and the ledger does not have: moved money, changed recurring revenue, failed payments."""
    billing = own_billing(world)
    if billing is None:
        return []
    proved = [
        *proved_cash(world.account_id, billing, world.now),
        *recurring_revenue(world.account_id, billing, world.now),
    ]
    return corrections(world.facts, proved, world.now) + new_failures(world, rules)
