"""Updates that may wait go by Bulk API 2.0: whatever happens to a job, every record ends right, in the books once.

A small company is at rest; then somebody sets a wrong lifetime value on all its Accounts, and all are due.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from sync_pipeline.core.rules import Bulk, Priority
from sync_pipeline.core.units import DAY_US, MICROS
from sync_pipeline.engine import bulk_lane, drain, resolve
from sync_pipeline.engine.apply import LONGEST_CALL_US
from sync_pipeline.engine.bulk_lane import COME_BACK_US
from sync_pipeline.engine.drain import DrainPlan, DrainReport, drain_is_needed
from sync_pipeline.engine.gathering import LASTS_US
from sync_pipeline.engine.queue import claim_named
from sync_pipeline.engine.rounds import bring_to_rest
from sync_pipeline.ledger import audit, bulk_jobs, work
from sync_pipeline.ledger.tables import attempt, command
from sync_pipeline.ledger.tables import audit as audit_table
from sync_pipeline.systems.salesforce.bulk import BulkUpdate, JobInfo
from sync_pipeline_tests.engine.installation import LEASE_SECONDS, Installation, installed
from sync_pipeline_tests.engine.odd_answers import cannot_be_answered
from sync_pipeline_tests.engine.people import at_stripe, edit, fault, mark, only, records, requests_since, win
from sync_pipeline_tests.sandbox_process import ControlError, SandboxHandle, start_sandbox

ACCOUNTS = 4
RIGHT = "Lifetime_Value__c"
NO_POLLS = DrainPlan(poll_seconds=10**6, sweep_seconds=10**6, allow=True)
STUBBORN = {"object": "Account", "when": "Lifetime_Value__c = 0.5", "message": "Half a pound is nothing."}


@dataclass
class Company:
    """A company at rest: its sandbox, what that looked like, and the ledger that goes with it."""

    sandbox: SandboxHandle
    state: object
    ledger: Path
    wanted: dict[str, Any]

    @property
    def accounts(self) -> list[str]:
        return sorted(self.wanted)


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"salesforce": {"validation_rules": [STUBBORN]}}))
    with start_sandbox(
        "--data", "company", "--accounts", str(ACCOUNTS), "--settings", str(settings), "--seed", "3"
    ) as sandbox:
        with installed(sandbox, folder) as sync:
            drain.drain(sync.engine, DrainPlan(poll_seconds=0, allow=True))
        ledger = next(folder.glob("*.db"))
        yield Company(sandbox, sandbox.control("GET", "/snapshot"), ledger, _values(sandbox))


def _values(sandbox: SandboxHandle) -> dict[str, Any]:
    return {each["Id"]: each[RIGHT] for each in records(sandbox, "Account") if each["Stripe_Customer_Id__c"]}


@pytest.fixture
def company(at_rest: Company, tmp_path: Path) -> Iterator[tuple[Company, Installation]]:
    """All lifetime values are wrong, and every Account is due as after a full comparison."""
    sandbox = at_rest.sandbox
    sandbox.control("POST", "/snapshot", at_rest.state)
    sandbox.control("DELETE", "/faults")
    url = f"sqlite:///{shutil.copy(at_rest.ledger, tmp_path / 'ledger.db')}"
    with installed(sandbox, tmp_path, url=url) as sync:
        rules = replace(sync.engine.rules, bulk=Bulk(from_records=2, most_records=1_000))
        sync.engine = replace(sync.engine, rules=rules)
        for account in at_rest.accounts:
            edit(sandbox, "Account", account, Lifetime_Value__c=-1)
        with sync.ledger.tx() as conn:
            work.mark_dirty(conn, at_rest.accounts, priority=int(Priority.SWEEP), now_wall=sync.env.wall())
        yield at_rest, sync


def go(sync: Installation) -> DrainReport:
    return drain.drain(sync.engine, NO_POLLS)


def go_on(sync: Installation) -> None:
    """Drain until nothing waits and no job is open, however long that takes."""
    for _ in range(12):
        go(sync)
        with sync.ledger.read() as conn:
            if not work.status(conn, sync.env.wall()).dirty and not bulk_jobs.open_jobs(conn):
                return
        sync.wait(700)
    raise AssertionError("still not at rest")


def check(company: Company, sync: Installation) -> None:
    """Every value is right, and the books are whole: an outcome and one audit row for every attempt."""
    assert _values(company.sandbox) == company.wanted
    sync.check_books()
    settled = sync.rows(select(func.count()).where(attempt.c.outcome.is_not(None)))[0][0]
    audited = sync.rows(select(func.count()).where(audit_table.c.attempt_id.is_not(None)))[0][0]
    assert settled == audited
    with sync.ledger.read() as conn:
        assert bulk_jobs.open_jobs(conn) == []


def of_jobs(sandbox: SandboxHandle, since: int) -> list[str]:
    return [each["path"] for each in requests_since(sandbox, since, "salesforce") if "/jobs/" in each["path"]]


def test_all_go_in_one_job_and_each_has_its_outcome(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    since = mark(rest.sandbox)
    report = go(sync)
    made = [each for each in requests_since(rest.sandbox, since, "salesforce") if each["method"] == "PUT"]
    (upload,) = made
    rows = upload["body"].splitlines()
    assert rows[0] == "Id,Lifetime_Value__c"
    assert [row.partition(",")[0] for row in rows[1:]] == rest.accounts
    assert not [each for each in requests_since(rest.sandbox, since, "salesforce") if '"PATCH"' in each["body"]]
    check(rest, sync)
    assert report.total.writes == len(rest.accounts)
    jobs = {row[0] for row in sync.rows(select(attempt.c.request_id).where(attempt.c.job.is_not(None)))}
    assert len(jobs) == 1
    assert str(jobs.pop()).startswith("750")
    assert report.total.least.salesforce_writes == 1
    assert report.total.used.salesforce_writes <= 10


def test_a_job_that_comes_out_too_small_leaves_by_a_composite_call(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    rules = replace(sync.engine.rules, bulk=Bulk(from_records=ACCOUNTS))
    sync.engine = replace(sync.engine, rules=rules)
    # One of them is right again when it is looked at.
    edit(rest.sandbox, "Account", rest.accounts[0], Lifetime_Value__c=rest.wanted[rest.accounts[0]])
    since = mark(rest.sandbox)
    go(sync)
    assert of_jobs(rest.sandbox, since) == []
    check(rest, sync)


def test_below_the_threshold_nothing_gathers(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    sync.engine = replace(sync.engine, rules=replace(sync.engine.rules, bulk=Bulk(from_records=None)))
    go(sync)
    assert sync.rows(select(attempt.c.id).where(attempt.c.job.is_not(None))) == []
    check(rest, sync)


def test_a_locked_row_and_rows_that_the_job_never_reached_are_written_later(
    company: tuple[Company, Installation],
) -> None:
    rest, sync = company
    rest.sandbox.control("POST", "/salesforce", {"lock_row": rest.accounts[1], "times": 1})
    rest.sandbox.control("POST", "/salesforce", {"fail_job_after": 3})
    report = go(sync)
    assert any("ended Failed" in each for each in report.problems | report.total.problems)
    go_on(sync)
    check(rest, sync)
    outcomes = sync.rows(select(attempt.c.outcome, func.count()).where(attempt.c.job.is_not(None)).group_by("outcome"))
    assert dict(map(tuple, outcomes)) == {"done": 2, "throttled": len(rest.accounts) - 2}


def test_what_a_job_could_not_write_comes_back_together(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 records 5,000 were tried again as their results were put into the books: by handfuls, each with calls
    and with looks at Stripe of its own."""
    rest, sync = company
    monkeypatch.setattr(bulk_lane, "ROWS_PER_STEP", 1)
    for locked in rest.accounts[:2]:
        rest.sandbox.control("POST", "/salesforce", {"lock_row": locked, "times": 1})
    # So that no full minute passes while the results are put into the books.
    sync.env.sleep((COME_BACK_US - sync.env.wall() % COME_BACK_US) / MICROS)
    served: list[int] = []
    for _ in range(2):
        drain.drain(sync.engine, NO_POLLS, lambda done: served.append(done.accounts))
        sync.wait(COME_BACK_US // MICROS)
    assert list(filter(None, served)) == [len(rest.accounts), 2]
    check(rest, sync)


@pytest.mark.parametrize("locked", [0, 1])
def test_of_two_records_of_an_account_each_is_written_whichever_was_locked(
    company: tuple[Company, Installation], locked: int
) -> None:
    """What came of the last one was taken for what came of both: the other waited for the night."""
    rest, sync = company
    rules = replace(sync.engine.rules, bulk=Bulk(from_records=2, classes=frozenset({"write_back", "bulk", "sweep"})))
    sync.engine = replace(sync.engine, rules=rules)
    named = "Stripe_Subscription_Item_Id__c"
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in records(rest.sandbox, "OpportunityLineItem"):
        if line.get(named):
            lines.setdefault(line["OpportunityId"], []).append(line)
    pair = next(sorted(some, key=lambda line: line["Id"])[:2] for some in lines.values() if len(some) > 1)
    for line in pair:
        edit(rest.sandbox, "OpportunityLineItem", line["Id"], **{named: "si_wrong"})
    rest.sandbox.control("POST", "/salesforce", {"lock_row": pair[locked]["Id"], "times": 1})
    go_on(sync)
    outcomes = sync.rows(select(attempt.c.outcome).where(attempt.c.job.is_not(None), attempt.c.outcome != "done"))
    assert outcomes == [("throttled",)]
    shown = {line["Id"]: line.get(named) for line in records(rest.sandbox, "OpportunityLineItem")}
    assert [shown[line["Id"]] for line in pair] == [line[named] for line in pair]


def test_a_refused_row_is_parked_with_its_reason_and_stops_no_other(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    stubborn = rest.accounts[2]
    sync.engine.salesforce.raw = refusing(sync.engine.salesforce.raw, stubborn)  # type: ignore[method-assign]
    go(sync)
    parked = sync.rows(select(command.c.target).where(command.c.state == "parked"))
    assert [row[0] for row in parked] == [f"salesforce/Account/{stubborn}"]
    (error,) = sync.rows(select(attempt.c.error).where(attempt.c.outcome == "rejected"))
    assert "Half a pound is nothing." in error[0]
    wrong = {name for name, value in _values(rest.sandbox).items() if value != rest.wanted[name]}
    assert wrong == {stubborn}


def refusing(raw: Any, account: str) -> Any:
    """Sends a value for one Account that the org's validation rule does not take."""

    def send(operation: str, method: str, path: str, body: str | None = None, *more: str) -> Any:
        if method == "PUT" and body is not None:
            body = "\r\n".join(f"{account},0.5" if line.startswith(account) else line for line in body.split("\r\n"))
        return raw(operation, method, path, body, *more)

    return send


STEPS = ("make", "upload", "close", "look", "outcomes")


MAKE, UPLOAD, CLOSE, LOOK, RESULTS = (
    ("POST", "jobs/ingest$"),
    ("PUT", "batches$"),
    ("PATCH", "jobs/ingest/.+"),
    ("GET", "jobs/ingest/[^/]+$"),
    ("GET", "successfulResults$"),
)


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("drop_before", [MAKE, UPLOAD, CLOSE, LOOK, RESULTS]),
        ("drop_after", [MAKE, UPLOAD, CLOSE]),
        ("salesforce_503", [CLOSE, LOOK]),
        ("salesforce_expired_session", [UPLOAD, RESULTS]),
    ],
)
def test_one_fault_at_any_call_of_a_job_changes_nothing_in_the_end(
    at_rest: Company, tmp_path: Path, kind: str, chosen: list[tuple[str, str]]
) -> None:
    for number, (method, path) in enumerate(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        for rest, sync in _begun(at_rest, folder):
            fault(rest.sandbox, kind, side="salesforce", method=method, path=path)
            go_on(sync)
            assert rest.sandbox.control("GET", "/faults")["rules"][0]["hits"] == 1, (kind, path)
            check(rest, sync)
            done = sync.rows(select(func.count()).where(attempt.c.job.is_not(None), attempt.c.outcome == "done"))
            assert done[0][0] == len(rest.accounts), f"{kind} at {method} {path}"


def test_results_that_can_never_be_read_hold_no_account(company: tuple[Company, Installation]) -> None:
    """The Accounts of a job waited for its results for good. What it has written the records themselves tell."""
    rest, sync = company
    no = [{"errorCode": "NOT_FOUND", "message": "no such results"}]
    fault(rest.sandbox, "http", side="salesforce", method="GET", path=RESULTS[1], status=404, body=no, times=10**6)
    since = mark(rest.sandbox)
    go_on(sync)
    check(rest, sync)
    asked = [path for path in of_jobs(rest.sandbox, since) if path.endswith("successfulResults")]
    assert 10 < len(asked) < 100, "they may be there in a moment"


class Killed(BaseException):
    """The worker is no more."""


@pytest.mark.parametrize("after", [False, True])
def test_a_worker_that_dies_at_any_call_of_a_job_leaves_nothing_half_done(
    at_rest: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    for step in STEPS:
        folder = tmp_path / step
        folder.mkdir()
        for rest, sync in _begun(at_rest, folder):
            with monkeypatch.context() as patched:
                patched.setattr(BulkUpdate, step, dying(getattr(BulkUpdate, step), after=after))
                with pytest.raises(Killed):
                    go(sync)
            since = mark(rest.sandbox)
            assert not drain_is_needed(sync.ledger, sync.env), "its lease still holds"
            sync.wait(LEASE_SECONDS)
            assert drain_is_needed(sync.ledger, sync.env)
            go_on(sync)
            check(rest, sync)
            done = sync.rows(select(func.count()).where(attempt.c.job.is_not(None), attempt.c.outcome == "done"))
            assert done[0][0] == len(rest.accounts)
            runs = [each for each in requests_since(rest.sandbox, since) if "UploadComplete" in each["body"]]
            assert (len([e for e in runs if e["method"] == "PATCH"]) == 0) == _was_let_run(step, after=after), step


def _was_let_run(step: str, *, after: bool) -> bool:
    return step in ("look", "outcomes") or (step == "close" and after)


def dying(method: Any, *, after: bool) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        if after:
            method(*args, **options)
        raise Killed

    return call


def _begun(at_rest: Company, folder: Path) -> Iterator[tuple[Company, Installation]]:
    yield from company.__wrapped__(at_rest, folder)  # type: ignore[attr-defined]


def test_whoever_is_looked_at_again_before_the_job_leaves_is_taken_out_of_it(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, sync = company
    early = rest.accounts[-1]
    with monkeypatch.context() as patched:
        patched.setattr(bulk_lane.BulkLane, "step", lambda self, idle: None)
        go(sync)
    gathered = sync.rows(select(func.count()).where(attempt.c.job.is_not(None), attempt.c.outcome.is_(None)))[0][0]
    assert gathered == len(rest.accounts)
    with sync.ledger.tx() as conn:
        work.mark_dirty(conn, [early], priority=int(Priority.CREATE), now_wall=sync.env.wall())
    since = mark(rest.sandbox)
    go(sync)
    uploads = [each["body"] for each in requests_since(rest.sandbox, since) if each["method"] == "PUT"]
    assert len(uploads) == 1
    assert early not in uploads[0]
    check(rest, sync)


def test_nothing_of_a_job_leaves_after_its_deadline(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers were gone for more than an hour: what gathered is looked at anew, and written then."""
    rest, sync = company
    with monkeypatch.context() as patched:
        patched.setattr(bulk_lane.BulkLane, "step", lambda self, idle: None)
        go(sync)
    sync.env.sleep(LASTS_US / 1_000_000 + 1)
    since = mark(rest.sandbox)
    go_on(sync)
    assert of_jobs(rest.sandbox, since) == []
    check(rest, sync)


def test_a_failed_payment_is_told_while_a_job_is_under_way(company: tuple[Company, Installation]) -> None:
    rest, sync = company
    urgent = rest.accounts[0]
    looks = []
    watch = BulkUpdate.look

    def looking(self: BulkUpdate, job_id: str) -> Any:
        info = watch(self, job_id)
        looks.append((info.state if info else None, sync.env.wall()))
        if len(looks) == 1:
            with sync.ledger.tx() as conn:
                work.mark_dirty(conn, [urgent], priority=int(Priority.PAYMENT_FAILED), now_wall=sync.env.wall())
        return info

    order: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BulkUpdate, "look", looking)
        drain.drain(sync.engine, NO_POLLS, lambda done: order.append((done.accounts, done.writes)))
    assert looks[0][0] in ("UploadComplete", "InProgress")
    assert order[:2] == [(len(rest.accounts), 0), (1, 0)], "the wave is looked at, then the urgent one"
    assert (0, len(rest.accounts)) in order[2:], "the job is settled after that"
    go_on(sync)
    check(rest, sync)


def while_a_job_runs(sync: Installation, meanwhile: Callable[[], list[str]]) -> list[str]:
    """Drains, and when the job is first looked at somebody else does something. Returns what came of that."""
    found: list[list[str]] = []
    look = BulkUpdate.look

    def interrupted(self: BulkUpdate, job_id: str) -> JobInfo | None:
        info = look(self, job_id)
        if not found:
            assert info is not None
            assert not info.ended
            found.append(meanwhile())
        return info

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BulkUpdate, "look", interrupted)
        go(sync)
    return found[0]


def another_worker(sync: Installation, account: str, priority: Priority) -> list[str]:
    """A worker of its own, in another process as far as it knows, serves one account; the objects that it wrote to."""
    rest = sync.sandbox
    with sync.ledger.tx() as conn:
        work.mark_dirty(conn, [account], priority=int(priority), now_wall=sync.env.wall())
    since = mark(rest)
    folder = Path(str(sync.ledger.engine.url.database)).parent
    with installed(rest, folder, url=str(sync.ledger.engine.url)) as other:
        other.env.ahead_us = sync.env.ahead_us
        claims = claim_named(other.engine, "another", [account], priority)
        bring_to_rest(other.engine, claims, owner="another")
    sent = [each for each in requests_since(rest, since, "salesforce") if "compositeRequest" in each["body"]]
    parts = [part for each in sent for part in json.loads(each["body"])["compositeRequest"] if "body" in part]
    return sorted(row["attributes"]["type"] for part in parts for row in part["body"]["records"])


def deal_of(sandbox: SandboxHandle, account: str) -> str:
    deals = [each for each in records(sandbox, "Opportunity") if each["AccountId"] == account]
    return str(next(each["Id"] for each in deals if each.get("Billing_Status__c")))


def test_nothing_else_is_written_under_an_account_while_a_job_has_it(company: tuple[Company, Installation]) -> None:
    """The job sets a value of the Account; another worker would set one of its Opportunity, and both lock the Account.
    As soon as the job is over it is written, and not half an hour later."""
    rest, sync = company
    account = rest.accounts[0]
    deal = deal_of(rest.sandbox, account)
    right = next(each["Billing_Status__c"] for each in records(rest.sandbox, "Opportunity") if each["Id"] == deal)

    def somebody_edits() -> list[str]:
        edit(rest.sandbox, "Opportunity", deal, Billing_Status__c=None)
        return another_worker(sync, account, Priority.CREATE)

    assert while_a_job_runs(sync, somebody_edits) == []
    assert next(e for e in records(rest.sandbox, "Opportunity") if e["Id"] == deal)["Billing_Status__c"] == right
    check(rest, sync)


def test_the_task_of_a_failed_payment_does_not_wait_for_a_job_that_has_its_account(
    company: tuple[Company, Installation],
) -> None:
    rest, sync = company
    account = next(each for each in records(rest.sandbox, "Account") if each["Id"] == rest.accounts[0])
    before = len(records(rest.sandbox, "Task"))

    def a_payment_fails() -> list[str]:
        customer = account["Stripe_Customer_Id__c"]
        card = at_stripe(
            rest.sandbox, "POST", "/v1/payment_methods/pm_card_chargeCustomerFail/attach", customer=customer
        )
        at_stripe(rest.sandbox, "POST", "/v1/invoiceitems", customer=customer, amount=1000, currency="gbp")
        paid = {"collection_method": "charge_automatically", "default_payment_method": card["id"]}
        invoice = at_stripe(
            rest.sandbox, "POST", "/v1/invoices", customer=customer, pending_invoice_items_behavior="include", **paid
        )
        at_stripe(rest.sandbox, "POST", f"/v1/invoices/{invoice['id']}/finalize")
        with pytest.raises(ControlError, match="declined"):
            at_stripe(rest.sandbox, "POST", f"/v1/invoices/{invoice['id']}/pay")
        return another_worker(sync, account["Id"], Priority.PAYMENT_FAILED)

    assert while_a_job_runs(sync, a_payment_fails) == ["Stripe_Payment_Attempt__c", "Task"]
    assert len(records(rest.sandbox, "Task")) == before + 1
    check(rest, sync)


def test_what_sales_edits_as_well_joins_no_job(sync: Installation) -> None:
    """A job runs for minutes: the forecast of a renewal that sales entered meanwhile would be lost."""
    win(sync.sandbox)
    sync.rest()
    sync.wait(330 * DAY_US // MICROS)
    sync.rest()
    everything = Bulk(from_records=1, classes=frozenset({"write_back", "bulk", "sweep"}))
    sync.engine = replace(sync.engine, rules=replace(sync.engine.rules, bulk=everything))
    (item,) = (each for each in only(sync.sandbox, "subscription")["items"]["data"] if each["quantity"] == 20)
    at_stripe(sync.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=30)
    (line,) = (each for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600)
    edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=30, UnitPrice=600)
    sync.wait(60)
    sync.drain()
    gathered = select(attempt.c.command_id).where(attempt.c.job.is_not(None))
    joined = sync.rows(select(command.c.body).where(command.c.id.in_(gathered)))
    assert [row.body for row in joined if "MRR__c" in row.body]
    assert not [row.body for row in joined if "Amount" in row.body]
    (renewal,) = (each for each in records(sync.sandbox, "Opportunity") if each.get("Stripe_Renewal_Key__c"))
    assert renewal["Amount"] == 51_000


def test_a_job_leaves_when_no_other_call_for_its_accounts_is_in_flight(company: tuple[Company, Installation]) -> None:
    """Another worker has written ahead, for an account of the job, what it sends now; then it dies."""
    rest, sync = company
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulk_lane.BulkLane, "step", lambda self, idle: None)
        go(sync)
    deal = deal_of(rest.sandbox, rest.accounts[0])
    edit(rest.sandbox, "Opportunity", deal, Billing_Status__c=None)
    claims = claim_named(sync.engine, "another", [rest.accounts[0]], Priority.CREATE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resolve, "_taken_out", lambda *_: True)
        patched.setattr(sync.engine.salesforce, "send", dying(None, after=False))
        with pytest.raises(Killed):
            bring_to_rest(sync.engine, claims, owner="another")
    since = mark(rest.sandbox)
    started = sync.env.wall()
    lane = bulk_lane.BulkLane(sync.engine, "me")
    while not of_jobs(rest.sandbox, since):
        assert lane.step(idle=True) is not None
        sync.env.sleep(1)
    assert sync.env.wall() - started > LONGEST_CALL_US, "its call may be on its way until then"
    sync.wait(LEASE_SECONDS)
    go_on(sync)
    check(rest, sync)


def test_a_defect_where_the_results_of_one_account_are_written_down_stops_nobody_else(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job stayed under way for ever and held all its Accounts, and every drain died of it."""
    rest, sync = company
    broken, *others = rest.accounts
    cannot_be_answered(monkeypatch, broken)
    problems: set[str] = set()
    for _ in range(4):
        problems |= go(sync).total.problems
        sync.wait(700)
    assert any(f"Account {broken} cannot be served" in problem for problem in problems)
    with sync.ledger.read() as conn:
        assert bulk_jobs.open_jobs(conn) == []
    done = select(command.c.account).join(attempt, attempt.c.command_id == command.c.id)
    settled = sync.rows(done.where(attempt.c.job.is_not(None), attempt.c.outcome == "done"))
    assert {account for (account,) in settled} == set(others)
    monkeypatch.undo()
    go_on(sync)
    check(rest, sync)


def test_the_accounts_of_a_job_are_locked_before_their_audit(
    company: tuple[Company, Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everybody else does: in the other order two workers on Postgres waited for each other."""
    _, sync = company
    locked: list[str] = []
    wake, append = work.wake, audit.append

    def woken(conn: Connection, accounts: Iterable[str], *, now_wall: int) -> None:
        locked.append("work")
        wake(conn, accounts, now_wall=now_wall)

    def appended(conn: Connection, **row: Any) -> None:
        locked.append("audit")
        append(conn, **row)

    monkeypatch.setattr(work, "wake", woken)
    monkeypatch.setattr(audit, "append", appended)
    go_on(sync)
    assert (locked[0], len(locked)) == ("work", 1 + ACCOUNTS)
