"""What is there when the sandbox starts: nothing, the story, a company, or what an earlier one kept."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sync_pipeline.sandbox import company, company_plan, story
from sync_pipeline.sandbox.options import Options, SandboxError
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.vendor_settings import read_settings
from sync_pipeline.sandbox.world import Sandbox, build


def first_state(options: Options, salesforce_url: Callable[[], str], log: RequestLog) -> Sandbox:
    """The sandbox with its data in it, its clock where the options want it. Raises SandboxError."""
    # Rows are millions of objects without cycles: looking for garbage among them would double the time.
    gc.disable()
    try:
        return _made(options, salesforce_url, log)
    finally:
        gc.freeze()
        gc.enable()


def _made(options: Options, salesforce_url: Callable[[], str], log: RequestLog) -> Sandbox:
    if options.keep is not None and not options.keep.parent.is_dir():
        raise SandboxError(f"--keep {options.keep}: there is no folder {options.keep.parent}. Make it first.")
    vendors = read_settings(options.settings)
    salesforce = vendors.salesforce
    until = options.now or int(time.time())
    if options.data == "company":
        salesforce = replace(salesforce, multi_currency=True)
    kept = options.keep if options.keep is not None and options.keep.exists() else None
    lived = options.data == "company" and kept is None
    try:
        sandbox = build(
            seed=options.seed,
            now=company_plan.opens_at(until) if lived else options.now,
            salesforce_settings=salesforce,
            stripe_settings=vendors.stripe,
            salesforce_url=salesforce_url,
            log=log,
        )
    except ValueError as error:
        raise SandboxError(f"--settings {options.settings}: {error}.") from None
    if kept is not None:
        _restore(sandbox, kept)
    elif options.data == "story":
        story.tell(sandbox)
    elif lived:
        company.found(sandbox, accounts=options.accounts, seed=options.seed, until=until)
        if options.now is None:
            sandbox.move_to(int(time.time()))
            sandbox.clock.unfreeze()
    return sandbox


def _restore(sandbox: Sandbox, kept: Path) -> None:
    try:
        sandbox.restore(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SandboxError(f"--keep {kept}: {error}. Remove it to start anew.") from None
