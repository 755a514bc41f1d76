"""`sync-pipeline simulate` as people and machines run it."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result

from sync_pipeline.cli import main
from sync_pipeline.core import readings
from sync_pipeline.core.money import Money
from sync_pipeline.simulator import campaign, play, shrink
from sync_pipeline.simulator.stage import Weather


def simulate(*options: str) -> Result:
    return CliRunner().invoke(main, ["simulate", "--processes", "1", *options])


def test_seeds_that_hold_are_counted_with_what_they_reached() -> None:
    told = simulate("--seeds", "2", "--timeline")
    assert told.exit_code == 0
    assert re.fullmatch(r"1 seeds at \d+\.\d\d per second, 0 fail", told.output.splitlines()[-1])
    assert re.search(r" worker \d+: POST /v1/customers -> 200\n", told.output)
    assert " people: win\n" in told.output


def test_a_failing_seed_is_told_with_its_least_timeline_and_ends_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "monthly_recurring_revenue", lambda *_, **__: Money(0, "GBP"))
    monkeypatch.setattr(shrink, "MOST_PLAYS", 1)
    told = simulate("--seeds", "2")
    assert told.exit_code == 1
    lines = told.output.splitlines()
    assert lines[0].startswith("seed 2 fails: I4: ")
    assert lines[1].startswith("the least of seed 2 that fails, ")
    assert any(" world: win (customer " in line for line in lines)
    assert lines[-1].endswith(", 1 fail")
    as_json = simulate("--seeds", "2", "--json")
    assert as_json.exit_code == 1
    found = json.loads(as_json.output)
    assert (found["seeds"], found["failed"]) == (1, [2])
    (broken,) = found["violations"].values()
    assert lines[0] == f"seed 2 fails: {'; '.join(broken)}"
    assert found["sometimes"]["people: win"] >= 1


def test_a_story_is_played_with_single_faults() -> None:
    told = simulate("--story", "paid", "--every", "700", "--json")
    assert told.exit_code == 0
    found = json.loads(told.output)
    assert found["failed"] == []
    assert found["played"] >= 2


def test_a_story_that_ends_otherwise_is_told_and_ends_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "monthly_recurring_revenue", lambda *_, **__: Money(0, "GBP"))
    told = simulate("--story", "paid", "--every", "700")
    assert told.exit_code == 1
    assert told.output.startswith("paid, undisturbed:\n  I4: ")
    assert told.output.splitlines()[-1].endswith(" end otherwise")


@pytest.mark.parametrize("wrong", [("--seeds", "9..1"), ("--seeds", "x"), ("--story", "none")])
def test_wrong_use_is_told_and_ends_with_two(wrong: tuple[str, ...]) -> None:
    assert simulate(*wrong).exit_code == 2


def test_what_breaks_again_and_again_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "plan_of", lambda seed: play.Plan(seed, (), (), Weather(), by_card=False))
    monkeypatch.setattr(
        campaign, "play", lambda plan: play.Result(plan, "", violations=["I1: this", "I2: that", "I1: this"])
    )
    found = json.loads(simulate("--seeds", "7", "--json").output)
    assert found["violations"] == {"7": ["I1: this (2 times)", "I2: that"]}
