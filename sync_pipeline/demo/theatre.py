"""Who plays what where: `demo` plays the first story through Dagster, `demo NAME` any of them on the quick stage.

The exit code is the verdict: 0 when every expectation held, 1 when one did not or a part did not start.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from sync_pipeline.demo.dagster_stage import DagsterStage, dagster_stage
from sync_pipeline.demo.play import Play
from sync_pipeline.demo.quick_stage import quick_stage
from sync_pipeline.demo.show import Telling, show_end, show_list, show_state, show_verdict
from sync_pipeline.demo.stage import MINIMUM_PROFILE, StageError, running_sandbox
from sync_pipeline.demo.story import Story, UnknownStory
from sync_pipeline.demo.verbs import near
from sync_pipeline.engine.env import Env, SystemEnv

Stories = Mapping[str, Story]
PLAIN_WIDTH = 110
SIDES = ("salesforce", "stripe")
QUICK_START = "1768471200"
"""2026-01-15 10:00 UTC: where the clock stands when a story begins on the quick stage."""


def list_stories(stories: Stories) -> None:
    """Prints every story with its title, by topic."""
    show_list(_console(), stories.values())


def play_first(stories: Stories, home: Path | None) -> int:
    """Plays the first story through the real path: receiver, sensors, drain runs; the UI stays up in a terminal."""
    console, env = _console(), SystemEnv()
    story = next(iter(stories.values()))
    telling = Telling(console, env)
    console.print(f"[bold]{story.title}[/bold], on a local Salesforce and a local Stripe; one to two minutes.")
    try:
        with dagster_stage((home or Path(".sync/demo")).absolute(), env, telling.say) as stage:
            before = show_state(console, stage.sandbox.truth(), "Before: Stripe knows nothing of the deal")
            play = Play(stage, telling)
            play.run(story)
            _check_runs(play, stage)
            show_state(console, stage.sandbox.truth(), "After: both systems tell the same story", before)
            show_verdict(console, play.failures, play.checks)
            if sys.stdin.isatty() and sys.stdout.isatty():
                show_end(console, stage)
                _until_interrupted(env)
            return 1 if play.failures else 0
    except (StageError, requests.RequestException) as error:
        console.print(f"[red]error:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def play_story(stories: Stories, name: str, home: Path | None) -> int:
    """Plays a story on the quick stage, telling what happens and what the sync does about it. Raises UnknownStory."""
    if name not in stories:
        raise UnknownStory(f"there is no story {name!r}; {near(name, stories)}, or see `sync-pipeline demo --list`")
    story, console = stories[name], _console()
    folder = (home or Path(".sync/demo")).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    console.print(f"[bold]{story.title}[/bold]: {story.shows}.")
    try:
        with running_sandbox(folder, "--now", QUICK_START, systems=systems_of(story)) as sandbox:
            with quick_stage(sandbox, folder, story.rules) as stage:
                play = Play(stage, Telling(console))
                play.run(story)
            show_state(console, sandbox.truth(), "At the end")
    except (StageError, requests.RequestException) as error:
        console.print(f"[red]error:[/red] {error}")
        return 1
    show_verdict(console, play.failures, play.checks)
    return 1 if play.failures else 0


def systems_of(story: Story) -> dict[str, Any]:
    """The settings of both systems for a story, as the sandbox's `--settings` takes them."""
    sides = {side: {**MINIMUM_PROFILE.get(side, {}), **story.systems.get(side, {})} for side in SIDES}
    plain: dict[str, Any] = json.loads(json.dumps(sides, default=float))
    return plain


def _check_runs(play: Play, stage: DagsterStage) -> None:
    runs, failed = stage.drain_runs()
    play.checks += 2
    if not runs:
        play.failures.append("no sensor started a drain run")
    if failed:
        play.failures.append(f"{failed} of {runs} drain runs failed")


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _until_interrupted(env: Env) -> None:
    try:
        while True:
            env.sleep(1)
    except KeyboardInterrupt:
        return
