"""What is there when the sandbox starts: nothing, the story, a company, or what an earlier one kept."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

from sync_pipeline.sandbox import company, company_plan, story
from sync_pipeline.sandbox.options import Options, SandboxError
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
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
    if options.keep is not None and options.keep.exists():
        return _kept(options, options.keep, salesforce_url, log)
    if options.data == "company":
        until = options.now or int(time.time())
        sandbox = build(
            seed=options.seed,
            now=company_plan.opens_at(until),
            salesforce_settings=SalesforceSettings(multi_currency=True),
            salesforce_url=salesforce_url,
            log=log,
        )
        company.found(sandbox, accounts=options.accounts, seed=options.seed, until=until)
        if options.now is None:
            sandbox.move_to(int(time.time()))
            sandbox.clock.unfreeze()
        return sandbox
    sandbox = build(seed=options.seed, now=options.now, salesforce_url=salesforce_url, log=log)
    if options.data == "story":
        story.tell(sandbox)
    return sandbox


def _kept(options: Options, path: Path, salesforce_url: Callable[[], str], log: RequestLog) -> Sandbox:
    settings = SalesforceSettings(multi_currency=options.data == "company")
    sandbox = build(
        seed=options.seed, now=options.now, salesforce_settings=settings, salesforce_url=salesforce_url, log=log
    )
    try:
        sandbox.restore(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SandboxError(f"--keep {path}: {error}. Remove it to start anew.") from None
    return sandbox
