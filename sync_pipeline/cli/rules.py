"""Commands about the rules: those in force, and whether they fit the org."""

from __future__ import annotations

import json
import sys

import click

from sync_pipeline.cli.opening import only_one_form


@click.group()
def rules() -> None:
    """What is kept equal, whose word counts, and the names it has in your org."""


@rules.command("show", epilog="Example:  sync-pipeline rules show")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, in the shape of the rules file.")
@click.option("--markdown", is_flag=True, help="The fields as a Markdown table.")
def show(as_json: bool, markdown: bool) -> None:
    """Print the rules in force: those of SYNC_RULES over the shipped ones."""
    from sync_pipeline.config.rules import load_rules
    from sync_pipeline.config.rules_table import as_data, as_markdown, as_text
    from sync_pipeline.config.settings import load_local_settings

    only_one_form(as_json, markdown)
    in_force = load_rules(load_local_settings().rules_file)
    if as_json:
        click.echo(json.dumps(as_data(in_force), indent=2))
    else:
        click.echo(as_markdown(in_force) if markdown else as_text(in_force))


@rules.command("check", epilog="Example:  sync-pipeline rules check")
def check() -> None:
    """Hold the rules against the org: names, types, permissions, picklists, stages. Writes nothing."""
    from sync_pipeline.config.rules import read_rules
    from sync_pipeline.config.settings import load_settings
    from sync_pipeline.engine.assembly import build_salesforce
    from sync_pipeline.engine.org_check import check_org, in_words

    settings = load_settings()
    file = read_rules(settings.rules_file)
    found = in_words(file, check_org(build_salesforce(settings, file.rules), file))
    for line in found:
        click.echo(line)
    click.echo(f"{len(found)} faults" if found else "the rules fit the org")
    if found:
        sys.exit(1)
