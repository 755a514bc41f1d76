"""Several drains at once over one ledger: nobody is served twice, nobody is left out."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.ledger import audit, work
from sync_pipeline.ledger.tables import command
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.engine.installation import installed
from sync_pipeline_tests.engine.people import another_deal, only, records, win
from sync_pipeline_tests.sandbox_process import SandboxHandle

ACCOUNTS = 30
DRAINS = 3


def _thirty_won_deals(sandbox: SandboxHandle) -> None:
    for number in range(ACCOUNTS - 1):
        another_deal(sandbox, f"Customer {number} plc")
    win_story(sandbox)


def win_story(sandbox: SandboxHandle) -> None:
    story = next(o for o in records(sandbox, "Opportunity") if o["StageName"] != "Closed Won")
    body = {"system": "salesforce", "object": "Opportunity", "id": story["Id"], "fields": {"StageName": "Closed Won"}}
    sandbox.control("POST", "/humans", body)


def _work(sandbox: SandboxHandle, folder: Path, url: str) -> None:
    """A worker in real time: leases only mean something while everybody has the same clock."""
    with installed(sandbox, folder, url=url) as sync:
        engine = replace(sync.engine, env=SystemEnv(sync.settings.clock_url))
        drain(engine, DrainPlan(linger_seconds=3, poll_seconds=1, sweep_seconds=5))


def _check(sandbox: SandboxHandle, folder: Path, url: str) -> None:
    with installed(sandbox, folder, url=url) as sync:
        sync.rest()
        accounts = records(sandbox, "Account")
        assert len(accounts) == ACCOUNTS
        owners = Counter(c["metadata"]["sf_account_id"] for c in records(sandbox, "customer"))
        assert owners == Counter({account["Id"]: 1 for account in accounts})
        deals = Counter(s["metadata"]["sf_opportunity_id"] for s in records(sandbox, "subscription"))
        assert deals == Counter({deal["Id"]: 1 for deal in records(sandbox, "Opportunity")})
        keys = Counter(price["lookup_key"] for price in records(sandbox, "price"))
        assert set(keys.values()) == {1}
        assert {account["MRR__c"] for account in accounts} == {100.0, 3750.0}
        sync.check_books()
        certificate = reconcile(sync.engine)
        assert (certificate.agrees, certificate.writes, certificate.accounts) == (True, 0, ACCOUNTS)


@pytest.mark.slow
def test_drains_in_threads_on_sqlite_share_the_work(sandbox: SandboxHandle, tmp_path: Path) -> None:
    _thirty_won_deals(sandbox)
    url = ledger_database("sqlite", tmp_path)
    failures: list[BaseException] = []

    def one() -> None:
        try:
            _work(sandbox, tmp_path, url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(DRAINS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    _check(sandbox, tmp_path, url)


@pytest.mark.slow
@pytest.mark.postgres
def test_drains_in_processes_on_postgres_share_the_work(sandbox: SandboxHandle, tmp_path: Path) -> None:
    _thirty_won_deals(sandbox)
    url = ledger_database("postgres", tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_work, args=(sandbox, tmp_path, url)) for _ in range(DRAINS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * DRAINS
    _check(sandbox, tmp_path, url)


@pytest.mark.postgres
def test_installations_that_start_together_share_one_key_for_personal_values(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """With two keys the same name would look edited to one of them."""
    url = ledger_database("postgres", tmp_path)
    keys: list[bytes] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait()
        with installed(sandbox, tmp_path, url=url) as sync:
            keys.append(sync.engine.personal_key)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_a_worker_that_was_overtaken_writes_nothing_of_its_old_view(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """Its lease ran out while it was looking; another has taken over and finished meanwhile."""
    url = ledger_database("sqlite", tmp_path)
    with installed(sandbox, tmp_path, url=url) as slow, installed(sandbox, tmp_path, url=url) as quick:
        win(sandbox)
        looked = slow.engine.stripe.catalogue

        def overtaken(*wanted: object) -> object:
            slow.engine.stripe.catalogue = looked  # type: ignore[method-assign]
            answer = looked(*wanted)  # type: ignore[arg-type]
            quick.env.sleep(130)
            quick.rest()
            return answer

        slow.engine.stripe.catalogue = overtaken  # type: ignore[method-assign, assignment]
        slow.drain()
        slow.rest()
        assert only(sandbox, "Account")["MRR__c"] == 3750.0
        assert len(records(sandbox, "customer")) == 1
        assert len(records(sandbox, "subscription")) == 1
        with slow.ledger.read() as conn:
            assert work.status(conn, slow.env.wall()).dirty == 0
            assert audit.verify(conn) == []
        assert {row.state for row in slow.rows(select(command.c.state))} <= {"done", "superseded"}
        slow.check_books()
