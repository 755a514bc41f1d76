"""What every seed begins with: the systems as they were, the rules, and a ledger that is empty."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from sync_pipeline.config.rules import load_rules
from sync_pipeline.core.rules import Bulk, Guards, Rules
from sync_pipeline.engine.assembly import without_alerts
from sync_pipeline.ledger import migrations
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.sandbox.salesforce.package import DEFAULT_PACKAGE, load
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.people import first_state


@cache
def first_sandbox() -> tuple[Sandbox, dict[str, object]]:
    """The process's one sandbox, and what it is put back to for every seed."""
    sandbox = first_state()
    return sandbox, sandbox.snapshot()


@cache
def rules_for(by_card: bool, by_bulk: bool, *, keeps_contracts: bool = True) -> Rules:
    """The shipped rules, without a channel for alerts; how much a run may do is not what is simulated."""
    rules = without_alerts(load_rules())
    unlimited = Guards(creates=None, changes=None, cancels=None, share=None)
    commercial = rules.commercial
    if by_card:
        commercial = replace(commercial, collection_method="charge_automatically")
    if not keeps_contracts:
        commercial = replace(commercial, contracts="leave")
    everything = Bulk(from_records=1, most_records=1, classes=frozenset({"write_back", "bulk", "sweep"}))
    return replace(rules, guards=unlimited, commercial=commercial, bulk=everything if by_bulk else rules.bulk)


@cache
def writable() -> frozenset[str]:
    """What the permission set lets the integration user edit: nothing else may ever be written."""
    return frozenset(load(DEFAULT_PACKAGE).permissions.editable)


def empty_ledger() -> Ledger:
    """The process's one ledger, emptied: opened anew, it would compile every statement again."""
    ledger, file, empty = _ledger()
    ledger.close()
    for kept in file.parent.glob("ledger.db*"):
        kept.unlink()
    shutil.copy(empty, file)
    return ledger


@cache
def _ledger() -> tuple[Ledger, Path, Path]:
    """A ledger for seed after seed, its file, and a migrated file to start from. In memory where the machine can."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)  # also in a campaign's processes
    empty = folder / "empty.db"
    migrations.upgrade(f"sqlite:///{empty}")
    return open_ledger(f"sqlite:///{folder / 'ledger.db'}"), folder / "ledger.db", empty
