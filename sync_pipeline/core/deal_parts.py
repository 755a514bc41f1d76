"""Deals that one Stripe subscription cannot hold, split into parts that are deals of their own.

The first part is the Opportunity itself; a further one is a deal under the Opportunity's id with a number behind it
(006...:2), so that its subscription, its links, its terms, its churn, its renewals and its Contract are kept apart from
the first part's without a rule that knows of parts. Only what is shown on the Opportunity is read over all of them.

A line goes to the first part that has room for it; a part never has room for what was put into a later one, so that the
same lines are always split alike. Once a part is billed, its lines are remembered to be its own, and no more parts are
opened: a line that comes later joins one that has room, or the first, which then says what keeps it from being billed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sync_pipeline.core import canonical
from sync_pipeline.core.amendments import is_amendment
from sync_pipeline.core.commands import Agreement
from sync_pipeline.core.crosswalk import Match, match_schedule, match_subscription
from sync_pipeline.core.deal import phases_of
from sync_pipeline.core.money import MoneyError, exponent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.part_ids import MAX_PARTS, opportunity_of, part_id, part_number
from sync_pipeline.core.rates import interval_of, is_one_time, item_faults, line_faults
from sync_pipeline.core.rules import Commercial, Rules
from sync_pipeline.core.salesforce_records import Contract, LineItem, Opportunity
from sync_pipeline.core.term import whole_months
from sync_pipeline.core.world import Billing, Deal, World

RULE = "deal.parts"


def in_parts(world: World, rules: Rules, contracts: Sequence[Contract]) -> World:
    """The world with its large deals in parts. `contracts` are the Account's; a further part has that of its own."""
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    parts = (part for deal in world.deals for part in _parts(world, billing, rules.commercial, deal, contracts))
    return replace(world, deals=tuple(parts))


def agreed_parts(world: World, deal: Deal) -> tuple[Agreement, ...]:
    """How many parts a split deal has, and which lines are whose: to be remembered as soon as one of them is billed, or
    lines of the others would be taken for its own where it has room for them later."""
    opportunity_id = opportunity_of(deal.opportunity.id)
    parts = [each for each in world.deals if opportunity_of(each.opportunity.id) == opportunity_id]
    if len(parts) == 1:
        return ()
    numbered = ((line, part_number(part.opportunity.id)) for part in parts for line in part.lines)
    lines = (Agreement(line.id, RULE, canonical.encode(number)) for line, number in numbered)
    return (Agreement(opportunity_id, RULE, canonical.encode(len(parts))), *lines)


def _parts(
    world: World, billing: Billing, commercial: Commercial, deal: Deal, contracts: Sequence[Contract]
) -> Iterator[Deal]:
    numbers = range(1, MAX_PARTS + 1)
    billed = {number: found for number in numbers if (found := _billed_by(world, billing, deal, number)) is not None}
    remembered = canonical.decode(world.base.get((deal.opportunity.id, RULE), "1"))
    known = max([remembered, *billed])
    can_be_split = commercial.large_deals == "split" and deal.opportunity.is_won and not billed
    if known == 1 and (
        not can_be_split or is_amendment(world, deal, commercial) or _fits(deal, commercial, deal.lines)
    ):
        yield deal
        return
    homes = _homes(world, deal, billed)
    lines = _split(deal, commercial, homes, known if billed else MAX_PARTS)
    for number in sorted({1, *lines, *billed}):
        yield _part(world, billing, deal, number, tuple(lines.get(number, ())), contracts)


def _billed_by(world: World, billing: Billing, deal: Deal, number: int) -> frozenset[str] | None:
    """The lines that a part's subscription bills; None where the part is not billed yet."""
    opportunity = _opportunity(deal.opportunity, number)
    found = match_subscription(opportunity, billing.subscriptions, world.links, world.org_id)
    if isinstance(found, Match):
        return frozenset(line for item in billing.items if item.subscription == found.id for line in item.line_ids)
    scheduled = match_schedule(opportunity, billing.schedules, world.links, world.org_id)
    return frozenset() if scheduled is not None or found is not None else None


def _homes(world: World, deal: Deal, billed: dict[int, frozenset[str]]) -> dict[str, int]:
    """The part of each line that is billed, or is to be billed by a later phase."""
    homes = {line: number for number, lines in billed.items() for line in lines}
    for line in deal.lines if billed else ():
        if (remembered := world.base.get((line.id, RULE))) is not None:
            homes.setdefault(line.id, canonical.decode(remembered))
    return homes


def _split(deal: Deal, commercial: Commercial, homes: dict[str, int], most: int) -> dict[int, list[LineItem]]:
    """The lines by part: where they are at home, or else in the first part with room, or else in the first."""
    parts: dict[int, list[LineItem]] = {}
    loose: list[LineItem] = []
    for line in sorted(deal.lines, key=lambda each: each.id):
        home = homes.get(line.id)
        if home is None and not is_one_time(line, commercial):
            loose.append(line)
        else:
            parts.setdefault(home or 1, []).append(line)
    own = commercial.intervals.get(deal.opportunity.billing_interval or "")
    interval = {line.id: interval_of(line, deal.opportunity.billing_interval, commercial) for line in loose}
    for line in sorted(loose, key=lambda each: (interval[each.id] != own, str(interval[each.id]), each.id)):
        room = (n for n in range(1, most + 1) if _fits(deal, commercial, [*parts.get(n, ()), line]))
        parts.setdefault(next(room, 1), []).append(line)
    return parts


def _fits(deal: Deal, commercial: Commercial, lines: Sequence[LineItem]) -> bool:
    """Whether one subscription holds the lines. What is wrong with a line or the deal by itself takes no room."""
    months = whole_months(deal.opportunity)
    currency = commercial.currency_of(deal.opportunity.currency)
    try:
        exponent(currency)
    except MoneyError:
        return True
    sound = tuple(line for line in lines if not any(line_faults(line, currency, commercial)))
    if months is None or not sound:
        return True
    phases = phases_of(replace(deal, lines=sound), commercial, currency, months)
    return not any(fault for phase in phases for fault in item_faults(phase.rates))


def _part(
    world: World, billing: Billing, deal: Deal, number: int, lines: tuple[LineItem, ...], contracts: Sequence[Contract]
) -> Deal:
    if number == 1:
        return replace(deal, lines=lines)
    opportunity = _opportunity(deal.opportunity, number)
    found = match_subscription(opportunity, billing.subscriptions, world.links, world.org_id)
    own = next((c for c in contracts if isinstance(found, Match) and c.stripe_subscription_id == found.id), None)
    return Deal(opportunity, lines, own)


def _opportunity(opportunity: Opportunity, number: int) -> Opportunity:
    """The terms of a further part are the deal's. An amount off comes off the first part's invoices only."""
    if number == 1:
        return opportunity
    return replace(
        opportunity,
        id=part_id(opportunity.id, number),
        stripe_subscription_id=None,
        contract_id=None,
        amount=None,
        discount_amount=None,
        billing_status=None,
        billing_message=None,
        activation_status=None,
        first_payment_at=None,
    )
