"""`sync-pipeline sandbox`: the command line of the sandbox process. Also `python -m sync_pipeline.sandbox.command`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_PORT = click.IntRange(0, 65535)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    name="sandbox",
    context_settings={"max_content_width": 110},
    epilog="""\b
Example:
  sync-pipeline sandbox --data story --webhook-url http://127.0.0.1:8090/webhooks/stripe
\b
The one line on stdout has the addresses (the pages for people are at control_url) and the credentials:
  Salesforce  client_id and client_secret (client credentials, or with refresh_token),
              username, password and security_token (password grant, SOAP login), access_token
  Stripe      stripe_key, webhook_secret""",
)
@click.option("--salesforce-port", type=_PORT, default=0, metavar="N", help="Port of Salesforce; 0 picks a free one.")
@click.option("--stripe-port", type=_PORT, default=0, metavar="N", help="Port of Stripe; 0 picks a free one.")
@click.option("--control-port", type=_PORT, default=0, metavar="N", help="Port of the control plane and its pages.")
@click.option(
    "--data",
    type=click.Choice(["empty", "story", "company"]),
    default="empty",
    show_default=True,
    help="What is there at the start: nothing, one open deal of 45,000 pounds, or a company of many customers.",
)
@click.option("--accounts", type=click.IntRange(1), default=100, show_default=True, help="Size of --data company.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same ids and data.")
@click.option("--now", type=click.IntRange(0), metavar="EPOCH", help="Freeze the clock at this moment.")
@click.option("--webhook-url", metavar="URL", help="Deliver Stripe's events there, signed with webhook_secret.")
@click.option("--traffic", type=_FILE, help="Append every exchange to this file.")
@click.option("--settings", type=_FILE, help="JSON with settings of the Salesforce org and the Stripe account.")
@click.option("--keep", type=_FILE, help="Go on from the state in this file, if it exists; save it there.")
@click.option("--ready-file", type=_FILE, help="Keep the ready line there too, for commands without credentials.")
def sandbox(**options: Any) -> None:
    """Serve a local Salesforce and a local Stripe over HTTP until stopped.

    Both live on one virtual clock. When all ports answer, one line of JSON is printed.
    """
    from sync_pipeline.sandbox.options import Options, SandboxError
    from sync_pipeline.sandbox.server import serve

    url = options["webhook_url"]
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is not an http address.", param_hint="--webhook-url")
    try:
        serve(Options(**options))
    except SandboxError as error:
        raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    sandbox()
