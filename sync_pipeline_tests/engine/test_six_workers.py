"""Six worker processes on Postgres that are killed and frozen while people edit and both systems fail at random.

The wall clock of the workers runs thirty times as fast as ours, so that leases and deadlines end within the test: a
process that is frozen for six seconds wakes up long after others have taken over what it held.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from sync_pipeline.core import canonical
from sync_pipeline.engine.apply import SEND_WITHIN_US
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.env import Env, SystemEnv
from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.ledger import work
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.ledger.tables import attempt, command
from sync_pipeline.ledger.tables import work as work_table
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.engine.installation import LEASE_SECONDS, installed
from sync_pipeline_tests.engine.people import another_deal, edit, fault, records
from sync_pipeline_tests.sandbox_process import SandboxHandle

WORKERS = 6
DEALS = 36
STEPS = 24
FASTER = 30
FROZEN_STEPS = 6
STEP_SECONDS = 1.0
FROZEN_US = int(FROZEN_STEPS * STEP_SECONDS * FASTER * 1_000_000)
NOTES = ".requests.jsonl"
STARTED_US = 1_790_000_000_000_000
"""Any moment in the past that all processes agree on."""


class FastEnv(SystemEnv):
    """The real environment in fast motion, except for the sandbox's own clock."""

    def wall(self) -> int:
        return STARTED_US + (super().wall() - STARTED_US) * FASTER

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / FASTER)


def _work(sandbox: SandboxHandle, folder: Path, url: str) -> None:
    with installed(sandbox, folder, url=url) as sync:
        engine = replace(sync.engine, env=FastEnv(sync.settings.clock_url))
        _note_every_request(engine.env, folder / f"{os.getpid()}{NOTES}")
        while True:
            drain(engine, DrainPlan(linger_seconds=10**6, poll_seconds=20, sweep_seconds=100, allow=True))


def _note_every_request(env: Env, file: Path) -> None:
    """From now on this process notes each request, with the moment at which its last bytes go to the socket."""
    notes = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    this_thread = threading.local()
    send, to_socket = requests.Session.send, http.client.HTTPConnection.send

    def leaving(self: http.client.HTTPConnection, data: Any) -> None:
        this_thread.left = env.wall()
        to_socket(self, data)

    def noting(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        this_thread.left = None
        try:
            return send(self, request, **options)
        finally:
            if this_thread.left is not None:
                key, ids = request.headers.get("Idempotency-Key"), _ids_written(request.body)
                note = {"wall": this_thread.left, "key": key, "ids": ids}
                os.write(notes, json.dumps(note).encode() + b"\n")

    http.client.HTTPConnection.send = leaving  # type: ignore[method-assign]
    requests.Session.send = noting  # type: ignore[method-assign]


def _ids_written(body: str | bytes | None) -> list[str]:
    """The records that a composite call updates by their ids."""
    text = body.decode() if isinstance(body, bytes) else body or ""
    if not text.startswith("{"):
        return []
    parts = [part.get("body") or {} for part in json.loads(text).get("compositeRequest", ())]
    return [record["id"] for part in parts for record in part.get("records", ()) if "id" in record]


@dataclass
class Crew:
    """Workers under a supervisor that starts another for each that ends."""

    sandbox: SandboxHandle
    folder: Path
    url: str
    workers: list[ForkProcess] = field(default_factory=list)
    killed: int = 0
    ended_by_themselves: int = 0

    def start(self) -> None:
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(self.sandbox, self.folder, self.url), daemon=True
        )
        process.start()
        self.workers.append(process)

    def kill(self, one: ForkProcess) -> None:
        self.workers.remove(one)
        self.killed += 1
        one.kill()
        one.join()
        self.start()

    def supervise(self) -> None:
        for one in [one for one in self.workers if not one.is_alive()]:
            self.workers.remove(one)
            self.ended_by_themselves += 1
            self.start()


@contextmanager
def crew(sandbox: SandboxHandle, folder: Path, url: str) -> Iterator[Crew]:
    found = Crew(sandbox, folder, url)
    try:
        for _ in range(WORKERS):
            found.start()
        yield found
    finally:
        for one in found.workers:
            one.kill()
            one.join()


def _send(one: ForkProcess, what: signal.Signals) -> None:
    if one.is_alive() and one.pid is not None:
        os.kill(one.pid, what)


def _people(sandbox: SandboxHandle, chance: random.Random, step: int) -> None:
    """Deals are won, and customers change their names."""
    for number in range(DEALS * step // STEPS, DEALS * (step + 1) // STEPS):
        another_deal(sandbox, f"Customer {number} plc")
    for account in chance.sample(records(sandbox, "Account"), 2):
        edit(sandbox, "Account", account["Id"], Name=f"{account['Name'].partition(',')[0]}, renamed {step}")


def _wait_for_rest(ledger: Ledger, crew: Crew, seconds: float) -> None:
    """Time passes for both systems as well: what Stripe may still be at work on is waited for by their clock."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        crew.supervise()
        with ledger.read() as conn:
            if not work.status(conn, FastEnv().wall()).dirty:
                return
        crew.sandbox.control("POST", "/clock", {"advance_seconds": FASTER // 10})
        time.sleep(0.1)
    raise AssertionError("the workers did not come to rest")


@pytest.mark.slow
@pytest.mark.postgres
def test_six_workers_that_are_killed_and_frozen_lose_nothing_and_double_nothing(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    chance, url = random.Random(7), ledger_database("postgres", tmp_path)
    assert FROZEN_US > LEASE_US
    ledger = open_ledger(url)
    with crew(sandbox, tmp_path, url) as workers:
        for kind in ("drop_before", "drop_after", "stripe_503", "stripe_lock_timeout"):
            fault(sandbox, kind, side="stripe", path="^/v1/", times=10**6, probability=0.03)
        fault(sandbox, "drop_after", side="salesforce", path="composite", times=10**6, probability=0.02)
        frozen: dict[int, ForkProcess] = {}
        for step in range(STEPS):
            _people(sandbox, chance, step)
            if step % 3 == 0:
                frozen[step + FROZEN_STEPS] = chance.choice(workers.workers)
                _send(frozen[step + FROZEN_STEPS], signal.SIGSTOP)
            if step % 2 == 1:
                workers.kill(chance.choice([one for one in workers.workers if one not in frozen.values()]))
            if step in frozen:
                _send(frozen.pop(step), signal.SIGCONT)
            workers.supervise()
            time.sleep(STEP_SECONDS)
        for one in frozen.values():
            _send(one, signal.SIGCONT)
        sandbox.control("DELETE", "/faults")
        _wait_for_rest(ledger, workers, 200)
        assert (workers.killed, workers.ended_by_themselves) == (STEPS // 2, 0)
    _has_been_rough(ledger)
    _check_times_of_sending(ledger, tmp_path)
    ledger.close()
    _check(sandbox, tmp_path, url)


def _has_been_rough(ledger: Ledger) -> None:
    """Accounts changed hands while they were worked on, and sends were repeated: else the test has tested nothing."""
    with ledger.read() as conn:
        claims, accounts = conn.execute(select(func.sum(work_table.c.fence), func.count())).one()
        repeated = conn.execute(select(func.count()).select_from(attempt).where(attempt.c.number > 1)).scalar_one()
    assert accounts == DEALS + 1
    assert claims > 2 * accounts
    assert repeated > 0


def _check_times_of_sending(ledger: Ledger, folder: Path) -> None:
    """Every write left between its write-ahead and the deadline set there, whatever its worker went through."""
    times: defaultdict[str, list[int]] = defaultdict(list)
    with ledger.read() as conn:
        sent = select(attempt.c.idempotency_key, attempt.c.deadline_wall, command.c.kind, command.c.body)
        for row in conn.execute(sent.join(command, command.c.id == attempt.c.command_id)):
            times[row.idempotency_key].append(row.deadline_wall)
            if row.kind == "salesforce.update":
                times[canonical.decode(row.body)["id"]].append(row.deadline_wall)
    notes = [json.loads(line) for file in folder.glob(f"*{NOTES}") for line in file.read_text().splitlines()]
    writes = [(note, name) for note in notes for name in (*note["ids"], note["key"]) if name]
    assert len(writes) > 4 * DEALS
    for note, name in writes:
        in_time = any(end - SEND_WITHIN_US <= note["wall"] <= end for end in times[name])
        assert in_time, (name, note, times[name])
    assert {name for _, name in writes if name.startswith("sfs1:")}
    assert {name for _, name in writes if not name.startswith("sfs1:")}


def _check(sandbox: SandboxHandle, folder: Path, url: str) -> None:
    with installed(sandbox, folder, url=url) as sync:
        # The clock of the workers was ahead: what they put off is due when it has been reached.
        sync.env.ahead_us = FastEnv().wall() - SystemEnv().wall()
        sync.wait(LEASE_SECONDS)
        sync.rest()
        accounts = {account["Id"]: account for account in records(sandbox, "Account")}
        customers = records(sandbox, "customer")
        won = [deal for deal in records(sandbox, "Opportunity") if deal["StageName"] == "Closed Won"]
        assert len(won) == DEALS
        owners = {deal["AccountId"] for deal in won}
        assert Counter(customer["metadata"]["sf_account_id"] for customer in customers) == Counter(owners)
        assert {customer["name"] for customer in customers} == {accounts[owner]["Name"] for owner in owners}
        made = Counter(each["metadata"]["sf_opportunity_id"] for each in records(sandbox, "subscription"))
        assert made == Counter(deal["Id"] for deal in won)
        assert set(Counter(price["lookup_key"] for price in records(sandbox, "price")).values()) == {1}
        assert {accounts[owner]["MRR__c"] for owner in owners} == {100.0}
        sync.check_books()
        certificate = reconcile(sync.engine, allow=True)
        assert (certificate.agrees, certificate.writes, certificate.accounts) == (True, 0, DEALS)
