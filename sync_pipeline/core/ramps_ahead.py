"""What a schedule bills in phases that have not begun.

A change of the running phase alone would be undone when the next one begins, on both sides: what spans both is said to
the schedule (`ramp_changes.py`), or told to a person where the schedule is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sync_pipeline.core.billed_items import RunningDeal
from sync_pipeline.core.billed_lines import lines_billed_later
from sync_pipeline.core.commands import Review
from sync_pipeline.core.crosswalk import match_schedule, own_billing
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.world import World


@dataclass(frozen=True, slots=True)
class RampAhead:
    """The lines that a schedule bills in phases that have not begun; no schedule, no lines.

    `is_ours`: it says the terms of a deal, and follows them.
    """

    schedule: str = ""
    is_ours: bool = False
    lines: Mapping[str, LineItem] = field(default_factory=dict)


def ramp_ahead(world: World, rules: Rules, running: RunningDeal) -> RampAhead:
    billing, deal = own_billing(world), running.deal
    schedules = billing.schedules if billing is not None else ()
    schedule = match_schedule(deal.opportunity, schedules, world.links, world.org_id)
    if schedule is None or schedule.status != "active":
        return RampAhead()
    later = lines_billed_later(deal, running.subscription, rules.commercial, world.now)
    is_ours = schedule.terms is not None and running.subscription.intent is not None
    return RampAhead(schedule.id, is_ours, {line.id: line for line in later})


def ramp_edited(world: World, ramp: RampAhead, line: LineItem) -> Iterator[Review]:
    """What has to be told of an edited line that later phases bill too."""
    if not ramp.is_ours:
        detail = (
            f"line {line.called} was edited, but {ramp.schedule}, which is not the sync's, bills it "
            "in a later phase as agreed before; edit the phases of the schedule at Stripe"
        )
        yield Review(f"ramp_edited:{line.id}", world.account_id, "ramp_edited", line.id, detail)
