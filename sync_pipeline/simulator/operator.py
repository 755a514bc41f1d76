"""Somebody who makes a plan, keeps it for a while and applies it, as `plan --out` and `apply` do."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sync_pipeline.core import canonical
from sync_pipeline.engine.apply_plan import apply_plan
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.planning import PlanDocument, PlanError, document, foresee_accounts, from_json
from sync_pipeline.engine.reconcile import compare, read_tables
from sync_pipeline.simulator.stage import Stage, Worker
from sync_pipeline.simulator.watch import Watch
from sync_pipeline.systems.outcomes import ReadFailed

ENDURED = (Halted, ReadFailed, PlanError)
"""A system does not answer, or the rules are others than those of the plan."""


class Operator:
    """`engine` opens one for a run of a name."""

    def __init__(self, stage: Stage, watch: Watch, engine: Callable[[str], Engine]) -> None:
        self._stage, self._watch, self._engine = stage, watch, engine
        self._came = 0
        self._alone: list[Worker] = []

    @property
    def is_alone(self) -> bool:
        """Whether no worker begins, because somebody does by hand what they do."""
        return any(each in self._stage.workers for each in self._alone)

    def comes(self, accounts: Collection[str], n: int) -> None:
        """After `n` minutes makes a plan, of all Accounts or by fresh looks at these, and applies it some minutes
        later; in every second case without workers beside."""
        self._came += 1
        name = f"operator {self._came}"
        here = self._stage.start(name, lambda: self._plan_and_apply(name, sorted(set(accounts)), n))
        if n % 2:
            self._alone.append(here)

    def _plan_and_apply(self, name: str, accounts: list[str], n: int) -> None:
        try:
            self._stage.sleep_through(n * 60)
            kept = canonical.encode(_plan(self._engine(f"{name} plans"), accounts, whole=n % 3 == 0))
            self._stage.sleep_through(n // 4 * 60)
            self._watch.holds_to(name, kept)
            report = apply_plan(self._engine(f"{name} applies"), from_json(kept), allow=n % 4 < 2)
        except ENDURED as error:
            self._stage.say(f"gives up: {error}")
            return
        except Exception as defect:
            self._watch.dies(defect)
            return
        for each in report.moved:
            self._stage.say(f"leaves {each.target} {each.field}: {each.what}")
        self._stage.say(f"has applied a plan: {report.total.writes} writes, {len(report.unread)} not read")
        if report.total.writes:
            self._stage.sometimes["a kept plan was applied"] += 1
        if report.moved:
            self._stage.sometimes["a kept plan did not fit any more"] += 1


def _plan(engine: Engine, accounts: list[str], *, whole: bool) -> PlanDocument:
    ahead = compare(engine, read_tables(engine)).ahead.values() if whole else foresee_accounts(engine, accounts)
    return document(engine, list(ahead))
