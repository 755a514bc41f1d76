"""What Dagster loads. Everything is put together in orchestration.build."""

from __future__ import annotations

import dagster as dg

from sync_pipeline.orchestration.build import build_defs


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the code location."""
    return build_defs()
