"""What a run cost in API calls, and the least that the same work could have cost.

The bounds hold for what one look found to do: Salesforce takes five collections of 200 records in a call and
answers five queries of 2,000 rows in another; Stripe has no batches, so every object that is made or changed is a
call. A ratio of 1 means that no call was wasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from sync_pipeline.core.observation import Present
from sync_pipeline.core.world import World
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import SUBREQUESTS_PER_CALL
from sync_pipeline.systems.salesforce.writes import COLLECTIONS_PER_CALL, Write, collections
from sync_pipeline.systems.stripe.client import Stripe

ROWS_PER_QUERY = 2_000
LISTS_PER_CUSTOMER = 2


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


def calls_so_far(salesforce: Salesforce, stripe: Stripe) -> Calls:
    """What the two clients have sent since they were made."""
    return Calls(
        salesforce_writes=salesforce.write_calls,
        salesforce_reads=salesforce.calls - salesforce.write_calls,
        stripe_writes=stripe.write_calls,
        stripe_reads=stripe.calls - stripe.write_calls,
    )


def least_salesforce_writes(writes: Sequence[Write]) -> int:
    """Calls that these writes need when every call is full."""
    return -(-len(collections(writes)) // COLLECTIONS_PER_CALL)


def least_reads(rows: int, calls: int, worlds: Iterable[World]) -> Calls:
    """Calls that show so many Salesforce rows when every query is full, and two lists for each Stripe customer.

    A look that finds nothing is a call too, unless none of the `calls` was made: what a write has shown on its way is
    not looked at. Accounts without a customer need nothing of Stripe.
    """
    customers = sum(isinstance(seen, Present) for world in worlds for seen in world.customers.values())
    queries = min(calls, max(1, -(-rows // (SUBREQUESTS_PER_CALL * ROWS_PER_QUERY))))
    return Calls(salesforce_reads=queries, stripe_reads=LISTS_PER_CUSTOMER * customers)
