"""Load `sync_pipeline.definitions` as Dagster does, in this fresh interpreter, and fail on any warning of our making.

Ours is a warning attributed to a file of the package, and every beta, preview or supersession notice of Dagster's,
because those are raised about the way its API is called. Warnings of libraries about themselves are not ours.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "sync_pipeline"


def is_ours(warning: warnings.WarningMessage) -> bool:
    """Whether `warning` is about the package's own code."""
    dagster_notice = warning.category.__module__.startswith("dagster")
    return dagster_notice or Path(warning.filename).resolve().is_relative_to(PACKAGE)


def main() -> int:
    """Print each warning of ours and what was loaded; 1 if there was a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from dagster._core.code_pointer import CodePointer
        from dagster._core.definitions.reconstruct import initialize_repository_def_from_pointer
        from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

        (target,) = loadable_targets_from_python_module("sync_pipeline.definitions", working_directory=None)
        repository = initialize_repository_def_from_pointer(
            CodePointer.from_module("sync_pipeline.definitions", target.attribute, working_directory=None)
        )
        repository.load_all_definitions()
    ours = [warning for warning in caught if is_ours(warning)]
    for warning in ours:
        print(f"{warning.filename}:{warning.lineno}: {warning.category.__name__}: {warning.message}", file=sys.stderr)
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    print(
        f"{len(repository.asset_graph.get_all_asset_keys())} assets, {len(jobs)} jobs, {len(repository.sensor_defs)}"
        f" sensors, {len(repository.schedule_defs)} schedules; {len(ours)} warnings of our making"
    )
    return 1 if ours else 0


if __name__ == "__main__":
    sys.exit(main())
