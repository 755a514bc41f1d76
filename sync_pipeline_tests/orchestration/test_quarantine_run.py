"""Rows that do not fit, in real runs: a few are set aside and the rest goes on; many stop the run before it writes."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest

from sync_pipeline.config.settings import Settings
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.quarantine import NOT_HELD, NOT_READ
from sync_pipeline.frames.tables import QUARANTINE, SNAPSHOTS
from sync_pipeline.orchestration.table_assets import materialized
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.engine.odd_answers import shown_as
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import metadata, run
from sync_pipeline_tests.sandbox_process import SandboxHandle

ACCOUNTS = SNAPSHOTS["salesforce/accounts"]
FITS, NONE_ASIDE = "every_row_fits_its_schema", "no_row_of_either_system_is_set_aside"
# Salesforce rounds on the screen only; the column has 18 decimals.
TOO_FINE = 1e-19
FEW = 10
"""So many rows may be set aside of a small table."""


@pytest.fixture
def settings(installed: Installed) -> Settings:
    return installed()


def result_of(result: dg.ExecuteInProcessResult, asset: str, check: str) -> dg.AssetCheckEvaluation:
    (found,) = (
        each
        for each in result.get_asset_check_evaluations()
        if (each.asset_key.to_user_string(), each.check_name) == (asset, check)
    )
    return found


def test_many_rows_that_do_not_fit_stop_the_run_before_it_writes_and_a_few_are_set_aside(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    account = people.only(sandbox, "Account")["Id"]
    people.win(sandbox)
    bad = [people.create(sandbox, "Account", Name="Odd Ltd", MRR__c=TOO_FINE) for _ in range(FEW + 1)]
    before = people.mark(sandbox)
    stopped = run("reconcile", settings, memory)
    assert not stopped.success
    assert people.writes_since(sandbox, before) == []
    fits = result_of(stopped, ACCOUNTS.name, FITS)
    assert (fits.passed, fits.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert fits.description == f"mrr: {NOT_HELD} ({FEW + 1} rows)"
    (failed,) = (event for event in stopped.all_events if event.is_step_failure)
    assert failed.step_key == "salesforce_snapshot"
    assert failed.step_failure_data.error is not None
    assert FITS in failed.step_failure_data.error.message
    made = {event.asset_key.path[0] for event in stopped.get_asset_materialization_events() if event.asset_key}
    assert made == {"snapshot"}

    people.edit(sandbox, "Account", bad[0], MRR__c=None)
    done = run("reconcile", settings, memory)
    assert done.success
    fits = result_of(done, ACCOUNTS.name, FITS)
    assert (fits.passed, fits.severity) == (False, dg.AssetCheckSeverity.WARN)
    told = metadata(done, ACCOUNTS.name)
    assert (told["dagster/row_count"], told["rows_quarantined"]) == (2, FEW)
    warehouse = Warehouse(settings.warehouse)
    assert set(warehouse.read(ACCOUNTS)["id"]) == {account, bad[0]}
    aside = to_records(warehouse.read(QUARANTINE), QUARANTINE)
    assert {(row.table_name, row.row_key, row.column_name, row.problem) for row in aside} == {
        (ACCOUNTS.name, each, "mrr", NOT_HELD) for each in bad[1:]
    }
    assert metadata(done, QUARANTINE.name)["dagster/row_count"] == len(aside) == FEW
    none_aside = result_of(done, QUARANTINE.name, NONE_ASIDE)
    assert (none_aside.passed, none_aside.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert none_aside.metadata[ACCOUNTS.name].value == FEW

    subscription = people.only(sandbox, "subscription")["id"]
    assert people.only(sandbox, "Opportunity")["Stripe_Subscription_Id__c"] == subscription
    left = {each["Id"]: each["MRR__c"] for each in people.records(sandbox, "Account") if each["Id"] in bad[1:]}
    assert left == dict.fromkeys(bad[1:], TOO_FINE), "nobody has written to what is set aside"


def test_what_cannot_be_read_of_either_system_is_set_aside_and_the_night_goes_on(
    sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One such record of one customer was enough for the night to come to nothing."""
    account = people.only(sandbox, "Account")["Id"]
    odd = people.create(sandbox, "Account", Name="Odd Ltd")
    people.win(sandbox)
    customer = people.at_stripe(sandbox, "POST", "/v1/customers", name="Odd Ltd")["id"]
    invoice = people.at_stripe(sandbox, "POST", "/v1/invoices", customer=customer)["id"]
    shown_as(monkeypatch, odd, MRR__c="a lot")
    shown_as(monkeypatch, customer, address="1 High Street")
    shown_as(monkeypatch, invoice, total=None, created=None)
    assert run("reconcile", settings, memory).success
    aside = to_records(Warehouse(settings.warehouse).read(QUARANTINE), QUARANTINE)
    assert {(row.table_name, row.row_key, row.column_name, row.problem) for row in aside} == {
        (ACCOUNTS.name, odd, "id", NOT_READ),
        (SNAPSHOTS["stripe/customers"].name, customer, "id", NOT_READ),
        (SNAPSHOTS["stripe/invoices"].name, invoice, "id", NOT_READ),
    }
    assert people.only(sandbox, "subscription")["metadata"]["sf_account_id"] == account


@pytest.mark.parametrize(
    ("rows", "bad", "severity"),
    [
        (1000, 10, dg.AssetCheckSeverity.WARN),
        (1000, 11, dg.AssetCheckSeverity.ERROR),
        # One in a hundred of a large table.
        (2500, 25, dg.AssetCheckSeverity.WARN),
        (2500, 26, dg.AssetCheckSeverity.ERROR),
        (5, 5, dg.AssetCheckSeverity.WARN),
    ],
)
def test_ten_rows_or_one_in_a_hundred_are_a_few(
    settings: Settings, rows: int, bad: int, severity: dg.AssetCheckSeverity
) -> None:
    frame = to_frame([Account(id=f"001{n}") for n in range(rows)], ACCOUNTS).with_columns(
        pl.when(pl.int_range(pl.len()) < bad).then(None).otherwise("owner_active").alias("owner_active")
    )
    (fits,) = materialized(settings, ACCOUNTS, frame, {}).check_results or ()
    assert (fits.passed, fits.severity) == (False, severity)
    assert Warehouse(settings.warehouse).read(ACCOUNTS).height == rows - bad
