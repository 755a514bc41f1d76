"""The drain job, run for real: from Closed Won to Activated, and what it says to Dagster."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterResourceFunctionError

from sync_pipeline.config.settings import SettingsError, sandbox_environment
from sync_pipeline.engine.assembly import build_env, open_current_ledger
from sync_pipeline.engine.intake import resync
from sync_pipeline.orchestration.build import build_defs
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.conftest import Installed
from sync_pipeline_tests.orchestration.runs import everything_said, failure, run
from sync_pipeline_tests.sandbox_process import SandboxHandle


def test_a_won_deal_is_billed_and_a_payment_activates_it(
    sandbox: SandboxHandle, installed: Installed, instance: dg.DagsterInstance
) -> None:
    settings = installed(SYNC_POLL_SECONDS="1")
    people.win(sandbox)
    result = run("drain_inbox", settings, instance)
    assert result.success
    subscription = people.only(sandbox, "subscription")
    assert people.only(sandbox, "Opportunity")["Stripe_Subscription_Id__c"] == subscription["id"]

    observations = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    assert {observation.asset_key for observation in observations} == {dg.AssetKey(["sync", "writeback"])}
    writes = sum(int(str(observation.metadata["writes"].value)) for observation in observations)
    (output,) = (event.step_output_data for event in result.all_node_events if event.is_successful_output)
    assert output.metadata["writes"].value == writes > 0

    people.pay(sandbox)
    with open_current_ledger(settings) as ledger:
        resync(ledger, [people.only(sandbox, "Account")["Id"]], build_env(settings))
    assert run("drain_inbox", settings, instance).success
    account = people.only(sandbox, "Account")
    assert Decimal(str(account["Lifetime_Value__c"])) == 45_000
    assert people.only(sandbox, "Opportunity")["Activation_Status__c"] == "Activated"


def test_refused_credentials_end_the_run_with_one_line_and_no_secret(
    installed: Installed, instance: dg.DagsterInstance
) -> None:
    wrong = "3MVG9-not-the-secret"
    settings = installed(SALESFORCE_CLIENT_SECRET=wrong)
    result = run("drain_inbox", settings, instance)
    assert not result.success
    assert "\n" not in failure(result)
    assert "Salesforce" in failure(result)
    assert wrong not in everything_said(instance, result)
    assert settings.salesforce_client_id not in everything_said(instance, result)


def test_an_unreachable_clock_is_named(installed: Installed, instance: dg.DagsterInstance) -> None:
    result = run("drain_inbox", installed(SYNC_CLOCK_URL="http://127.0.0.1:9/clock"), instance)
    assert not result.success
    assert "the sandbox clock at http://127.0.0.1:9/clock does not answer" in failure(result)


def test_settings_come_from_the_environment_of_the_process_that_runs(
    sandbox: SandboxHandle, tmp_path: Path, memory: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**sandbox_environment(sandbox.ready), "SYNC_HOME": str(tmp_path), "SYNC_LINGER_SECONDS": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    definitions = build_defs()
    result = definitions.resolve_job_def("drain_inbox").execute_in_process(instance=memory)
    assert result.success
    said = everything_said(memory, result) + str(memory.get_run_by_id(result.run_id))
    assert [value for value in sandbox.ready.values() if value in said] == []

    monkeypatch.setenv("SYNC_LINGER_SECONDS", "soon")
    with pytest.raises(DagsterResourceFunctionError) as failed:
        definitions.resolve_job_def("drain_inbox").execute_in_process(instance=memory)
    assert isinstance(failed.value.user_exception, SettingsError)
    assert "SYNC_LINGER_SECONDS must be a whole number" in str(failed.value.user_exception)
