"""Many due accounts are read from Stripe's whole lists where that takes fewer calls, and see the same there.

A company of a dozen accounts stands for a large one: what counts as few, and as one batch, is made smaller for it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import drain as drains
from sync_pipeline.engine import lists, queue
from sync_pipeline.engine.drain import DrainPlan
from sync_pipeline.engine.intake import receive
from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.engine.lists import CALLS_PER_CUSTOMER, FRESH_US, Lists, most_pages
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.ledger import cursors, work
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.stripe.events import hint
from sync_pipeline.systems.stripe.holdings import LISTS
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import at_stripe, edit, fault, mark, records, requests_since
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

ACCOUNTS = 12
BATCH = 7
ME = "me"
NO_POLLS = DrainPlan(poll_seconds=10**6, sweep_seconds=10**6, allow=True)
SINGLE, ALL = "GET /v1/customers/{id}", "GET /v1/customers"


def test_lists_are_read_where_they_take_fewer_calls_than_single_looks() -> None:
    """A customer is one call and four lists, so a thousand are 5,000 calls."""
    assert CALLS_PER_CUSTOMER == 5
    assert most_pages(1_000, known=4_999) == 5_000
    assert most_pages(1_000, known=5_000) == 0
    assert most_pages(1_000, known=None) == 2_500


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6))
def test_lists_never_cost_more_than_half_as_much_again(customers: int, known: int | None) -> None:
    """Also where they turn out to be longer: those who knew their length would have read them for no more than that."""
    one_by_one, most = customers * 5, most_pages(customers, known)
    assert most <= one_by_one
    assert (most > 0) == (one_by_one > 1 if known is None else known < one_by_one)
    if known is None:
        assert most + one_by_one <= one_by_one * 1.5


@dataclass
class Company:
    sandbox: SandboxHandle
    state: object
    ledger: Path
    billed: list[str]


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """A company that has been compared: the ledger knows how long Stripe's lists are."""
    folder = tmp_path_factory.mktemp("company")
    with start_sandbox("--data", "company", "--accounts", str(ACCOUNTS), "--seed", "3") as sandbox:
        with installed(sandbox, folder) as sync:
            drains.drain(sync.engine, DrainPlan(poll_seconds=0, allow=True))
            assert reconcile(sync.engine).agrees
        billed = sorted(each["Id"] for each in records(sandbox, "Account") if each.get("Stripe_Customer_Id__c"))
        assert BATCH < len(billed) < 2 * BATCH
        yield Company(sandbox, sandbox.control("GET", "/snapshot"), next(folder.glob("*.db")), billed)


@pytest.fixture
def company(
    at_rest: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Company, Installation]]:
    at_rest.sandbox.control("POST", "/snapshot", at_rest.state)
    at_rest.sandbox.control("DELETE", "/faults")
    monkeypatch.setattr(lists, "FEW", 2)
    monkeypatch.setattr(lists, "SHORT", 0)
    monkeypatch.setattr(queue, "AT_MOST", BATCH)
    url = f"sqlite:///{shutil.copy(at_rest.ledger, tmp_path / 'ledger.db')}"
    with installed(at_rest.sandbox, tmp_path, url=url) as sync:
        yield at_rest, sync


def due(sync: Installation, accounts: list[str]) -> None:
    with sync.ledger.tx() as conn:
        work.mark_dirty(conn, accounts, priority=int(Priority.BULK), now_wall=sync.env.wall())


def to_stripe(sandbox: SandboxHandle, since: int) -> Counter[str]:
    return Counter(each["endpoint"] for each in requests_since(sandbox, since, "stripe"))


def customer_of(sandbox: SandboxHandle, account: str) -> str:
    (found,) = (each.get("Stripe_Customer_Id__c") for each in records(sandbox, "Account") if each["Id"] == account)
    return str(found)


def test_a_world_is_the_same_from_lists_and_from_single_looks(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    gone = rest.billed[0]
    at_stripe(rest.sandbox, "DELETE", f"/v1/customers/{customer_of(rest.sandbox, gone)}")
    since = mark(rest.sandbox)
    listed = lists.by_cost(sync.engine, rest.billed)
    asked = to_stripe(rest.sandbox, since)
    assert listed.keys() == set(rest.billed)
    assert asked[ALL] == asked["GET /v1/subscriptions"] == 1
    since = mark(rest.sandbox)
    from_lists = observe(sync.engine, rest.billed, listed=listed)
    assert to_stripe(rest.sandbox, since)[SINGLE] == 1, "that it is in no list proves nothing: it is looked at"
    assert {name: replace(world, now=0) for name, world in from_lists.items()} == {
        name: replace(world, now=0) for name, world in observe(sync.engine, rest.billed).items()
    }


def test_one_reading_of_the_lists_serves_all_that_is_due_however_many_batches_that_takes(
    company: tuple[Company, Installation],
) -> None:
    rest, sync = company
    for account in rest.billed:
        edit(rest.sandbox, "Account", account, Lifetime_Value__c=-1)
    due(sync, rest.billed)
    since = mark(rest.sandbox)
    report = drains.drain(sync.engine, NO_POLLS)
    asked = to_stripe(rest.sandbox, since)
    assert report.batches == 2
    assert report.total.writes == len(rest.billed)
    assert asked[SINGLE] == 0
    assert asked[ALL] == asked["GET /v1/subscriptions"] == asked["GET /v1/subscription_schedules"] == 1
    pages = sum(asked.values())
    assert pages < len(rest.billed) * CALLS_PER_CUSTOMER
    assert report.total.used.stripe_reads == pages
    certificate = reconcile(sync.engine)
    assert (certificate.agrees, certificate.writes) == (True, 0)


def test_few_are_looked_at_one_by_one_and_so_are_many_where_the_lists_are_longer(
    company: tuple[Company, Installation],
) -> None:
    rest, sync = company
    due(sync, rest.billed[:2])
    since = mark(rest.sandbox)
    drains.drain(sync.engine, NO_POLLS)
    assert to_stripe(rest.sandbox, since)[SINGLE] == 2
    with sync.ledger.tx() as conn:
        cursors.put(conn, lists.PAGES, str(10**6), 0)
    due(sync, rest.billed)
    since = mark(rest.sandbox)
    drains.drain(sync.engine, NO_POLLS)
    asked = to_stripe(rest.sandbox, since)
    assert (asked[SINGLE], asked[ALL]) == (len(rest.billed), 0)


def test_few_are_read_from_lists_as_well_where_those_are_short(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, sync = company
    monkeypatch.setattr(lists, "FEW", BATCH)
    monkeypatch.setattr(lists, "SHORT", BATCH * CALLS_PER_CUSTOMER - 1)
    with sync.ledger.tx() as conn:
        cursors.put(conn, lists.PAGES, str(lists.SHORT), 0)
    due(sync, rest.billed[:BATCH])
    since = mark(rest.sandbox)
    drains.drain(sync.engine, NO_POLLS)
    asked = to_stripe(rest.sandbox, since)
    assert (asked[SINGLE], asked[ALL]) == (0, 1)


def test_the_first_look_at_a_company_reads_lists(company: tuple[Company, Installation], tmp_path_factory: Any) -> None:
    """No customer is linked yet: which ones there are stands in the Accounts, for those too whose batch comes later."""
    rest, _ = company
    with installed(rest.sandbox, tmp_path_factory.mktemp("first")) as sync:
        since = mark(rest.sandbox)
        report = drains.drain(sync.engine, DrainPlan(poll_seconds=0, sweep_seconds=10**6, allow=True))
        asked = to_stripe(rest.sandbox, since)
        assert report.total.accounts >= ACCOUNTS > BATCH
        assert (asked[SINGLE], asked[ALL]) == (0, 1)
        assert sum(asked.values()) < BATCH * CALLS_PER_CUSTOMER
        assert reconcile(sync.engine).agrees


def test_what_has_failed_together_comes_back_together_and_shares_its_lists_again(
    company: tuple[Company, Installation],
) -> None:
    """Salesforce cannot be read for a moment: all accounts wait, for as long as each other."""
    rest, sync = company
    for account in rest.billed:
        edit(rest.sandbox, "Account", account, Lifetime_Value__c=-1)
    due(sync, rest.billed[:BATCH])
    fault(rest.sandbox, "salesforce_503", side="salesforce", path="composite")
    since = mark(rest.sandbox)
    served: list[int] = []
    while not sum(served[1:]):
        drains.drain(sync.engine, NO_POLLS, lambda done: served.append(done.accounts))
        sync.wait(3)
    asked = to_stripe(rest.sandbox, since)
    assert served[:2] == [BATCH, BATCH]
    assert (asked[SINGLE], asked[ALL]) == (0, 2)


def test_whoever_does_not_know_how_long_the_lists_are_finds_it_out_and_remembers(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, sync = company
    monkeypatch.setattr("sync_pipeline.systems.stripe.client.PAGE", 1)
    with sync.ledger.tx() as conn:
        cursors.put(conn, lists.PAGES, "1", 0)
    since = mark(rest.sandbox)
    assert lists.by_cost(sync.engine, rest.billed) == {}
    given_up = sum(to_stripe(rest.sandbox, since).values())
    assert given_up == len(rest.billed) * CALLS_PER_CUSTOMER
    with sync.ledger.read() as conn:
        assert cursors.get(conn, lists.PAGES) == str(given_up)
    since = mark(rest.sandbox)
    assert lists.by_cost(sync.engine, rest.billed) == {}
    assert not to_stripe(rest.sandbox, since)


def test_what_is_heard_of_after_the_reading_is_looked_at(company: tuple[Company, Installation]) -> None:
    """Between two batches a customer cancels: its event makes the reading worth nothing for its account."""
    rest, sync = company
    due(sync, rest.billed)
    late = max(rest.billed)
    customer = customer_of(rest.sandbox, late)
    batches: list[int] = []

    def change(_: object) -> None:
        if not batches:
            at_stripe(rest.sandbox, "POST", f"/v1/customers/{customer}", name="Renamed at Stripe Ltd")
            event = next(each for each in sync.engine.stripe.events_since(0) if each["type"] == "customer.updated")
            assert receive(sync.ledger, [hint(event)], sync.env) == 1
        batches.append(mark(rest.sandbox))

    drains.drain(sync.engine, NO_POLLS, change)
    asked = [each for each in requests_since(rest.sandbox, batches[0], "stripe") if each["endpoint"] == SINGLE]
    assert {each["path"] for each in asked} == {f"/v1/customers/{customer}"}
    # The name is Salesforce's: it is put back, which shows that the change was seen.
    names = {each["id"]: each["name"] for each in records(rest.sandbox, "customer")}
    assert names[customer] == next(a["Name"] for a in records(rest.sandbox, "Account") if a["Id"] == late)


def test_own_writes_are_read_back_and_nothing_is_written_to_stripe_from_an_old_reading(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, sync = company
    for account in rest.billed:
        edit(rest.sandbox, "Account", account, Name=f"Renamed {account}")
    due(sync, rest.billed)
    page = type(sync.engine.stripe).page

    def slow(*args: Any, **params: Any) -> Any:
        if "customer" not in params:
            sync.env.sleep(FRESH_US / 1_000_000)
        return page(*args, **params)

    monkeypatch.setattr(type(sync.engine.stripe), "page", slow)
    since = mark(rest.sandbox)
    drains.drain(sync.engine, NO_POLLS)
    entries = requests_since(rest.sandbox, since, "stripe")
    for account in rest.billed:
        path = f"/v1/customers/{customer_of(rest.sandbox, account)}"
        kinds = [each["method"] for each in entries if each["path"] == path]
        assert kinds[:2] == ["GET", "POST"], "it is looked at before it is written to"
    assert reconcile(sync.engine).writes == 0


def test_claims_outlast_the_reading_of_long_lists(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page takes half a lease, and another worker looks for work meanwhile."""
    rest, sync = company
    for account in rest.billed:
        edit(rest.sandbox, "Account", account, Lifetime_Value__c=-1)
    due(sync, rest.billed)
    page, taken = type(sync.engine.stripe).page, []

    def slow(*args: Any, **params: Any) -> Any:
        sync.env.sleep(LEASE_US / 2_000_000)
        with sync.ledger.read() as conn:
            leased = work.status(conn, sync.env.wall()).leased
        taken.append(leased)
        return page(*args, **params)

    monkeypatch.setattr(type(sync.engine.stripe), "page", slow)
    report = drains.drain(sync.engine, NO_POLLS)
    assert len(taken) >= len(LISTS)
    assert set(taken) == {BATCH}
    assert report.total.writes == len(rest.billed)


def test_a_page_that_fails_is_asked_for_again_and_lists_that_fail_leave_nobody_unknown(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, sync = company
    fault(rest.sandbox, "stripe_503", side="stripe", path="^/v1/invoices$")
    due(sync, rest.billed)
    since = mark(rest.sandbox)
    report = drains.drain(sync.engine, NO_POLLS)
    assert to_stripe(rest.sandbox, since)[SINGLE] == 0
    assert (report.total.settled + report.total.resting, report.total.problems) == (len(rest.billed), set())

    def down(*_: Any, **__: Any) -> Any:
        raise ReadFailed("Stripe", "it is down")

    due(sync, rest.billed)
    since = mark(rest.sandbox)
    with monkeypatch.context() as failing:
        failing.setattr(sync.engine.stripe, "page", down)
        with sync.ledger.tx() as conn:
            claims = work.claim(conn, owner=ME, limit=BATCH, now_wall=sync.env.wall(), lease_us=LEASE_US)
        mine = Lists(sync.engine)
        assert mine.of(claims, lambda: None) == {}
    assert mine.of(claims, lambda: None) == {}, "and not again for a while"
    assert not to_stripe(rest.sandbox, since)


def test_a_reading_serves_nobody_whom_another_worker_has_had_since(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    due(sync, rest.billed)
    mine = Lists(sync.engine, lambda conn, wall: 1)
    with sync.ledger.tx() as conn:
        first = work.claim(conn, owner=ME, limit=BATCH, now_wall=sync.env.wall(), lease_us=LEASE_US)
    assert mine.of(first, lambda: None).keys() == {claim.account for claim in first}
    left = len(rest.billed) - BATCH
    for owner in ("another", ME):
        with sync.ledger.tx() as conn:
            claims = work.claim(conn, owner=owner, limit=1, now_wall=sync.env.wall(), lease_us=LEASE_US)
        if owner == "another":
            with sync.ledger.tx() as conn:
                work.defer(conn, claims[0], due_at_wall=sync.env.wall() - 10**9, now_wall=sync.env.wall())
    assert mine.of(claims, lambda: None) == {}
    with sync.ledger.tx() as conn:
        rest_of_them = work.claim(conn, owner=ME, limit=99, now_wall=sync.env.wall(), lease_us=LEASE_US)
    assert len(rest_of_them) == left - 1
    since = mark(rest.sandbox)
    assert len(mine.of(rest_of_them, lambda: None)) == left - 1
    assert not to_stripe(rest.sandbox, since)
    assert mine.of(rest_of_them[:2], lambda: None) == {}, "a second look is a look of its own"
