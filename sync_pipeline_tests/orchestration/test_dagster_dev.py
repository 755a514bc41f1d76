"""Dagster as its user meets it: `dagster dev` finds the deal by itself, and the browser shows what it did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sync_pipeline.config.settings import sandbox_environment
from sync_pipeline_tests.engine import people
from sync_pipeline_tests.orchestration.dagster_process import dagster_dev
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


def _succeeded(runs: dict[str, str]) -> str | None:
    assert "FAILURE" not in runs.values(), runs
    return next((run for run, status in runs.items() if status == "SUCCESS"), None)


def _left(page: Page, group: str) -> float:
    """Where the group's box begins in the graph, which is to the right of the list of groups."""
    boxes = [each.bounding_box() for each in page.get_by_text(re.compile(f"^{group}$")).all()]
    return max(box["x"] for box in boxes if box is not None)
