"""The day on which service ends, kept equal from either side: a Contract's cancel date and a subscription's end.

A three-way merge of days. A person who enters a day, moves it or takes it away changes Stripe once it has rested;
what is scheduled, moved or taken back at Stripe reaches the Contract. Where both moved, Stripe's word stands, and a
person is told: money already follows from it. Service runs through the day that is entered. A day that is past ends
nothing: that takes back what was billed, or does not, and a person has to say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from sync_pipeline.core import canonical, stripe_writing, writing
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.commands import Agreement, Entry, FieldChange, Review
from sync_pipeline.core.conflict import About, Clash, Standing
from sync_pipeline.core.conflict_inbox import ruling_on, standing_on
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.deal import midnight, today
from sync_pipeline.core.kinds import merge3
from sync_pipeline.core.lifecycle import ends_at, has_ended
from sync_pipeline.core.periods import period_end_on
from sync_pipeline.core.quiet import resting
from sync_pipeline.core.readings import contract_subjects, subscription_of
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.salesforce_records import Contract
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, World

RULE = "contract.cancel_requested_on"
FIELD = "cancel_requested_on"
NEVER = canonical.encode(None)


def keep_cancel_dates(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written on either side, for the Contract of every running subscription."""
    billing = own_billing(world)
    if billing is None:
        return
    for subject in contract_subjects(world):
        subscription = subscription_of(world, subject.deal) if subject.deal is not None else None
        if subscription is not None and not has_ended(subscription):
            yield from _merge(world, rules, billing, subject.deal, subject.record, subscription)


def _merge(
    world: World, rules: Rules, billing: Billing, deal: Deal | None, contract: Contract, subscription: Subscription
) -> Iterator[Entry]:
    asked = CANON["text"](contract.cancel_requested_on)
    end = ends_at(subscription, billing.items)
    scheduled = today(end, rules.commercial).isoformat() if end is not None else None
    base = world.base.get((contract.id, RULE))
    left, right = canonical.encode(asked), canonical.encode(scheduled)
    standing = Standing(rule=RULE, subject=contract.id, salesforce=left, stripe=right)
    yield from standing_on(world, standing)
    if (ruling := ruling_on(world, standing)) is not None and not left == right == ruling.value:
        if left == ruling.value:
            yield from _to_stripe(world, rules.commercial, billing, contract, subscription, asked)
        else:
            yield from _to_contract(world, rules, contract, canonical.decode(ruling.value), scheduled)
        return
    # A subscription that we made began without an end; of one that was found nobody knows what it was meant to have.
    decision = merge3(left, right, base if base is not None or subscription.intent is None else NEVER)
    if decision == "agree":
        yield Agreement(contract.id, RULE, left)
        return
    shown = f"{asked or 'no end'} in Salesforce, {scheduled or 'no end'} at Stripe"
    clash = Clash(
        account=world.account_id,
        standing=standing,
        about=About.of(contract, opportunity_id=deal.opportunity.id if deal else None, stripe_object=subscription.id),
        base=base,
        words=(canonical.decode(base) or "no end" if base else None, asked or "no end", scheduled or "no end"),
        winner="Stripe",
        detail=f"changed on both sides: {shown}; Stripe wins",
    )
    if decision == "conflict" and base is None and subscription.intent is None and asked is not None:
        yield replace(clash, winner=None, detail=f"it is to end on different days: {shown}; make them equal")
    elif decision == "write_right":
        yield from _to_stripe(world, rules.commercial, billing, contract, subscription, asked)
    else:
        if decision == "conflict" and (asked is not None or base is not None):
            yield clash
        yield from _to_contract(world, rules, contract, scheduled, scheduled)


def _to_contract(
    world: World, rules: Rules, contract: Contract, day: str | None, scheduled: str | None
) -> Iterator[Entry]:
    """What a person ruled is agreed on when Stripe has it too, in the next round."""
    agreed = (Agreement(contract.id, RULE, canonical.encode(day)),) if day == scheduled else ()
    reason = f"the subscription is to end on {day}" if day else "the subscription goes on"
    written = writing.update(
        world, rules, "contract", contract, {FIELD: day}, rule=RULE, reason=reason, agreements=agreed
    )
    if written is not None:
        yield written


def _to_stripe(
    world: World,
    commercial: Commercial,
    billing: Billing,
    contract: Contract,
    subscription: Subscription,
    asked: str | None,
) -> Iterator[Entry]:
    day = date.fromisoformat(asked) if asked is not None else None
    if day is not None and day < today(world.now, commercial):
        detail = (
            f"the cancel date {asked} is past, and {subscription.id} goes on; enter a day from today on, "
            "or cancel it at Stripe at once, with or without giving money back"
        )
        yield _review(world, contract, detail)
        return
    if subscription.status == "incomplete":
        # Stripe refuses it (docs.stripe.com/billing/subscriptions/overview), and events tell when that changes.
        detail = (
            f"{subscription.id} takes no end before its first invoice is paid; it expires unless that happens within "
            "23 hours, and is given the end once it is paid"
        )
        yield _review(world, contract, detail)
        return
    if (rest := resting(world, commercial, contract.modified_at, contract.id)) is not None:
        yield rest
        return
    reason = "the Contract's cancel date was " + ("taken away" if day is None else "entered")
    if day is not None:
        end: int | str = _last_moment(day, commercial, billing, subscription)
        params = {"cancel_at": end, "proration_behavior": commercial.cancel_proration}
    elif subscription.cancel_at_period_end:
        params = {"cancel_at_period_end": False}
    else:
        # The days after the end are paid for where they were not given back: without this they are billed again.
        params = {"cancel_at": "", "proration_behavior": commercial.cancel_proration}
    shown = ends_at(subscription, billing.items)
    before = today(shown, commercial).isoformat() if shown is not None else None
    yield stripe_writing.update(
        world,
        "subscription",
        subscription.id,
        params,
        subject=contract.id,
        priority=Priority.CREATE,
        reason=reason,
        changes=(FieldChange("cancel_at", before, asked, RULE, reason),),
        agreements=(Agreement(contract.id, RULE, canonical.encode(asked)),),
    )


def _last_moment(day: date, commercial: Commercial, billing: Billing, subscription: Subscription) -> int:
    """The end of the day, in seconds UTC; the end of a paid period where one falls on it, of this or a later one."""
    end = period_end_on(day, subscription, billing.items, commercial)
    return midnight(day + timedelta(days=1), commercial) - 1 if end is None else end // MICROS


def _review(world: World, contract: Contract, detail: str) -> Review:
    return Review(f"{RULE}:{contract.id}", world.account_id, RULE, contract.id, detail)
