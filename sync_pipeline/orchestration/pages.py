"""Pages in HTML that a run leaves for people, where they can be opened from Dagster."""

from pathlib import Path
from shutil import copyfile
from typing import Any

import dagster as dg


def offered(context: dg.AssetExecutionContext, page: Path) -> dg.MetadataValue[Any]:
    """Where a person gets the page: at Dagster's own webserver, from where it offers what runs have printed.

    A browser follows no link from there to a file of the machine, and whoever may see Dagster may see the page. Each
    run keeps its own. Where logs are kept elsewhere than on disk, it is the path of the file.
    """
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

    logs = context.instance.compute_log_manager
    if not isinstance(logs, LocalComputeLogManager):
        return dg.MetadataValue.path(str(page))
    kept = [context.run.run_id, page.stem]
    copy = Path(logs.get_captured_local_path(kept, "html"))
    copy.parent.mkdir(parents=True, exist_ok=True)
    copyfile(page, copy)
    return dg.MetadataValue.url(f"/logs/{'/'.join(kept)}/html")
