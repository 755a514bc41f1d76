"""What a schedule bills in phases that have not begun, and lines of it that were edited meanwhile.

A change of the current phase alone would be undone when the next one begins, on both sides: it is told to a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sync_pipeline.core import canonical
from sync_pipeline.core.billed_items import QUANTITY, RunningDeal, agreed_rate
from sync_pipeline.core.billed_lines import lines_billed_later, lines_billed_now
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Review
from sync_pipeline.core.crosswalk import match_schedule, own_billing
from sync_pipeline.core.deal import Incomplete
from sync_pipeline.core.prices import as_agreed, rate_of_new
from sync_pipeline.core.records import LineItem
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.world import World


@dataclass(frozen=True, slots=True)
class RampAhead:
    """The lines that a schedule bills in phases that have not begun; no schedule, no lines."""

    schedule: str = ""
    lines: Mapping[str, LineItem] = field(default_factory=dict)


def ramp_ahead(world: World, rules: Rules, running: RunningDeal) -> RampAhead:
    billing, deal = own_billing(world), running.deal
    schedules = billing.schedules if billing is not None else ()
    schedule = match_schedule(deal.opportunity, schedules, world.links, world.org_id)
    if schedule is None or schedule.status != "active":
        return RampAhead()
    later = lines_billed_later(deal, running.subscription, rules.commercial, world.now)
    return RampAhead(schedule.id, {line.id: line for line in later})


def edited_ahead(world: World, rules: Rules, running: RunningDeal, ramp: RampAhead) -> Iterator[Review]:
    """Lines that are billed only later and are not what the schedule was told."""
    now = lines_billed_now(running.deal, running.subscription, rules.commercial, world.now)
    for line in ramp.lines.values() if running.subscription.intent is not None else ():
        if line in now:
            continue
        rate = rate_of_new(running, line, rules.commercial)
        same_rate = not isinstance(rate, Incomplete) and as_agreed(rate) == agreed_rate(world, line)
        if not same_rate or world.base.get((line.id, QUANTITY)) != canonical.encode(number(line.quantity)):
            yield ramp_edited(world, ramp, line)


def ramp_edited(world: World, ramp: RampAhead, line: LineItem) -> Review:
    detail = (
        f"line {line.product_name or line.id} was edited, but {ramp.schedule} bills it in a later phase as agreed "
        "before; edit the phases of the schedule at Stripe; what is left is applied when its last phase has begun"
    )
    return Review(f"ramp_edited:{line.id}", world.account_id, "ramp_edited", line.id, detail)
