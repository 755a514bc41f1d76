"""Contraction: recurring revenue that a customer gave up while the subscription goes on, as churn records of a kind.

The level of each subscription's recurring revenue is a fact while it earns; its corrections are what it gained and
lost, and when. What is lost within one business day is one record: a slip that is mended the same day rescinds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sync_pipeline.core import writing
from sync_pipeline.core.commands import Command
from sync_pipeline.core.crosswalk import deals_by_subscription, own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.lifecycle import EARNING, has_ended
from sync_pipeline.core.line_terms import to_be_written
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import ChurnRecord
from sync_pipeline.core.world import Billing, World

RULE = "contraction"
RECURRING = "earned_recurring_revenue"
"""The kind of the fact that holds a subscription's monthly recurring revenue after discounts, minor units.

Facts of the kinds `recurring_revenue`, which held it before discounts, and `net_recurring_revenue`, which held it also
while it did not count, may be in a ledger and mean nothing any more.
"""
UNCOUNTED = "uncounted_recurring_revenue"
"""The kind of the fact that holds what does not count, because the subscription does not earn: in a trial, or unpaid.

Once a subscription has ended, Stripe does not tell any more whether it earned until then.
"""
KIND = "Contraction"


def recurring_revenue(account_id: str, billing: Billing, now: int) -> Iterator[Fact]:
    """The levels of every running subscription at this moment (microseconds UTC), as revision 0."""
    for subscription in billing.subscriptions:
        if has_ended(subscription):
            continue
        try:
            level = monthly_recurring_revenue(billing, subscription.currency, [subscription])
        except MoneyError:
            continue
        earns = subscription.status in EARNING
        if earns:
            yield Fact(RECURRING, subscription.id, 0, account_id, level.currency, level.minor, subscription.created_at)
        uncounted = 0 if earns else level.minor
        yield Fact(UNCOUNTED, subscription.id, 0, account_id, level.currency, uncounted, now)


def contractions(world: World, rules: Rules, changing: Collection[str] = ()) -> Iterator[Command]:
    """One record for every day on which a subscription lost recurring revenue and went on.

    A loss that is about to be put right, because Salesforce has the last word, is none: what is lost on a subscription
    that is `changing`, by its id, is told when that is done.
    """
    billing = own_billing(world)
    if billing is None:
        return
    deals = {subscription.id: found for subscription, found in deals_by_subscription(world, billing)}
    recorded = {record.key: record for record in world.churn_records}
    for (subscription_id, day), change in sorted(_by_day(world, rules).items()):
        key = f"{subscription_id}:contraction:{day}"
        values: dict[str, Any] = {
            "status": "Final" if change.minor < 0 else "Rescinded",
            "lost_mrr": Money(max(-change.minor, 0), change.currency),
        }
        if key in recorded:
            command = writing.update(
                world, rules, "churn_record", recorded[key], values, rule=RULE, reason="the loss of the day changed"
            )
            if command is not None:
                yield command
        elif (
            change.minor < 0 and subscription_id not in changing and subscription_id not in to_be_written(world, rules)
        ):
            deal = next(iter(deals.get(subscription_id, ())), None)
            values |= {
                "kind": KIND,
                "account_id": world.account_id,
                "opportunity_id": opportunity_of(deal.opportunity.id) if deal else None,
                "subscription_id": subscription_id,
                "effective_date": day,
                "reason": "fewer units, lower prices or a discount; the subscription goes on",
                "is_voluntary": True,
                "currency": writing.record_currency(world, change.currency),
            }
            yield writing.create(
                world,
                rules,
                "churn_record",
                key,
                values,
                key_field="key",
                intent=f"churn:{key}",
                subject=world.account_id,
                rule=RULE,
                reason="recurring revenue was given up",
            )


def is_contraction(record: ChurnRecord) -> bool:
    return ":contraction:" in (record.key or "")


def _by_day(world: World, rules: Rules) -> dict[tuple[str, str], Money]:
    """What each subscription gained or lost on each business day after it was first seen, where it lost at all."""
    changes: dict[tuple[str, str], list[Money]] = {}
    for fact in world.facts:
        if fact.kind == RECURRING and fact.revision > 0:
            day = today(fact.occurred_at, rules.commercial).isoformat()
            changes.setdefault((fact.external_id, day), []).append(Money(fact.amount_minor, fact.currency))
    return {
        key: Money(sum(each.minor for each in moved), moved[0].currency)
        for key, moved in changes.items()
        if any(each.minor < 0 for each in moved)
    }
