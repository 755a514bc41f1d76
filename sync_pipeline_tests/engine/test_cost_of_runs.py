"""Every run says how many calls it took, the least that would have done, and the ratio; over real HTTP.

The calls are counted from outside as well: by the sandbox, which got them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import drain as drains
from sync_pipeline.engine.by_name import look_at
from sync_pipeline.engine.certificate_text import as_data, as_text
from sync_pipeline.engine.cost import Calls, Cost
from sync_pipeline.engine.drain import DrainPlan
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.rounds import BatchReport
from sync_pipeline.ledger import work
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import edit, fault, hits, is_write, mark, records, requests_since
from sync_pipeline_tests.sandbox_process import start_sandbox

ACCOUNTS = 12
NO_POLLS = DrainPlan(poll_seconds=10**6, sweep_seconds=10**6, allow=True)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A company at rest."""
    with (
        start_sandbox("--data", "company", "--accounts", str(ACCOUNTS), "--seed", "3") as sandbox,
        installed(sandbox, tmp_path_factory.mktemp("company")) as sync,
    ):
        drains.drain(sync.engine, DrainPlan(poll_seconds=0, allow=True))
        yield sync


def billed(sync: Installation) -> list[str]:
    return sorted(each["Id"] for each in records(sync.sandbox, "Account") if each.get("Stripe_Customer_Id__c"))


def everybody_changes(sync: Installation, form: str) -> list[str]:
    """Every Account gets another name, which is Stripe's to learn, and a wrong figure, which is Salesforce's."""
    accounts = billed(sync)
    for account in accounts:
        edit(sync.sandbox, "Account", account, Name=f"{form} {account}", Lifetime_Value__c=-1)
    return accounts


def seen_from_outside(sync: Installation, since: int) -> Calls:
    found = Calls()
    for entry in requests_since(sync.sandbox, since):
        system, way = entry["side"], "writes" if is_write(entry) else "reads"
        found += Calls(**{f"{system}_{way}": 1})
    return found


def drained(sync: Installation) -> BatchReport:
    """Drains until nobody waits, as long as that takes; the sum."""
    total = BatchReport()
    for _ in range(60):
        total.add(drains.drain(sync.engine, NO_POLLS).total)
        with sync.ledger.read() as conn:
            if not work.status(conn, sync.env.wall()).dirty:
                return total
        sync.wait(700)
    raise AssertionError("still not at rest")


def test_a_drain_of_many_accounts_makes_no_write_too_many(company: Installation) -> None:
    accounts = everybody_changes(company, "First")
    with company.ledger.tx() as conn:
        work.mark_dirty(conn, accounts, priority=int(Priority.CREATE), now_wall=company.env.wall())
    since = mark(company.sandbox)
    report = drained(company)
    told = report.cost.report()
    assert report.used == seen_from_outside(company, since)
    assert (told["stripe_writes_calls"], told["stripe_writes_ratio"]) == (len(accounts), 1.0)
    assert (told["salesforce_writes_calls"], told["salesforce_writes_least"]) == (1, 1)
    assert told["salesforce_writes_ratio"] <= 1.1
    assert told["stripe_reads_ratio"] >= 1
    assert told["salesforce_reads_ratio"] >= 1


def test_with_faults_the_ratio_is_told_as_well_and_is_more(company: Installation) -> None:
    accounts = everybody_changes(company, "Second")
    for number, kind in enumerate(("stripe_503", "drop_before", "drop_after")):
        fault(company.sandbox, kind, side="stripe", path="^/v1/", times=10**6, probability=0.05, seed=number)
    fault(company.sandbox, "salesforce_503", side="salesforce", path="composite", nth=2)
    with company.ledger.tx() as conn:
        work.mark_dirty(conn, accounts, priority=int(Priority.CREATE), now_wall=company.env.wall())
    since = mark(company.sandbox)
    report = drained(company)
    assert hits(company.sandbox) > 3
    company.sandbox.control("DELETE", "/faults")
    told = report.cost.report()
    assert report.used == seen_from_outside(company, since)
    ratios = {name: value for name, value in told.items() if name.endswith("_ratio")}
    assert len(ratios) == 4
    assert told["stripe_writes_calls"] >= len(accounts)
    assert max(ratios.values()) > 1
    assert reconcile(company.engine).agrees


def test_a_reconcile_says_what_all_of_it_cost(company: Installation) -> None:
    accounts = everybody_changes(company, "Third")
    since = mark(company.sandbox)
    certificate = reconcile(company.engine, allow=True)
    assert certificate.cost.used == seen_from_outside(company, since)
    told = as_data(certificate)["calls"]
    assert (told["stripe_writes_calls"], told["stripe_writes_ratio"]) == (len(accounts), 1.0)
    assert told["salesforce_writes_ratio"] <= 1.1
    assert f"{len(accounts)} Stripe writes (at least {len(accounts)}, ratio 1.00)" in as_text(certificate)
    since = mark(company.sandbox)
    again = reconcile(company.engine)
    cost = again.cost.report()
    assert (again.writes, cost["stripe_writes_calls"], cost["salesforce_writes_calls"]) == (0, 0, 0)
    assert again.cost.used == seen_from_outside(company, since)
    # Ten lists with a page each, and seven objects in one call of five queries and one of two.
    assert (cost["stripe_reads_ratio"], cost["salesforce_reads_calls"]) == (1.0, 2)


def test_a_look_that_a_person_asks_for_says_what_it_cost(company: Installation) -> None:
    account = billed(company)[0]
    edit(company.sandbox, "Account", account, MRR__c=1)
    since = mark(company.sandbox)
    report = look_at(company.engine, [account], allow=True)
    outside = seen_from_outside(company, since)
    assert report.used.salesforce_writes == outside.salesforce_writes == 1
    assert report.used.stripe_reads == outside.stripe_reads
    assert report.cost.report()["salesforce_writes_ratio"] == 1.0


def test_the_cost_in_words() -> None:
    cost = Cost(Calls(salesforce_writes=3, stripe_reads=4), Calls(salesforce_writes=2))
    assert cost.in_words() == "calls: 3 Salesforce writes (at least 2, ratio 1.50), 4 Stripe reads (at least 0)"
    assert Cost().in_words() == "calls: none"
