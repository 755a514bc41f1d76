"""The command that answers "why"."""

from __future__ import annotations

import json

import click

from sync_pipeline.cli.opening import engine


@click.command(epilog="Example:  sync-pipeline explain Account/001Kj00000XyzABIA1 Lifetime_Value__c")
@click.argument("reference", metavar="OBJECT/ID")
@click.argument("field", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON; amounts in minor units, moments in microseconds UTC.")
def explain(reference: str, field: str | None, as_json: bool) -> None:
    """Show why a field has its value: the rule, what stands behind it, every write and what was there before.

    OBJECT is a Salesforce object (Account, Opportunity, OpportunityLineItem, Contract, Task, ...) or one of Stripe's
    (customer, subscription, subscription_item, ...); records can be named as `plan`, `undo` and `ledger status` show
    them, or by the link of their page in Salesforce. Without FIELD all fields are shown that the sync keeps.
    """
    from sync_pipeline.engine.by_name import reference as as_reference
    from sync_pipeline.engine.explain import explain as explain_record
    from sync_pipeline.engine.explain_text import as_data, as_text

    named = as_reference(reference)
    if ("/" not in named and ":" not in named) or "://" in named:
        raise click.BadParameter(f"{reference!r} is not OBJECT/ID, e.g. Account/001Kj00000XyzABIA1.")
    with engine("explain") as running:
        found = explain_record(running, named, field)
    click.echo(json.dumps(as_data(found), indent=2, default=str) if as_json else as_text(found))
