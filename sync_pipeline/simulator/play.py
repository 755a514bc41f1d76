"""One seed from its first action to rest: what people do, what goes wrong, what the workers make of it, what holds.

The engine is the one of production: its drain, planner, outbox, ledger on SQLite, and both adapters with the vendors'
own SDKs. Only time, turns and the network are the simulator's.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import zip_longest
from typing import Any

from sqlalchemy import select

from sync_pipeline.core.deal import today
from sync_pipeline.core.org_schema import OrgObject
from sync_pipeline.core.plan import plan as plan_now
from sync_pipeline.core.rules import Retention
from sync_pipeline.core.units import MICROS
from sync_pipeline.engine.context import Engine, build_engine
from sync_pipeline.engine.defects import DEFECT
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.env import Env
from sync_pipeline.engine.intake import receive
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.reconcile import compare, read_tables, reconcile
from sync_pipeline.engine.retention import retain
from sync_pipeline.engine.rounds import BatchReport
from sync_pipeline.ledger import audit, bulk_jobs, work
from sync_pipeline.ledger.tables import attempt
from sync_pipeline.ledger.tables import work as work_table
from sync_pipeline.simulator.acts import act, script
from sync_pipeline.simulator.beginning import empty_ledger, first_sandbox, rules_for, writable
from sync_pipeline.simulator.end_state import end_state
from sync_pipeline.simulator.intruder import Intruder
from sync_pipeline.simulator.listed_cash import miscounted
from sync_pipeline.simulator.operator import ENDURED, Operator
from sync_pipeline.simulator.oracle import at_rest, rows, secrets_kept
from sync_pipeline.simulator.people import CANARY, CUSTOMERS, DAY, Action, People
from sync_pipeline.simulator.stage import Boundary, Stage, StagedEnv, StagedLedger, Strike, Weather
from sync_pipeline.simulator.transport import SALESFORCE_TROUBLE, STRIPE_TROUBLE, Transport, Trouble
from sync_pipeline.simulator.watch import Watch
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.systems.stripe.events import hint

WORKERS = 2
SCENE_SECONDS = 120
STORM_CALLS = 400
CALM_LOOKS = 12
INTRUDES = 0.4
BULK, GIVES_UP = 0.25, 0.2
URGENT_SECONDS = 60
ENOUGH_CALLS = 50
SALESFORCE_URL, STRIPE_URL = "http://salesforce.sandbox", "http://stripe.sandbox"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed consists of: people's actions, the calls that go wrong, how workers fare, how invoices are paid.

    `by_bulk`: updates of Salesforce that may wait go by bulk jobs, however few there are, and jobs may give up half
    way. `strike` is what happens to one worker at one boundary. `patient` people act when the workers have nothing to
    do.
    """

    seed: int
    actions: tuple[Action, ...]
    trouble: tuple[tuple[int, str], ...]
    weather: Weather
    by_card: bool
    by_bulk: bool = False
    strike: Strike | None = None
    patient: bool = False


@dataclass(slots=True)
class Result:
    """How a seed went. `violations` is empty when everything held.

    `calls` (system, endpoint, whether it may change something) and `boundaries` are those until people have done
    everything and the workers had time for it.
    """

    plan: Plan
    digest: str
    trace: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[str, str, bool]] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    end_state: list[str] = field(default_factory=list)


def plan_of(seed: int) -> Plan:
    """The plan that a seed stands for. Some seeds have good weather, some reliable vendors, most neither."""
    chance = random.Random(seed)
    actions = tuple(script(chance))
    rate = chance.choice((0.0, 0.02, 0.1, 0.3))
    kinds = (*STRIPE_TROUBLE, *SALESFORCE_TROUBLE)
    trouble = tuple((call, chance.choice(kinds)) for call in range(1, STORM_CALLS) if chance.random() < rate)
    weather = Weather(kill=chance.choice((0.0, 0.0, 0.005, 0.02)), pause=chance.choice((0.0, 0.0, 0.005, 0.02)))
    by_card, by_bulk = chance.random() < 0.5, chance.random() < BULK
    return Plan(seed, actions, trouble, weather, by_card=by_card, by_bulk=by_bulk)


def play(plan: Plan) -> Result:
    """Plays a plan. Everything that happens follows from it."""
    with _Play(plan) as playing:
        return playing.result()


class _Play:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        sandbox, state = first_sandbox()
        sandbox.restore(state)
        sandbox.log.clear()
        self._sandbox = sandbox
        self._stage = Stage(sandbox, random.Random(plan.seed * 7919 + 1), plan.weather)
        self._people = People(sandbox)
        self._people.desk.point_webhooks("http://receiver.example/webhooks/stripe")
        self._people.operator_comes = lambda n: self._operator.comes(self._people.accounts, n)
        self._stage.strike = plan.strike
        undisturbed = plan.weather == Weather() and not plan.trouble and not plan.strike
        self._watch = Watch(
            self._stage, sandbox, writable(), rules_for(plan.by_card, plan.by_bulk), undisturbed=undisturbed
        )
        if plan.by_card:
            self._watch.written = self._people.leave_cards
        self._operator = Operator(self._stage, self._watch, self._engine)
        self._trouble = Trouble(dict(plan.trouble))
        self._stage.moved = self._moved
        self._workers = 0
        self._described: Mapping[str, OrgObject] | None = None

    def __enter__(self) -> _Play:
        self._ledger = StagedLedger(empty_ledger(), self._stage)
        self._watch.ledger = self._watch.edits.ledger = self._ledger
        self._ledger.claimed = self._watch.claimed
        self._env: Env = StagedEnv(self._stage)
        self._intruder = Intruder(self._ledger, self._env)
        return self

    def __exit__(self, *_: object) -> None:
        self._stage.end()
        self._ledger.close()

    def result(self) -> Result:
        result = Result(self._plan, "")
        self._storm()
        result.calls, result.boundaries = list(self._trouble.calls), list(self._stage.boundaries)
        result.violations += self._calm()
        watch = self._watch
        known = at_rest(self._sandbox, self._ledger, self._people, watch.ever_won, watch.taken_back)
        result.violations += sorted((*known, *watch.edits.at_rest()))
        told = (CANARY, self._sandbox.stripe.secret_key, self._sandbox.salesforce.client_secret)
        result.violations += [f"I22: told: {line}" for line in self._stage.trace if any(each in line for each in told)]
        result.end_state = end_state(self._sandbox)
        with self._ledger.read() as conn:
            for outcome in conn.execute(select(attempt.c.outcome)).scalars():
                self._stage.sometimes[f"an attempt was {outcome}"] += 1
        result.violations += self._still()
        result.violations = [*self._watch.violations, *result.violations]
        result.digest, result.trace = self._stage.digest(), self._stage.trace
        result.sometimes = self._stage.sometimes
        return result

    def _storm(self) -> None:
        """People act, with the workers at work between and during their actions."""
        stage, actions = self._stage, self._plan.actions
        moment = stage.micros
        for action, following in zip_longest(actions, actions[1:]):
            moment = max(stage.micros, moment + action.after * MICROS)
            if moment - stage.micros > SCENE_SECONDS * MICROS:
                stage.pass_to(moment)
            stage.at(moment, partial(self._act, action))
            # Who acts soon after acts in the same scene, unless people are patient.
            soon = following is not None and not self._plan.patient
            self._scene(moment + min(SCENE_SECONDS, following.after if soon else SCENE_SECONDS) * MICROS)
            for _ in range(CALM_LOOKS):
                if self._plan.patient and self._waiting():
                    self._scene(stage.micros + SCENE_SECONDS * MICROS)

    def _scene(self, until: int) -> None:
        """Workers come until there are enough, go on or are killed, and end when nothing is left to do.

        Others come when what has to wait for a moment is due.
        """
        stage = self._stage
        stage.at(stage.micros + URGENT_SECONDS * MICROS, self._look_for_untold)
        while stage.micros < until:
            while len(stage.workers) < WORKERS and not self._operator.is_alone:
                self._workers += 1
                name = f"worker {self._workers}"
                stage.start(name, partial(self._work, name))
            stage.run_until(until)
            stage.pass_to(min(until, max(stage.micros + 20 * MICROS, self._next_due(until))))

    def _look_for_untold(self) -> None:
        if not self._operator.is_alone:
            self._watch.look_for_untold()

    def _next_due(self, latest: int) -> int:
        """When something waits that a worker could begin with, `latest` at the latest."""
        dirty = work_table.c.dirty_seq > work_table.c.clean_seq
        with self._ledger.read() as conn:
            rows = conn.execute(select(work_table.c.due_at_wall, work_table.c.lease_until_wall).where(dirty)).all()
        return min((max(row) for row in rows), default=latest)

    def _calm(self) -> Iterator[str]:
        """Nothing goes wrong any more: the queue empties, and the comparison that runs every night finds the rest."""
        stage = self._stage
        stage.weather, stage.strike, self._trouble.kinds = Weather(), None, {}
        stage.say("calm")
        if self._people.calls_left < ENOUGH_CALLS:
            stage.pass_to(stage.micros + DAY * MICROS)
        for _ in range(CALM_LOOKS):
            self._scene(stage.micros + SCENE_SECONDS * MICROS)
            stage.pass_to(stage.micros + 15 * 60 * MICROS)
            if not stage.workers and not self._waiting():
                break
        engine = self._engine("reconcile")
        for _ in range(CALM_LOOKS):
            for left in reconcile(engine, allow=True).left:
                stage.say(f"left: {left.what}")
            if not self._waiting():
                return
            stage.pass_to(stage.micros + 15 * 60 * MICROS)
        yield f"liveness: {self._waiting()} accounts or bulk jobs never come to rest"

    def _still(self) -> Iterator[str]:
        """I18: at rest, another comparison writes nothing, and none after the ledger has forgotten what it may."""
        yield from self._writes_nothing("at rest")
        engine = self._engine("listed")
        tables, currency = read_tables(engine), engine.rules.commercial.default_currency
        yield from miscounted(tables, self._sandbox, self._ledger, org_id=engine.instance_id, currency=currency)
        rules = replace(rules_for(self._plan.by_card, self._plan.by_bulk), retention=Retention(0, 0, 0, 0))
        self._stage.pass_to(self._stage.micros + MICROS)
        retain(self._ledger, rules, self._env, run="retain")
        with self._ledger.read() as conn:
            for problem in audit.verify(conn):
                yield f"I13: after retention the audit of {problem.account} row {problem.seq} {problem.what}"
        yield from secrets_kept(self._sandbox, self._ledger, while_sent=False)
        yield from self._writes_nothing("after retention")
        yield from self._a_quiet_day()
        yield from self._compares_all()

    def _a_quiet_day(self) -> Iterator[str]:
        """I18: a day on which nothing happens in either system, and no account is due, needs no write.

        Unless it is the one from which on the renewal of a term is worked on.
        """
        stores = self._sandbox.salesforce.org.store, self._sandbox.stripe.world.store
        before = [store.writes for store in stores]
        self._stage.pass_to(self._stage.micros + DAY * MICROS)
        if [store.writes for store in stores] == before and not self._waiting():
            commercial = rules_for(self._plan.by_card, self._plan.by_bulk).commercial
            first_end = today(self._stage.micros, commercial) + timedelta(days=commercial.renewal_days)
            renewals = {row["Id"] for row in self._renewals()}
            problems = list(self._writes_nothing("after a quiet day"))
            opened = [row for row in self._renewals() if row["Id"] not in renewals]
            if not any(row["CloseDate"] == first_end.isoformat() for row in opened):
                yield from problems

    def _renewals(self) -> list[dict[str, Any]]:
        return [row for row in rows(self._sandbox, "salesforce", "Opportunity") if row.get("Stripe_Renewal_Key__c")]

    def _compares_all(self) -> Iterator[str]:
        """I25: whoever needs something as of now is found by the comparison, which does not look at every Account.

        It leaves out those that billing does not concern. No prefilter is beside this one.
        """
        for who in range(CUSTOMERS):
            self._act(Action(0, "rename the Account", who, 61))
            self._act(Action(0, "win", who, 0))
        engine = self._engine("compare")
        found = set(compare(engine, read_tables(engine)).different())
        for name, world in observe(engine, self._people.accounts).items():
            if name not in found and plan_now(world, engine.rules, engine.personal_key).commands:
                yield f"I25: {name} needs something, and the comparison does not see it"

    def _writes_nothing(self, when: str) -> Iterator[str]:
        before = self._watch.writes
        reconcile(self._engine(f"reconcile {when}"), allow=True)
        if written := self._watch.writes - before:
            last = [line for line in self._stage.trace if " world: " in line][-written:]
            yield f"I18: {written} writes {when}: {'; '.join(last)}"

    def _looked(self, worker: str, done: BatchReport) -> None:
        """Whatever a batch tells is told; no account has found a defect; I19 of what it has read."""
        for problem in sorted(done.problems):
            self._stage.say(problem)
            if DEFECT in problem:
                self._watch.breaks(f"liveness: {problem}")
        self._watch.bound.looked(worker, done.accounts, done.rounds)

    def _work(self, name: str) -> None:
        engine = self._engine(name)
        plan = DrainPlan(linger_seconds=10, poll_seconds=20, sweep_seconds=60, allow=True)
        try:
            drain(engine, plan, partial(self._looked, name))
        except ENDURED as error:
            self._stage.say(f"gives up: {error}")
        except Exception as defect:
            self._watch.dies(defect)
        self._described = vars(engine.salesforce).get("described", self._described)

    def _engine(self, run: str) -> Engine:
        sandbox = self._sandbox
        rules = rules_for(self._plan.by_card, self._plan.by_bulk, keeps_contracts=self._people.keeps_contracts)
        login = Login(
            domain="acme.my",
            client_id=sandbox.salesforce.client_id,
            client_secret=sandbox.salesforce.client_secret,
            base_url=SALESFORCE_URL,
        )
        road = {side: Transport(side, self._stage, self._trouble, self._watch) for side in ("salesforce", "stripe")}
        salesforce = Salesforce(login, rules.salesforce, transport=road["salesforce"])
        if self._described is not None:
            # The schema does not change, and a tenth of the time would go into reading it again in every process.
            vars(salesforce)["described"] = self._described
        return build_engine(
            rules=rules,
            ledger=self._ledger,
            salesforce=salesforce,
            stripe=Stripe(sandbox.stripe.secret_key, base_url=STRIPE_URL, transport=road["stripe"]),
            env=self._env,
            run=run,
        )

    def _act(self, action: Action) -> None:
        if self._plan.by_bulk and self._stage.chance.random() < GIVES_UP:
            self._sandbox.salesforce.fail_next_job(self._stage.chance.randint(0, 2))
            self._stage.sometimes["a bulk job is to give up half way"] += 1
        done = act(self._people, action)
        if done:
            self._stage.sometimes[f"people: {action.verb}"] += 1
        self._stage.say(f"{action}{'' if done else ': makes no sense now'}")
        self._watch.acted()

    def _moved(self) -> None:
        """Whatever changed: webhooks set out, and figures are looked at."""
        self._watch.look()
        for delivery in self._sandbox.stripe.deliveries_due():
            fate = self._stage.chance.random()
            if self._stage.weather != Weather() and fate < 0.15:
                self._stage.sometimes["a webhook was lost for good"] += 1
                self._sandbox.stripe.record_delivery(delivery.id, 200)
                continue
            if self._stage.weather != Weather() and fate < 0.3:
                self._stage.sometimes["a webhook was delivered again later"] += 1
                self._sandbox.stripe.record_delivery(delivery.id, None)
            else:
                self._sandbox.stripe.record_delivery(delivery.id, 200)
            if fate < INTRUDES:
                tried, broken = self._intruder.tries(self._stage.chance, delivery.body)
                self._stage.sometimes[f"refused: {tried}"] += 1
                if broken:
                    self._watch.breaks(broken)
            found = hint(json.loads(delivery.body))
            for _ in range(2 if fate > 0.9 else 1):
                receive(self._ledger, [found], self._env)

    def _waiting(self) -> int:
        """Accounts that wait, and bulk jobs that have not ended."""
        with self._ledger.read() as conn:
            return work.status(conn, self._env.wall()).dirty + len(bulk_jobs.open_jobs(conn))
