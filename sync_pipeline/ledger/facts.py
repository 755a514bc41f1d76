"""Storing money facts. Append-only: triggers refuse every change but an account merge.

What a fact is, and how it is read off Stripe's records, is in core.facts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from sync_pipeline.core.facts import MONEY, Fact
from sync_pipeline.ledger.statements import SOME, batches, insert
from sync_pipeline.ledger.tables import fact


@dataclass(frozen=True, slots=True)
class FactSum:
    """All facts of one kind of an account in one currency together; signed minor units."""

    account: str
    kind: str
    currency: str
    amount_minor: int


def append(conn: Connection, facts: Iterable[Fact]) -> int:
    """Stores the facts that are not known yet and returns how many those were.

    A fact is known by kind, external id and revision; one that is known stays as it was first stored.
    """
    rows = [
        {
            "kind": item.kind,
            "external_id": item.external_id,
            "revision": item.revision,
            "account": item.account,
            "currency": item.currency,
            "amount_minor": item.amount_minor,
            "occurred_at": item.occurred_at,
            "attributes": json.dumps(item.attributes, ensure_ascii=False, separators=(",", ":")),
        }
        for item in sorted(facts, key=lambda item: (item.kind, item.external_id, item.revision))
    ]
    if not rows:
        return 0
    return len(conn.execute(insert(conn, fact).on_conflict_do_nothing().returning(fact.c.revision), rows).all())


_OF_ACCOUNTS = (
    select(fact)
    .where(fact.c.account.in_(SOME))
    .order_by(fact.c.occurred_at, fact.c.kind, fact.c.external_id, fact.c.revision)
)


def for_accounts(conn: Connection, accounts: Iterable[str]) -> dict[str, list[Fact]]:
    """The facts of each account, oldest first; an account without facts is not in the result."""
    found: defaultdict[str, list[Fact]] = defaultdict(list)
    for batch in batches(accounts):
        for row in conn.execute(_OF_ACCOUNTS, {"some": batch}):
            found[row.account].append(
                Fact(
                    kind=row.kind,
                    external_id=row.external_id,
                    revision=row.revision,
                    account=row.account,
                    currency=row.currency,
                    amount_minor=row.amount_minor,
                    occurred_at=row.occurred_at,
                    attributes=tuple((name, value) for name, value in json.loads(row.attributes)),
                )
            )
    return dict(found)


def sums(conn: Connection) -> list[FactSum]:
    """The sums of the movements of money per account, kind and currency, sorted; exact on both databases."""
    by = (fact.c.account, fact.c.kind, fact.c.currency)
    moved = select(*by, func.sum(fact.c.amount_minor)).where(fact.c.kind.in_(sorted(MONEY)))
    rows = conn.execute(moved.group_by(*by).order_by(*by))
    # Postgres sums BIGINT as NUMERIC, which arrives as Decimal.
    return [FactSum(account, kind, currency, int(total)) for account, kind, currency, total in rows]
