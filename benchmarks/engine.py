"""What the engine costs in API calls, and how fast it is: calls used against the least that would do, and rates.

    python benchmarks/engine.py [--accounts 1000] [--records 1000 100000]

Two parts. The first is a company of so many accounts in the sandbox, over real HTTP: it is brought to rest, compared
without a change, and then somebody changes every Account on both sides, once in calm and once while 5 % of all calls
fail. The second are waves of lifetime values, again in calm and with faults: the drain with its queue, observation,
planner, ledger, pooling, bulk jobs and the choice between single looks and lists is the real one, and the answers of
both systems come from memory, because no sandbox holds so many accounts. A wave goes the way that the shipped rules
choose: by composite calls, or in a bulk job.

The bounds are those of engine/cost.py. Bars: writes to Stripe 1.00 and to Salesforce at most 1.10 times the bound in
calm, and no write where nothing has changed. It exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sync_pipeline.config.rules import load_rules
from sync_pipeline.config.settings import load_settings, sandbox_environment
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.observation import Observation, Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.world import World
from sync_pipeline.engine.assembly import open_engine
from sync_pipeline.engine.context import Engine, build_engine
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.intake import POLLED, SWEPT
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.rounds import BatchReport
from sync_pipeline.ledger import bulk_jobs, cursors, facts, links, migrations, work
from sync_pipeline.ledger.database import open_ledger
from sync_pipeline.systems.outcomes import Outcome, ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.salesforce.errors import outcome_of_errors
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline.systems.salesforce.writes import Part
from sync_pipeline.systems.stripe import parse
from sync_pipeline.systems.stripe.client import PAGE, Stripe
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

FAULTS = 0.05
STRIPE_FAULTS = ("stripe_503", "stripe_429", "drop_before", "drop_after", "stripe_lock_timeout")
SALESFORCE_FAULTS = ("salesforce_503", "salesforce_row_lock", "drop_before", "drop_after")
LONG_ENOUGH_SECONDS = 700
ORG = "00D000000000001"
MOST_IN_CALM = {"stripe_writes": 1.0, "salesforce_writes": 1.1}
NO_POLLS = DrainPlan(poll_seconds=10**9, sweep_seconds=10**9, allow=True)
SHOWN = {"lifetime_value": "Lifetime_Value__c", "mrr": "MRR__c", "mrr_at_risk": "MRR_At_Risk__c"}


class Impatient(SystemEnv):
    """The real environment, except that to wait is to move its own clock on: rates are those of work, not of pauses."""

    ahead_us = 0

    def wall(self) -> int:
        return super().wall() + self.ahead_us

    def sleep(self, seconds: float) -> None:
        self.ahead_us += int(seconds * 1_000_000)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


missed: list[str] = []


def bar(what: str, *, met: bool) -> None:
    if not met:
        missed.append(what)


def tell(what: str, report: BatchReport, seconds: float, *, calm: bool = False) -> None:
    cost = report.cost.report()
    say(f"{what}: {report.accounts} accounts served, {report.writes} writes in {seconds:.1f} s")
    for name in ("stripe_writes", "salesforce_writes", "stripe_reads", "salesforce_reads"):
        used, least = (int(cost[f"{name}_{part}"]) for part in ("calls", "least"))
        if used:
            ratio = f"{used / least:.3f}" if least else "-"
            say(f"    {name.replace('_', ' '):18} {used:7} calls, bound {least:7}, ratio {ratio}")
        if calm and name in MOST_IN_CALM:
            bar(f"{what}: {name} at most {MOST_IN_CALM[name]:.2f}", met=used <= least * MOST_IN_CALM[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"    {report.accounts / seconds:.0f} accounts/s, {report.writes / seconds:.0f} writes/s, peak {peak:.0f} MB")


def company(accounts: int) -> None:
    with (
        start_sandbox("--data", "company", "--accounts", str(accounts)) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        settings = load_settings({**sandbox_environment(sandbox.ready), "SYNC_HOME": folder})
        with open_engine(settings, run="benchmark") as opened:
            engine = replace(opened, env=Impatient(settings.clock_url))
            worlds: dict[str, World] = {}
            tell("first look at a company", *to_rest(engine, worlds.update))
            planner(engine, list(worlds.values()))
            certificate = reconcile(engine)
            say(f"reconcile without a change: {certificate.accounts} accounts, {certificate.writes} writes")
            bar("no write where nothing has changed", met=certificate.writes == 0)
            change_everybody(sandbox, "Group")
            calm, seconds = to_rest(engine)
            tell(f"{accounts} Accounts changed on both sides, in calm", calm, seconds, calm=True)
            change_everybody(sandbox, "Holdings")
            with faults(sandbox):
                rough, seconds = to_rest(engine)
            # The same changes: what the faults made necessary counts as too much.
            tell(
                f"{accounts} Accounts changed on both sides, {FAULTS:.0%} fail",
                replace(rough, least=calm.least, looked=calm.looked),
                seconds,
            )
            certificate = reconcile(engine)
            say(f"reconcile after the faults: {certificate.accounts} accounts, {certificate.writes} writes")


def to_rest(
    engine: Engine, seen: Callable[[dict[str, World]], None] = lambda worlds: None
) -> tuple[BatchReport, float]:
    """Drains until no account waits; the sum of what was done, and the seconds that it took."""
    total, started = BatchReport(), time.perf_counter()
    while True:
        total.add(drain(engine, DrainPlan(poll_seconds=0, allow=True), lambda batch: seen(batch.worlds)).total)
        with engine.ledger.read() as conn:
            if not work.status(conn, engine.env.wall()).dirty:
                return total, time.perf_counter() - started
        engine.env.sleep(LONG_ENOUGH_SECONDS)


def planner(engine: Engine, worlds: Sequence[World]) -> None:
    started = time.perf_counter()
    for world in worlds:
        plan(world, engine.rules, engine.personal_key)
    say(f"planner: {len(worlds) / (time.perf_counter() - started):.0f} accounts/s on one core")


def change_everybody(sandbox: SandboxHandle, form: str) -> None:
    """Every Account gets another name, which is Stripe's to learn, and a wrong figure, which is Salesforce's."""
    sandbox.control("POST", "/clock", {"advance_seconds": 60})
    accounts = sandbox.control("GET", "/state")["salesforce"]["Account"]
    for account in accounts:
        fields = {"Name": f"{account['Name'].rpartition(' ')[0]} {form}", "Lifetime_Value__c": -1}
        edit = {"system": "salesforce", "object": "Account", "id": account["Id"], "fields": fields}
        sandbox.control("POST", "/humans", edit)
    sandbox.control("POST", "/clock", {"advance_seconds": 60})


@contextmanager
def faults(sandbox: SandboxHandle) -> Iterator[None]:
    """Both systems fail at random, in every way that passes."""
    for side, kinds in (("stripe", STRIPE_FAULTS), ("salesforce", SALESFORCE_FAULTS)):
        for number, kind in enumerate(kinds):
            match = {"side": side, "path": "^/(v1|services/data)/"}
            rule = {"match": match, "kind": kind, "probability": FAULTS / len(kinds), "seed": number, "times": 10**6}
            sandbox.control("POST", "/faults", rule)
    yield
    sandbox.control("DELETE", "/faults")


class Remembered(Salesforce):
    """An org of Accounts without deals, in memory. Of its calls and rows a share fails, by chance of a fixed seed."""

    def __init__(self, names: Any, share: float) -> None:
        super().__init__(Login(domain="x", client_id="x", client_secret="x"), names)
        self.written: dict[str, dict[str, Any]] = {}
        self._share, self._chance = share, random.Random(1)
        self._jobs: dict[str, dict[str, str]] = {}

    @property
    def org_id(self) -> str:
        return ORG

    def accounts(self, ids: Sequence[str]) -> dict[str, AccountRecords]:
        self.calls += 1
        self.rows += len(ids)
        return {each: AccountRecords(self._account(each)) for each in ids}

    def _account(self, name: str) -> Account:
        return Account(id=name, stripe_customer_id=f"cus_{name}", **self.written.get(name, {}))

    def _post(self, parts: Sequence[Part], looks: Sequence[str] = ()) -> Outcome | list[tuple[int, Any]]:
        self.calls += 1
        self.write_calls += 1
        if self._fails():
            return outcome_of_errors(503, [{"errorCode": "SERVER_UNAVAILABLE", "message": "later"}])
        return [(200, [self._write(record) for record in part.records()]) for part in parts]

    def _looks(self, parts: int, accounts: Sequence[str]) -> list[str]:
        """It answers no queries, so what it shows after a write is read."""
        return []

    def raw(
        self, operation: str, method: str, path: str, body: str | None = None, content_type: str = "application/json"
    ) -> requests.Response:
        """The calls of a bulk job, which has run as soon as it is let run."""
        self.calls += 1
        if self._fails():
            raise requests.ConnectionError("later")
        answer = requests.Response()
        answer.status_code, answer.raw = 200, io.BytesIO(self._of_job(method, path, body or "").encode())
        return answer

    def _of_job(self, method: str, path: str, body: str) -> str:
        _, _, name, *what = f"{path}//".split("/")[:4]
        if method == "POST":
            name = f"750{len(self._jobs):015d}"
            self._jobs[name] = {}
        job = self._jobs[name]
        if method == "PUT":
            job["rows"] = body
        elif method == "PATCH" and json.loads(body)["state"] == "UploadComplete":
            self._run(job)
        elif method == "PATCH":
            job["state"] = "Aborted"
        elif what[0]:
            return job[what[0]]
        done, failed = (int(job.get(count, "0")) for count in ("done", "failed"))
        counts = {"numberRecordsProcessed": done + failed, "numberRecordsFailed": failed}
        return json.dumps({"id": name, "state": job.get("state", "Open"), **counts})

    def _run(self, job: dict[str, str]) -> None:
        good, bad = ["sf__Id"], ["Id,sf__Error"]
        for row in csv.DictReader(io.StringIO(job.pop("rows"), newline="")):
            record = {"id": row.pop("Id"), **{name: Decimal(value) for name, value in row.items() if value}}
            if self._write(record)["success"]:
                good.append(record["id"])
            else:
                bad.append(f"{record['id']},UNABLE_TO_LOCK_ROW:later:--")
        job |= {"successfulResults": "\n".join(good), "failedResults": "\n".join(bad), "state": "JobComplete"}
        job |= {"done": str(len(good) - 1), "failed": str(len(bad) - 1)}

    def _write(self, record: dict[str, Any]) -> dict[str, Any]:
        if self._fails():
            return {"success": False, "errors": [{"statusCode": "UNABLE_TO_LOCK_ROW", "message": "later"}]}
        shown = {name: record[field] for name, field in SHOWN.items() if field in record}
        self.written.setdefault(record["id"], {}).update(shown)
        return {"success": True, "id": record["id"], "errors": []}

    def _fails(self) -> bool:
        return self._chance.random() < self._share


class WithoutSubscriptions(Stripe):
    """A Stripe in memory whose customers have nothing: what they paid is known as facts. It takes reads only, of which
    a share fails."""

    def __init__(self, accounts: Sequence[str], share: float) -> None:
        super().__init__("sk_test_x")
        self._customers = [{"id": f"cus_{each}", "metadata": {"sf_account_id": each}} for each in accounts]
        self._place = {each["id"]: place for place, each in enumerate(self._customers)}
        self._share, self._chance = share, random.Random(2)

    def customer(self, customer_id: str) -> Observation[Customer]:
        self._take_call()
        return Present(parse.customer(self._customers[self._place[customer_id]]))

    def page(self, path: str, **params: Any) -> Mapping[str, Any]:
        self._take_call()
        if path != "/v1/customers":
            return {"data": [], "has_more": False}
        start = self._place[params["starting_after"]] + 1 if "starting_after" in params else 0
        return {
            "data": self._customers[start : start + PAGE],
            "has_more": start + PAGE < len(self._customers),
        }

    def _take_call(self) -> None:
        self._count()
        if self._chance.random() < self._share:
            raise ReadFailed("Stripe", "later")


def wave(records: int, share: float) -> tuple[BatchReport, float]:
    """Every Account has paid, and Salesforce does not know it yet."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ledger.db"
        migrations.upgrade(url)
        rules, ledger = load_rules(), open_ledger(url)
        ids = [f"001{number:015d}" for number in range(records)]
        salesforce = Remembered(rules.salesforce, share)
        engine = build_engine(
            rules=rules,
            ledger=ledger,
            salesforce=salesforce,
            stripe=WithoutSubscriptions(ids, share),
            env=Impatient(),
            run="benchmark",
        )
        with ledger.tx() as conn:
            paid = (Fact("payment", f"in_{each}", 0, each, "GBP", 4_500_000, engine.env.now()) for each in ids)
            facts.append(conn, list(paid))
            for each in ids:
                links.put(conn, links.Link(each, "stripe", "customer", f"cus_{each}", subject=each), engine.env.now())
            for poll in (POLLED, SWEPT):
                cursors.put(conn, poll, str(engine.env.wall()), engine.env.now())
            work.mark_dirty(conn, ids, priority=int(Priority.BULK), now_wall=engine.env.wall())
        report, seconds = flow(engine)
        ledger.close()
        if wrong := [each for each in ids if salesforce.written[each]["lifetime_value"] != 45_000]:
            raise SystemExit(f"{len(wrong)} of {records} lifetime values are wrong")
        return report, seconds


def flow(engine: Engine) -> tuple[BatchReport, float]:
    """Drains, without the polls for changes, until no account waits and no job is open."""
    total, started = BatchReport(), time.perf_counter()
    while True:
        total.add(drain(engine, NO_POLLS).total)
        with engine.ledger.read() as conn:
            if not work.status(conn, engine.env.wall()).dirty and not bulk_jobs.open_jobs(conn):
                return total, time.perf_counter() - started
        engine.env.sleep(LONG_ENOUGH_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=1_000, help="size of the company; 0 leaves this part out")
    parser.add_argument(
        "--records", type=int, nargs="*", default=[1_000, 100_000], help="sizes of the waves; none leaves them out"
    )
    wanted = parser.parse_args()
    if wanted.accounts:
        company(wanted.accounts)
    for records in filter(None, wanted.records):
        calm, seconds = wave(records, 0)
        tell(f"a wave of {records} lifetime values, in calm", calm, seconds, calm=True)
        rough, seconds = wave(records, FAULTS)
        tell(
            f"the same wave, {FAULTS:.0%} of calls and of rows fail",
            replace(rough, least=calm.least, looked=calm.looked),
            seconds,
        )
    if missed:
        say("missed: " + "; ".join(missed))
        sys.exit(1)


if __name__ == "__main__":
    main()
