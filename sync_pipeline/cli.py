"""The command line: thin commands over the engine, with lazy imports so that each starts fast.

Every error that a user can mend is one line that says what to do. Exit codes: 0 fine, 1 differences found or work
failed, 2 wrong use or configuration.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sync_pipeline.config.settings import sandbox_file
from sync_pipeline.sandbox.command import sandbox

if TYPE_CHECKING:
    from sync_pipeline.engine.context import Engine


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


main.add_command(sandbox)


@main.command(epilog="Example:  sync-pipeline receiver --port 8090")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 picks a free one.")
def receiver(host: str, port: int) -> None:
    """Serve the webhook endpoint: POST /webhooks/stripe, POST /webhooks/salesforce, GET /healthz."""
    import socket

    import uvicorn

    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, open_current_ledger
    from sync_pipeline.receiver.app import build_app

    settings = load_settings()
    if not settings.stripe_webhook_secrets:
        raise click.UsageError("STRIPE_WEBHOOK_SECRETS is not set: no webhook could be verified.")
    with open_current_ledger(settings) as ledger:
        app = build_app(ledger, build_env(settings), settings.stripe_webhook_secrets, settings.expect_org_id)
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise click.UsageError(f"cannot listen on {host}:{port}: {error.strerror}.") from None
        with listener:
            click.echo(f"listening on http://{host}:{listener.getsockname()[1]}")
            config = uvicorn.Config(app, log_level="warning", access_log=False)
            uvicorn.Server(config).run(sockets=[listener])


@main.command(epilog="Example:  sync-pipeline worker --once")
@click.option("--once", is_flag=True, help="Work until nothing is due, then end.")
def worker(once: bool) -> None:
    """Run the loop without Dagster: look for changes, bring dirty accounts to rest. Prints a JSON summary last."""
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.drain import DrainPlan, drain

    settings = load_settings()
    with _engine("worker") as engine:
        for_good = DrainPlan(linger_seconds=float("inf"), poll_seconds=settings.poll_seconds)
        report = drain(engine, DrainPlan(poll_seconds=0, sweep_seconds=0) if once else for_good)
    total = report.total
    summary = {
        "accounts": total.accounts,
        "settled": total.settled,
        "deferred": total.deferred,
        "resting": total.resting,
        "writes": total.writes,
        "linked": total.linked,
        "parked": total.parked,
        "new_changes": report.new_changes,
        "new_events": report.new_events,
        "problems": sorted(report.problems | total.problems),
    }
    click.echo(json.dumps(summary))
    if total.deferred or total.parked or report.problems:
        sys.exit(1)


@main.command(epilog="Example:  sync-pipeline reconcile --json")
@click.option("--json", "as_json", is_flag=True, help="The certificate as JSON.")
def reconcile(as_json: bool) -> None:
    """Compare both systems in full, repair what differs, and print the certificate of what agrees."""
    from sync_pipeline.engine.certificate_text import as_data, as_text
    from sync_pipeline.engine.reconcile import reconcile as run_reconcile

    with _engine("reconcile") as engine:
        certificate = run_reconcile(engine)
    click.echo(json.dumps(as_data(certificate), indent=2) if as_json else as_text(certificate))
    if not certificate.agrees:
        sys.exit(1)


@main.command(epilog="Example:  sync-pipeline plan --account 001Kj00000XyzABIA1")
@click.option(
    "--account", metavar="ID", help="Only this Account, from fresh reads; without it all, from full listings."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plan(account: str | None, as_json: bool) -> None:
    """Show every write that could be made at this moment, and why, without making any.

    A new deal takes several rounds: its subscription is planned once its customer exists.
    """
    from sync_pipeline.core.plan import plan as plan_account
    from sync_pipeline.engine.observe import observe
    from sync_pipeline.engine.reconcile import compare, read_tables
    from sync_pipeline.frames.plan import planned_writes

    if account is not None:
        _require_account_ids([account])
    with _engine("plan") as engine:
        if account is None:
            plans = list(compare(engine, read_tables(engine)).plans.values())
        else:
            world = observe(engine, [account])[account]
            plans = [plan_account(world, engine.rules, engine.personal_key)]
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


@main.command(epilog="Example:  sync-pipeline resync 001Kj00000XyzABIA1")
@click.argument("accounts", nargs=-1, required=True)
def resync(accounts: tuple[str, ...]) -> None:
    """Mark Accounts as changed, so that they are looked at now."""
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, open_current_ledger
    from sync_pipeline.engine.intake import resync as mark

    _require_account_ids(accounts)
    settings = load_settings()
    with open_current_ledger(settings) as ledger:
        mark(ledger, accounts, build_env(settings))
    click.echo(f"{len(accounts)} marked; the next drain looks at them")


@main.command(epilog="Example:  sync-pipeline doctor")
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


@main.group()
def ledger() -> None:
    """The durable state of the sync."""


@ledger.command("upgrade", epilog="Example:  sync-pipeline ledger upgrade")
def ledger_upgrade() -> None:
    """Create the ledger, or bring it to this version's schema."""
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.ledger import migrations

    settings = load_settings()
    before = migrations.current(settings.database_url)
    migrations.upgrade(settings.database_url)
    after = migrations.current(settings.database_url)
    click.echo(f"the ledger is at {after}" if before == after else f"the ledger went from {before} to {after}")


@ledger.command("status", epilog="Example:  sync-pipeline ledger status --json")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ledger_status(as_json: bool) -> None:
    """What waits, what is parked and why, what a person has to look at."""
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, open_current_ledger
    from sync_pipeline.engine.drain import STALE_US
    from sync_pipeline.ledger import commands, reviews
    from sync_pipeline.ledger.status import ledger_status as read_status

    settings = load_settings()
    with open_current_ledger(settings) as opened, opened.read() as conn:
        status = asdict(read_status(conn, now_wall=build_env(settings).wall(), stale_us=STALE_US))
        parked = [
            {"account": row.account, "target": row.target, "wanted": row.reason, "refused": row.error}
            for row in commands.parked(conn)
        ]
        open_reviews = [asdict(review) for review in reviews.open_reviews(conn)]
    if as_json:
        click.echo(json.dumps({**status, "parked": parked, "reviews": open_reviews}, indent=2))
        return
    waiting = status["work"]
    click.echo(f"accounts to look at: {waiting['dirty']} ({waiting['due']} due now, {waiting['leased']} in work)")
    click.echo(f"commands: {', '.join(f'{n} {state}' for state, n in status['commands'].items()) or 'none yet'}")
    click.echo(f"links: {status['links']}, money facts: {status['facts']}, audit rows: {status['audit_rows']}")
    for row in parked:
        click.echo(f"parked: {row['target']} of {row['account']}: {row['refused']}")
    for review in open_reviews:
        click.echo(f"review: {review['account']} {review['subject']}: {review['detail']}")


@main.command(epilog="Example:  sync-pipeline demo")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for the demo's state.")
def demo(keep: Path | None) -> None:
    """Play the story of a deal through a local Salesforce, a local Stripe, the receiver and Dagster."""
    from sync_pipeline.demo.play import play

    sys.exit(play(keep))


def _require_account_ids(accounts: Iterable[str]) -> None:
    from sync_pipeline.systems.stripe.events import ACCOUNT_ID

    for account in accounts:
        if not ACCOUNT_ID.fullmatch(account):
            raise click.BadParameter(f"{account!r} is not an Account id (18 characters, starting with 001).")


@contextmanager
def _engine(run: str) -> Iterator[Engine]:
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import open_engine

    with open_engine(load_settings(), run=run) as engine:
        yield engine


def _exit_code(error: Exception) -> int | None:
    """2 for what the user has configured wrongly, 1 for a system that does not answer, None for a defect."""
    from sync_pipeline.config.rules import RulesError
    from sync_pipeline.config.settings import SettingsError
    from sync_pipeline.engine.assembly import WrongSystem
    from sync_pipeline.engine.env import ClockUnreachable
    from sync_pipeline.engine.rounds import Halted
    from sync_pipeline.ledger.database import LedgerError
    from sync_pipeline.systems.outcomes import ReadFailed

    if isinstance(error, (SettingsError, RulesError, LedgerError, WrongSystem)):
        return 2
    return 1 if isinstance(error, (Halted, ReadFailed, ClockUnreachable)) else None


if __name__ == "__main__":
    main()
