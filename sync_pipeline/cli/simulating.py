"""The command that plays the simulator."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter

import click

SEEDS = re.compile(r"(\d+)(?:\.\.(\d+))?")


class SeedRange(click.ParamType[range]):
    """One seed (7) or a range of seeds, both ends included (1..2000)."""

    name = "seeds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> range:
        found = SEEDS.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is neither a seed (7) nor a range of seeds (1..2000)", param, ctx)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            self.fail(f"{value} ends before it begins", param, ctx)
        return range(first, last + 1)


@click.command(epilog="Example:  sync-pipeline simulate --seeds 1..200")
@click.option("--seeds", type=SeedRange(), default="1..100", show_default=True, help="One seed, or first..last.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Seeds played at a time.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--timeline", is_flag=True, help="Print everything that happens in each seed.")
def simulate(seeds: range, processes: int, as_json: bool, timeline: bool) -> None:
    """Play the engine against both sandboxes while people, networks and workers misbehave, and check what holds.

    A seed that fails is shrunk to what it takes to fail, and told with its timeline. Ends with 1 if one does.
    """
    from sync_pipeline.simulator.campaign import campaign
    from sync_pipeline.simulator.shrink import shrink

    sometimes: Counter[str] = Counter()
    failed = []
    for result in campaign(seeds, processes):
        sometimes += result.sometimes
        if timeline:
            click.echo("\n".join(result.trace))
        if result.violations:
            failed.append(result.plan.seed)
            if not as_json:
                click.echo(f"seed {result.plan.seed} fails: {'; '.join(result.violations)}")
                smallest = shrink(result)
                click.echo(f"the least of it that fails, {len(smallest.plan.actions)} actions:")
                click.echo("\n".join(f"  {line}" for line in smallest.trace))
    if as_json:
        click.echo(json.dumps({"seeds": len(seeds), "failed": failed, "sometimes": dict(sorted(sometimes.items()))}))
    else:
        for what, count in sorted(sometimes.items()):
            click.echo(f"{count:8} {what}")
        click.echo(f"{len(seeds)} seeds, {len(failed)} fail")
    if failed:
        sys.exit(1)
