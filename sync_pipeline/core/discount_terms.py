"""The discount of a running subscription, kept equal to that of its deal: edited in Salesforce, or coupons at Stripe.

Compared are coupons, by their ids: what a discount for some invoices has taken off is spent and not missing. A change
is billed from the next invoice on and prorates nothing (docs.stripe.com/billing/subscriptions/prorations).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sync_pipeline.core import canonical, stripe_writing
from sync_pipeline.core.billed_items import RunningDeal, why_fixed
from sync_pipeline.core.commands import Agreement, Entry, FieldChange, Review
from sync_pipeline.core.conflict import About
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.discounts import AgreedDiscount, agreed_discount, months_faults
from sync_pipeline.core.observation import Present
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.rate_card import coupons, is_discount
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.stripe_records import Discount
from sync_pipeline.core.two_way import Decision, Term, decide
from sync_pipeline.core.world import Billing, World

RULE = "subscription.discounts"
FINITE = ("once", "repeating")


@dataclass(frozen=True, slots=True)
class _Discounted:
    """A running subscription that we made: what its deal agrees to, what it has, and what follows from both."""

    running: RunningDeal
    agreed: AgreedDiscount | None
    has: Sequence[Discount]
    decision: Decision


def keep_discounts(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written to a subscription, or decided by a person."""
    for found in _discounted(world, rules):
        if isinstance(found, Review):
            yield found
            continue
        opportunity, decision = found.running.deal.opportunity, found.decision
        yield from decision.told
        if decision.move == "agree":
            yield from agreed_on(opportunity.id, found.agreed)
        elif decision.writes_stripe:
            yield from _write(world, found)


def changed_discounts(world: World, rules: Rules) -> Iterator[AgreedDiscount]:
    """The discounts that running subscriptions may get next; their coupons have to be known to plan it."""
    for found in _discounted(world, rules):
        if isinstance(found, _Discounted) and found.decision.writes_stripe and found.agreed is not None:
            yield found.agreed


def agreed_on(opportunity_id: str, agreed: AgreedDiscount | None) -> tuple[Agreement, ...]:
    """The merge base once a subscription has the discount."""
    return (Agreement(opportunity_id, RULE, canonical.encode([agreed.coupon] if agreed else [])),)


def _discounted(world: World, rules: Rules) -> Iterator[_Discounted | Review]:
    billing = own_billing(world)
    for running in running_deals(world, rules.commercial) if billing is not None else ():
        assert billing is not None
        if running.subscription.intent is None or not running.is_in_one_currency:
            continue
        missing: list[str] = []
        agreed = agreed_discount(running.deal.opportunity, running.subscription.currency, missing)
        if missing:
            detail = f"{running.subscription.id} keeps its discount, because: {'; '.join(missing)}"
            yield _review(world, running.deal.opportunity.id, detail)
        else:
            yield _compared(world, rules, billing, running, agreed)


def _compared(
    world: World, rules: Rules, billing: Billing, running: RunningDeal, agreed: AgreedDiscount | None
) -> _Discounted:
    subject = running.deal.opportunity.id
    has = [each for each in billing.discounts if each.subscription == running.subscription.id]
    base = world.base.get((subject, RULE))
    known = {*([agreed.coupon] if agreed else ()), *(canonical.decode(base) if base else ())}
    shown = sorted({_name(each) for each in has})
    if rules.commercial.on_stripe_discounts == "accept":
        shown = [name for name in shown if name in known]
    spent = agreed is not None and agreed.duration in FINITE and base in (None, canonical.encode([agreed.coupon]))
    if agreed is not None and spent and agreed.coupon not in shown:
        shown = sorted([*shown, agreed.coupon])
    wanted = [agreed.coupon] if agreed else []
    told = f"the deal has {_shown(wanted)}, {running.subscription.id} {', '.join(shown) or 'none'}"
    opportunity = running.deal.opportunity
    term = Term(
        subject=subject,
        rule=RULE,
        salesforce=canonical.encode(wanted),
        stripe=canonical.encode(shown),
        base=base,
        words=told,
        said=(_shown(canonical.decode(base)) if base else None, _shown(wanted), _shown(shown)),
        about=About(
            record_id=opportunity_of(subject),
            opportunity_id=opportunity_of(subject),
            stripe_object=running.subscription.id,
            edited_by_id=opportunity.modified_by_id,
            edited_at=opportunity.modified_at,
        ),
        keeps="Stripe",
    )
    carries = base is not None and rules.commercial.changes_after_billing == "carry"
    decision = decide(world, rules.commercial, term, rules.commercial.on_stripe_discounts, carries=carries)
    why = why_fixed(world, running, "the discount of each phase") or "; ".join(_months_faults(running, agreed))
    if decision.writes_stripe and why:
        decision = Decision("leave", (*decision.told, _review(world, subject, f"{told}; {why}")))
    return _Discounted(running, agreed, has, decision)


def _months_faults(running: RunningDeal, agreed: AgreedDiscount | None) -> Iterator[str]:
    """Why a discount that is given now would be taken off other invoices than those that it is for."""
    if agreed is not None:
        intervals = [(item.interval, item.interval_count) for item in running.all_items]
        yield from months_faults(agreed, intervals, is_free=running.subscription.status == "trialing")


def _shown(coupon_names: Sequence[str]) -> str:
    return ", ".join(coupon_names) or "no discount"


def _name(discount: Discount) -> str:
    """A coupon, and the item where it is on one item only, which no deal agrees to."""
    return f"{discount.coupon}" if discount.item is None else f"{discount.coupon} on {discount.item}"


def _write(world: World, found: _Discounted) -> Iterator[Entry]:
    """All of the subscription's discounts in one request: an agreed one that it has goes on as it is."""
    agreed, subscription = found.agreed, found.running.subscription
    subject, put_back = found.running.deal.opportunity.id, found.decision.move == "put_back"
    if agreed is not None:
        if not isinstance(world.catalogue, Present):
            return
        coupon = world.catalogue.value.coupons.get(agreed.coupon)
        if coupon is None:
            yield from coupons(world, world.catalogue.value, [agreed])
            return
        if not is_discount(coupon, agreed):
            detail = f"coupon {coupon.id} cannot be applied or is not the discount that its id says; delete it"
            yield Review(f"coupon_mismatch:{subject}", world.account_id, "coupon_mismatch", subject, detail)
            return
    kept = [each.id for each in found.has if agreed and each.item is None and each.coupon == agreed.coupon]
    entries: list[dict[str, str]] = [{"discount": kept[0]}] if kept else [{"coupon": agreed.coupon}] if agreed else []
    params: dict[str, Any] = {"discounts": entries or ""}
    if discounted_items := sorted({each.item for each in found.has if each.item is not None}):
        params["items"] = [{"id": item, "discounts": ""} for item in discounted_items]
    reason = "the discount was put back" if put_back else "the discount was edited in Salesforce"
    before, after = ", ".join(sorted(map(_name, found.has))) or None, agreed.coupon if agreed else None
    yield stripe_writing.update(
        world,
        "subscription",
        subscription.id,
        params,
        subject=subject,
        priority=Priority.WRITE_BACK,
        reason=reason,
        changes=(FieldChange("discounts", before, after, RULE, reason, put_back=subject if put_back else None),),
        agreements=agreed_on(subject, agreed),
    )


def _review(world: World, subject: str, detail: str) -> Review:
    return Review(f"{RULE}:{subject}", world.account_id, RULE, subject, detail)
