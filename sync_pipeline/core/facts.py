"""Money facts: what was collected and what went back, one row per movement that Stripe recorded.

Facts are append-only and keyed by the Stripe object that proves them; a correction is a new revision
that carries the difference, never a changed row. Lifetime value is a sum over them, so it can be
written as an absolute value and computed twice. Reading them off Stripe's records is in `cash.py`;
storing them is the ledger's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sync_pipeline.core.money import Money

CASH = frozenset({"payment", "refund", "dispute", "credit_note"})
"""The kinds of facts that are cash; lifetime value is their sum."""
SETTLED = "settled_"
"""Before the kind of a cash fact: what Stripe settled for the same object, in another currency."""
MONEY = CASH | {SETTLED + kind for kind in CASH}
"""The kinds of facts that are movements of money; the others note that something happened."""
BEYOND = 2**63
"""The first number that is too large for the ledger, and for a column of a table."""


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

    def __post_init__(self) -> None:
        if not -BEYOND <= self.amount_minor < BEYOND:
            # What adds up to more than the ledger can hold must not be found out where all accounts' facts are stored.
            raise OverflowError(f"{self.kind} {self.external_id}")


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


def lifetime_value(facts: Iterable[Fact], currency: str) -> Money:
    """The Account's lifetime value in its own currency: other cash counts as what Stripe settled for it.

    What was not settled in `currency` is not in it; `uncounted` says what that is.
    """
    return Money(sum(fact.amount_minor for fact in valued(facts, currency) if fact.currency == currency), currency)


def uncounted(facts: Iterable[Fact], currency: str) -> Mapping[str, Money]:
    """Cash in other currencies that has no exact value in `currency`, so that `lifetime_value` leaves it out."""
    sums: dict[str, Money] = {}
    for fact in valued(facts, currency):
        if fact.currency != currency and fact.amount_minor:
            amount = Money(fact.amount_minor, fact.currency)
            sums[fact.currency] = sums.get(fact.currency, Money(0, fact.currency)) + amount
    return sums


def valued(facts: Iterable[Fact], currency: str) -> Iterator[Fact]:
    """The facts that say what all cash comes to: in `currency` where it was paid or settled in that, else as it was
    paid."""
    foreign: dict[tuple[str, str], list[Fact]] = {}
    settled: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        if fact.kind in CASH and fact.currency == currency:
            yield fact
        elif fact.kind in CASH:
            foreign.setdefault((fact.kind, fact.external_id), []).append(fact)
        elif fact.kind.startswith(SETTLED) and fact.currency == currency:
            settled.setdefault((fact.kind.removeprefix(SETTLED), fact.external_id), []).append(fact)
    for key, paid in foreign.items():
        yield from settled.get(key, paid)
