"""An org with several currencies: one Stripe customer per Account and currency, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline.engine import certificate_text
from sync_pipeline.engine.explain import explain
from sync_pipeline.engine.explain_text import as_text
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import NOW, Installation, installed
from sync_pipeline_tests.engine.people import at_stripe, mark, only, records, win, writes_since
from sync_pipeline_tests.engine.selling import sell
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox


@pytest.fixture(scope="module")
def org(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxHandle]:
    settings = tmp_path_factory.mktemp("currencies") / "vendors.json"
    settings.write_text(json.dumps({"salesforce": {"multi_currency": True}}), "utf-8")
    with start_sandbox("--data", "story", "--now", str(NOW), "--settings", str(settings)) as handle:
        yield handle


@pytest.fixture
def sync(org: SandboxHandle, tmp_path: Path) -> Iterator[Installation]:
    """The story's deal in pounds and one of 1,200 euros a year, both won."""
    org.control("POST", "/reset")
    with installed(org, tmp_path) as installation:
        win(org)
        sell(org, {"product": "Analytics Platform", "price": 1200}, CurrencyIsoCode="EUR", Name="Berlin")
        installation.rest()
        yield installation


def test_a_pound_deal_and_a_euro_deal_have_a_customer_each_and_all_of_it_agrees(sync: Installation) -> None:
    sandbox = sync.sandbox
    customers = {c["metadata"]["sf_intent"].split(":", 2)[2]: c["id"] for c in records(sandbox, "customer")}
    account = only(sandbox, "Account")
    assert set(customers) == {account["Id"], f"{account['Id']}:EUR"}
    assert {s["currency"]: s["customer"] for s in records(sandbox, "subscription")} == {
        "gbp": customers[account["Id"]],
        "eur": customers[f"{account['Id']}:EUR"],
    }
    assert account["Stripe_Customer_Id__c"] == customers[account["Id"]]
    for customer in customers.values():
        sandbox.control("POST", "/payments", {"customer": customer, "outcome": "succeed"})
    sync.wait(60)
    certificate = reconcile(sync.engine)
    assert (certificate.left, certificate.agrees) == ([], True)
    told = "EUR: MRR 100.00, collected 1,200.00"
    assert f"  not in these totals: {account['Id']} {told}" in certificate_text.as_text(certificate).splitlines()
    assert certificate_text.as_data(certificate)["not_in_totals"] == [{"account": account["Id"], "what": told}]
    account = only(sandbox, "Account")
    assert (account["MRR__c"], account["Lifetime_Value__c"]) == (3750, 45000)
    assert account["Other_Currencies__c"] == told
    assert {each["Activation_Status__c"] for each in records(sandbox, "Opportunity")} == {"Activated"}
    start = mark(sandbox)
    assert reconcile(sync.engine).agrees
    assert writes_since(sandbox, start) == []
    sync.check_books()


def test_each_figure_is_explained_by_what_adds_up_to_it(sync: Installation) -> None:
    """45,000 pounds were collected and 450 given back; of 1,200 euros 100.01 were, and nothing of them is in pounds."""
    sandbox, account = sync.sandbox, only(sync.sandbox, "Account")["Id"]
    for customer in records(sandbox, "customer"):
        sandbox.control("POST", "/payments", {"customer": customer["id"], "outcome": "succeed"})
    back = {"gbp": 45_000, "eur": 10_001}
    for payment in records(sandbox, "payment_intent"):
        at_stripe(sandbox, "POST", "/v1/refunds", payment_intent=payment["id"], amount=back[payment["currency"]])
    sync.rest()
    told = {
        name: as_text(explain(sync.engine, f"Account/{account}", name))
        for name in ("Lifetime_Value__c", "MRR__c", "Other_Currencies__c")
    }
    assert "Lifetime_Value__c = 44550" in told["Lifetime_Value__c"]
    assert "= GBP 44,550.00 collected" in told["Lifetime_Value__c"]
    assert "it does not count, because nothing was settled in GBP for it" in told["Lifetime_Value__c"]
    assert "= EUR" not in told["Lifetime_Value__c"]
    assert "= GBP 3,750.00 MRR" in told["MRR__c"]
    assert "EUR" not in told["MRR__c"]
    assert "Other_Currencies__c = EUR: MRR 100.00, collected 1,099.99" in told["Other_Currencies__c"]
    assert "= EUR 1,099.99 collected" in told["Other_Currencies__c"]
    assert "EUR 100.00  si_" in told["Other_Currencies__c"]


def test_a_deleted_customer_of_one_currency_leaves_the_other_alone(sync: Installation) -> None:
    """What the deleted one billed is over and lost; the next deal in its currency gets a new customer."""
    sandbox = sync.sandbox
    (euros,) = [c["id"] for c in records(sandbox, "customer") if c["metadata"]["sf_intent"].endswith(":EUR")]
    at_stripe(sandbox, "DELETE", f"/v1/customers/{euros}")
    again = sell(sandbox, {"product": "Analytics Platform", "price": 2400}, CurrencyIsoCode="EUR", Name="Paris")
    certificate = reconcile(sync.engine)
    living = [c["id"] for c in records(sandbox, "customer") if not c.get("deleted")]
    assert len(living) == 2
    running = {s["metadata"]["sf_opportunity_id"]: s for s in records(sandbox, "subscription") if not s["ended_at"]}
    assert running[again]["customer"] in living
    assert running[again]["currency"] == "eur"
    assert certificate.left == []
    (churn,) = records(sandbox, "Churn_Record__c")
    assert (churn["Status__c"], churn["Lost_MRR__c"], churn["CurrencyIsoCode"]) == ("Final", 100, "EUR")
    sync.check_books()
