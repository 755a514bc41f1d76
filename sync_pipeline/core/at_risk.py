"""Which subscriptions' revenue is at risk: a payment fails, is overdue, or is being disputed.

A subscription counts once, however many of these are true of it; one that has ended is lost, not at risk. Revenue at
risk is a part of monthly recurring revenue, never more: who is unpaid, incomplete, paused or in a trial may be lost,
and no revenue with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core.lifecycle import AT_RISK, EARNING, has_ended
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.world import Billing

CLOSED_DISPUTES = frozenset({"won", "lost", "warning_closed", "prevented"})


def subscriptions_at_risk(billing: Billing, now: int) -> frozenset[str]:
    """Ids of running subscriptions that may be lost over a payment. `now` is microseconds UTC."""
    over = {invoice.subscription for invoice in invoices_at_risk(billing, now)}
    return frozenset(s.id for s in billing.subscriptions if not has_ended(s) and (s.status in AT_RISK or s.id in over))


def earning_at_risk(billing: Billing, now: int) -> frozenset[str]:
    """Ids of those of them that count as monthly recurring revenue. `now` is microseconds UTC."""
    risky = subscriptions_at_risk(billing, now)
    return frozenset(s.id for s in billing.subscriptions if s.id in risky and s.status in EARNING)


def invoices_at_risk(billing: Billing, now: int) -> Iterator[Invoice]:
    """Invoices that are not paid as they should be, or whose payment is disputed. `now` is microseconds UTC."""
    intents = {d.payment_intent for d in billing.disputes if d.status not in CLOSED_DISPUTES and d.payment_intent}
    disputed = {payment.invoice for payment in billing.payments if payment.payment in intents}
    return (each for each in billing.invoices if is_failing(each, now) or each.id in disputed)


def is_failing(invoice: Invoice, now: int) -> bool:
    """It is open, and a payment was tried in vain or its due date is past."""
    if invoice.status != "open" or invoice.amount_remaining <= 0:
        return False
    if invoice.collection_method == "send_invoice":
        return is_overdue(invoice, now)
    return invoice.attempt_count > 0


def is_overdue(invoice: Invoice, now: int) -> bool:
    """A sent invoice whose due date is past."""
    sent = invoice.status == "open" and invoice.collection_method == "send_invoice"
    return sent and invoice.due_at is not None and invoice.due_at < now
