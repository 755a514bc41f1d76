"""Playing the demo: the stage is built, the chapters are told, and the exit code is the verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import requests
from rich.console import Console

from sync_pipeline.demo.chapters import CHAPTERS
from sync_pipeline.demo.show import show_end, show_state, show_verdict
from sync_pipeline.demo.stage import StageError, built_stage
from sync_pipeline.demo.story import Story, say
from sync_pipeline.engine.env import Env, SystemEnv

PLAIN_WIDTH = 110


def play(home: Path | None) -> int:
    """Plays the story and returns the exit code: 0 when both systems agree and every expectation held."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    env = SystemEnv()
    started = env.wall()
    folder = (home or Path(".sync/demo")).absolute()
    console.print("[bold]The life of a deal[/bold], on a local Salesforce and a local Stripe; one to two minutes.")
    try:
        with built_stage(folder, env, lambda text: say(console, env, started, text)) as stage:
            story = Story(console, env, stage, started)
            before = show_state(console, story.truth(), "Before: the deal is being negotiated, Stripe knows nothing")
            for chapter in CHAPTERS:
                chapter(story)
            show_state(console, story.truth(), "After: both systems tell the same story", before)
            show_verdict(console, story.failures, story.checked)
            if sys.stdin.isatty() and sys.stdout.isatty():
                show_end(console, stage)
                _until_interrupted(env)
            return 1 if story.failures else 0
    except (StageError, requests.RequestException) as error:
        console.print(f"[red]error:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _until_interrupted(env: Env) -> None:
    try:
        while True:
            env.sleep(1)
    except KeyboardInterrupt:
        return
