"""A company that has lived with the sync for three years: the sync finds everything as it would have written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sync_pipeline.engine import drain
from sync_pipeline.engine.drain import DrainPlan
from sync_pipeline_tests.engine.installation import installed
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

NOW = 1_795_000_000


def test_a_first_look_changes_nothing_and_makes_nothing_twice(tmp_path: Path) -> None:
    """Amendments are billed already; renewals, churn records and Tasks are its own."""
    with start_sandbox("--data", "company", "--accounts", "40", "--now", str(NOW)) as sandbox:
        before = seen(sandbox)
        kinds = {deal.get("Type") for deal in before["Opportunity"].values()}
        assert {"Amendment", "Renewal"} <= kinds
        assert before["Churn_Record__c"]
        assert before["Task"]
        with installed(sandbox, tmp_path) as sync:
            report = drain.drain(sync.engine, DrainPlan(poll_seconds=0, allow=True))
        assert report.total.accounts > 30
        assert seen(sandbox) == before


def seen(sandbox: SandboxHandle) -> dict[str, dict[str, Any]]:
    """All records of both systems that a sync writes to."""
    state = sandbox.control("GET", "/state")
    tables = state["salesforce"] | {kind: state["stripe"][kind] for kind in ("customer", "subscription", "invoice")}
    return {kind: {row.get("Id", row.get("id")): row for row in rows} for kind, rows in tables.items()}
