"""Commands that go on until they are stopped, or play something through: receiver, worker, demo."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sync_pipeline.cli.opening import engine, writing

if TYPE_CHECKING:
    from sync_pipeline.engine.context import Engine

TRY_AGAIN_SECONDS = 5


@click.command(epilog="Example:  sync-pipeline receiver --port 8090")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 picks a free one.")
def receiver(host: str, port: int) -> None:
    """Serve the webhook endpoint: POST /webhooks/stripe, POST /webhooks/salesforce, GET /healthz."""
    import socket

    import uvicorn

    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, open_current_ledger
    from sync_pipeline.engine.binding import bound
    from sync_pipeline.receiver.app import build_app

    settings = load_settings()
    if not settings.stripe_webhook_secrets:
        raise click.UsageError("STRIPE_WEBHOOK_SECRETS is not set: no webhook could be verified.")
    with open_current_ledger(settings) as ledger:
        with ledger.read() as conn:
            own = bound(conn)
        org_id = settings.expect_org_id or (own.org_id if own else None)
        app = build_app(ledger, build_env(settings), settings.stripe_webhook_secrets, org_id)
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise click.UsageError(f"cannot listen on {host}:{port}: {error.strerror}.") from None
        with listener:
            click.echo(f"listening on http://{host}:{listener.getsockname()[1]}")
            config = uvicorn.Config(app, log_level="warning", access_log=False)
            uvicorn.Server(config).run(sockets=[listener])


@click.command(epilog="Example:  sync-pipeline worker --once")
@click.option("--once", is_flag=True, help="Work until nothing is due, then end.")
@click.option("--allow", is_flag=True, help="You have looked at the plan: write it, whatever the guards say.")
def worker(once: bool, allow: bool) -> None:
    """Run the loop without Dagster: look for changes, bring dirty accounts to rest. Prints a JSON summary last.

    In it `accounts` counts looks at Accounts, and `settled`, `deferred` and `resting` how those ended: an Account that
    is looked at twice counts twice.

    It waits for a system that does not answer; where access is refused, it ends. Accounts `with_others` are worked on
    by another process, or were when it died: they are due again in two minutes.

    SIGTERM and Ctrl-C end it as soon as nothing is in flight; what it had begun goes back to the queue.
    """
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.drain import DrainPlan, drain
    from sync_pipeline.ledger import work

    if allow and not once:
        raise click.UsageError("--allow goes with --once: what is allowed ends with that work.")
    settings = load_settings()
    asked = _asked_to_end()
    with ExitStack() as opened:
        running = _reachable(opened, asked, for_good=not once, allow=allow)
        if running is None:
            return
        at_once = DrainPlan(poll_seconds=0, sweep_seconds=0, allow=allow, is_over=asked.is_set)
        for_good = DrainPlan(float("inf"), poll_seconds=settings.poll_seconds, is_over=asked.is_set)
        report = drain(running, at_once if once else for_good)
        with running.ledger.read() as conn:
            elsewhere = work.status(conn, running.env.wall()).leased
    total = report.total
    summary = {
        "accounts": total.accounts,
        "settled": total.settled,
        "deferred": total.deferred,
        "resting": total.resting,
        "writes": total.writes,
        "linked": total.linked,
        "parked": total.parked,
        "with_others": elsewhere,
        "new_changes": report.new_changes,
        "new_events": report.new_events,
        "calls": total.cost.report(),
        "problems": sorted(report.problems | total.problems),
    }
    click.echo(json.dumps(summary))
    if not asked.is_set() and (total.deferred or total.parked or report.problems):
        sys.exit(1)


def _asked_to_end() -> threading.Event:
    """Set by SIGTERM or Ctrl-C. Who asks twice does not want to wait."""
    asked = threading.Event()

    def end(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return asked


def _reachable(opened: ExitStack, asked: threading.Event, *, for_good: bool, allow: bool) -> Engine | None:
    """The engine; `for_good` is worth waiting until both systems answer. None when it was asked to end meanwhile."""
    from sync_pipeline.systems.outcomes import ReadFailed

    while not asked.is_set():
        try:
            return opened.enter_context(engine("worker", allow=allow))
        except ReadFailed as failure:
            if failure.access or not for_good:
                raise
            click.echo(f"waiting: {failure}", err=True)
            asked.wait(TRY_AGAIN_SECONDS)
    return None


@click.command(epilog="Example:  sync-pipeline demo deal-won-and-paid")
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Show every story with its title.")
@click.option("--stories", type=click.Path(path_type=Path, dir_okay=False), help="A file of stories of your own.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for the demo's state.")
def demo(name: str | None, listed: bool, stories: Path | None, keep: Path | None) -> None:
    """Play a story in a local Salesforce and a local Stripe, and check what both say.

    Without NAME the first story is played through the receiver and Dagster; with it any story on a quick stage.
    """
    from sync_pipeline.demo.story_file import shipped_stories, stories_of
    from sync_pipeline.demo.theatre import list_stories, play_first, play_story

    known = stories_of(stories) if stories else shipped_stories()
    if listed:
        list_stories(known)
    else:
        if keep is not None:
            with writing(keep):
                keep.mkdir(parents=True, exist_ok=True)
        sys.exit(play_story(known, name, keep) if name else play_first(known, keep))
