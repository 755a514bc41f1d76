"""Subscriptions that end with their term unless they are renewed: the end is scheduled when the renewal opens.

A deal says whether its term renews itself or ends, else the rules do. The end is scheduled once per term; whoever takes
it back has the last word. A renewal Opportunity that is won before the end takes it back too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from sync_pipeline.core import canonical, stripe_writing
from sync_pipeline.core.commands import Agreement, Command, FieldChange
from sync_pipeline.core.crosswalk import deals_by_subscription, own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.lifecycle import EARNING, ends_at
from sync_pipeline.core.periods import period_end_on
from sync_pipeline.core.renewals import is_open_for_renewal, leading_deal, renewal_key, renewals_of
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.term import Term, running_term, whole_months
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, World

RULE = "renewal.term_end"
WHY = "The term ends and was not renewed."


def end_terms(world: World, rules: Rules) -> Iterator[Command]:
    """The ends to schedule or to take back now."""
    billing = own_billing(world)
    if billing is None:
        return
    for subscription, deals in deals_by_subscription(world, billing):
        deal = leading_deal(deals)
        if deal is not None and subscription.status in EARNING and _ends(deal.opportunity, rules.commercial):
            yield from _of_one(world, rules.commercial, billing, deal, subscription)


def _ends(opportunity: Opportunity, commercial: Commercial) -> bool:
    return (opportunity.term_end or commercial.term_end).casefold() == "ends"


def _of_one(
    world: World, commercial: Commercial, billing: Billing, deal: Deal, subscription: Subscription
) -> Iterator[Command]:
    months = whole_months(deal.opportunity)
    term = running_term(subscription, months, commercial, world.now) if months is not None else None
    if term is None or not is_open_for_renewal(term, commercial, world.now):
        return
    renewal = renewals_of(world, subscription).get(renewal_key(subscription, term))
    renewed = renewal is not None and renewal.is_won
    done = world.base.get((deal.opportunity.id, RULE)) == canonical.encode(term.name.isoformat())
    asked = deal.contract is not None and deal.contract.cancel_requested_on is not None
    scheduled = ends_at(subscription, billing.items)
    shown = today(scheduled, commercial) if scheduled is not None else None
    if not done and not renewed and not asked and shown is None:
        last = period_end_on(term.day, subscription, billing.items, commercial) or term.ends_at
        reason = f"the term ends on {term.day.isoformat()}"
        yield _write(world, deal, subscription, last // MICROS, WHY, (None, term.day), term, reason)
    elif done and renewed and shown in (term.day, term.name):
        yield _write(world, deal, subscription, "", "", (shown, None), term, "the renewal was won")


def _write(
    world: World,
    deal: Deal,
    subscription: Subscription,
    cancel_at: int | str,
    comment: str,
    days: tuple[date | None, date | None],
    term: Term,
    reason: str,
) -> Command:
    """The end, or an empty text that takes it away; nothing is credited for it, and nothing billed again."""
    details = {"comment": comment}
    params = {"cancel_at": cancel_at, "proration_behavior": "none", "cancellation_details": details}
    before, after = (day.isoformat() if day is not None else None for day in days)
    return stripe_writing.update(
        world,
        "subscription",
        subscription.id,
        params,
        subject=deal.opportunity.id,
        priority=Priority.CREATE,
        reason=reason,
        changes=(FieldChange("cancel_at", before, after, RULE, reason),),
        agreements=(Agreement(deal.opportunity.id, RULE, canonical.encode(term.name.isoformat())),),
    )
