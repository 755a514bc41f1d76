"""What a run cost in API calls, and the least that the same work could have cost.

The bounds hold for what one look found to do, whichever way it was done: Salesforce takes five collections of 200
records in a call, be they pairs that are made together or not at all, and answers five queries of 2,000 rows in
another; Stripe has no batches, so every object that is made or changed is a call, and lists 100 objects
on a page, of one customer or of all. A ratio of 1 means that no call was wasted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from sync_pipeline.core.observation import Present
from sync_pipeline.core.world import Billing, World
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import SUBREQUESTS_PER_CALL
from sync_pipeline.systems.salesforce.writes import (
    COLLECTIONS_PER_CALL,
    RECORDS_PER_COLLECTION,
    Once,
    Update,
    Upsert,
    Write,
)
from sync_pipeline.systems.stripe.client import PAGE, Stripe

ROWS_PER_QUERY = 2_000


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls by system and direction."""

    salesforce_writes: int = 0
    salesforce_reads: int = 0
    stripe_writes: int = 0
    stripe_reads: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Calls) -> Calls:
        return Calls(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


NOTHING = Calls()


@dataclass(frozen=True, slots=True)
class Cost:
    """What was sent, and the least that would have done."""

    used: Calls = NOTHING
    least: Calls = NOTHING

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.used + other.used, self.least + other.least)

    def report(self) -> dict[str, float]:
        """Flat numbers for people and metrics; no ratio where nothing had to be done."""
        found: dict[str, float] = {}
        for name in Calls.__dataclass_fields__:
            used, least = getattr(self.used, name), getattr(self.least, name)
            found |= {f"{name}_calls": used, f"{name}_least": least}
            if least:
                found[f"{name}_ratio"] = round(used / least, 3)
        return found

    def in_words(self) -> str:
        """One line for people: the calls of each kind, and how they compare with the least that would have done."""
        said = []
        for name in Calls.__dataclass_fields__:
            used, least = getattr(self.used, name), getattr(self.least, name)
            if used or least:
                ratio = f", ratio {used / least:.2f}" if least else ""
                said.append(f"{used} {name.replace('_', ' ').capitalize()} (at least {least}{ratio})")
        return f"calls: {', '.join(said) or 'none'}"


def calls_so_far(salesforce: Salesforce, stripe: Stripe) -> Calls:
    """What the two clients have sent since they were made."""
    return Calls(
        salesforce_writes=salesforce.write_calls,
        salesforce_reads=salesforce.calls - salesforce.write_calls,
        stripe_writes=stripe.write_calls,
        stripe_reads=stripe.calls - stripe.write_calls,
    )


def least_salesforce_writes(writes: Sequence[Write]) -> int:
    """Calls that these writes need when every call is full.

    Updates share collections whatever their objects, and one of a record is enough; upserts share those of their
    external field, and pairs those of pairs.
    """
    shared = Counter((each.object, each.external_field) for each in writes if isinstance(each, Upsert))
    full = sum(map(_collections, shared.values())) + _collections(
        len({each.id for each in writes if isinstance(each, Update)})
    )
    full += _collections(2 * sum(isinstance(each, Once) for each in writes))
    return -(-full // COLLECTIONS_PER_CALL)


def _collections(records: int) -> int:
    return -(-records // RECORDS_PER_COLLECTION)


def least_salesforce_reads(rows: int, calls: int) -> Calls:
    """Calls that show so many rows when every query is full.

    A look that finds nothing is a call too, unless none of the `calls` was made: what a write has shown on its way is
    not looked at.
    """
    return Calls(salesforce_reads=min(calls, max(1, -(-rows // (SUBREQUESTS_PER_CALL * ROWS_PER_QUERY)))))


@dataclass(frozen=True, slots=True)
class Looked:
    """What was to be seen of Stripe: in how many calls one customer after another, and how many objects of each list.

    A look sees the subscriptions and the invoices of each customer, or those of all and the customers, as if there were
    no others. Accounts without a customer need nothing.
    """

    one_by_one: int = 0
    customers: int = 0
    subscriptions: int = 0
    invoices: int = 0

    def __add__(self, other: Looked) -> Looked:
        return Looked(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def least(self) -> Calls:
        """The less of the two ways, with every page full."""
        counts = (self.customers, self.subscriptions, self.invoices)
        pages = sum(max(1, -(-count // PAGE)) for count in counts)
        return Calls(stripe_reads=min(self.one_by_one, pages))


NOTHING_LOOKED_AT = Looked()


def looked_at(worlds: Iterable[World]) -> Looked:
    """What these worlds have seen of Stripe."""
    total = Looked()
    for world in worlds:
        customers = sum(isinstance(seen, Present) for seen in world.customers.values())
        billing = world.billing.value if isinstance(world.billing, Present) else Billing()
        lists = (len(billing.subscriptions), len(billing.invoices))
        total += Looked(sum(max(customers, -(-count // PAGE)) for count in lists), customers, *lists)
    return total
