"""What stands behind a value: the records and money facts that a reading was read from, for a person who asks why.

One function for each reading that has more behind it than a field of the other system. Nothing here decides
anything; the values themselves are `readings.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from sync_pipeline.core.canon import number
from sync_pipeline.core.crosswalk import Ambiguous, match_item, match_subscription, own_billing
from sync_pipeline.core.facts import MONEY
from sync_pipeline.core.lifecycle import AT_RISK, EARNING, billing_status
from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.mrr import recurring_items
from sync_pipeline.core.readings import Subject
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_records import Invoice, Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing, World

INVOICES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that a value was read from. `object_id` names it in its own system; `at` is microseconds UTC;
    `invoice` is the one that it is, or belongs to, where that is known."""

    object_id: str
    what: str
    amount: Money | None = None
    at: int | None = None
    invoice: str | None = None


def evidence(world: World, reading: str, subject: Subject) -> tuple[Evidence, ...]:
    """What the reading was read from; empty where it is a field of the other system and nothing more."""
    billing = own_billing(world)
    finder = BEHIND.get(reading)
    return () if billing is None or finder is None else tuple(finder(world, billing, subject))


def invoices_behind(world: World, reading: str, subject: Subject) -> tuple[str, ...]:
    """The invoices that decided a reading, for the audit. Some, because a value may be the sum of years: the newest of
    a sum, the oldest where the first one counts."""
    behind = evidence(world, reading, subject)
    if BEHIND.get(reading) is _facts:
        behind = behind[::-1]
    return tuple(dict.fromkeys(each.invoice for each in behind if each.invoice is not None))[:INVOICES_NAMED]


def _facts(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    """Every movement of money; facts of other kinds are in no sum."""
    money = (fact for fact in world.facts if fact.kind in MONEY)
    for fact in sorted(money, key=lambda each: (each.occurred_at, each.kind, each.external_id, each.revision)):
        of = "".join(f" of {name} {value}" for name, value in fact.attributes)
        corrected = " (corrected)" if fact.revision else ""
        amount = Money(fact.amount_minor, fact.currency)
        invoice = dict(fact.attributes).get("invoice")
        yield Evidence(fact.external_id, f"{fact.kind}{of}{corrected}", amount, fact.occurred_at, invoice)


def _earning(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    return _items(billing, EARNING)


def _at_risk(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    return _items(billing, AT_RISK)


def _items(billing: Billing, statuses: frozenset[str]) -> Iterator[Evidence]:
    """Each item of a subscription in one of the statuses, with what it bills in a year after discounts.

    One that cannot be counted is in no value that was read, so it stands behind none.
    """
    counting = {each.id: each for each in billing.subscriptions if each.status in statuses}
    found: list[tuple[SubscriptionItem, Fraction]] = []
    for subscription in sorted(counting.values(), key=lambda each: each.id):
        with suppress(MoneyError):
            found += recurring_items(billing, [subscription])
    for item, yearly in found:
        amount = Money(round_half_even(yearly), item.currency)
        status = counting[item.subscription].status
        yield Evidence(item.id, f"{_rate(item)} of {item.subscription} ({status}), in a year", amount)
    for discount in billing.discounts:
        if discount.subscription in counting:
            of = discount.item or discount.subscription
            yield Evidence(discount.id, f"coupon {discount.coupon} of {of}, which lasts {discount.duration}")


def _rate(item: SubscriptionItem) -> str:
    every = item.interval if item.interval_count == 1 else f"{item.interval_count} {item.interval}s"
    price = f"{number(item.unit_amount)} minor units" if item.unit_amount is not None else "tiers"
    return f"{item.quantity} x {price} every {every}"


def _subscriptions(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    for each in sorted(billing.subscriptions, key=lambda one: one.id):
        yield _status(each)


def _status(subscription: Subscription) -> Evidence:
    shown = billing_status(subscription) or "not known"
    return Evidence(subscription.id, f"Stripe says {subscription.status}: {shown}", at=subscription.cancel_at)


def _own_subscription(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    if (found := _subscription(world, billing, subject)) is not None:
        yield _status(found)


def _subscription_match(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    if subject.deal is None:
        return
    found = match_subscription(subject.deal.opportunity, billing.subscriptions, world.links, world.org_id)
    if isinstance(found, Ambiguous):
        yield from (Evidence(each, f"claims the deal by {found.evidence}") for each in found.ids)
    elif found is not None:
        yield Evidence(found.id, f"belongs to the deal by {found.evidence}")


def _item_match(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    subscription = _subscription(world, billing, subject)
    if subscription is None or not isinstance(subject.record, LineItem):
        return
    if (found := match_item(subject.record, billing.items, subscription.id)) is not None:
        yield Evidence(found.id, f"bills the line by {found.evidence}")


def _customer_match(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    for link in world.links:
        if link.kind == "customer":
            yield Evidence(link.external_id, "is linked to the Account in the ledger")


def _paid_invoices(world: World, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    subscription = _subscription(world, billing, subject)
    ours = (each for each in billing.invoices if subscription is not None and each.subscription == subscription.id)
    yield from _paid(ours)


def _paid(invoices: Iterable[Invoice]) -> Iterator[Evidence]:
    for invoice in sorted(invoices, key=lambda each: (each.paid_at or 0, each.id)):
        if invoice.status == "paid" and invoice.amount_paid > 0:
            amount = Money(invoice.amount_paid, invoice.currency)
            told = f"invoice {invoice.number or 'without a number'} paid"
            yield Evidence(invoice.id, told, amount, invoice.paid_at, invoice.id)


def _subscription(world: World, billing: Billing, subject: Subject) -> Subscription | None:
    matched = {each.object_id for each in _subscription_match(world, billing, subject)}
    return next((each for each in billing.subscriptions if matched == {each.id}), None)


BEHIND: Mapping[str, Callable[[World, Billing, Subject], Iterator[Evidence]]] = {
    "account_lifetime_value": _facts,
    "account_mrr": _earning,
    "account_plan": _earning,
    "account_seats": _earning,
    "account_mrr_at_risk": _at_risk,
    "account_billing_status": _subscriptions,
    "account_retention": _subscriptions,
    "customer_id": _customer_match,
    "subscription_id": _subscription_match,
    "item_id": _item_match,
    "opportunity_billing_status": _own_subscription,
    "activation": _paid_invoices,
    "first_payment_at": _paid_invoices,
}
