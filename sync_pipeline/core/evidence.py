"""What stands behind a value: the records and money facts that a reading was read from, for a person who asks why.

One function for each reading that has more behind it than a field of the other system. Nothing here decides
anything; the values themselves are `readings.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from sync_pipeline.core.at_risk import earning_at_risk, invoices_at_risk, is_failing
from sync_pipeline.core.canon import number
from sync_pipeline.core.crosswalk import Ambiguous, match_item, match_subscription, own_billing
from sync_pipeline.core.deal import account_currency
from sync_pipeline.core.facts import CASH, Fact, valued
from sync_pipeline.core.lifecycle import EARNING, billing_status
from sync_pipeline.core.money import Money, MoneyError, round_half_even
from sync_pipeline.core.mrr import recurring_items
from sync_pipeline.core.observation import Present
from sync_pipeline.core.readings import Subject, invoices_of, own_subscription, payments_of, seat_items
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_records import Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing, World

INVOICES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that a value was read from. `object_id` names it in its own system; `at` is microseconds UTC;
    `invoice` is the one that it is, or belongs to, where that is known. `figure` is what its amount is a part of: all
    amounts of a figure and currency add up to what the value says; None where it is only told."""

    object_id: str
    what: str
    amount: Money | None = None
    at: int | None = None
    invoice: str | None = None
    figure: str | None = None


def evidence(world: World, rules: Rules, reading: str, subject: Subject) -> tuple[Evidence, ...]:
    """What the reading was read from; empty where it is a field of the other system and nothing more, or no value."""
    billing = own_billing(world)
    finder = BEHIND.get(reading)
    if billing is None or finder is None:
        return ()
    with suppress(MoneyError):
        return tuple(finder(world, rules, billing, subject))
    return ()


def invoices_behind(world: World, rules: Rules, reading: str, subject: Subject) -> tuple[str, ...]:
    """The invoices that decided a reading, for the audit. Some, because a value may be the sum of years: the newest of
    a sum, the oldest where the first one counts."""
    behind = evidence(world, rules, reading, subject)
    if BEHIND.get(reading) is _lifetime_value:
        behind = behind[::-1]
    return tuple(dict.fromkeys(each.invoice for each in behind if each.invoice is not None))[:INVOICES_NAMED]


def _lifetime_value(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    """Every movement of cash; what is not in the sum says why."""
    own = account_currency(subject.record, rules.commercial)
    counting = set(valued(world.facts, own))
    for fact in _by_date(fact for fact in world.facts if fact.kind in CASH or fact in counting):
        if fact not in counting:
            yield _movement(fact, None, f"; what counts is what Stripe settled for it in {own}")
        elif fact.currency != own:
            yield _movement(fact, None, f"; it does not count, because nothing was settled in {own} for it")
        else:
            yield _movement(fact, "collected")


def _other_currencies(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    own = account_currency(subject.record, rules.commercial)
    foreign = [each for each in billing.subscriptions if each.currency != own]
    yield from _revenue(billing, (each for each in foreign if each.status in EARNING), "MRR")
    risky = earning_at_risk(billing, world.now)
    yield from _revenue(billing, (each for each in foreign if each.id in risky), "MRR at risk")
    for fact in _by_date(fact for fact in valued(world.facts, own) if fact.currency != own):
        yield _movement(fact, "collected")


def _by_date(facts: Iterable[Fact]) -> list[Fact]:
    return sorted(facts, key=lambda each: (each.occurred_at, each.kind, each.external_id, each.revision))


def _movement(fact: Fact, figure: str | None, why: str = "") -> Evidence:
    of = "".join(f" of {name} {value}" for name, value in fact.attributes)
    corrected = " (corrected)" if fact.revision else ""
    amount = Money(fact.amount_minor, fact.currency)
    invoice = dict(fact.attributes).get("invoice")
    return Evidence(
        fact.external_id,
        f"{fact.kind.replace('_', ' ')}{of}{corrected}{why}",
        amount,
        fact.occurred_at,
        invoice,
        figure,
    )


def _earning(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    return _revenue(billing, (each for each in billing.subscriptions if each.status in EARNING), None)


def _seats(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    """The items whose quantities add up to the seats."""
    items = seat_items(world, rules, billing)
    for item in items.value if isinstance(items, Present) else ():
        if item.quantity:
            yield Evidence(item.id, f"{_rate(item)} of {item.subscription}")


def _mrr(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    own = account_currency(subject.record, rules.commercial)
    earning = (each for each in billing.subscriptions if each.status in EARNING and each.currency == own)
    return _revenue(billing, earning, "MRR")


def _mrr_at_risk(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    """The revenue, and the invoices over which it may be lost."""
    own = account_currency(subject.record, rules.commercial)
    risky = earning_at_risk(billing, world.now)
    counting = [each for each in billing.subscriptions if each.id in risky and each.currency == own]
    yield from _revenue(billing, counting, "MRR at risk")
    names = {each.id for each in counting}
    for invoice in sorted(invoices_at_risk(billing, world.now), key=lambda each: (each.created_at, each.id)):
        if invoice.subscription in names:
            is_open = is_failing(invoice, world.now)
            amount = Money(invoice.amount_remaining if is_open else invoice.amount_paid, invoice.currency)
            told = f"invoice {invoice.number or 'without a number'} is {'open' if is_open else 'disputed'}"
            yield Evidence(invoice.id, told, amount, invoice.due_at, invoice.id)


def _revenue(billing: Billing, subscriptions: Iterable[Subscription], figure: str | None) -> Iterator[Evidence]:
    """Each item with what it bills in a month after discounts. The parts are rounded so that they add up to the whole.

    One that cannot be counted is in no value that was read, so it stands behind none.
    """
    counting = {each.id: each for each in subscriptions}
    found: list[tuple[SubscriptionItem, Fraction]] = []
    for subscription in sorted(counting.values(), key=lambda each: each.id):
        with suppress(MoneyError):
            found += recurring_items(billing, [subscription])
    monthly: dict[str, Fraction] = {}
    for item, yearly in found:
        before = monthly.get(item.currency, Fraction(0))
        monthly[item.currency] = before + yearly / 12
        amount = Money(round_half_even(monthly[item.currency]) - round_half_even(before), item.currency)
        status = counting[item.subscription].status
        told = f"{_rate(item)} of {item.subscription} ({status}), in a month"
        yield Evidence(item.id, told, amount, figure=figure)
    for discount in billing.discounts:
        if discount.subscription in counting:
            of = discount.item or discount.subscription
            yield Evidence(discount.id, f"coupon {discount.coupon} of {of}, which lasts {discount.duration}")


def _rate(item: SubscriptionItem) -> str:
    return f"{item.quantity} x {price_in_words(item)} every {interval_in_words(item)}"


def interval_in_words(item: SubscriptionItem) -> str:
    """After how long an item bills again: month, or 3 months."""
    return f"{item.interval}" if item.interval_count == 1 else f"{item.interval_count} {item.interval}s"


def price_in_words(item: SubscriptionItem) -> str:
    """What an item's price bills for a unit, in minor units of its currency."""
    if item.package_amount is not None:
        return f"{number(item.package_amount)} minor units per package of {item.package_size}"
    return f"{number(item.unit_amount)} minor units" if item.unit_amount is not None else "tiers"


def _subscriptions(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    for each in sorted(billing.subscriptions, key=lambda one: one.id):
        yield _status(each)


def _status(subscription: Subscription) -> Evidence:
    shown = billing_status(subscription) or "not known"
    return Evidence(subscription.id, f"Stripe says {subscription.status}: {shown}", at=subscription.cancel_at)


def _own_subscription(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    if (found := own_subscription(world, subject)) is not None:
        yield _status(found)


def _subscription_match(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    if subject.deal is None:
        return
    found = match_subscription(subject.deal.opportunity, billing.subscriptions, world.links, world.org_id)
    if isinstance(found, Ambiguous):
        yield from (Evidence(each, f"claims the deal by {found.evidence}") for each in found.ids)
    elif found is not None:
        yield Evidence(found.id, f"belongs to the deal by {found.evidence}")


def _item_match(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    subscription = own_subscription(world, subject)
    if subscription is None or not isinstance(subject.record, LineItem):
        return
    if (found := match_item(subject.record, billing.items, subscription.id)) is not None:
        yield Evidence(found.id, f"bills the line by {found.evidence}")


def _customer_match(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    for link in world.links:
        if link.kind == "customer":
            yield Evidence(link.external_id, "is linked to the Account in the ledger")


def _paid_invoices(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    for invoice in sorted(invoices_of(world, subject), key=lambda each: (each.paid_at or 0, each.id)):
        if invoice.status == "paid" and invoice.amount_paid > 0:
            amount = Money(invoice.amount_paid, invoice.currency)
            told = f"invoice {invoice.number or 'without a number'} paid"
            yield Evidence(invoice.id, told, amount, invoice.paid_at, invoice.id)


def _payments(world: World, rules: Rules, billing: Billing, subject: Subject) -> Iterator[Evidence]:
    for at, payment in payments_of(world, subject):
        amount = Money(payment.amount_paid or 0, payment.currency)
        yield Evidence(payment.id, f"payment of invoice {payment.invoice}", amount, at, payment.invoice)


BEHIND: Mapping[str, Callable[[World, Rules, Billing, Subject], Iterator[Evidence]]] = {
    "account_lifetime_value": _lifetime_value,
    "account_mrr": _mrr,
    "account_plan": _earning,
    "account_seats": _seats,
    "account_mrr_at_risk": _mrr_at_risk,
    "account_other_currencies": _other_currencies,
    "account_billing_status": _subscriptions,
    "account_retention": _subscriptions,
    "customer_id": _customer_match,
    "subscription_id": _subscription_match,
    "item_id": _item_match,
    "opportunity_billing_status": _own_subscription,
    "activation": _paid_invoices,
    "first_payment_at": _payments,
}
