"""The command line: thin commands over the engine, with lazy imports so that each starts fast.

Every error that a user can mend is one line that says what to do. Exit codes: 0 fine, 1 differences found or work
failed, 2 wrong use or configuration.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from sync_pipeline.cli.comparing import apply, plan, reconcile
from sync_pipeline.cli.explaining import explain
from sync_pipeline.cli.keeping import doctor, init, ledger, resync, tables
from sync_pipeline.cli.resolving import resolve
from sync_pipeline.cli.rules import rules
from sync_pipeline.cli.serving import demo, receiver, worker
from sync_pipeline.cli.simulating import simulate
from sync_pipeline.cli.undoing import undo
from sync_pipeline.config.settings import sandbox_file
from sync_pipeline.sandbox.command import sandbox


class _Commands(click.Group):
    """A group that turns every expected error into one line and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            code = _exit_code(error)
            if code is None:
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(code)


@click.group(
    cls=_Commands,
    context_settings={"max_content_width": 110, "default_map": {"sandbox": {"ready_file": str(sandbox_file())}}},
)
@click.version_option(package_name="sync-pipeline")
def main() -> None:
    """Keeps Salesforce and Stripe telling the same story, in both directions, to the penny."""


for command in (
    sandbox,
    receiver,
    worker,
    reconcile,
    plan,
    apply,
    undo,
    explain,
    resolve,
    resync,
    doctor,
    init,
    rules,
    ledger,
    tables,
    simulate,
    demo,
):
    main.add_command(command)


def _exit_code(error: Exception) -> int | None:
    """2 for what the user has configured wrongly, 1 for a system that does not answer, None for a defect."""
    from sync_pipeline.config.rules import RulesError
    from sync_pipeline.config.settings import SettingsError
    from sync_pipeline.demo.story import StoryError, UnknownStory
    from sync_pipeline.engine.binding import WrongSystem
    from sync_pipeline.engine.context import Halted
    from sync_pipeline.engine.env import ClockUnreachable
    from sync_pipeline.engine.explain import NothingToExplain
    from sync_pipeline.engine.planning import PlanError
    from sync_pipeline.engine.undo import UndoError
    from sync_pipeline.ledger.database import LedgerError
    from sync_pipeline.systems.outcomes import ReadFailed

    wrong_use = (SettingsError, RulesError, LedgerError, WrongSystem, UnknownStory, StoryError)
    if isinstance(error, (*wrong_use, NothingToExplain, PlanError, UndoError)):
        return 2
    return 1 if isinstance(error, (Halted, ReadFailed, ClockUnreachable)) else None
