"""The nightly job, run for real: it repairs, it certifies, and the second time it writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import dagster as dg
import pytest
from sqlalchemy import text

from sync_pipeline.config.settings import Settings
from sync_pipeline.engine.assembly import open_current_ledger
from sync_pipeline.frames.convert import to_records
from sync_pipeline.frames.tables import (
    ACCOUNT_LTV,
    CERTIFICATE,
    CERTIFICATE_ACCOUNTS,
    CERTIFICATE_HISTORY,
    CONFLICTS,
    PLAN,
    PUBLISHED,
    TABLES,
)
from sync_pipeline.ledger import facts
from sync_pipeline.ledger.database import open_ledger
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import checks, everything_said, failure, failure_metadata, metadata, run
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


def test_every_table_is_there_and_says_what_happened(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    result = run("reconcile", settings, memory)
    warehouse = Warehouse(settings.warehouse)
    tables = {name: to_records(warehouse.read(table), table) for name, table in TABLES.items()}
    for name, records in tables.items():
        assert metadata(result, name)["dagster/row_count"] == len(records), name
    customer, account = people.only(billed, "customer")["id"], people.only(billed, "Account")["Id"]
    (mapped,) = tables["mapping/account_customers"]
    assert (mapped.customer_id, mapped.account_id, mapped.state) == (customer, account, "matched")
    (deal,) = tables["mapping/deal_subscriptions"]
    assert deal.opportunity_id == people.only(billed, "Opportunity")["Id"]
    assert deal.subscription_id == people.only(billed, "subscription")["id"]
    (ltv,) = tables[ACCOUNT_LTV.name]
    assert (ltv.account_id, ltv.currency, ltv.net_minor, ltv.payments) == (account, "GBP", 4_500_000, 1)
    (mrr,) = (row for row in tables["derived/account_mrr"] if row.definition == "stripe")
    assert (mrr.account_id, mrr.currency, mrr.mrr_minor, mrr.subscriptions) == (account, "GBP", 375_000, 1)
    (renewal,) = tables["derived/renewal_pipeline"]
    assert (renewal.subscription_id, renewal.next_term_minor) == (deal.subscription_id, 4_500_000)
    assert (renewal.risk, renewal.is_ending, renewal.is_due) == (None, False, False)
    assert {row.field for row in tables[PLAN.name]} >= {"Lifetime_Value__c", "Activation_Status__c"}
    assert {
        (row.measure, row.currency, row.salesforce_minor, row.difference_minor) for row in tables[CERTIFICATE.name]
    } == {
        ("lifetime_value", "GBP", 4_500_000, 0),
        ("mrr", "GBP", 375_000, 0),
    }


def test_the_certificate_says_what_it_found_and_links_its_page(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    result = run("reconcile", settings, memory)
    warehouse = Warehouse(settings.warehouse)
    rows: list[Any] = to_records(warehouse.read(CERTIFICATE_ACCOUNTS), CERTIFICATE_ACCOUNTS)
    found = {row.measure: row for row in rows}
    account = people.only(billed, "Account")["Id"]
    ltv = found["lifetime_value"]
    # 45,000 pounds were paid after the last look; recurring revenue had been written when the deal was billed.
    assert (ltv.account_id, ltv.stripe_minor, ltv.salesforce_minor - ltv.stripe_minor) == (
        account,
        4_500_000,
        -4_500_000,
    )
    assert ltv.difference_class in ("missing", "timing")
    assert (ltv.repair, ltv.left_minor) == ("written to the Account", 0)
    assert found["mrr"].difference_class == "none"
    assert (found["period_invoice"].difference_class, found["period_invoice"].stripe_minor) == ("none", 4_500_000)
    linked = metadata(result, "sync/certificate")["page"]
    page = Path(url2pathname(urlsplit(linked).path)).read_text("utf-8")
    assert "agree to the penny" in page
    assert "45,000.00 GBP" in page
    assert checks(result)["sync/certificate_accounts:every_difference_is_the_sum_of_its_classes"]
    assert checks(result)["sync/certificate_accounts:planner_and_tables_agree_on_every_account_to_the_penny"]

    again: list[Any] = to_records(warehouse.read(CERTIFICATE_HISTORY), CERTIFICATE_HISTORY)
    assert {row.certified_at for row in again} == {int(warehouse.provenance(CERTIFICATE_HISTORY)["certified_at"])}


def test_the_published_tables_are_the_nights(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    assert run("reconcile", settings, memory).success
    with open_current_ledger(settings) as ledger, ledger.read() as conn:
        (row,) = conn.execute(text("SELECT account_id, currency, mrr_minor, lifetime_value_minor FROM account_revenue"))
        assert tuple(row) == (people.only(billed, "Account")["Id"], "GBP", 375_000, 4_500_000)
        for name, table in PUBLISHED.items():
            rows = conn.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar()
            assert rows == Warehouse(settings.warehouse).read(table).height, name


def test_column_lineage_leads_to_columns_that_exist(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    result = run("reconcile", settings, memory)
    traced = {name: found for name in TABLES if (found := metadata(result, name).get("dagster/column_lineage"))}
    assert set(traced) == {name for name in TABLES if name.startswith(("mapping/", "derived/"))}
    for name, lineage in traced.items():
        own = {column.name for column in TABLES[name].columns}
        assert set(lineage.deps_by_column) <= own
        for dep in (dep for deps in lineage.deps_by_column.values() for dep in deps):
            source = TABLES[dep.asset_key.to_user_string()]
            assert dep.column_name in {column.name for column in source.columns}, (name, dep)


def test_dagster_is_told_no_name_no_address_no_tax_number_and_no_secret(
    billed: SandboxHandle, settings: Settings, memory: dg.DagsterInstance
) -> None:
    said = everything_said(memory, run("reconcile", settings, memory))
    private = ["Northwind", "Fleet Street", "EC4Y 1AA", "GB123456789", *billed.ready.values()]
    urls = {billed.ready[name] for name in ("salesforce_url", "stripe_url", "control_url")}
    assert [text for text in private if text in said and text not in urls] == []


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
