"""Daily tables of a company with three years behind it: always what a listing of everything says, at a fraction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.core.units import DAY_US
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.days import COLUMNS, TAKEN_AT, WHOLE_AT, Span, day_of, spans, start_of
from sync_pipeline.frames.tables import DAILY, FIRST_DAY, SNAPSHOTS
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.stripe import client, listings
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.warehouse import days
from sync_pipeline.warehouse.days import DayRead, Reader
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

START = 1_795_000_000
WEEK_US = 7 * DAY_US
MONEY = (*DAILY["invoices"], *DAILY["charges"])
works = itertools.count()


@pytest.fixture(scope="module")
def company() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "company", "--accounts", "25", "--now", str(START)) as handle:
        yield handle


@pytest.fixture(scope="module")
def beginning(company: SandboxHandle) -> object:
    return company.control("GET", "/snapshot")


@pytest.fixture
def sandbox(company: SandboxHandle, beginning: object) -> SandboxHandle:
    company.control("POST", "/snapshot", beginning)
    return company


@pytest.fixture
def stripe(sandbox: SandboxHandle, monkeypatch: pytest.MonkeyPatch) -> Stripe:
    """With short pages, so that a small company has many."""
    for module in (client, days):
        monkeypatch.setattr(module, "PAGE", 10)
    return Stripe(sandbox.ready["stripe_key"], base_url=sandbox.ready["stripe_url"])


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path)


def refresh(
    warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle, *, work: str | None = None, whole: bool = False
) -> list[DayRead]:
    now = int(sandbox.control("GET", "/clock")["now"]) * 1_000_000
    reader = Reader(warehouse, stripe, now, work or f"work {next(works)}")
    return list(reader.refresh(WEEK_US, whole=whole))


def kept(warehouse: Warehouse) -> dict[str, Any]:
    return {name: _by_id(to_records(warehouse.read(SNAPSHOTS[name]), SNAPSHOTS[name])) for name in MONEY}


def listed(stripe: Stripe) -> dict[str, Any]:
    everything = listings.everything(stripe)
    return {name: _by_id(everything[name.partition("/")[2]]) for name in MONEY}


def _by_id(records: list[Any]) -> list[Any]:
    return sorted(records, key=lambda each: each.id)


def creditable(warehouse: Warehouse) -> list[Any]:
    """The invoices of which something can be credited."""
    invoices = SNAPSHOTS["stripe/invoices"]
    found = _by_id(to_records(warehouse.read(invoices), invoices))
    return [each for each in found if each.status == "paid" and each.amount_paid > 300]


def credit(sandbox: SandboxHandle, invoice: Any) -> None:
    """Changes an invoice long after its day, in a way that a column shows."""
    people.at_stripe(sandbox, "POST", "/v1/credit_notes", invoice=invoice.id, amount=200, out_of_band_amount=200)


def test_the_first_time_reads_the_whole_history(warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle) -> None:
    refresh(warehouse, stripe, sandbox)
    found = kept(warehouse)
    assert found == listed(stripe)
    assert all(found[name] for name in MONEY if name != "stripe/refunds")
    invoices = SNAPSHOTS["stripe/invoices"]
    assert {day_of(each.created_at) for each in found["stripe/invoices"]} == set(warehouse.days(invoices))
    assert warehouse.days(SNAPSHOTS["stripe/events"])[0] > day_of((START - 30 * 86_400) * 1_000_000)


def test_changes_of_all_kinds_are_seen_without_listing_everything(
    warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle
) -> None:
    refresh(warehouse, stripe, sandbox)
    before = kept(warehouse)
    paid = next(
        each for each in before["stripe/invoice_payments"] if each.status == "paid" and each.payment.startswith("pi_")
    )
    old = creditable(warehouse)
    sandbox.control("POST", "/clock", {"advance_seconds": 5 * 86_400})
    people.at_stripe(sandbox, "POST", "/v1/refunds", payment_intent=paid.payment, amount=100)
    credit(sandbox, old[-1])
    draft = people.at_stripe(sandbox, "POST", "/v1/invoices", customer=old[0].customer)
    calls = stripe.calls
    read = refresh(warehouse, stripe, sandbox)
    incremental = stripe.calls - calls
    after = kept(warehouse)
    assert after == listed(stripe)
    assert draft["id"] in {each.id for each in after["stripe/invoices"]}
    # The days of the refunded charge and of the credited invoice lie long before the five days that have passed.
    week = day_of((START - 86_400) * 1_000_000)
    assert any(each.day < week and each.changed for each in read if each.listing == "charges")
    assert any(each.day < week and each.changed for each in read if each.listing == "invoices")
    assert len({each.day for each in read}) < 40

    people.at_stripe(sandbox, "DELETE", f"/v1/invoices/{draft['id']}")
    refresh(warehouse, stripe, sandbox)
    assert kept(warehouse) == listed(stripe)
    assert draft["id"] not in {each.id for each in kept(warehouse)["stripe/invoices"]}

    calls = stripe.calls
    refresh(warehouse, stripe, sandbox, whole=True)
    assert incremental < stripe.calls - calls


def test_our_clock_may_run_ahead_of_stripes(warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle) -> None:
    ahead = (START + 1_800) * 1_000_000
    list(Reader(warehouse, stripe, ahead, "first").refresh(WEEK_US))
    # All of it bears times at Stripe before the one that we remember.
    credit(sandbox, min(creditable(warehouse), key=lambda each: each.created_at))
    list(Reader(warehouse, stripe, ahead + 1_000_000, "second").refresh(WEEK_US))
    assert kept(warehouse) == listed(stripe)


def test_work_that_was_stopped_goes_on_and_misses_nothing(
    warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle
) -> None:
    people.fault(sandbox, "http", side="stripe", method="GET", path="/v1/invoices$", status=500, nth=3)
    with pytest.raises(ReadFailed):
        refresh(warehouse, stripe, sandbox, work="first")
    invoices = SNAPSHOTS["stripe/invoices"]
    finished = warehouse.days(invoices)
    assert finished
    assert not list(warehouse.folder.rglob("*.tmp"))
    # One of the days that are finished changes before the work goes on.
    changed = creditable(warehouse)[-1]
    sandbox.control("POST", "/clock", {"advance_seconds": 2 * 86_400})
    credit(sandbox, changed)
    read = refresh(warehouse, stripe, sandbox, work="first")
    again = [each.day for each in read if each.listing == "invoices" and each.day in finished]
    assert again == []
    # It is as old as its beginning, so the next time looks at what has changed since then.
    assert warehouse.provenance(invoices)[TAKEN_AT] == str(START * 1_000_000)
    assert changed in creditable(warehouse)
    refresh(warehouse, stripe, sandbox)
    assert kept(warehouse) == listed(stripe)
    assert changed not in creditable(warehouse)


def test_events_stay_when_stripe_has_forgotten_them(
    warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle
) -> None:
    events = SNAPSHOTS["stripe/events"]
    refresh(warehouse, stripe, sandbox)
    before = set(warehouse.read(events)["id"])
    sandbox.control("POST", "/clock", {"advance_seconds": 40 * 86_400})
    now = int(sandbox.control("GET", "/clock")["now"]) * 1_000_000
    reader = Reader(warehouse, stripe, now, "again")
    days_before = warehouse.days(events)
    assert list(reader.some("events", days_before)) == [
        DayRead("events", day, {}, changed=False) for day in reversed(days_before)
    ]
    refresh(warehouse, stripe, sandbox)
    assert before < set(warehouse.read(events)["id"])
    # So long after the last time changes alone do not do.
    assert warehouse.provenance(SNAPSHOTS["stripe/charges"])[WHOLE_AT] == str(now)
    assert kept(warehouse) == listed(stripe)


def test_a_column_of_a_new_version_is_read_for_the_whole_history(
    warehouse: Warehouse, stripe: Stripe, sandbox: SandboxHandle
) -> None:
    """A file of yesterday's version cannot know it, and an empty value would look like an answer."""
    refresh(warehouse, stripe, sandbox)
    charges = SNAPSHOTS["stripe/charges"]
    note = warehouse.provenance(charges)
    oldest = warehouse.days(charges)[0]
    frame = warehouse.scan(charges, [oldest]).collect()
    frame.drop("settled").write_parquet(warehouse.path(charges, oldest))
    assert warehouse.scan(charges, [oldest]).collect()["settled"].null_count() == frame.height
    warehouse.note(charges, {**note, COLUMNS: note[COLUMNS].replace(",settled:integer", "")})
    refresh(warehouse, stripe, sandbox)
    assert kept(warehouse) == listed(stripe)


def test_days_in_a_row_are_one_span() -> None:
    first, second, fourth = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 4)
    assert spans([fourth, first, second, first]) == [Span(fourth, fourth), Span(first, second)]
    assert spans([]) == []
    assert list(Span(first, second).newest_first()) == [second, first]
    # 2026-01-01 is 1,767,225,600 seconds after 1970.
    assert Span(first, second).since == start_of(first) == 1_767_225_600_000_000
    assert Span(first, second).until == 1_767_225_600_000_000 + 2 * DAY_US


def test_what_is_older_than_the_first_day_is_kept_under_it() -> None:
    assert day_of(1_300_000_000_000_000) == FIRST_DAY
    assert Span(FIRST_DAY, FIRST_DAY).since is None
    assert day_of(start_of(date(2026, 1, 2)) - 1) == date(2026, 1, 1)
