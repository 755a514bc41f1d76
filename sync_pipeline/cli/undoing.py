"""The command that sets back what a run has written."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from sync_pipeline.cli.opening import engine, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync_pipeline.core.undo import Stays
    from sync_pipeline.ledger.audit import RunSummary

RUNS_SHOWN = 20


@click.command(epilog="Example:  sync-pipeline undo reconcile-by-ana-20261126T020000-4f2a --write")
@click.argument("run", required=False)
@click.option("--write", is_flag=True, help="Set the values back; without it they are only shown.")
@click.option("--allow", is_flag=True, help="No guard stops it: somebody has looked at what would be set back.")
def undo(run: str | None, write: bool, allow: bool) -> None:
    """Set back what a run has written to Salesforce, where it still stands. Without RUN: list the newest runs.

    What was changed since stays, and so does what was written to Stripe; both are shown, and what the rules will write
    to Stripe because of what is set back. Mend the rule or the record that the run followed first: the rules have the
    last word again right after.
    """
    from sync_pipeline.engine.plan_text import as_text
    from sync_pipeline.engine.undo import carry_out, plan_undo
    from sync_pipeline.ledger import audit

    with engine("undo", allow=allow) as running:
        if run is None:
            with running.ledger.read() as conn:
                found = audit.runs(conn, RUNS_SHOWN)
            click.echo("\n".join(map(_shown, found)) or "no run in the audit has written anything")
            return
        planned = plan_undo(running, run)
        for command in (each for commands in planned.commands.values() for each in commands):
            for change in command.changes:
                click.echo(f"set back: {command.target} {change.field}: {_value(change.old)} -> {_value(change.new)}")
        for line in planned.again:
            click.echo(f"the rules would write it again: {line.target} {line.field} ({line.why})")
        if planned.leads_to is not None:
            click.echo(f"the rules would then write to Stripe:\n{as_text(planned.leads_to, width=terminal_width())}")
        _tell_stays(planned.stays)
        for account, why in sorted(planned.unread.items()):
            click.echo(f"left: {account} could not be read: {why}")
        records = sum(map(len, planned.commands.values()))
        if not write:
            click.echo(f"{records} records would be set back, {len(planned.stays)} matters stay; --write does it")
            if planned.unread:
                sys.exit(1)
            return
        report = carry_out(running, planned, allow=allow)
    _tell_stays(report.stays)
    done, waiting = report.total.done, report.total.waiting | planned.unread.keys()
    click.echo(f"{done} of {records} records set back, {len(planned.stays) + len(report.stays)} matters stay")
    if waiting:
        click.echo(f"for later, by the same command: {', '.join(sorted(waiting))}")
    if done < records or waiting:
        sys.exit(1)


def _tell_stays(stays: Iterable[Stays]) -> None:
    for line in stays:
        click.echo(f"stays: {line.target} {line.field}: {line.why}".replace(" : ", ": "))


def _value(value: Any) -> str:
    from sync_pipeline.engine.explain_text import in_words

    return "empty" if value is None else in_words(value)


def _shown(run: RunSummary) -> str:
    at = datetime.fromtimestamp(run.first_at // 1_000_000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}  {run.run}  {run.writes} writes to {run.accounts} accounts"
