"""What the assets, jobs and sensors are given: the settings, and the values that live as long as a run.

No secret is a resource's configuration: the settings are read from the environment inside the process that runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from sync_pipeline.config.settings import Settings, load_settings
from sync_pipeline.orchestration.lanes import in_its_lane


class SettingsResource(dg.ConfigurableResource[Settings]):
    """Hands out the settings of the environment. Tests put a Settings object in its place."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Settings]:
        """Reads them anew for every run and tick; a run is in its lane while it has them. Raises SettingsError."""
        settings = load_settings()
        if context.instance is None or context.run is None:
            yield settings
            return
        with in_its_lane(context.instance, context.run, settings):
            yield settings


class RunMemory(dg.IOManager):
    """Keeps values for later steps of the same run, which is one process: compared worlds are not for the disk."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, ...], Any] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        self._values[_name(context)] = obj

    def load_input(self, context: dg.InputContext) -> Any:
        assert context.upstream_output is not None
        name = _name(context.upstream_output)
        if name not in self._values:
            raise dg.Failure(
                f"{'/'.join(name)} was not made in this run; materialize both together", allow_retries=False
            )
        return self._values[name]


@dg.io_manager(description="Values for later steps of the same run")
def run_memory(_: dg.InitResourceContext) -> RunMemory:
    return RunMemory()


def _name(output: dg.OutputContext) -> tuple[str, ...]:
    return tuple(output.asset_key.path) if output.has_asset_key else (output.step_key, output.name)
