"""Money facts: what was collected and what went back, one row per movement that Stripe recorded.

Facts are append-only and keyed by the Stripe object that proves them; a correction is a new revision
that carries the difference, never a changed row. Lifetime value is a sum over them, so it can be
written as an absolute value and computed twice. Reading facts off Stripe records is here; storing
them is the ledger's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.records import InvoicePayment, Refund


@dataclass(frozen=True, slots=True)
class Fact:
    """One movement of money. `amount_minor` is signed minor units; `occurred_at` microseconds UTC."""

    kind: str
    external_id: str
    revision: int
    account: str
    currency: str
    amount_minor: int
    occurred_at: int
    attributes: tuple[tuple[str, str], ...] = ()


def observed_facts(
    account_id: str, payments: Iterable[InvoicePayment], refunds: Iterable[Refund], now: int
) -> list[Fact]:
    """What the records prove at this moment, as revision 0: one fact per paid payment and per refund of one.

    A refund that failed or was canceled proves 0, so that an earlier fact of it is corrected. A payment
    counts when its invoice payment is paid, whoever collected it: applied customer balance and credit
    notes make no invoice payment and are not cash. Charges of no invoice are not counted, nor their refunds.
    """
    payments = list(payments)
    invoiced = {p.payment for p in payments if p.payment}
    paid = [
        Fact(
            kind="payment",
            external_id=p.id,
            revision=0,
            account=account_id,
            currency=p.currency,
            amount_minor=p.amount_paid or 0,
            occurred_at=p.paid_at or now,
            attributes=(("invoice", p.invoice),),
        )
        for p in payments
        if p.status == "paid"
    ]
    returned = [
        Fact("refund", r.id, 0, account_id, r.currency, -r.amount if r.status == "succeeded" else 0, r.created_at)
        for r in refunds
        if r.payment in invoiced and r.status in ("succeeded", "failed", "canceled")
    ]
    return paid + returned


def corrections(known: Iterable[Fact], observed: Iterable[Fact], now: int) -> list[Fact]:
    """The facts to append so that the sum per Stripe object equals what is observed.

    An object that is listed twice, because its list grew while it was read, counts once.
    """
    totals: dict[tuple[str, str], int] = {}
    revisions: dict[tuple[str, str], int] = {}
    for fact in known:
        key = (fact.kind, fact.external_id)
        totals[key] = totals.get(key, 0) + fact.amount_minor
        revisions[key] = max(revisions.get(key, -1), fact.revision)
    appended = []
    for key, fact in {(fact.kind, fact.external_id): fact for fact in observed}.items():
        difference = fact.amount_minor - totals.get(key, 0)
        if difference:
            later = key in revisions
            revision = revisions.get(key, -1) + 1
            occurred_at = now if later else fact.occurred_at
            appended.append(replace(fact, revision=revision, amount_minor=difference, occurred_at=occurred_at))
    return appended


def collected_by_currency(facts: Iterable[Fact]) -> Mapping[str, Money]:
    """Cash collected net of what went back, per currency."""
    sums: dict[str, Money] = {}
    for fact in facts:
        sums[fact.currency] = sums.get(fact.currency, Money(0, fact.currency)) + Money(fact.amount_minor, fact.currency)
    return sums


def lifetime_value(facts: Iterable[Fact], currency: str) -> Money:
    """The Account's lifetime value in its own currency. Raises MoneyError when cash came in another one."""
    sums = collected_by_currency(facts)
    if foreign := sorted(set(sums) - {currency}):
        raise MoneyError(f"cash was collected in {', '.join(foreign)}, but the Account is in {currency}")
    return sums.get(currency, Money(0, currency))
