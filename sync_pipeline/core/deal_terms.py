"""Terms of a whole deal that are edited after its billing began: how it is collected, and when it begins.

How invoices are collected, and when they are due, is carried to the subscription and counts from its next invoice on.
When service begins, and how many months are free, is billed already: an edit is told to a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sync_pipeline.core import canonical, stripe_writing
from sync_pipeline.core.billed_items import RunningDeal, why_fixed
from sync_pipeline.core.canon import number, text
from sync_pipeline.core.commands import Agreement, Entry, FieldChange, Review
from sync_pipeline.core.conflict import About
from sync_pipeline.core.deal import COLLECTION_METHODS, collection, today
from sync_pipeline.core.observation import Present
from sync_pipeline.core.part_ids import opportunity_of, part_number
from sync_pipeline.core.quiet import resting
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.two_way import Term, decide
from sync_pipeline.core.world import World

COLLECTED = "subscription.collection"
BEGINS = "deal.begins"
SAYS_NOTHING: list[str | None] = [None, None]


def agreed_deal_terms(opportunity: Opportunity, method: str, net_days: int | None) -> tuple[Agreement, ...]:
    """The merge base once a subscription was made with these terms."""
    return (
        _collected(opportunity, [method, net_days]),
        Agreement(opportunity.id, BEGINS, canonical.encode(_begins(opportunity))),
    )


def keep_deal_terms(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written to a subscription that we made, or decided by a person."""
    for running in running_deals(world, rules.commercial):
        if running.subscription.intent is not None:
            yield from _keep_collection(world, rules.commercial, running)
            yield from _keep_beginning(world, rules.commercial, running)


def _keep_collection(world: World, commercial: Commercial, running: RunningDeal) -> Iterator[Entry]:
    opportunity, subscription = running.deal.opportunity, running.subscription
    missing: list[str] = []
    collection(opportunity, commercial, missing)
    if missing:
        yield _review(world, COLLECTED, running, f"{subscription.id} is collected as before: {'; '.join(missing)}")
        return
    known = world.base.get((opportunity.id, COLLECTED))
    base = canonical.decode(known) if known is not None else None
    has = [subscription.collection_method, subscription.days_until_due]
    wanted = _wanted(_said(opportunity), base, has, commercial)
    term = Term(
        subject=opportunity.id,
        rule=COLLECTED,
        salesforce=canonical.encode(wanted),
        stripe=canonical.encode(has),
        base=None if base is None else canonical.encode(base["agreed"]),
        words=f"the deal says {_in_words(wanted)}, {subscription.id} {_in_words(has)}",
        said=(None if base is None else _in_words(base["agreed"]), _in_words(wanted), _in_words(has)),
        about=_about(running),
        keeps="Stripe",
    )
    carries = base is not None and commercial.changes_after_billing == "carry"
    decision = decide(world, commercial, term, "review", carries=carries)
    yield from decision.told
    if decision.move == "agree":
        yield _collected(opportunity, wanted)
    elif decision.writes_stripe:
        yield _collect(world, commercial, running, wanted)


def _wanted(
    said: list[str | None], base: Mapping[str, Any] | None, has: list[Any], commercial: Commercial
) -> list[Any]:
    """How the deal is to be collected. What it never said is as Stripe has it, whatever the rules say for new deals;
    what it does not say any more is as the rules say."""
    before = SAYS_NOTHING if base is None else base["said"]
    if base is not None and said == before != SAYS_NOTHING:
        return list(base["agreed"])
    method: str = COLLECTION_METHODS.get(said[0] or "", commercial.collection_method)
    net_days = commercial.days_until_due if said[1] is None else int(said[1])
    if said[0] is before[0] is None:
        method = has[0]
    if said[1] is before[1] is None and has[1] is not None:
        net_days = has[1]
    return [method, None if method == "charge_automatically" else net_days]


def _collect(world: World, commercial: Commercial, running: RunningDeal, wanted: list[Any]) -> Entry:
    opportunity, subscription = running.deal.opportunity, running.subscription
    method, net_days = wanted
    if (rest := resting(world, commercial, opportunity.modified_at, opportunity.id)) is not None:
        return rest
    if why := why_fixed(world, running, "how each phase is collected"):
        return _review(world, COLLECTED, running, f"{_in_words(wanted)} is not carried: {why}")
    if method == "charge_automatically" and not _has_payment_method(world, running):
        detail = f"{subscription.customer} has no default payment method to charge; add one at Stripe"
        return _review(world, COLLECTED, running, detail)
    params = {"collection_method": method} | ({} if net_days is None else {"days_until_due": net_days})
    reason = "how the deal is collected was edited in Salesforce"
    before = _in_words([subscription.collection_method, subscription.days_until_due])
    return stripe_writing.update(
        world,
        "subscription",
        subscription.id,
        params,
        subject=opportunity.id,
        priority=Priority.WRITE_BACK,
        reason=reason,
        changes=(FieldChange("collection_method", before, _in_words(wanted), COLLECTED, reason),),
        agreements=(_collected(opportunity, wanted),),
    )


def _has_payment_method(world: World, running: RunningDeal) -> bool:
    seen = world.customers.get(running.subscription.customer)
    of_customer = seen.value.payment_method if isinstance(seen, Present) else None
    return (running.subscription.payment_method or of_customer) is not None


def _keep_beginning(world: World, commercial: Commercial, running: RunningDeal) -> Iterator[Entry]:
    opportunity = running.deal.opportunity
    if part_number(opportunity.id) > 1:
        # All parts of a deal begin together.
        return
    known = world.base.get((opportunity.id, BEGINS))
    # A deal that says no day begins when it is billed.
    began = today(running.subscription.start_at, commercial).isoformat()
    says, agreed = (
        [day or began, free]
        for day, free in (_begins(opportunity), _begins(opportunity) if known is None else canonical.decode(known))
    )
    words = f"the deal says {_begins_in_words(says)}, it was billed {_begins_in_words(agreed)}"
    term = Term(
        subject=opportunity.id,
        rule=BEGINS,
        salesforce=canonical.encode(says),
        stripe=canonical.encode(agreed),
        base=None if known is None else canonical.encode(agreed),
        words=f"{words}, and goes on so; credit or invoice the difference by hand",
        said=(_begins_in_words(agreed), _begins_in_words(says), _begins_in_words(agreed)),
        about=_about(running),
        keeps="Stripe",
    )
    decision = decide(world, commercial, term, "review", carries=False)
    yield from decision.told
    if decision.move == "agree":
        yield Agreement(opportunity.id, BEGINS, term.salesforce)
    elif decision.writes_stripe:
        detail = f"what was billed cannot begin on another day: {words}; keep Stripe's, or put the deal back"
        yield _review(world, BEGINS, running, detail)


def _collected(opportunity: Opportunity, agreed: list[Any]) -> Agreement:
    remembered = {"agreed": agreed, "said": _said(opportunity)}
    return Agreement(opportunity.id, COLLECTED, canonical.encode(remembered))


def _said(opportunity: Opportunity) -> list[str | None]:
    return [text(opportunity.collection_method), number(opportunity.net_days)]


def _begins(opportunity: Opportunity) -> list[str | None]:
    return [text(opportunity.service_start_date), number(opportunity.free_months or None)]


def _in_words(collected: list[Any]) -> str:
    method, net_days = collected
    return "charged automatically" if method == "charge_automatically" else f"invoices due after {net_days} days"


def _begins_in_words(begins: list[Any]) -> str:
    day, free = begins
    return f"from {day}" + (f" with {free} free months" if free else "")


def _about(running: RunningDeal) -> About:
    opportunity = running.deal.opportunity
    record = opportunity_of(opportunity.id)
    about = About.of(opportunity, opportunity_id=record, stripe_object=running.subscription.id)
    return replace(about, record_id=record)


def _review(world: World, rule: str, running: RunningDeal, detail: str) -> Review:
    subject = running.deal.opportunity.id
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
