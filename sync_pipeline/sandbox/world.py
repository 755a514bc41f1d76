"""The sandbox itself: one clock, a Salesforce, a Stripe, the faults in force and the log of what was asked.

It does no I/O of its own. The HTTP shell serves it over sockets; a simulator uses it in process through `exchange`
and `move_to`. Seed data is put into it from outside.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.faults import KEPT_UNDER_THE_KEY, Fault, Faults
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.salesforce.system import SalesforceSystem
from sync_pipeline.sandbox.stripe.settings import StripeSettings
from sync_pipeline.sandbox.stripe.system import StripeSystem
from sync_pipeline.sandbox.wire import Call, Reply, System

_STUCK = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets. `reply` None: the connection closes without a word; `cut`: halfway through the body.

    `wait` is the seconds that the answer is held back after the work was done.
    """

    reply: Reply | None
    cut: bool = False
    wait: float = 0.0


class Sandbox:
    """Both systems on one clock. `webhook_endpoint` is the id of the one registered for `--webhook-url`."""

    def __init__(
        self,
        clock: Clock,
        salesforce: SalesforceSystem,
        stripe: StripeSystem,
        *,
        webhook_secret: str,
        log: RequestLog | None = None,
    ) -> None:
        self.clock = clock
        self.salesforce = salesforce
        self.stripe = stripe
        self.webhook_secret = webhook_secret
        self.webhook_endpoint: str | None = None
        self.faults = Faults()
        self.log = log or RequestLog()
        self._systems: dict[str, System] = {"salesforce": salesforce, "stripe": stripe}

    def compresses(self, side: str) -> bool:
        return self._systems[side].compresses

    def add_faults(self, described: list[Any]) -> None:
        """Put rules of faults in force. Raises BadInputError, and adds none of them, if one is wrong."""
        self.faults.add(described)
        # From now on, because a stale query may also miss what a person changes before the next call.
        self.salesforce.org.db.kept_seconds = int(self.faults.stalest)

    def strike(self, side: str, call: Call) -> Fault | None:
        """The fault that befalls this call, if any. Asking counts the call: ask once."""
        return self.faults.strike(side, call) if self.faults.rules else None

    def answer(self, side: str, call: Call, fault: Fault | None = None) -> Answer:
        """Let the system do what it is asked, unless `fault` prevents it, and log the exchange."""
        started = time.perf_counter()
        with self._seeing(call, fault):
            reply = self._systems[side].handle(call) if fault is None or fault.commits else None
        if fault is not None and fault.reply is not None:
            if fault.kind in KEPT_UNDER_THE_KEY:
                self.stripe.keep_failure(call, fault.reply, reply)
            reply = fault.reply
        milliseconds = (time.perf_counter() - started) * 1000
        self.log.record(side, self.clock.now(), milliseconds, call, reply, fault.kind if fault else None)
        if fault is None:
            return Answer(reply)
        lost = fault.kind in ("drop_before", "drop_after")
        return Answer(
            None if lost else reply,
            cut=fault.kind == "truncate",
            wait=fault.seconds if fault.kind == "withhold" else 0.0,
        )

    @contextmanager
    def _seeing(self, call: Call, fault: Fault | None) -> Iterator[None]:
        """For one call: how old what it finds may be."""
        stalest = int(self.faults.stalest)
        if not stalest:
            yield
            return
        stale = int(fault.seconds) if fault is not None and fault.kind == "stale" else 0
        rows, settings = self.salesforce.org.db, self.stripe.settings
        delay = rows.visibility_delay
        rows.visibility_delay = max(delay, stale)
        # Stripe's search is a GET; any other call may only write.
        lag = max(settings.search_lag, stale if call.method == "GET" else stalest)
        if lag != settings.search_lag:
            self.stripe.configure(replace(settings, search_lag=lag))
        try:
            yield
        finally:
            rows.visibility_delay = delay
            if lag != settings.search_lag:
                self.stripe.configure(settings)

    def exchange(self, side: str, call: Call) -> Answer:
        """Fault and answer in one, for use in process; a `delay` shows only in the log."""
        return self.answer(side, call, self.strike(side, call))

    def advance(self, seconds: int) -> None:
        self.move_to(self.clock.now() + seconds)

    def move_to(self, now: int) -> None:
        """Move the clock event by event. Raises ValueError for a moment that has passed."""
        for _ in self.steps_to(now):
            pass

    def steps_to(self, now: int) -> Iterator[int]:
        """As `move_to`, giving way to the caller after each moment at which something happened."""
        if now < self.clock.now():
            raise ValueError(f"the clock is at {self.clock.now()} and cannot go back to {now}")
        repeats, last = 0, None
        while (due := self._next_due()) is not None and due <= now:
            repeats = repeats + 1 if due == last else 0
            if repeats > _STUCK:
                raise RuntimeError(f"something stays due at {due} however often it is done")
            last = due
            self._reach(due)
            self._run_due()
            yield due
        self._reach(now)

    def tick(self) -> bool:
        """Do what has become due on a running clock; say whether there was anything."""
        due = self._next_due()
        if due is None or due > self.clock.now():
            return False
        self._run_due()
        return True

    def truth(self) -> dict[str, Any]:
        """The present state of both systems as canonical JSON."""
        return {
            "now": self.clock.now(),
            "salesforce": self.salesforce.truth(),
            "stripe": self.stripe.truth(),
        }

    def changes(self) -> tuple[int, ...]:
        """Something that is different whenever the snapshot may be."""
        still = self.clock.now() if self.clock.frozen else 0
        return self.salesforce.org.store.writes, self.stripe.world.store.writes, still

    def snapshot(self) -> dict[str, Any]:
        return {
            "clock": self.clock.snapshot(),
            "salesforce": self.salesforce.snapshot(),
            "stripe": self.stripe.snapshot(),
            "webhook_endpoint": self.webhook_endpoint,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back a `snapshot`, whole. Faults and the request log stay as they are.

        Raises ValueError for anything else, and then changes nothing.
        """
        before = self.snapshot()
        try:
            self._put_back(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._put_back(before)
            raise ValueError(f"this is not a snapshot of a sandbox ({type(error).__name__}: {error})") from error

    def _put_back(self, state: dict[str, Any]) -> None:
        self.clock.restore(state["clock"])
        self.salesforce.restore(state["salesforce"])
        self.stripe.restore(state["stripe"])
        self.webhook_endpoint = state["webhook_endpoint"]

    def _reach(self, moment: int) -> None:
        """Move the clock forward to `moment`, unless it ticked past it meanwhile."""
        if moment > self.clock.now():
            self.clock.move_to(moment)

    def _next_due(self) -> int | None:
        return min((d for d in (self.salesforce.next_due(), self.stripe.next_due()) if d is not None), default=None)

    def _run_due(self) -> None:
        self.salesforce.run_due()
        self.stripe.run_due()


def build(
    *,
    seed: int = 0,
    now: int | None = None,
    salesforce_settings: SalesforceSettings | None = None,
    stripe_settings: StripeSettings | None = None,
    salesforce_url: Callable[[], str] = lambda: "http://salesforce.sandbox",
    log: RequestLog | None = None,
) -> Sandbox:
    """An empty sandbox. The clock stands still at `now` (epoch seconds), or ticks with wall time without it."""
    clock = Clock(now, frozen=now is not None)
    return Sandbox(
        clock,
        SalesforceSystem(clock, seed=seed, settings=salesforce_settings, base_url=salesforce_url),
        StripeSystem(clock, seed=seed, settings=stripe_settings),
        webhook_secret="whsec_" + hashlib.sha256(f"webhook secret {seed}".encode()).hexdigest()[:32],
        log=log,
    )
