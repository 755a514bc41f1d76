"""Cancellations become churn records, one per episode, and a retention status on the Account.

An episode opens when an end is scheduled, is rescinded when that is taken back, and is final when the
subscription has ended; only forward. Which episode we are in is read off the records themselves and the
subscription's present fields, never off events: `canceled_at` moves with every request, event names mislead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sync_pipeline.core import writing
from sync_pipeline.core.at_risk import subscriptions_at_risk
from sync_pipeline.core.commands import Command, Entry, Review
from sync_pipeline.core.contraction import UNCOUNTED, is_contraction
from sync_pipeline.core.crosswalk import Match, match_subscription, own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.lifecycle import EARNING, has_ended, is_ending, never_began
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import ChurnRecord
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.world import Billing, Deal, World

RULE = "churn_record"
VOLUNTARY = {"cancellation_requested"}
REASON_IN_WORDS = {
    "cancellation_requested": "cancellation was requested",
    "payment_failed": "the payment failed for good",
    "payment_disputed": "the payment was disputed",
    "canceled_by_retention_policy": "it was canceled by Stripe's retention policy",
}
RETENTION = ("Healthy", "At Risk", "Cancel Scheduled", "Churned", "Won Back")
"""Every word of the Account's retention status."""


def churn_records(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be made or changed so that every episode has its record; a review where its MRR is not known."""
    billing = own_billing(world)
    if billing is None:
        return
    for subscription in sorted(billing.subscriptions, key=lambda each: each.id):
        records = sorted(
            (r for r in world.churn_records if r.subscription_id == subscription.id and not is_contraction(r)),
            key=_number,
        )
        try:
            yield from _episode(world, rules, billing, subscription, records)
        except MoneyError as error:
            yield Review(f"{RULE}:{subscription.id}", world.account_id, RULE, subscription.id, str(error))


def retention(billing: Billing, now: int) -> str | None:
    """The Account's retention status; None where it never was a customer: a first payment that does not come makes no
    customer, so there is nobody to lose."""
    begun = [s for s in billing.subscriptions if not never_began(s)]
    running = [s for s in begun if not has_ended(s)]
    if not running:
        return "Churned" if begun else None
    if any(is_ending(s) for s in running):
        return "Cancel Scheduled"
    if subscriptions_at_risk(billing, now):
        return "At Risk"
    ends = [s.ended_at for s in begun if s.ended_at is not None]
    return "Won Back" if ends and min(ends) < max(s.created_at for s in running) else "Healthy"


def _episode(
    world: World, rules: Rules, billing: Billing, subscription: Subscription, records: Sequence[ChurnRecord]
) -> Iterator[Command]:
    last = records[-1] if records else None
    reason = "the cancellation changed"
    if never_began(subscription):
        return
    if has_ended(subscription):
        values = _values(world, rules, billing, subscription, "Final") | {
            "open_debt": _open_debt(billing, subscription)
        }
        if last is not None and last.status == "Final":
            values, reason = {"open_debt": values["open_debt"]}, "what is still owed changed"
    elif is_ending(subscription):
        values = _values(world, rules, billing, subscription, "Open")
    elif last is not None and last.status == "Open":
        values = {"status": "Rescinded"}
    else:
        return
    if last is None or last.status == "Rescinded":
        yield _new(world, rules, f"{subscription.id}:{len(records) + 1}", values)
        return
    command = writing.update(world, rules, "churn_record", last, values, rule=RULE, reason=reason)
    if command is not None:
        yield command


def _new(world: World, rules: Rules, key: str, values: dict[str, Any]) -> Command:
    return writing.create(
        world,
        rules,
        "churn_record",
        key,
        values | {"currency": writing.record_currency(world, values["lost_mrr"].currency)},
        key_field="key",
        intent=f"churn:{key}",
        subject=world.account_id,
        rule=RULE,
        reason=f"a cancellation is {values['status'].lower()}",
    )


def _values(world: World, rules: Rules, billing: Billing, subscription: Subscription, status: str) -> dict[str, Any]:
    periods = (item.period_end for item in billing.items if item.subscription == subscription.id)
    ends = max((end for end in periods if end is not None), default=None)
    ends_at = subscription.ended_at or subscription.cancel_at or ends
    deals = sorted(world.deals, key=lambda each: each.opportunity.id)
    deal = next((d for d in deals if _bills(world, billing, d, subscription)), None)
    return {
        "kind": "Churn",
        "status": status,
        "account_id": world.account_id,
        "opportunity_id": opportunity_of(deal.opportunity.id) if deal else None,
        "subscription_id": subscription.id,
        "effective_date": today(ends_at, rules.commercial).isoformat() if ends_at is not None else None,
        "lost_mrr": _lost(world, billing, subscription),
        "reason": reason_in_words(subscription),
        "feedback": subscription.cancellation_feedback,
        "comment": subscription.cancellation_comment,
        "is_voluntary": subscription.cancellation_reason in VOLUNTARY,
    }


def _lost(world: World, billing: Billing, subscription: Subscription) -> Money:
    """What it counts for by Stripe's definition just before its end, as derived/churn_records has it.

    Once it has ended, Stripe does not tell whether it earned: the last look while it ran knows, and a trial that it did
    not outlive. One that no look saw counts, because what was past due and what was given up as unpaid look the same
    then, in the derived table too.
    """
    if has_ended(subscription):
        trial, end = subscription.trial_end_at, subscription.ended_at
        in_trial = trial is not None and end is not None and end <= trial
        counts = not in_trial and not _last_seen_uncounted(world, billing, subscription)
    else:
        counts = subscription.status in EARNING
    return monthly_recurring_revenue(billing, subscription.currency, [subscription] if counts else [])


def _last_seen_uncounted(world: World, billing: Billing, subscription: Subscription) -> bool:
    """Whether it did not count at the last look; an invoice after its trial says more than a look before that."""
    levels = [f for f in world.facts if (f.kind, f.external_id) == (UNCOUNTED, subscription.id)]
    if not sum(level.amount_minor for level in levels):
        return False
    trial, seen_at = subscription.trial_end_at, max(level.occurred_at for level in levels)
    if trial is None or seen_at >= trial:
        return True
    billed = (i for i in billing.invoices if i.subscription == subscription.id and i.total > 0)
    return all((invoice.finalized_at or 0) < trial for invoice in billed)


def reason_in_words(subscription: Subscription) -> str | None:
    """Why it ends; a reason that this version does not know is shown as it is."""
    return REASON_IN_WORDS.get(subscription.cancellation_reason or "", subscription.cancellation_reason)


def churn_reason(subscription: Subscription) -> str | None:
    """Why it ends with what the customer chose as feedback, in one line."""
    feedback = (subscription.cancellation_feedback or "").replace("_", " ")
    return ": ".join(part for part in (reason_in_words(subscription), feedback) if part) or None


def _open_debt(billing: Billing, subscription: Subscription) -> Money:
    """What the customer still owes: Stripe does not collect it by itself once the subscription has ended."""
    owed = (
        invoice.amount_remaining
        for invoice in billing.invoices
        if invoice.subscription == subscription.id and invoice.status in ("open", "uncollectible")
    )
    return Money(sum(owed), subscription.currency)


def _bills(world: World, billing: Billing, deal: Deal, subscription: Subscription) -> bool:
    found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
    return isinstance(found, Match) and found.id == subscription.id


def _number(record: ChurnRecord) -> int:
    """The number of an episode, from its key (sub_...:2)."""
    number = (record.key or "").rpartition(":")[2]
    return int(number) if number.isdigit() else 0
