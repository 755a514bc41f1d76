"""Deals that are billed as they should not be: not won after all, gone, twice, by another interval or in another
currency.

Each is told to a person and nothing is changed, because a CRM record that vanished must never cancel billing. While
one is open the two systems do not agree. Of a deal that is lost after all a person may rule: billing goes on, or ends
with what is paid.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core import stripe_writing
from sync_pipeline.core.amendments import is_amendment
from sync_pipeline.core.billed_items import priced_for
from sync_pipeline.core.canon import text
from sync_pipeline.core.commands import Command, Entry, FieldChange, Review
from sync_pipeline.core.conflict import About, Clash, Standing
from sync_pipeline.core.conflict_inbox import is_kept, ruling_on, standing_on
from sync_pipeline.core.crosswalk import Ambiguous, Match, match_schedule, match_subscription, own_billing
from sync_pipeline.core.deal import Incomplete, subscription_intent, terms, today
from sync_pipeline.core.lifecycle import has_ended, is_ending
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.world import Billing, Deal, World

NOT_WON = "billed_deal_not_won"
BILLED, NOT_BILLED = '"billed"', '"not billed"'


def unapplied_changes(world: World, rules: Rules) -> Iterator[Entry]:
    """What differs, for every running subscription of a deal, and what a ruling on it asks for."""
    billing = own_billing(world)
    if billing is None:
        return
    running = {s.id: s for s in billing.subscriptions if not has_ended(s)}
    known = {deal.opportunity.id for deal in world.deals}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if is_amendment(world, deal, rules.commercial):
            continue
        if isinstance(found, Match) and found.id in running:
            yield from _still_won(world, rules, billing, deal, running[found.id])
        if not isinstance(found, Ambiguous):
            yield from _billed_twice(world, billing, deal)
        yield from _not_begun(world, rules, billing, deal)
    for link in sorted(world.links, key=lambda each: each.external_id):
        if link.kind == "subscription" and link.external_id in running and link.subject not in known:
            detail = f"the Opportunity is not on this Account any more, but {link.external_id} goes on billing it"
            yield _review(world, "billed_deal_gone", link.subject, detail)
    yield from _intervals(world, rules)
    yield from _currencies(world, rules)


def _billed_twice(world: World, billing: Billing, deal: Deal) -> Iterator[Review]:
    """What goes on billing a deal, or will begin to, by its own word beside another: each deal has an intent of its
    own, and so has each part of one. A schedule that has begun is its subscription."""
    intent = subscription_intent(world.org_id, deal.opportunity.id)
    ours = [each.id for each in billing.subscriptions if each.intent == intent and not has_ended(each)]
    ours += [each.id for each in billing.schedules if each.intent == intent and each.status == "not_started"]
    if len(ours) > 1:
        detail = (
            f"{', '.join(sorted(ours))} each bill it, by their sf_intent; cancel all but one at Stripe, or take "
            "sf_intent off what bills something else"
        )
        yield _review(world, "billed_twice", deal.opportunity.id, detail)


def _still_won(world: World, rules: Rules, billing: Billing, deal: Deal, subscription: Subscription) -> Iterator[Entry]:
    """Whether a deal that is billed is won; an end that is scheduled settles one that is not."""
    opportunity, ends = deal.opportunity, is_ending(subscription)
    standing = Standing(
        rule=NOT_WON,
        subject=opportunity.id,
        salesforce=BILLED if opportunity.is_won else NOT_BILLED,
        stripe=NOT_BILLED if ends else BILLED,
        keeps="Stripe",
    )
    yield from standing_on(world, standing)
    if opportunity.is_won or ends:
        return
    ruling = ruling_on(world, standing)
    if ruling is None and not is_kept(world, standing):
        yield Clash(
            account=world.account_id,
            standing=standing,
            about=About.of(opportunity, opportunity_id=opportunity.id, stripe_object=subscription.id),
            base=None,
            words=(None, opportunity.stage or "no stage", f"{subscription.id} is {subscription.status}"),
            winner=None,
            detail=f"it is not won any more, but {subscription.id} goes on billing it; cancel that, or win it again",
        )
    elif ruling is not None and ruling.side == "Salesforce":
        yield from _ended(world, rules, billing, deal, subscription)


def _ended(world: World, rules: Rules, billing: Billing, deal: Deal, subscription: Subscription) -> Iterator[Command]:
    """The end of a subscription with what is paid: nothing is given back, and nothing billed again."""
    periods = [item.period_end for item in billing.items if item.subscription == subscription.id and item.period_end]
    if not periods:
        return
    end = max(periods)
    reason = "a person ruled that the deal is lost"
    yield stripe_writing.update(
        world,
        "subscription",
        subscription.id,
        {"cancel_at": end // 1_000_000, "proration_behavior": "none"},
        subject=deal.opportunity.id,
        priority=Priority.CREATE,
        reason=reason,
        changes=(FieldChange("cancel_at", None, today(end, rules.commercial).isoformat(), NOT_WON, reason),),
    )


def _not_begun(world: World, rules: Rules, billing: Billing, deal: Deal) -> Iterator[Review]:
    """A deal whose service starts later: what was edited meanwhile and cannot be said to its schedule."""
    schedule = match_schedule(deal.opportunity, billing.schedules, world.links, world.org_id)
    if schedule is None or schedule.status != "not_started" or not isinstance(world.account, Present):
        return
    subject = deal.opportunity.id
    if not deal.opportunity.is_won:
        detail = f"it is not won any more, but {schedule.id} will begin to bill it; cancel that, or win it again"
        yield _review(world, NOT_WON, subject, detail)
        return
    agreed = terms(deal, world.account.value, rules.commercial, world.now, is_new=True)
    if isinstance(agreed, Incomplete):
        detail = f"{schedule.id} will bill what was agreed before, because: {'; '.join(agreed.missing)}"
        yield _review(world, "schedule_not_changed", subject, detail)


def _intervals(world: World, rules: Rules) -> Iterator[Review]:
    """An interval that was edited after billing began would move every date and amount: never by itself, and a price
    that is for it is not carried either."""
    for running in running_deals(world, rules.commercial):
        if not running.is_in_one_currency:
            continue
        said = running.deal.opportunity.billing_interval or "empty"
        apart = [
            f"{line.called} ({text(line.billing_interval) or said})"
            for billed in running.items
            for line in billed.lines
            if priced_for(world, rules.commercial, billed, line) is None
        ]
        if apart:
            detail = (
                f"{running.subscription.id} bills {', '.join(apart)} by another interval: it goes on as it was, and no "
                "price of these lines is carried; put the interval back, or sell the change as an amendment"
            )
            yield _review(world, "interval_differs", running.deal.opportunity.id, detail)


def _currencies(world: World, rules: Rules) -> Iterator[Review]:
    """Prices of two currencies are never held against each other, so nobody else would notice."""
    for running in running_deals(world, rules.commercial):
        if not running.is_in_one_currency:
            detail = (
                f"the deal is in {running.currency}, {running.subscription.id} bills it in "
                f"{running.subscription.currency}: no price of it is compared or written; correct the currency of the "
                "deal, or end the subscription and sell it anew"
            )
            yield _review(world, "currency_differs", running.deal.opportunity.id, detail)


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
