"""The gate before every call to a system: Stripe's rates and the circuit breakers, shared by all processes, and the
leases of what this one works on.

Retries do not happen here. A call waits for its turn for some seconds at most; whatever has to wait longer is not
made, and its account comes back later. For what one subscription may take nobody waits at all: that can last hours,
and concerns no other account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync_pipeline.engine.env import Env
from sync_pipeline.engine.leases import Leases
from sync_pipeline.ledger import breakers, buckets
from sync_pipeline.ledger.buckets import Bucket
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.systems.outcomes import Burden, NotNow

LONGEST_WAIT_US = 10_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Calls per second that Stripe allows (docs.stripe.com/rate-limits): in all, per endpoint, for all searches."""

    account: int
    endpoint: int = 25
    search: int = 20


PER_SUBSCRIPTION = {
    "invoice": (("new invoices a minute", 10, 60), ("new invoices a day", 20, 24 * 3600)),
    "quantity": (("quantity updates an hour", 200, 3600),),
}
"""What Stripe lets one subscription take, in so many seconds (docs.stripe.com/rate-limits)."""
LIVE, TEST = Rates(account=100), Rates(account=25)


@dataclass
class LedgerGate:
    """One process's way to the shared limits. Without `rates` only those of one subscription hold Stripe's calls back
    (the sandbox)."""

    ledger: Ledger
    env: Env
    rates: Rates | None
    leases: Leases = field(default_factory=Leases)
    _troubled: set[str] = field(default_factory=set)

    def before(self, system: str, operation: str, burdens: Sequence[Burden] = ()) -> None:
        self.leases.keep(self.ledger, self.env)
        name, limits = f"{system} {operation}", dict.fromkeys(self._limits(system, operation), 1)
        limits |= {cap: min(each.times, cap.capacity) for each in burdens for cap in _caps(each)}
        if not limits and not self._is_troubled(name):
            return
        now = self.env.wall()
        wait: int | Bucket = 0
        with self.ledger.tx() as conn:
            trouble = breakers.ask(conn, name, now_wall=now)
            shut = trouble is not None and trouble.forbids(now)
            if limits and not shut:
                wait = buckets.take(conn, limits, now_wall=now)
        if trouble is not None:
            self._troubled.add(name)
            if shut:
                seconds = max(1, (trouble.retry_wall - now) // 1_000_000)
                raise NotNow(f"left alone for {seconds} s after {trouble.failures} failures in a row ({trouble.why})")
        if isinstance(wait, Bucket):
            raise NotNow(_too_long(wait))
        if wait:
            self.env.sleep(wait / 1_000_000)

    def worked(self, system: str, operation: str) -> None:
        name = f"{system} {operation}"
        if name in self._troubled:
            self._troubled.discard(name)
            with self.ledger.tx() as conn:
                breakers.worked(conn, name)

    def failed(self, system: str, operation: str, why: str) -> None:
        name = f"{system} {operation}"
        self._troubled.add(name)
        with self.ledger.tx() as conn:
            breakers.failed(conn, name, why, now_wall=self.env.wall(), jitter=self.env.jitter())

    def throttled(self, system: str, operation: str) -> None:
        """Stripe's limits count seconds: everybody waits one out."""
        limits = self._limits(system, operation)
        with self.ledger.tx() as conn:
            for each in limits:
                buckets.give(conn, each, tokens=-each.tokens, now_wall=self.env.wall())

    def _is_troubled(self, name: str) -> bool:
        """A look without the write lock, which every call would otherwise queue for."""
        with self.ledger.read() as conn:
            return any(each.operation == name for each in breakers.troubled(conn))

    def _limits(self, system: str, operation: str) -> list[Bucket]:
        if system != "stripe" or self.rates is None:
            return []
        scopes = {"stripe": self.rates.account, f"stripe {operation}": self.rates.endpoint}
        if operation.endswith("/search"):
            scopes["stripe searches"] = self.rates.search
        return [_rate(name, limit) for name, limit in sorted(scopes.items())]


def _rate(name: str, limit: int) -> Bucket:
    """Never more than `limit` in any second: a tenth may come at once, the rest flows."""
    burst = max(1, limit // 10)
    return Bucket(name, capacity=burst, tokens=max(1, limit - burst), patience_us=LONGEST_WAIT_US)


def _caps(burden: Burden) -> list[Bucket]:
    """Never more than the limit in any such time: half may come at once, as people edit, the rest flows."""
    return [
        Bucket(f"stripe {burden.of} {what}", capacity=limit // 2, tokens=limit - limit // 2, seconds=seconds)
        for what, limit, seconds in PER_SUBSCRIPTION[burden.kind]
    ]


def _too_long(full: Bucket) -> str:
    if full.patience_us:
        return f"more calls wait than its rate limit lets through in {full.patience_us // 1_000_000} s"
    _, subscription, what = full.name.split(" ", 2)
    every = full.seconds // full.tokens
    return f"Stripe allows {subscription} no more {what} for now; one becomes free every {every} s"
