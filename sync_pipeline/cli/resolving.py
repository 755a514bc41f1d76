"""The command by which a person decides a conflict."""

from __future__ import annotations

import getpass

import click


@click.command(epilog="Example:  sync-pipeline resolve 5f0c9a17 --keep stripe")
@click.argument("conflict")
@click.option("--keep", required=True, type=click.Choice(["salesforce", "stripe"]), help="Whose value shall count.")
@click.option("--by", metavar="NAME", help="Who decides; the name of the user of this computer unless it is given.")
def resolve(conflict: str, keep: str, by: str | None) -> None:
    """Decide a conflict, or overrule how it was decided: whose value shall count in both systems.

    CONFLICT is its key as `ledger status` and the Salesforce record show it, or the beginning of it. The ruling is
    carried out by the next drain, and lasts until somebody edits the field again.
    """
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.core.conflict import Side
    from sync_pipeline.engine.assembly import build_env, open_existing_ledger
    from sync_pipeline.engine.ruling import rule

    settings = load_settings()
    side: Side = "Salesforce" if keep == "salesforce" else "Stripe"
    with open_existing_ledger(settings) as ledger:
        found = rule(ledger, build_env(settings), conflict, side, by=by or getpass.getuser())
    value = found.salesforce_in_words if side == "Salesforce" else found.stripe_in_words
    click.echo(f"{found.rule} of {found.record_id}: {value} shall count; the next drain writes it")
