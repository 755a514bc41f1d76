"""What several commands share: the engine that the settings describe, and the check of what a person typed."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sync_pipeline.engine.context import Engine


@contextmanager
def engine(run: str, *, allow: bool = False) -> Iterator[Engine]:
    """The engine of this installation. In the audit the process is named by its command, whether that was allowed to
    pass the guards, who gave it, and the moment."""
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_env, open_engine
    from sync_pipeline.ledger import migrations
    from sync_pipeline.ledger.database import shown_url

    settings = load_settings()
    if migrations.current(settings.database_url) is None:
        click.echo(f"note: there is no ledger at {shown_url(settings.database_url)} yet; a new one is made", err=True)
    env = build_env(settings)
    begun = datetime.fromtimestamp(env.wall() // 1_000_000, UTC)
    name = f"{run}{'-allowed' if allow else ''}-by-{_person()}-{begun:%Y%m%dT%H%M%S}-{env.token()[:4]}"
    with open_engine(settings, run=name) as opened:
        for warning in opened.warnings:
            click.echo(f"warning: {warning}", err=True)
        yield opened


def terminal_width() -> int:
    """How many characters wide a table may be; no plan can be read in less than 100."""
    return max(shutil.get_terminal_size((160, 0)).columns, 100)


def _person() -> str:
    """The login name of whoever gave the command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that no name belongs to.
        name = f"uid{os.getuid()}"
    return re.sub(r"[^A-Za-z0-9._]", "_", name)


def require_account_ids(accounts: Iterable[str]) -> None:
    """Raises click.BadParameter for what cannot be an Account's id."""
    from sync_pipeline.core.salesforce_ids import is_account_id

    for account in accounts:
        if not is_account_id(account):
            raise click.BadParameter(
                f"{account!r} is not an Account id: 18 characters that start with 001, capitals as in Salesforce."
            )
