"""Deals that are billed and are no deals any more: not won after all, gone, or on another interval.

Each is told to a person and nothing is changed, because a CRM record that vanished must never cancel billing. While
one is open the two systems do not agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core.billed_items import running_deals
from sync_pipeline.core.commands import Review
from sync_pipeline.core.crosswalk import Match, match_subscription, own_billing
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.world import World


def unapplied_changes(world: World, rules: Rules) -> Iterator[Review]:
    """One review per difference, for every running subscription of a deal."""
    billing = own_billing(world)
    if billing is None:
        return
    running = {s.id: s for s in billing.subscriptions if not has_ended(s)}
    known = {deal.opportunity.id for deal in world.deals}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if isinstance(found, Match) and found.id in running and not deal.opportunity.is_won:
            detail = f"it is not won any more, but {found.id} goes on billing it; cancel that, or win it again"
            yield _review(world, "billed_deal_not_won", deal.opportunity.id, detail)
    for link in sorted(world.links, key=lambda each: each.external_id):
        if link.kind == "subscription" and link.external_id in running and link.subject not in known:
            detail = f"the Opportunity is gone from Salesforce, but {link.external_id} goes on billing it"
            yield _review(world, "billed_deal_gone", link.subject, detail)
    yield from _intervals(world, rules)


def _intervals(world: World, rules: Rules) -> Iterator[Review]:
    """An interval that was edited after billing began would move every date and amount: never by itself."""
    for running in running_deals(world, rules.commercial):
        said = running.deal.opportunity.billing_interval
        wanted = rules.commercial.intervals.get(said or "")
        billed = {(each.item.interval, each.item.interval_count) for each in running.items}
        if billed and wanted not in billed and running.subscription.intent is not None:
            detail = (
                f"the deal's billing interval is {said or 'empty'}, which is not what {running.subscription.id} has"
            )
            yield _review(world, "interval_differs", running.deal.opportunity.id, detail)


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
