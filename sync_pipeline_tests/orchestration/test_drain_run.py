"""The drain job, run for real: from Closed Won to Activated, and what it says to Dagster."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg

from sync_pipeline.engine.assembly import build_env, open_current_ledger
from sync_pipeline.engine.intake import resync
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
