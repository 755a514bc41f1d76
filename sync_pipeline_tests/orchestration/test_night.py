"""What one night leaves behind: tables and their lineage, the certificate and its page, SQL; and nothing private."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    PLAN,
    PUBLISHED,
    TABLES,
)
from sync_pipeline.warehouse.parquet import Warehouse
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import settings_of
from sync_pipeline_tests.orchestration.runs import checks, everything_said, metadata, run
from sync_pipeline_tests.sandbox_process import SandboxHandle


@dataclass(frozen=True, slots=True)
class Night:
    """The deal is won, billed and paid, and the payment reaches Salesforce by the run of the night."""

    sandbox: SandboxHandle
    settings: Settings
    instance: dg.DagsterInstance
    result: dg.ExecuteInProcessResult


@pytest.fixture(scope="module")
def night(running_sandbox: SandboxHandle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Every test here only looks at it."""
    running_sandbox.control("POST", "/reset")
    settings = settings_of(running_sandbox, tmp_path_factory.mktemp("night"))
    with dg.DagsterInstance.ephemeral() as instance:
        people.win(running_sandbox)
        assert run("drain_inbox", settings, instance).success
        people.pay(running_sandbox)
        result = run("reconcile", settings, instance)
        assert result.success
        yield Night(running_sandbox, settings, instance, result)


def test_every_table_is_there_and_says_what_happened(night: Night) -> None:
    result = night.result
    warehouse = Warehouse(night.settings.warehouse)
    tables = {name: to_records(warehouse.read(table), table) for name, table in TABLES.items()}
    for name, records in tables.items():
        assert metadata(result, name)["dagster/row_count"] == len(records), name
    customer, account = people.only(night.sandbox, "customer")["id"], people.only(night.sandbox, "Account")["Id"]
    (mapped,) = tables["mapping/account_customers"]
    assert (mapped.customer_id, mapped.account_id, mapped.state) == (customer, account, "matched")
    (deal,) = tables["mapping/deal_subscriptions"]
    assert deal.opportunity_id == people.only(night.sandbox, "Opportunity")["Id"]
    assert deal.subscription_id == people.only(night.sandbox, "subscription")["id"]
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


def test_the_certificate_says_what_it_found_and_links_its_page(night: Night) -> None:
    result = night.result
    warehouse = Warehouse(night.settings.warehouse)
    rows: list[Any] = to_records(warehouse.read(CERTIFICATE_ACCOUNTS), CERTIFICATE_ACCOUNTS)
    found = {row.measure: row for row in rows}
    account = people.only(night.sandbox, "Account")["Id"]
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


def test_the_published_tables_are_the_nights(night: Night) -> None:
    with open_current_ledger(night.settings) as ledger, ledger.read() as conn:
        (row,) = conn.execute(text("SELECT account_id, currency, mrr_minor, lifetime_value_minor FROM account_revenue"))
        assert tuple(row) == (people.only(night.sandbox, "Account")["Id"], "GBP", 375_000, 4_500_000)
        for name, table in PUBLISHED.items():
            rows = conn.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar()
            assert rows == Warehouse(night.settings.warehouse).read(table).height, name


def test_column_lineage_leads_to_columns_that_exist(night: Night) -> None:
    result = night.result
    traced = {name: found for name in TABLES if (found := metadata(result, name).get("dagster/column_lineage"))}
    assert set(traced) == {name for name in TABLES if name.startswith(("mapping/", "derived/"))}
    for name, lineage in traced.items():
        own = {column.name for column in TABLES[name].columns}
        assert set(lineage.deps_by_column) <= own
        for dep in (dep for deps in lineage.deps_by_column.values() for dep in deps):
            source = TABLES[dep.asset_key.to_user_string()]
            assert dep.column_name in {column.name for column in source.columns}, (name, dep)


def test_dagster_is_told_no_name_no_address_no_tax_number_and_no_secret(night: Night) -> None:
    said = everything_said(night.instance, night.result)
    private = ["Northwind", "Fleet Street", "EC4Y 1AA", "GB123456789", *night.sandbox.ready.values()]
    urls = {night.sandbox.ready[name] for name in ("salesforce_url", "stripe_url", "control_url")}
    assert [text for text in private if text in said and text not in urls] == []
