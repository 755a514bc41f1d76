"""Cancellations become churn records, one per episode, and a retention status on the Account.

An episode opens when an end is scheduled, is rescinded when that is taken back, and is final when the
subscription has ended; only forward. Which episode we are in is read off the records themselves and the
subscription's present fields, never off events: `canceled_at` moves with every request, event names mislead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sync_pipeline.core.at_risk import subscriptions_at_risk
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.commands import Command, Entry, FieldChange, Review
from sync_pipeline.core.crosswalk import Match, match_subscription, own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.lifecycle import has_ended, is_ending
from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.mrr import yearly
from sync_pipeline.core.records import ChurnRecord, Subscription
from sync_pipeline.core.rules import Priority, Rules
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
CANON_OF = {"lost_mrr": "money", "is_voluntary": "flag"}


def churn_records(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be made or changed so that every episode has its record; a review where its MRR is not known."""
    billing = own_billing(world)
    if billing is None:
        return
    for subscription in sorted(billing.subscriptions, key=lambda each: each.id):
        records = sorted(
            (r for r in world.churn_records if r.subscription_id == subscription.id), key=lambda r: _number(r)
        )
        try:
            yield from _episode(world, rules, billing, subscription, records)
        except MoneyError as error:
            yield Review(f"{RULE}:{subscription.id}", world.account_id, RULE, subscription.id, str(error))


def retention(billing: Billing, now: int) -> str | None:
    """The Account's retention status; None where nothing was ever billed."""
    running = [s for s in billing.subscriptions if not has_ended(s)]
    if not running:
        return "Churned" if billing.subscriptions else None
    if any(is_ending(s) for s in running):
        return "Cancel Scheduled"
    if subscriptions_at_risk(billing, now):
        return "At Risk"
    ends = [s.ended_at for s in billing.subscriptions if s.ended_at is not None]
    return "Won Back" if ends and min(ends) < max(s.created_at for s in running) else "Healthy"


def _episode(
    world: World, rules: Rules, billing: Billing, subscription: Subscription, records: Sequence[ChurnRecord]
) -> Iterator[Command]:
    last = records[-1] if records else None
    if has_ended(subscription):
        if subscription.status == "incomplete_expired" or (last is not None and last.status == "Final"):
            return
        wanted = "Final"
    elif is_ending(subscription):
        wanted = "Open"
    elif last is not None and last.status == "Open":
        wanted = "Rescinded"
    else:
        return
    if last is None or last.status == "Rescinded":
        key = f"{subscription.id}:{len(records) + 1}"
        yield _create(world, rules, key, _values(world, rules, billing, subscription, wanted))
    elif wanted == "Rescinded":
        yield from _update(world, rules, last, {"status": wanted})
    else:
        yield from _update(world, rules, last, _values(world, rules, billing, subscription, wanted))


def _values(world: World, rules: Rules, billing: Billing, subscription: Subscription, status: str) -> dict[str, Any]:
    items = [item for item in billing.items if item.subscription == subscription.id]
    monthly = sum(map(yearly, items), Fraction(0)) / 12
    ends = max((item.period_end for item in items if item.period_end is not None), default=None)
    ends_at = subscription.ended_at or subscription.cancel_at or ends
    deal = next((d for d in world.deals if _bills(world, billing, d, subscription)), None)
    return {
        "status": status,
        "account_id": world.account_id,
        "opportunity_id": deal.opportunity.id if deal else None,
        "subscription_id": subscription.id,
        "effective_date": today(ends_at, rules.commercial).isoformat() if ends_at is not None else None,
        "lost_mrr": Money(round_half_even(monthly), subscription.currency).decimal(),
        "reason": REASON_IN_WORDS.get(subscription.cancellation_reason or "", subscription.cancellation_reason),
        "feedback": subscription.cancellation_feedback,
        "is_voluntary": subscription.cancellation_reason in VOLUNTARY,
    }


def _bills(world: World, billing: Billing, deal: Deal, subscription: Subscription) -> bool:
    found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
    return isinstance(found, Match) and found.id == subscription.id


def _create(world: World, rules: Rules, key: str, values: dict[str, Any]) -> Command:
    names = rules.salesforce["churn_record"]
    fields = {names.fields[name]: value for name, value in values.items() if value is not None}
    reason = f"a cancellation is {values['status'].lower()}"
    return Command(
        key=f"churn:{key}",
        account=world.account_id,
        target=f"salesforce/{names.object}/{key}",
        action="salesforce.upsert",
        priority=Priority.WRITE_BACK,
        reason=reason,
        subject=world.account_id,
        body={
            "object": names.object,
            "external_field": names.fields["key"],
            "external_id": key,
            "fields": fields,
        },
        changes=tuple(FieldChange(field, None, _plain(value), RULE, reason) for field, value in fields.items()),
    )


def _update(world: World, rules: Rules, record: ChurnRecord, values: dict[str, Any]) -> Iterator[Command]:
    names = rules.salesforce["churn_record"]
    changes = []
    fields: dict[str, Any] = {}
    for name, value in values.items():
        canon = CANON[CANON_OF.get(name, "text")]
        shown, wanted = canon(getattr(record, name)), canon(value)
        if shown != wanted:
            fields[names.fields[name]] = value
            changes.append(FieldChange(names.fields[name], shown, wanted, RULE, f"{name} of the cancellation changed"))
    if fields:
        target = f"salesforce/{names.object}/{record.id}"
        yield Command(
            key=f"set:{target}",
            account=world.account_id,
            target=target,
            action="salesforce.update",
            priority=Priority.WRITE_BACK,
            reason="the cancellation changed",
            subject=record.id,
            body={"object": names.object, "id": record.id, "fields": fields},
            changes=tuple(changes),
        )


def _plain(value: Any) -> Any:
    return CANON["money"](value) if isinstance(value, Decimal) else value


def _number(record: ChurnRecord) -> int:
    """The number of an episode, from its key (sub_...:2)."""
    number = (record.key or "").rpartition(":")[2]
    return int(number) if number.isdigit() else 0
