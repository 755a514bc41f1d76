"""`python -m sync_pipeline.cli`: the command line without its console script."""

from __future__ import annotations

from sync_pipeline.cli import main

main()
