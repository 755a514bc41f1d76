"""Commands that compare the two systems: reconcile repairs what differs, plan only shows it."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from sync_pipeline.cli.opening import AccountId, engine, only_one_form, terminal_width, text_file


@click.command(epilog="Example:  sync-pipeline reconcile --json")
@click.option("--json", "as_json", is_flag=True, help="The certificate as JSON.")
@click.option("--allow", is_flag=True, help="You have looked at the plan: write it, whatever the guards say.")
def reconcile(as_json: bool, allow: bool) -> None:
    """Compare both systems in full, repair what differs, and print the certificate of what agrees."""
    from sync_pipeline.engine.certificate_text import as_data, as_text
    from sync_pipeline.engine.reconcile import reconcile as run_reconcile

    with engine("reconcile", allow=allow) as running:
        certificate = run_reconcile(running, allow=allow)
    click.echo(json.dumps(as_data(certificate), indent=2) if as_json else as_text(certificate))
    if not certificate.agrees:
        sys.exit(1)


@click.command(epilog="Example:  sync-pipeline plan --account 001Kj00000XyzABIA1 --out plan.json")
@click.option(
    "--account",
    "accounts",
    type=AccountId(),
    metavar="ID",
    multiple=True,
    help="Only this Account, from fresh reads; may be given again. Without it all, from full listings.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Keep the plan for `apply`.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="As Markdown, for a pull request.")
def plan(accounts: tuple[str, ...], out: Path | None, as_json: bool, markdown: bool) -> None:
    """Show every write that would be made, why, and the money that it moves, without making any.

    Ends with 1 when there is something to write or to decide, an Account could not be read, or a write is in doubt.
    """
    from sync_pipeline.core import canonical
    from sync_pipeline.core.observation import Absent
    from sync_pipeline.engine.plan_text import as_markdown, as_text
    from sync_pipeline.engine.planning import document, foresee_accounts
    from sync_pipeline.engine.reconcile import compare, read_tables

    only_one_form(as_json, markdown)
    with text_file(out) if out is not None else nullcontext() as file, engine("plan") as running:
        if accounts:
            ahead = foresee_accounts(running, accounts)
            for each in ahead:
                if isinstance(each.before.account, Absent) and not each.before.links:
                    name = each.before.account_id
                    raise click.BadParameter(f"neither Salesforce nor the ledger knows an Account {name}.")
        else:
            ahead = list(compare(running, read_tables(running)).ahead.values())
        planned = document(running, ahead)
        kept = canonical.encode(planned)
        if file is not None:
            file.write(kept + "\n")
    if as_json:
        click.echo(kept)
    elif markdown:
        click.echo(as_markdown(planned))
    else:
        click.echo(as_text(planned, width=terminal_width()))
        if out is not None:
            click.echo(f"\nkept in {out}; write it with:  sync-pipeline apply {out}")
    if planned.writes or planned.open_matters or planned.unread or planned.in_doubt:
        sys.exit(1)


@click.command(epilog="Example:  sync-pipeline apply plan.json")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--allow", is_flag=True, help="You have looked at the plan: write it, whatever the guards say.")
def apply(file: Path, allow: bool) -> None:
    """Write a kept plan. An Account that has changed since is left alone, and its moved lines are shown.

    Ends with 1 when anything was left.
    """
    from sync_pipeline.engine.apply_plan import apply_plan
    from sync_pipeline.engine.planning import PlanError, from_json

    try:
        planned = from_json(file.read_bytes())
    except PlanError as error:
        raise click.BadParameter(f"{file}: {error}.") from None
    with engine("apply", allow=allow) as running:
        report = apply_plan(running, planned, allow=allow)
    for line in report.moved:
        where = f"{line.target} {line.field}".strip()
        click.echo(f"left: {line.account_id} {where}: {line.what}")
    for account in sorted(report.begun):
        click.echo(f"left: {account} changed while its plan was written: its first writes are made, the rest is left")
    for account, why in sorted(report.unread.items()):
        click.echo(f"left: {account} could not be read: {why}")
    total = report.total
    click.echo(
        f"{total.writes} writes, {total.settled + total.resting} of {len({w.account_id for w in planned.writes})} "
        f"accounts at rest; {len(report.refused)} left because they have changed, {len(report.unread)} because they "
        f"could not be read, {total.deferred} for later, {total.parked} writes refused"
    )
    click.echo(total.cost.in_words())
    for problem in sorted(total.problems):
        click.echo(f"problem: {problem}")
    if report.moved or report.unread or total.deferred or total.parked:
        sys.exit(1)
