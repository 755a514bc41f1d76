"""The scenario suite: every story that is shipped, played over real HTTP through the real engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from sync_pipeline.demo.play import Audience, Play
from sync_pipeline.demo.quick_stage import quick_stage
from sync_pipeline.demo.stage import Sandbox
from sync_pipeline.demo.story import Story
from sync_pipeline.demo.story_file import read_stories, shipped_stories
from sync_pipeline.ledger import audit

STORIES = shipped_stories()
SPOILED = """
topic: Spoiled
stories:
  wrong-in-every-way:
    title: a story whose expectations do not hold
    shows: that a story can fail
    timeline:
      - sales closes the deal
      - expect:
          Account: {MRR__c: 3750.01}
          item: 4
          customer: {name: Southwind}
          written: 0
          for a person: {incomplete_deal: the term}
      - the customer pays: No such deal
"""


class Silence:
    """An audience that is told nothing it would repeat."""

    def happens(self, at: datetime, words: str) -> None: ...

    def wrote(self, what: list[str]) -> None: ...

    def checked(self, what: str, differences: list[str]) -> None: ...


@dataclass
class Listener(Silence):
    """An audience that remembers what was checked, in the demo's words."""

    heard: list[str] = field(default_factory=list)

    def checked(self, what: str, differences: list[str]) -> None:
        self.heard.append(what)


def played(story: Story, sandbox: Sandbox, home: Path, audience: Audience | None = None) -> Play:
    with quick_stage(sandbox, home, story.rules) as stage:
        play = Play(stage, audience or Silence())
        play.run(story)
        with stage.ledger.read() as conn:
            assert audit.verify(conn) == []
    return play


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, sandbox_for: Callable[[Story], Sandbox], home: Path) -> None:
    story = STORIES[name]
    assert played(story, sandbox_for(story), home).failures == []


def test_the_suite_begins_with_the_deal_of_45000_pounds() -> None:
    assert next(iter(STORIES)) == "the-45000-deal"


def test_the_readme_shows_what_the_demo_checks(sandbox_for: Callable[[Story], Sandbox], home: Path) -> None:
    story = next(iter(STORIES.values()))
    listener = Listener()
    play = played(story, sandbox_for(story), home, listener)
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    heard = iter(listener.heard)
    assert [line for line in re.findall(r"^ +ok  (.+)$", readme, re.MULTILINE) if line not in heard] == []
    of_dagsters_runs = 2
    assert f"Salesforce and Stripe agree; all {play.checks + of_dagsters_runs} expectations held." in readme


def test_a_story_whose_expectations_do_not_hold_fails_at_each_of_them(
    sandbox_for: Callable[[Story], Sandbox], home: Path
) -> None:
    (story,) = read_stories(SPOILED, "spoiled.yaml").values()
    failures = played(story, sandbox_for(story), home).failures
    assert failures[:3] == [
        "line 9: Account MRR__c: found 3750.0, expected 3750.01",
        "line 9: item: found 3, expected 4",
        "line 9: customer name: found Northwind Analytics Ltd, expected Southwind",
    ]
    assert failures[3].startswith("line 9: written: found ")
    assert failures[4:] == [
        "line 9: for a person: incomplete_deal is missing",
        "line 15: no invoice is open",
    ]
