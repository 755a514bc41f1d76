"""Tables of Salesforce brought up to date by SystemModstamp: always what a listing of everything says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.config.rules import load_rules
from sync_pipeline.core.rules import Names
from sync_pipeline.core.units import DAY_US
from sync_pipeline.engine.snapshot import SALESFORCE_OBJECTS
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.days import TAKEN_AT, WHOLE_AT
from sync_pipeline.frames.quarantine import quarantine_of, set_aside
from sync_pipeline.frames.rows import QuarantinedRow
from sync_pipeline.frames.tables import SNAPSHOTS
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline.warehouse.salesforce import refresh
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

START = 1_795_000_000
WEEK_US = 7 * DAY_US


@pytest.fixture(scope="module")
def company() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "company", "--accounts", "12", "--now", str(START)) as handle:
        yield handle


@pytest.fixture
def salesforce(company: SandboxHandle) -> Salesforce:
    return connected(company, load_rules().salesforce)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path)


def connected(sandbox: SandboxHandle, names: Any) -> Salesforce:
    login = Login(
        domain="sandbox.my",
        client_id=sandbox.ready["client_id"],
        client_secret=sandbox.ready["client_secret"],
        base_url=sandbox.ready["salesforce_url"],
    )
    return Salesforce(login, names)


def bring(warehouse: Warehouse, salesforce: Salesforce, sandbox: SandboxHandle, *, whole: bool = False) -> int:
    """Refreshes all tables; how many rows were read for those of SALESFORCE_OBJECTS."""
    now = int(sandbox.control("GET", "/clock")["now"]) * 1_000_000
    read = 0
    for each in refresh(warehouse, salesforce, now, WEEK_US, whole=whole):
        frame, aside = set_aside(each.frame, each.table)
        warehouse.write(quarantine_of(each.table), aside.vstack(each.rejected), {})
        warehouse.write(each.table, frame, each.provenance)
        read += each.rows_read
    return read


def kept(warehouse: Warehouse) -> dict[str, Any]:
    return {name: _by_id(to_records(warehouse.read(SNAPSHOTS[name]), SNAPSHOTS[name])) for name in SALESFORCE_OBJECTS}


def listed(salesforce: Salesforce) -> dict[str, Any]:
    return {name: _by_id(salesforce.everything(kind)) for name, kind in SALESFORCE_OBJECTS.items()}


def _by_id(records: Any) -> list[Any]:
    return sorted(records, key=lambda each: each.id)


def test_edits_new_records_deletions_and_merges_are_seen_by_their_stamp(
    company: SandboxHandle, warehouse: Warehouse, salesforce: Salesforce
) -> None:
    everything = bring(warehouse, salesforce, company)
    assert kept(warehouse) == listed(salesforce)
    # The company's own records were all made in its last hour, so they are read twice.
    for _ in range(2):
        company.control("POST", "/clock", {"advance_seconds": 86_400})
        bring(warehouse, salesforce, company)
    accounts, deals = kept(warehouse)["salesforce/accounts"], kept(warehouse)["salesforce/opportunities"]
    lines = kept(warehouse)["salesforce/opportunity_line_items"]
    loser, winner, edited = accounts[0].id, accounts[1].id, accounts[2].id
    assert any(each.account_id == loser for each in deals)
    merge = {"loser": loser, "winner": winner}
    company.control("POST", "/humans", {"system": "salesforce", "object": "Account", "merge": merge})
    people.edit(company, "Account", edited, Name="Renamed Ltd")
    made = people.create(company, "Account", Name="New Ltd")
    gone = next(each for each in deals if each.account_id not in (loser, winner))
    people.delete(company, "Opportunity", gone.id)
    line = next(each for each in lines if each.opportunity_id != gone.id)
    people.delete(company, "OpportunityLineItem", line.id)

    read = bring(warehouse, salesforce, company)
    found = kept(warehouse)
    assert found == listed(salesforce)
    ids = {name: {each.id for each in records} for name, records in found.items()}
    assert made in ids["salesforce/accounts"]
    assert loser not in ids["salesforce/accounts"]
    assert gone.id not in ids["salesforce/opportunities"]
    assert line.id not in ids["salesforce/opportunity_line_items"]
    assert {each.account_id for each in found["salesforce/opportunities"]}.isdisjoint({loser})
    assert 0 < read < everything / 2

    assert bring(warehouse, salesforce, company, whole=True) > read


def test_what_becomes_visible_after_its_stamp_is_not_missed(
    company: SandboxHandle, warehouse: Warehouse, salesforce: Salesforce
) -> None:
    bring(warehouse, salesforce, company)
    company.control("POST", "/clock", {"advance_seconds": 2 * 86_400})
    people.fault(company, "stale", side="salesforce", path="/(query|composite)", seconds=900, times=1_000)
    edited = warehouse.read(SNAPSHOTS["salesforce/accounts"])["id"][0]
    people.edit(company, "Account", edited, Name="Seen late Ltd")
    company.control("POST", "/clock", {"advance_seconds": 60})
    bring(warehouse, salesforce, company)
    # The record's stamp is now older than the time that is remembered.
    assert "Seen late Ltd" not in warehouse.read(SNAPSHOTS["salesforce/accounts"])["name"]
    company.control("DELETE", "/faults")
    company.control("POST", "/clock", {"advance_seconds": 60})
    bring(warehouse, salesforce, company)
    assert kept(warehouse) == listed(salesforce)


def test_everything_is_read_once_a_week_and_when_other_fields_are_named(
    company: SandboxHandle, warehouse: Warehouse, salesforce: Salesforce
) -> None:
    accounts = SNAPSHOTS["salesforce/accounts"]
    everything = bring(warehouse, salesforce, company)
    assert bring(warehouse, salesforce, company) < everything
    company.control("POST", "/clock", {"advance_seconds": 7 * 86_400})
    assert bring(warehouse, salesforce, company) == everything
    noted = warehouse.provenance(accounts)
    assert noted[WHOLE_AT] == noted[TAKEN_AT]

    names = dict(load_rules().salesforce)
    names["account"] = Names("Account", {**names["account"].fields, "billing_plan": "Name"})
    other = connected(company, names)
    assert bring(warehouse, other, company) == everything
    (some, *_) = kept(warehouse)["salesforce/accounts"]
    assert some.billing_plan == some.name


def test_a_row_that_is_set_aside_stays_so_until_it_is_read_again(
    company: SandboxHandle, warehouse: Warehouse, salesforce: Salesforce
) -> None:
    accounts = SNAPSHOTS["salesforce/accounts"]
    # A company that has just begun: its records are young, and would be read again as what may have been missed.
    for _ in range(2):
        company.control("POST", "/clock", {"advance_seconds": 86_400})
        bring(warehouse, salesforce, company)
    frame = warehouse.read(accounts)
    first, second = frame["id"][:2]
    table = quarantine_of(accounts)
    aside = [QuarantinedRow(table_name="t", row_key=key, column_name="c", problem="p") for key in (first, second)]
    warehouse.write(table, to_frame(aside, table), {})
    people.edit(company, "Account", first, Name="Mended Ltd")
    bring(warehouse, salesforce, company)
    assert warehouse.read(table)["row_key"].to_list() == [second]
