"""Commands for whoever keeps the sync running: resync, doctor, and the state of the ledger."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from sync_pipeline.cli.opening import AccountId


@click.command(epilog="Example:  sync-pipeline resync 001Kj00000XyzABIA1")
@click.argument("accounts", type=AccountId(), nargs=-1, required=True)
def resync(accounts: tuple[str, ...]) -> None:
    """Mark Accounts as changed, so that they are looked at now."""
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, build_salesforce, open_existing_ledger
    from sync_pipeline.engine.intake import not_an_account
    from sync_pipeline.engine.intake import resync as mark

    settings = load_settings()
    salesforce = build_salesforce(settings, load_rules(settings.rules_file))
    with open_existing_ledger(settings) as ledger:
        if strange := not_an_account(ledger, salesforce, accounts):
            raise click.BadParameter(f"neither Salesforce nor the ledger knows an Account {', '.join(strange)}.")
        mark(ledger, accounts, build_env(settings))
    click.echo(f"{len(accounts)} marked; the next drain looks at them")


@click.command(epilog="Example:  sync-pipeline doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(as_json: bool) -> None:
    """Check access, fields, budgets, webhooks, clock and ledger, and say what to do where something is wrong."""
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.doctor import examine

    findings = list(examine(load_settings()))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:8} {finding.check}: {finding.detail}")
    if any(finding.verdict == "failed" for finding in findings):
        sys.exit(1)


@click.command(epilog="Example:  sync-pipeline init")
def init() -> None:
    """Begin with a new org: make a rules file and the ledger, hold the rules against the org, and say what to set.

    Writes to neither system.
    """
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.beginning import begin

    begun = begin(load_settings())
    click.echo(f"{'made' if begun.made else 'kept'} {begun.rules_file}")
    for fault in begun.faults:
        click.echo(fault)
    click.echo("set these, and nothing else will ever be written to:")
    for name, value in begun.variables.items():
        click.echo(f"  {name}={shlex.quote(value)}")
    if begun.faults:
        click.echo("mend what is told above, then again: sync-pipeline init")
        sys.exit(1)
    click.echo("next: sync-pipeline doctor, then: sync-pipeline plan")


@click.group()
def ledger() -> None:
    """The durable state of the sync."""


@ledger.command("upgrade", epilog="Example:  sync-pipeline ledger upgrade")
def ledger_upgrade() -> None:
    """Create the ledger, or bring it to this version's schema."""
    from sync_pipeline.config.settings import load_local_settings
    from sync_pipeline.ledger import migrations

    settings = load_local_settings()
    before = migrations.current(settings.database_url)
    migrations.upgrade(settings.database_url)
    after = migrations.current(settings.database_url)
    click.echo(f"the ledger is at {after}" if before == after else f"the ledger went from {before} to {after}")


@ledger.command("verify", epilog="Example:  sync-pipeline ledger verify --heads /mnt/write-once/heads.json")
@click.option("--account", type=AccountId(), metavar="ID", help="Only this Account's chain.")
@click.option(
    "--heads",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Hold the chains against the heads in this file, and if all is well keep the present ones in it.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ledger_verify(account: str | None, heads: Path | None, as_json: bool) -> None:
    """Recompute the hash chains of the audit and say where a row was changed, removed or slipped in.

    Every answered attempt must have its row, and the triggers that stop changes must stand. Who may change the
    database can take all of that away together: keep --heads where they cannot write.
    """
    from sync_pipeline.config.settings import load_local_settings
    from sync_pipeline.engine.assembly import open_existing_ledger
    from sync_pipeline.ledger import audit, audit_heads, audit_witness

    if heads is not None and account is not None:
        raise click.UsageError("--heads holds those of all Accounts; leave out --account.")
    kept = audit_heads.read(heads) if heads is not None else None
    with open_existing_ledger(load_local_settings()) as opened, opened.read() as conn:
        problems = audit.verify(conn, account)
        problems += audit_witness.missing_rows(conn, account)
        chains, rows = audit.extent(conn, account)
        if account is not None and not chains and not problems:
            raise click.BadParameter(f"the audit of this ledger knows no Account {account}: nothing was written to it.")
        problems += audit_witness.missing_triggers(conn)
        problems += audit_heads.compare(conn, kept or {})
        now = audit_heads.heads(conn)
    if heads is not None and not problems:
        audit_heads.write(heads, now)
    if as_json:
        click.echo(json.dumps({"chains": chains, "rows": rows, "problems": [asdict(each) for each in problems]}))
    else:
        for problem in problems:
            click.echo(f"{problem.account}{f' row {problem.seq}' if problem.seq else ''}: {problem.what}")
        click.echo(f"{rows} audit rows in {chains} chains, {len(problems)} problems")
        if heads is not None:
            click.echo(f"{heads} is as it was" if problems else f"{len(now)} heads are kept in {heads}")
    if problems:
        sys.exit(1)


@ledger.command("retain", epilog="Example:  sync-pipeline ledger retain")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ledger_retain(as_json: bool) -> None:
    """Remove what is older than `retention` in the rules keeps it. What is left of the audit still verifies."""
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, open_existing_ledger
    from sync_pipeline.engine.retention import retain

    settings = load_settings()
    env = build_env(settings)
    with open_existing_ledger(settings) as opened:
        removed = retain(opened, load_rules(settings.rules_file), env, run=f"retain-{env.token()}")
    if as_json:
        click.echo(json.dumps(asdict(removed)))
        return
    click.echo(
        f"removed {removed.audit} audit rows of {removed.chains} chains, {removed.commands} commands, "
        f"{removed.attempts} attempts, {removed.inbox} events, {removed.workers} dead workers"
    )


@ledger.command("status", epilog="Example:  sync-pipeline ledger status --json")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ledger_status(as_json: bool) -> None:
    """What waits, what is parked and why, what a person has to look at."""
    from sync_pipeline.config.settings import load_local_settings
    from sync_pipeline.engine.assembly import open_existing_ledger
    from sync_pipeline.engine.binding import bound
    from sync_pipeline.engine.drain import STALE_US
    from sync_pipeline.engine.env import SystemEnv
    from sync_pipeline.engine.guard import HOLD
    from sync_pipeline.ledger import commands, conflicts, cursors, reviews
    from sync_pipeline.ledger.status import ledger_status as read_status

    with open_existing_ledger(load_local_settings()) as opened, opened.read() as conn:
        held = cursors.get(conn, HOLD) or None
        status = asdict(read_status(conn, now_wall=SystemEnv(None).wall(), stale_us=STALE_US))
        parked = [
            {"account": row.account, "target": row.target, "wanted": row.reason, "refused": row.error}
            for row in commands.parked(conn)
        ]
        open_reviews = [asdict(review) for review in reviews.open_reviews(conn)]
        open_conflicts = [each for each in conflicts.everything(conn) if each.status == "Open"]
        owner = bound(conn)
    if as_json:
        found = {
            "belongs_to": asdict(owner) if owner else None,
            "stopped": held,
            "parked": parked,
            "reviews": open_reviews,
            "conflicts": [asdict(each) for each in open_conflicts],
        }
        click.echo(json.dumps({**status, **found}, indent=2))
        return
    if owner is not None:
        click.echo(f"belongs to {owner}")
    if held is not None:
        click.echo(f"nothing is written: {held}")
    waiting = status["work"]
    click.echo(f"accounts to look at: {waiting['dirty']} ({waiting['due']} due now, {waiting['leased']} in work)")
    click.echo(f"commands: {', '.join(f'{n} {state}' for state, n in status['commands'].items()) or 'none yet'}")
    click.echo(f"links: {status['links']}, money facts: {status['facts']}, audit rows: {status['audit_rows']}")
    for row in parked:
        click.echo(f"parked: {row['target']} of {row['account']}: {row['refused']}")
    if parked:
        click.echo(
            "parked writes are tried again when a record that they are about changes, with other rules or another "
            "version, by every reconcile, and by: sync-pipeline resync ACCOUNT"
        )
    for review in open_reviews:
        click.echo(f"review: {review['account']} {review['subject']}: {review['detail']}")
    for each in open_conflicts:
        click.echo(f"conflict {each.key}: {each.account} {each.record_id}: {each.reason}")


@ledger.command(
    "rebind",
    epilog="Example:  sync-pipeline ledger rebind --org 00DKj000001XyzA --stripe-account acct_1Nv0FG",
)
@click.option("--org", required=True, metavar="ID", help="The org to which the credentials lead, typed in full.")
@click.option("--stripe-account", required=True, metavar="ID", help="The Stripe account to which the key leads.")
def ledger_rebind(org: str, stripe_account: str) -> None:
    """Move this ledger to another org or Stripe account, on purpose.

    Everything that it remembers is then taken for theirs. A copy of an org wants a ledger of its own instead.
    """
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, build_salesforce, build_stripe, open_existing_ledger
    from sync_pipeline.engine.binding import bind, bound, reached

    settings = load_settings()
    salesforce = build_salesforce(settings, load_rules(settings.rules_file))
    found = reached(settings, salesforce, build_stripe(settings))
    if (org[:15], stripe_account) != (found.org_id, found.stripe_account):
        raise click.UsageError(f"the credentials lead to {found}; nothing was changed.")
    now = build_env(settings).now()
    with open_existing_ledger(settings) as opened, opened.tx() as conn:
        before = bound(conn)
        bind(conn, found, now)
    click.echo(f"the ledger belongs to {found}" + (f"; it belonged to {before}" if before not in (None, found) else ""))


@click.command(epilog="Example:  sync-pipeline tables > data_dictionary.md")
def tables() -> None:
    """Print the data dictionary: every table and view of the warehouse, in Markdown."""
    from sync_pipeline.warehouse.dictionary import page

    click.echo(page(), nl=False)
