"""Real runs of the definitions in this process, and what they left in Dagster's event log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.orchestration.build import build_defs


def run(
    job: str, settings: Settings, instance: dg.DagsterInstance, config: Mapping[str, Any] | None = None
) -> dg.ExecuteInProcessResult:
    """Runs a job as the definitions have it; a failed run is returned, not raised."""
    definition = build_defs({"settings": settings}).resolve_job_def(job)
    return definition.execute_in_process(run_config=config, instance=instance, raise_on_error=False)


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> Mapping[str, Any]:
    """The plain metadata of an asset's materialization."""
    (found,) = (
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(asset.split("/"))
    )
    return {name: value.value for name, value in found.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """asset:check -> passed."""
    return {
        f"{each.asset_key.to_user_string()}:{each.check_name}": each.passed
        for each in result.get_asset_check_evaluations()
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The description with which the only failed step ended."""
    description = _failure(result).description
    assert description is not None
    return description


def failure_metadata(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    """The plain metadata of that failure."""
    return {name: value.value for name, value in _failure(result).metadata.items()}


def _failure(result: dg.ExecuteInProcessResult) -> Any:
    (event,) = (event for event in result.all_events if event.is_step_failure)
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data


def everything_said(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    """All that the run put into Dagster's storage, as text."""
    return "\n".join(str(entry) for entry in instance.all_logs(result.run_id))
