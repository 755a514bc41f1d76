"""Failed payments as facts: each is noted once, when it is first seen, with what was true at that moment.

The identity of a failed attempt is its charge: `attempt_count` is none, because attempts by hand do not raise it. An
attempt of which there is no charge has only that count, and is known by it: since the last failure that was noted,
Stripe has counted more attempts than there are new charges. Of several that were missed, the newest is told. An overdue
invoice is a failure of its own kind. Facts never change, so whatever is told of them is told the same way however often
it has to be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sync_pipeline.core.at_risk import is_overdue
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.declines import is_hard
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.lifecycle import EARNING, has_ended
from sync_pipeline.core.money import MoneyError
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.quiet import quiet_until
from sync_pipeline.core.rules import Commercial, Rules
from sync_pipeline.core.stripe_records import Charge, Invoice, Subscription
from sync_pipeline.core.units import DAY_US, HOUR_US
from sync_pipeline.core.world import Billing, World

ATTEMPT, WITHOUT_CHARGE, OVERDUE = "failed_attempt", "attempt_without_charge", "overdue_invoice"
KEY_OF_KIND = {ATTEMPT: "attempt", WITHOUT_CHARGE: "unconfirmed", OVERDUE: "overdue"}
INCOMPLETE_US = 23 * HOUR_US
"""An incomplete subscription expires 23 hours after it was made (docs.stripe.com/billing/subscriptions/overview)."""


@dataclass(frozen=True, slots=True)
class _Failing:
    """An invoice with its subscription, where it has one, and its charges that failed or are pending, oldest first.

    `noted` are the failed attempts to collect it that are known.
    """

    invoice: Invoice
    subscription: Subscription | None
    charges: tuple[Charge, ...]
    noted: tuple[Fact, ...]

    @property
    def failed(self) -> tuple[Charge, ...]:
        return tuple(charge for charge in self.charges if charge.status == "failed")

    @property
    def without_charge(self) -> tuple[Fact, ...]:
        return tuple(fact for fact in self.noted if fact.kind == WITHOUT_CHARGE)

    @property
    def is_missing_a_charge(self) -> bool:
        """Whether Stripe has counted an attempt that nothing tells of.

        After a hard decline it also counts those that it does not make (attempt_count, docs.stripe.com/api/invoices/
        object), until a failure that was noted since tells how many it had counted by then.
        """
        if self.invoice.status != "open" or self.invoice.collection_method != "charge_automatically":
            return False
        hard = [each.created_at for each in self.failed if is_hard(each.failure_code, each.advice_code)]
        if hard and not any(fact.occurred_at > hard[-1] for fact in self.noted):
            return False
        return self._newly_counted > self._new

    @property
    def is_not_counted_yet(self) -> bool:
        """Whether the invoice does not count all of its new attempts: it was read a moment before they were made, or
        Stripe updates it a moment after. Those by hand it never counts."""
        return self._newly_counted < self._new

    @property
    def _new(self) -> int:
        known = {fact.external_id for fact in self.noted}
        return sum(charge.id not in known for charge in self.charges)

    @property
    def _newly_counted(self) -> int:
        """The attempts that Stripe has counted since the last failure that was noted."""
        told = [dict(fact.attributes) for fact in self.noted]
        # Facts of earlier versions have only the number of the attempt.
        counted = max((int(each.get("counted", each["attempt"])) for each in told), default=0)
        return self.invoice.attempt_count - counted


def failure_key(fact: Fact) -> str:
    """The identity of what is made because of a failure; markers in Salesforce carry it."""
    return f"{KEY_OF_KIND[fact.kind]}:{fact.external_id}"


def is_failure(fact: Fact) -> bool:
    return fact.kind in KEY_OF_KIND


def new_failures(world: World, rules: Rules) -> list[Fact]:
    """Failures that are not noted yet, at most `task_for_days` old: a backlog found on the first run is not told."""
    billing = own_billing(world)
    if billing is None:
        return []
    known = {(fact.kind, fact.external_id) for fact in world.facts}
    oldest = world.now - rules.commercial.task_for_days * DAY_US
    found = (fact for failing in _failing(world, billing) for fact in _of_invoice(world, rules, billing, failing))
    return [fact for fact in found if fact.occurred_at >= oldest and (fact.kind, fact.external_id) not in known]


def unsettled_until(world: World, rules: Rules) -> int | None:
    """When the newest failure has to be looked at again, because Stripe plans the retry a moment after the attempt."""
    billing = own_billing(world)
    fresh = [
        quiet_until(charge.created_at, rules.commercial)
        for failing in (_failing(world, billing) if billing is not None else ())
        for charge in failing.failed
        if _is_too_fresh(failing, charge, rules.commercial, world.now)
    ]
    return min(fresh, default=None)


def _failing(world: World, billing: Billing) -> Iterator[_Failing]:
    invoice_of = {payment.payment: payment.invoice for payment in billing.payments if payment.payment}
    subscriptions = {subscription.id: subscription for subscription in billing.subscriptions}
    noted: dict[str, list[Fact]] = {}
    for fact in world.facts:
        if fact.kind in (ATTEMPT, WITHOUT_CHARGE):
            noted.setdefault(dict(fact.attributes)["invoice"], []).append(fact)
    charges: dict[str, list[Charge]] = {}
    for charge in sorted(billing.charges, key=lambda each: (each.created_at, each.id)):
        # A part that was paid was paid by hand, and is no attempt to collect the invoice.
        if charge.status != "succeeded":
            invoice_id = invoice_of.get(charge.payment_intent or "") or invoice_of.get(charge.id)
            charges.setdefault(invoice_id or "", []).append(charge)
    for invoice in sorted(billing.invoices, key=lambda each: each.id):
        own = tuple(charges.get(invoice.id, ()))
        yield _Failing(invoice, subscriptions.get(invoice.subscription or ""), own, tuple(noted.get(invoice.id, ())))


def _of_invoice(world: World, rules: Rules, billing: Billing, failing: _Failing) -> Iterator[Fact]:
    invoice, commercial = failing.invoice, rules.commercial
    counted = {"counted": str(invoice.attempt_count)}
    for number, charge in enumerate(failing.failed, 1):
        if not _is_too_fresh(failing, charge, commercial, world.now):
            earlier = sum(fact.occurred_at < charge.created_at for fact in failing.without_charge)
            hard = is_hard(charge.failure_code, charge.advice_code)
            told = _retry(failing, hard) | {"attempt": str(number + earlier), "code": charge.failure_code or ""}
            told |= _final(failing, commercial) | counted
            yield _fact(world, billing, failing, ATTEMPT, charge.id, charge.amount, charge.created_at, told)
    if failing.is_missing_a_charge:
        told = _retry(failing, False) | {"attempt": str(invoice.attempt_count)} | _final(failing, commercial) | counted
        name = f"{invoice.id}:{invoice.attempt_count}"
        yield _fact(world, billing, failing, WITHOUT_CHARGE, name, invoice.amount_remaining, world.now, told)
    if is_overdue(invoice, world.now) and invoice.due_at is not None:
        told = {"days": str((world.now - invoice.due_at) // DAY_US)} | _end_of_patience(failing, commercial)
        yield _fact(world, billing, failing, OVERDUE, invoice.id, invoice.amount_remaining, invoice.due_at, told)


def _is_too_fresh(failing: _Failing, charge: Charge, commercial: Commercial, now: int) -> bool:
    """Stripe may count an attempt, and name the next one, in a later update of the invoice than the one that tells of
    the failure."""
    recurring = failing.subscription is not None and failing.subscription.status in ("active", "past_due")
    retry_may_come = failing.invoice.status == "open" and failing.invoice.next_attempt_at is None and recurring
    retries_left = len(failing.failed) <= len(commercial.retry_days)
    hard = is_hard(charge.failure_code, charge.advice_code)
    recent = now < quiet_until(charge.created_at, commercial)
    return recent and ((retry_may_come and retries_left and not hard) or failing.is_not_counted_yet)


def _retry(failing: _Failing, hard: bool) -> dict[str, str]:
    if hard:
        return {"retry": "hard"}
    planned = failing.invoice.next_attempt_at if failing.invoice.status == "open" else None
    return {"retry": "none"} if planned is None else {"retry": "planned", "next_attempt_at": str(planned)}


def _final(failing: _Failing, commercial: Commercial) -> dict[str, str]:
    """What becomes of the subscription, and when, if nothing is collected."""
    subscription = failing.subscription
    if subscription is None:
        return {"final": "nothing"}
    if failing.invoice.collection_method == "send_invoice":
        return _end_of_patience(failing, commercial)
    if has_ended(subscription):
        return {"final": "ended"}
    if subscription.status == "incomplete":
        return {"final": "expires", "final_at": str(subscription.created_at + INCOMPLETE_US)}
    begun = [charge.created_at for charge in failing.failed[:1]]
    if failing.without_charge or not begun:
        # The first attempt, of which there is no charge, was made when the invoice was.
        begun.append(failing.invoice.created_at)
    first = min(begun)
    return {"final": "retries", "final_at": str(first + sum(commercial.retry_days) * DAY_US)}


def _end_of_patience(failing: _Failing, commercial: Commercial) -> dict[str, str]:
    """The same of a sent invoice, which Stripe does not try to collect by itself, whatever card was declined."""
    due_at = failing.invoice.due_at
    if failing.subscription is None or commercial.overdue_days is None or due_at is None:
        return {"final": "nothing"}
    if has_ended(failing.subscription):
        return {"final": "ended"}
    return {"final": "overdue", "final_at": str(due_at + commercial.overdue_days * DAY_US)}


def _fact(
    world: World, billing: Billing, failing: _Failing, kind: str, name: str, amount: int, at: int, told: dict[str, str]
) -> Fact:
    invoice = failing.invoice
    attributes = {
        "invoice": invoice.id,
        "number": invoice.number or "",
        "seen_at": str(world.now),
        **_revenue_at_risk(billing, failing.subscription),
        **told,
    }
    return Fact(kind, name, 0, world.account_id, invoice.currency, amount, at, tuple(sorted(attributes.items())))


def _revenue_at_risk(billing: Billing, subscription: Subscription | None) -> dict[str, str]:
    """The monthly recurring revenue of the invoice's subscription, minor units, and why the Account's figures do not
    count it; nothing where it has no value."""
    if subscription is None:
        return {}
    try:
        revenue = monthly_recurring_revenue(billing, subscription.currency, [subscription])
    except MoneyError:
        return {}
    uncounted = {} if subscription.status in EARNING else {"uncounted": subscription.status}
    return {"at_risk_minor": str(revenue.minor), "at_risk_currency": revenue.currency} | uncounted
