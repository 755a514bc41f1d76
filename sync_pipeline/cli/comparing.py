"""Commands that compare the two systems: reconcile repairs what differs, plan only shows it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from sync_pipeline.cli.opening import engine, require_account_ids


@click.command(epilog="Example:  sync-pipeline reconcile --json")
@click.option("--json", "as_json", is_flag=True, help="The certificate as JSON.")
def reconcile(as_json: bool) -> None:
    """Compare both systems in full, repair what differs, and print the certificate of what agrees."""
    from sync_pipeline.engine.certificate_text import as_data, as_text
    from sync_pipeline.engine.reconcile import reconcile as run_reconcile

    with engine("reconcile") as running:
        certificate = run_reconcile(running)
    click.echo(json.dumps(as_data(certificate), indent=2) if as_json else as_text(certificate))
    if not certificate.agrees:
        sys.exit(1)


@click.command(epilog="Example:  sync-pipeline plan --account 001Kj00000XyzABIA1")
@click.option(
    "--account", metavar="ID", help="Only this Account, from fresh reads; without it all, from full listings."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plan(account: str | None, as_json: bool) -> None:
    """Show every write that could be made at this moment, and why, without making any.

    A new deal takes several rounds: its subscription is planned once its customer exists.
    """
    from sync_pipeline.core.observation import Absent
    from sync_pipeline.core.plan import plan as plan_account
    from sync_pipeline.engine.observe import observe
    from sync_pipeline.engine.reconcile import compare, read_tables
    from sync_pipeline.frames.plan import planned_writes

    if account is not None:
        require_account_ids([account])
    with engine("plan") as running:
        if account is None:
            plans = list(compare(running, read_tables(running)).plans.values())
        else:
            world = observe(running, [account])[account]
            if isinstance(world.account, Absent) and not world.links:
                raise click.BadParameter(f"neither Salesforce nor the ledger knows an Account {account}.")
            plans = [plan_account(world, running.rules, running.personal_key)]
    writes = [asdict(write) for write in planned_writes(plans)]
    reviews = [asdict(review) for planned in plans for review in planned.reviews]
    if as_json:
        click.echo(json.dumps({"writes": writes, "reviews": reviews}, indent=2))
    else:
        for write in writes:
            change = f" {write['field']}: {write['old']} -> {write['new']}" if write["field"] else ""
            click.echo(f"{write['action']} {write['target']}{change}  ({write['reason']})")
        for review in reviews:
            click.echo(f"review {review['subject']}: {review['detail']}")
        click.echo(f"{len(writes)} writes, {len(reviews)} matters for a person")
    if writes or reviews:
        sys.exit(1)
