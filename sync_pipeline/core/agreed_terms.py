"""Deals that are billed and are no deals any more: not won after all, gone, on another interval, charged for more.

Each is told to a person and nothing is changed, because a CRM record that vanished must never cancel billing. While
one is open the two systems do not agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core.amendments import is_amendment
from sync_pipeline.core.billed_items import QUANTITY, running_deals
from sync_pipeline.core.commands import Review
from sync_pipeline.core.crosswalk import Match, match_schedule, match_subscription, own_billing
from sync_pipeline.core.deal import Incomplete, terms
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rates import interval_of, is_one_time
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.world import Billing, Deal, World


def unapplied_changes(world: World, rules: Rules) -> Iterator[Review]:
    """One review per difference, for every running subscription of a deal."""
    billing = own_billing(world)
    if billing is None:
        return
    running = {s.id: s for s in billing.subscriptions if not has_ended(s)}
    known = {deal.opportunity.id for deal in world.deals}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if is_amendment(world, deal, rules.commercial):
            continue
        if isinstance(found, Match) and found.id in running and not deal.opportunity.is_won:
            detail = f"it is not won any more, but {found.id} goes on billing it; cancel that, or win it again"
            yield _review(world, "billed_deal_not_won", deal.opportunity.id, detail)
        yield from _not_begun(world, rules, billing, deal)
    for link in sorted(world.links, key=lambda each: each.external_id):
        if link.kind == "subscription" and link.external_id in running and link.subject not in known:
            detail = f"the Opportunity is gone from Salesforce, but {link.external_id} goes on billing it"
            yield _review(world, "billed_deal_gone", link.subject, detail)
    yield from _intervals(world, rules)
    yield from _late_charges(world, rules)


def _not_begun(world: World, rules: Rules, billing: Billing, deal: Deal) -> Iterator[Review]:
    """A deal whose service starts later: what was edited meanwhile and cannot be said to its schedule."""
    schedule = match_schedule(deal.opportunity, billing.schedules, world.links, world.org_id)
    if schedule is None or schedule.status != "not_started" or not isinstance(world.account, Present):
        return
    subject = deal.opportunity.id
    if not deal.opportunity.is_won:
        detail = f"it is not won any more, but {schedule.id} will begin to bill it; cancel that, or win it again"
        yield _review(world, "billed_deal_not_won", subject, detail)
        return
    agreed = terms(deal, world.account.value, rules.commercial, world.now)
    if isinstance(agreed, Incomplete):
        detail = f"{schedule.id} will bill what was agreed before, because: {'; '.join(agreed.missing)}"
        yield _review(world, "schedule_not_changed", subject, detail)


def _late_charges(world: World, rules: Rules) -> Iterator[Review]:
    """One-time charges that came to a deal after its first invoice."""
    for running in running_deals(world, rules.commercial):
        known = any((line.id, QUANTITY) in world.base for line in running.deal.lines)
        for line in running.deal.lines:
            late = known and (line.id, QUANTITY) not in world.base and running.subscription.intent is not None
            if late and is_one_time(line, rules.commercial):
                name = line.product_name or line.id
                detail = f"line {name} is a one-time charge, and the first invoice has been made; invoice it by hand"
                yield _review(world, "late_charge", line.id, detail)


def _intervals(world: World, rules: Rules) -> Iterator[Review]:
    """An interval that was edited after billing began would move every date and amount: never by itself."""
    for running in running_deals(world, rules.commercial):
        said = running.deal.opportunity.billing_interval
        lines = (line for each in running.items for line in each.lines)
        wanted = {interval_of(line, said, rules.commercial) for line in lines}
        billed = {(each.item.interval, each.item.interval_count) for each in running.items}
        if wanted - billed and running.subscription.intent is not None:
            detail = (
                f"the deal's billing interval is {said or 'empty'}, which is not what {running.subscription.id} has"
            )
            yield _review(world, "interval_differs", running.deal.opportunity.id, detail)


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
