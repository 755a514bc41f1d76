"""The nightly job, run for real: it repairs, it certifies, and the second time it writes nothing."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.tables import (
    CONFLICTS,
    PLAN,
)
from sync_pipeline.ledger import facts
from sync_pipeline.ledger.database import open_ledger
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import checks, failure, failure_metadata, metadata, run
from sync_pipeline_tests.sandbox_process import SandboxHandle

LTV_CHECK = "derived/account_ltv:ledger_and_listing_agree_on_lifetime_value_to_the_penny"
AGREE = "sync/certificate:salesforce_and_stripe_agree_to_the_penny"


@pytest.fixture
def settings(installed: Installed) -> Settings:
    return installed()


@pytest.fixture
def billed(sandbox: SandboxHandle, settings: Settings, memory: dg.DagsterInstance) -> SandboxHandle:
    """The deal is won, billed and paid; the payment has not reached Salesforce yet."""
    people.win(sandbox)
    assert run("drain_inbox", settings, memory).success
    people.pay(sandbox)
    return sandbox


@pytest.mark.postgres
def test_it_repairs_what_differs_and_then_writes_nothing(
    sandbox: SandboxHandle, installed: Installed, postgres_ledger_url: str, postgres_instance: dg.DagsterInstance
) -> None:
    """The ledger and Dagster on Postgres, as in production."""
    settings, instance = installed(SYNC_DATABASE_URL=postgres_ledger_url), postgres_instance
    people.win(sandbox)
    assert run("drain_inbox", settings, instance).success
    people.pay(sandbox)
    first = run("reconcile", settings, instance)
    assert first.success
    assert all(checks(first).values()), checks(first)
    assert metadata(first, "sync/plan")["accounts_that_differ"] == 1
    assert metadata(first, "sync/writeback")["writes"] > 0
    assert {name: metadata(first, "sync/certificate")[name] for name in ("accounts", "repaired", "left")} == {
        "accounts": 1,
        "repaired": 1,
        "left": 0,
    }

    before = people.mark(sandbox)
    second = run("reconcile", settings, instance)
    assert second.success
    assert all(checks(second).values()), checks(second)
    assert people.writes_since(sandbox, before) == []
    assert metadata(second, "sync/plan")["dagster/row_count"] == 0
    assert {name: metadata(second, "sync/certificate")[name] for name in ("agreed", "repaired", "writes")} == {
        "agreed": 1,
        "repaired": 0,
        "writes": 0,
    }


def test_unchanged_tables_keep_their_data_version(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    run("reconcile", settings, memory)
    versions = [_versions(run("reconcile", settings, memory)) for _ in range(2)]
    assert versions[0] == versions[1]
    people.edit(billed, "Account", people.only(billed, "Account")["Id"], Name="Northwind Holdings Ltd")
    changed = _versions(run("reconcile", settings, memory))
    assert {name for name in changed if changed[name] != versions[1][name]} == {
        "snapshot/salesforce/accounts",
        "sync/plan",
    }


def test_the_plan_shows_personal_values_as_hashes_only(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    run("reconcile", settings, memory)
    people.edit(billed, "Account", people.only(billed, "Account")["Id"], Name="Northwind Holdings Ltd")
    assert run("reconcile", settings, memory).success
    (row,) = to_records(Warehouse(settings.warehouse).read(PLAN), PLAN)
    assert (row.action, row.field, row.rule) == ("stripe.update", "name", "customer.name")
    assert str(row.new).startswith('"hmac:')
    assert str(row.old).startswith('"hmac:')
    assert row.old != row.new
    assert people.only(billed, "customer")["name"] == "Northwind Holdings Ltd"


def test_a_wrong_fact_in_the_ledger_is_found_by_the_listing(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    billed.control("POST", "/clock", {"advance_seconds": 3600})
    assert checks(run("reconcile", settings, memory))[LTV_CHECK]
    ledger = open_ledger(settings.database_url)
    with ledger.tx() as conn:
        (account, (known, *_)) = next(iter(facts.for_accounts(conn, [people.only(billed, "Account")["Id"]]).items()))
        penny = type(known)("payment", "inpay_of_nobody", 0, account, "GBP", 1, known.occurred_at)
        assert facts.append(conn, [penny]) == 1
    ledger.close()
    assert not checks(run("reconcile", settings, memory))[LTV_CHECK]


def test_a_plan_alone_writes_nothing(billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance) -> None:
    before = people.mark(billed)
    selection = dg.AssetSelection.assets(["sync", "plan"]).upstream()
    job = dg.define_asset_job("up_to_the_plan", selection)
    definitions = dg.Definitions.merge(build_defs({"settings": settings}), dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("up_to_the_plan").execute_in_process(instance=memory)
    assert metadata(result, "sync/plan")["accounts_that_differ"] == 1
    assert people.writes_since(billed, before) == []


def test_a_guard_fails_the_run_with_the_plan_attached_until_a_person_allows_it(
    sandbox: SandboxHandle, installed: Installed, memory: dg.DagsterInstance, tmp_path: Path
) -> None:
    people.win(sandbox)
    rules = tmp_path / "rules.yaml"
    rules.write_text("guards:\n  creates: 1\n", "utf-8")
    settings = installed(SYNC_RULES=str(rules))
    before = people.mark(sandbox)
    stopped = run("reconcile", settings, memory)
    assert "2 customers and subscriptions made at Stripe within an hour, at most 1" in failure(stopped)
    assert people.writes_since(sandbox, before) == []
    attached = failure_metadata(stopped)["plan"]
    opportunity = people.only(sandbox, "Opportunity")["Id"]
    assert "| sub:00D" in attached
    assert opportunity in attached
    assert "GBP 0.00 -> GBP 3,750.00 (+3,750.00)" in attached

    assert run("reconcile", settings, memory, {"allow": True}).success
    assert len(people.records(sandbox, "subscription")) == 1


def test_a_certificate_without_its_plan_says_what_to_do(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    job = dg.define_asset_job(
        "certificate_only", dg.AssetSelection.assets(["sync", "certificate"]).required_multi_asset_neighbors()
    )
    definitions = dg.Definitions.merge(build_defs({"settings": settings}), dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("certificate_only").execute_in_process(instance=memory, raise_on_error=False)
    assert failure(result) == "sync/plan was not made in this run; materialize both together"


def _versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        "/".join(event.asset_key.path): str((event.materialization.tags or {})["dagster/data_version"])
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
        and event.asset_key.path[-1] not in ("writeback", "certificate_history", "sql_tables")
    }


def test_the_inbox_of_conflicts_says_what_waits_for_a_person(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    assert run("drain_inbox", settings, memory).success
    deal = people.only(billed, "Opportunity")
    people.edit(billed, "Opportunity", deal["Id"], StageName="Closed Lost")
    result = run("reconcile", settings, memory)
    assert result.success
    (row,) = to_records(Warehouse(settings.warehouse).read(CONFLICTS), CONFLICTS)
    assert (row.record_id, row.field, row.salesforce_value, row.status, row.winner) == (
        deal["Id"],
        "billed_deal_not_won",
        "Closed Lost",
        "Open",
        None,
    )
    said = metadata(result, "sync/conflicts")
    assert (said["wait_for_a_person"], said["open"]) == (1, 1)
    line = f"| {row.conflict} | {row.account_id} | {deal['Id']} | billed_deal_not_won | Closed Lost |"
    assert line in said["to_decide"]
    assert not checks(result)["sync/conflicts:no_conflict_is_left_to_decide"]
