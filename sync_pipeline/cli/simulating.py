"""The command that plays the simulator."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sync_pipeline.simulator.play import Result

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
@click.option("--story", metavar="NAME", help="Instead of seeds, one story with every single fault (all: each story).")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Of a story's faults, each N-th.")
def simulate(seeds: range, processes: int, as_json: bool, timeline: bool, story: str | None, every: int) -> None:
    """Play the engine against both sandboxes while people, networks and workers misbehave, and check what holds.

    A seed that fails is told at once; when all are played, it is shrunk to what it takes to fail, and told with its
    timeline. With --story, a story is played
    once for every call and way to fail and wherever it matters that a worker is killed or stands still, and must
    always end in the same state. Ends with 1 if something fails.
    """
    if story is not None:
        _simulate_story(story, every, processes, as_json=as_json)
        return
    from sync_pipeline.engine.env import SystemEnv
    from sync_pipeline.simulator.campaign import campaign
    from sync_pipeline.simulator.play import plan_of
    from sync_pipeline.simulator.shrink import shrink

    sometimes: Counter[str] = Counter()
    failed: list[Result] = []
    env = SystemEnv()
    began = env.wall()
    for result in campaign(map(plan_of, seeds), processes, timelines=timeline):
        sometimes += result.sometimes
        if timeline:
            click.echo("\n".join(result.trace))
        if result.violations:
            failed.append(result)
            if not as_json:
                click.echo(f"seed {result.plan.seed} fails: {'; '.join(_each_once(result.violations))}")
    rate = len(seeds) * 1_000_000 / (env.wall() - began)
    if as_json:
        told = {
            "seeds": len(seeds),
            "per_second": round(rate, 2),
            "failed": [result.plan.seed for result in failed],
            "violations": {result.plan.seed: _each_once(result.violations) for result in failed},
            "sometimes": dict(sorted(sometimes.items())),
        }
        click.echo(json.dumps(told))
    else:
        for result in failed:
            smallest = shrink(result)
            click.echo(f"the least of seed {result.plan.seed} that fails, {len(smallest.plan.actions)} actions:")
            click.echo("\n".join(f"  {line}" for line in smallest.trace))
        for what, count in sorted(sometimes.items()):
            click.echo(f"{count:8} {what}")
        click.echo(f"{len(seeds)} seeds at {rate:.2f} per second, {len(failed)} fail")
    if failed:
        sys.exit(1)


def _each_once(violations: Iterable[str]) -> list[str]:
    return [what if times == 1 else f"{what} ({times} times)" for what, times in Counter(violations).items()]


def _simulate_story(story: str, every: int, processes: int, *, as_json: bool) -> None:
    from sync_pipeline.simulator.single_faults import STORIES, play_faults

    if story != "all" and story not in STORIES:
        raise click.BadParameter(f"{story!r} is no story: {', '.join(STORIES)}, all.", param_hint="--story")
    played, failed = 0, []
    for name in STORIES if story == "all" else (story,):
        for fault, found in play_faults(name, every=every, processes=processes):
            played += 1
            if found:
                failed.append({"story": name, "fault": fault, "differences": _each_once(found)})
                if not as_json:
                    click.echo("\n  ".join([f"{name}, {fault}:", *_each_once(found)]))
    if as_json:
        click.echo(json.dumps({"played": played, "failed": failed}))
    else:
        click.echo(f"{played} plays, {len(failed)} end otherwise")
    if failed:
        sys.exit(1)
