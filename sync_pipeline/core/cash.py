"""The cash that Stripe's records prove, as facts: what was collected, and what went back in which way.

Counted is the money of invoices: paid invoice payments (whoever collected them), refunds and disputes of the charges
behind them, and what a credit note says was given back outside of Stripe. Applied balance, credit notes before
payment and credit to the balance move no cash; the refund that a credit note makes is counted as a refund.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core.facts import SETTLED, Fact
from sync_pipeline.core.stripe_records import Charge, InvoicePayment
from sync_pipeline.core.world import Billing


def proved_cash(account_id: str, billing: Billing, now: int) -> list[Fact]:
    """What the records prove at this moment, as revision 0; `now` (microseconds UTC) dates what has no date.

    An amount may be 0: a refund that failed, a dispute that was won. It corrects what an earlier look proved.
    Where Stripe settled in another currency, a second fact holds the settled amount.
    """
    return [
        *_payments(account_id, billing, now),
        *_refunds(account_id, billing),
        *_disputes(account_id, billing),
        *_given_back_elsewhere(account_id, billing),
    ]


def _payments(account_id: str, billing: Billing, now: int) -> Iterator[Fact]:
    for each in billing.payments:
        if each.status == "paid":
            amount, at = each.amount_paid or 0, each.paid_at or now
            attributes = (("invoice", each.invoice),)
            paid = Fact("payment", each.id, 0, account_id, each.currency, amount, at, attributes)
            charge = _whole_charge(each, billing)
            yield from _and_settled(paid, charge.settled_currency, charge.settled) if charge else (paid,)


def _whole_charge(payment: InvoicePayment, billing: Billing) -> Charge | None:
    """The charge that collected exactly this payment; what was settled for a part of a charge is not known."""
    behind = [
        charge
        for charge in billing.charges
        if payment.payment and payment.payment in (charge.payment_intent, charge.id) and charge.status == "succeeded"
    ]
    return behind[0] if len(behind) == 1 and behind[0].amount == payment.amount_paid else None


def _refunds(account_id: str, billing: Billing) -> Iterator[Fact]:
    invoiced = _invoiced(billing)
    for each in billing.refunds:
        if each.payment in invoiced and each.status in ("succeeded", "failed", "canceled"):
            amount = -each.amount if each.status == "succeeded" else 0
            refunded = Fact("refund", each.id, 0, account_id, each.currency, amount, each.created_at)
            yield from _and_settled(refunded, each.settled_currency, each.settled)


def _disputes(account_id: str, billing: Billing) -> Iterator[Fact]:
    """Per charge, because the disputes of a charge that is not disputed any more are not looked up."""
    invoiced = _invoiced(billing)
    for charge in billing.charges:
        if charge.status == "succeeded" and (charge.payment_intent in invoiced or charge.id in invoiced):
            disputes = [dispute for dispute in billing.disputes if dispute.charge == charge.id]
            withdrawn = -sum(dispute.withdrawn for dispute in disputes)
            at = max((dispute.created_at for dispute in disputes), default=charge.created_at)
            disputed = Fact("dispute", charge.id, 0, account_id, charge.currency, withdrawn, at)
            settled = sum(dispute.settled or 0 for dispute in disputes)
            yield from _and_settled(disputed, charge.settled_currency, settled)


def _given_back_elsewhere(account_id: str, billing: Billing) -> Iterator[Fact]:
    for note in billing.credit_notes:
        if note.out_of_band:
            amount = -note.out_of_band if note.status == "issued" else 0
            yield Fact("credit_note", note.id, 0, account_id, note.currency, amount, note.created_at)


def _invoiced(billing: Billing) -> set[str]:
    return {payment.payment for payment in billing.payments if payment.payment}


def _and_settled(fact: Fact, currency: str | None, settled: int | None) -> Iterator[Fact]:
    yield fact
    if currency is not None and settled is not None and currency != fact.currency:
        amount = settled if fact.amount_minor else 0
        yield Fact(SETTLED + fact.kind, fact.external_id, 0, fact.account, currency, amount, fact.occurred_at)
