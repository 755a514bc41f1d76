"""The guard of a run: it stops before it writes more than the rules allow unasked, and says so until a person looks.

A stop holds: other runs, which begin to count anew, would go on where this one stopped. It ends with a run that a
person has allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy

from sync_pipeline.core.commands import Plan
from sync_pipeline.core.foresight import Foreseen, foresee, imagine
from sync_pipeline.core.guards import Tally
from sync_pipeline.core.world import Billing, World
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.planning import PlanDocument, document
from sync_pipeline.ledger import cursors
from sync_pipeline.ledger.database import Ledger

HOLD = "guard.hold"
REMEDY = (
    "Look at it with `sync-pipeline plan`. If it is right, allow it once: `sync-pipeline reconcile --allow`, or "
    "`allow: true` for the job in the launchpad"
)


REMEDY_OF_UNDO = "If it is right, allow it once: `sync-pipeline undo RUN --write --allow`, or `allow: true` for the job"


class GuardTripped(Halted):
    """A run was stopped before it wrote more than it may unasked; `plan` has what it was about to write."""

    def __init__(self, breaches: Sequence[str], plan: PlanDocument, remedy: str) -> None:
        super().__init__(_message(breaches, remedy))
        self.plan = plan


class RunGuard:
    """Counts what one run is about to write, and approves it account by account or stops the run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tally = Tally()

    def approved(self, worlds: Mapping[str, World], plans: Mapping[str, Plan]) -> Collection[str]:
        """The accounts whose plans may be written now. Raises GuardTripped, Halted while another run's stop holds."""
        refuse_if_held(self._engine.ledger)
        tally = deepcopy(self._tally)
        for name, planned in plans.items():
            after, _ = imagine(worlds[name], planned.commands, self._engine.rules, lambda _: Billing())
            tally.add(planned.commands, worlds[name], after)
        if breaches := tally.breaches(self._engine.rules.guards):
            stop(self._engine, breaches, [worlds[name] for name, planned in plans.items() if planned.commands])
        self._tally = tally
        return plans.keys()


def check(engine: Engine, ahead: Collection[Foreseen], *, among: int | None = None, remedy: str = REMEDY) -> None:
    """Stops before the first of these writes when they are more than a run may do. Raises GuardTripped, Halted.

    `among` is how many Accounts there are, where the share of those that are written to counts as well.
    """
    refuse_if_held(engine.ledger)
    tally = Tally()
    for each in ahead:
        tally.add(each.commands, each.before, each.after)
    guards, breaches = engine.rules.guards, tally.breaches(engine.rules.guards)
    if among is not None:
        tally.accounts = among
        breaches += tally.share_breaches(guards)
    if breaches:
        raise GuardTripped(breaches, document(engine, [each for each in ahead if each.rounds], invoices=False), remedy)


def refuse_if_held(ledger: Ledger) -> None:
    """Raises Halted while a stop holds."""
    if (held := hold(ledger)) is not None:
        raise Halted(held)


def hold(ledger: Ledger) -> str | None:
    """Why runs are stopped at present, in words; None while they are not."""
    with ledger.read() as conn:
        return cursors.get(conn, HOLD) or None


def lift(engine: Engine) -> None:
    """A person has allowed what a run was stopped for, and it is written."""
    with engine.ledger.tx() as conn:
        cursors.put(conn, HOLD, "", engine.env.now())


def stop(engine: Engine, breaches: Sequence[str], worlds: Sequence[World]) -> None:
    """Holds this run and those after it."""
    ahead = [foresee(world, engine.rules, engine.personal_key, engine.stripe.billing) for world in worlds]
    with engine.ledger.tx() as conn:
        cursors.put(conn, HOLD, _message(breaches, REMEDY), engine.env.now())
    raise GuardTripped(breaches, document(engine, ahead, invoices=False), REMEDY)


def _message(breaches: Sequence[str], remedy: str) -> str:
    return f"stopped by a guard before it was written: {'; '.join(breaches)}. {remedy}"
