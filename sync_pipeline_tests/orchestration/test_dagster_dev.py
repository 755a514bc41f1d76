"""Dagster as its user meets it: `dagster dev` finds the deal by itself, and the browser shows what it did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sync_pipeline.config.settings import sandbox_environment
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.dagster_process import Dagster, dagster_dev
from sync_pipeline_tests.sandbox_process import SandboxHandle

PATIENCE_MS = 60_000


@pytest.mark.slow
@pytest.mark.browser
def test_the_ui_shows_the_lineage_and_the_drain_run_that_a_sensor_started(
    sandbox: SandboxHandle, tmp_path: Path, page: Page
) -> None:
    environment = {
        **sandbox_environment(sandbox.ready),
        "SYNC_HOME": str(tmp_path / "sync"),
        "SYNC_POLL_SECONDS": "2",
        "SYNC_LINGER_SECONDS": "2",
    }
    people.win(sandbox)
    with dagster_dev(tmp_path, environment) as dagster:
        drained = dagster.wait("a drain run succeeds", lambda: _succeeded(dagster.runs("drain_inbox")))
        subscription = people.only(sandbox, "subscription")
        assert people.only(sandbox, "Opportunity")["Stripe_Subscription_Id__c"] == subscription["id"]
        ticks = dagster.sensor_ticks()
        assert set(ticks) == {
            "stripe_inbox_sensor",
            "salesforce_changes_sensor",
            "failed_runs_sensor",
            "failed_checks_sensor",
            "freshness_sensor",
            "stuck_work_sensor",
        }
        assert [tick for each in ticks.values() for tick in each if tick["error"]] == []

        page.goto(f"{dagster.url}/asset-groups")
        for group in ("salesforce", "stripe", "snapshot", "mapping", "derived", "sync"):
            expect(page.get_by_text(group, exact=True).first).to_be_visible(timeout=PATIENCE_MS)
        left_to_right = [_left(page, group) for group in ("stripe", "snapshot", "mapping", "derived", "sync")]
        assert left_to_right == sorted(left_to_right), left_to_right

        page.goto(f"{dagster.url}/assets/sync/writeback")
        expect(page.get_by_text("revenue-operations").first).to_be_visible(timeout=PATIENCE_MS)
        expect(page.get_by_text("writes", exact=True).first).to_be_visible(timeout=PATIENCE_MS)

        page.goto(f"{dagster.url}/runs/{drained}")
        expect(page.get_by_text("drain_due_accounts").first).to_be_visible(timeout=PATIENCE_MS)
        expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=PATIENCE_MS)

        dagster.launch("reconcile")
        _the_months_are_a_table_and_plots(page, dagster)
        _a_check_says_what_it_states(page, dagster)
        _the_certificate_opens_from_its_asset(page, dagster, tmp_path)
        account = people.only(sandbox, "Account")["Id"]
        _a_person_asks_why_at_the_launchpad(page, dagster, account)


def _the_months_are_a_table_and_plots(page: Page, dagster: Dagster) -> None:
    page.goto(f"{dagster.url}/assets/derived/mrr_rollforward?view=events")
    expect(page.get_by_role("img", name=re.compile("^GBP at the end of"))).to_be_visible(timeout=PATIENCE_MS)
    _show(page, "months")
    for name in ("Recurring revenue", "Movements"):
        plot = page.get_by_role("img", name=name)
        expect(plot).to_be_visible(timeout=PATIENCE_MS)
        assert plot.evaluate("image => image.naturalWidth") == 720, "the browser could draw it"
    expect(page.get_by_role("columnheader", name="Expansion")).to_be_visible()
    expect(page.get_by_role("cell", name="3,750.00 GBP").first).to_be_visible()


def _show(page: Page, name: str) -> None:
    """Opens a text of the metadata that is too long to stand in its row."""
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
    row.get_by_text("[Show Markdown]").click(timeout=PATIENCE_MS)


def _a_check_says_what_it_states(page: Page, dagster: Dagster) -> None:
    page.goto(f"{dagster.url}/assets/derived/account_ltv?view=checks")
    page.get_by_text(re.compile("^ledger_and_lis")).first.click(timeout=PATIENCE_MS)
    expect(page.get_by_text("are the same minor unit for every Account", exact=False)).to_be_visible()
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()


def _the_certificate_opens_from_its_asset(page: Page, dagster: Dagster, folder: Path) -> None:
    page.goto(f"{dagster.url}/assets/sync/certificate?view=events")
    _show(page, "agreement")
    expect(page.get_by_role("img", name="Agreement over time")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Close").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("certificate.html$")).click()
    kept = folder / "certificate.html"
    download.value.save_as(kept)
    page.goto(kept.as_uri())
    expect(page.get_by_text("agree to the penny")).to_be_visible()
    expect(page.get_by_role("img", name="Waterfall of recurring revenue")).to_be_visible()


def _a_person_asks_why_at_the_launchpad(page: Page, dagster: Dagster, account: str) -> None:
    page.goto(f"{dagster.url}/locations/sync_pipeline/jobs/explain_value/playground")
    expect(page.get_by_text("API name of a field, as in", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    page.locator(".CodeMirror").first.click()
    page.keyboard.press("ControlOrMeta+A")
    link = f"https://acme.lightning.force.com/lightning/r/Account/{account}/view"
    page.keyboard.insert_text(f"record: {link}\nfield: MRR__c\n")
    page.get_by_role("button", name="Launch Run").click(timeout=PATIENCE_MS)
    page.get_by_text("[Show Markdown]").first.click(timeout=PATIENCE_MS)
    expect(page.get_by_text(f"Account/{account} MRR__c = 3750", exact=False)).to_be_visible()


def _succeeded(runs: dict[str, str]) -> str | None:
    assert "FAILURE" not in runs.values(), runs
    return next((run for run, status in runs.items() if status == "SUCCESS"), None)


def _left(page: Page, group: str) -> float:
    """Where the group's box begins in the graph, which is to the right of the list of groups."""
    boxes = [each.bounding_box() for each in page.get_by_text(re.compile(f"^{group}$")).all()]
    return max(box["x"] for box in boxes if box is not None)
