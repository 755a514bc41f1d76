"""What a story is: a named play in two systems, as steps that people can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class StoryError(ValueError):
    """A file of stories cannot be used; one line per mistake, each with its place."""


class UnknownStory(ValueError):
    """There is no story of that name."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens: the verb's phrase, what it is given by parameter name, and where it is written."""

    phrase: str
    given: Mapping[str, Any]
    line: int


Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """`given` are steps from before the sync is installed. `rules` and `systems` are nested changes to the shipped
    rules file and to the settings of both systems. What is left for a person at the end is named by rule, what was
    refused for good by object."""

    name: str
    topic: str
    title: str
    shows: str
    given: Steps
    timeline: Steps
    rules: Mapping[str, Any] = field(default_factory=dict)
    systems: Mapping[str, Any] = field(default_factory=dict)
    left_for_a_person: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
