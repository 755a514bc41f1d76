"""What several commands share: the engine that the settings describe, and the check of what a person typed."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
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


@contextmanager
def text_file(path: Path) -> Iterator[StringIO]:
    """Text for a file, which is written at the end. That it can be written is known at once, before work is done for
    it. Raises click.UsageError where it cannot."""
    is_new, text = not path.exists(), StringIO()
    with writing(path):
        path.open("a").close()
    try:
        yield text
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise
    with writing(path):
        path.write_text(text.getvalue(), "utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says what cannot be written, and why, where a system call fails. Raises click.UsageError."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}.") from None


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


def only_one_form(as_json: bool, markdown: bool) -> None:
    """Raises click.UsageError where both forms are asked for."""
    if as_json and markdown:
        raise click.UsageError("--json and --markdown are two forms of the same; ask for one of them.")


class AccountId(click.ParamType[str]):
    """An Account as people have it at hand: its id of 18 or 15 characters, or the link of its page. Gives the 18."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from sync_pipeline.core.salesforce_ids import record_id

        found = record_id(str(value))
        if found is None or not found.startswith("001"):
            self.fail(
                f"{value!r} is not an Account id: 15 or 18 characters that start with 001, capitals as in Salesforce.",
                param,
                ctx,
            )
        return found
