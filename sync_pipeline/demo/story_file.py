"""The stories as data: YAML files, read and checked whole, with every mistake named by file and line.

    topic: Seats from either side
    stories:
      seats-added-by-sales:
        title: Sales adds five seats
        shows: they are billed from the day of the edit
        given: [...]       # steps from before the sync is installed
        timeline: [...]    # steps; after each the sync does its work

Further keys: `rules` are changes to the shipped rules file, `systems` settings of the two systems, and
`left for a person` names the reviews that stay open at the end, `refused` the records whose writes were refused
for good. What a step may say is in the verbs.
"""

from __future__ import annotations

from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sync_pipeline.demo import at_salesforce, at_stripe, circumstances
from sync_pipeline.demo.expectations import expectation_faults
from sync_pipeline.demo.story import Step, Steps, Story, StoryError
from sync_pipeline.demo.verbs import VERBS, bind, near

STORY_KEYS = {"title", "shows", "given", "timeline", "rules", "systems", "left for a person", "refused"}
REQUIRED = ("title", "shows", "timeline")
EXPECT = "expect"
VERBS_OF = (at_salesforce, at_stripe, circumstances)
"""The modules whose verbs a story may use."""


def shipped_stories() -> dict[str, Story]:
    """All stories that come with the product, by name, in the order of the files. Raises StoryError."""
    folder = resources.files("sync_pipeline.demo").joinpath("stories")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda each: each.name)
    stories: dict[str, Story] = {}
    for entry in files:
        for name, story in read_stories(entry.read_text("utf-8"), entry.name).items():
            if name in stories:
                raise StoryError(f"{entry.name}: the story {name!r} is told in another file too")
            stories[name] = story
    return stories


def stories_of(file: Path) -> dict[str, Story]:
    """The stories of a file, by name. Raises StoryError."""
    try:
        return read_stories(file.read_text("utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise StoryError(f"{file}: {error}") from None


def read_stories(text: str, file: str | Path) -> dict[str, Story]:
    """The stories of a file's text, by name. `file` is what mistakes are named after. Raises StoryError."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StoryError(f"{file}:{line}: {error.problem}") from None
    reader = _Reader(str(file))
    stories = reader.stories(node)
    if reader.mistakes:
        raise StoryError("\n".join(reader.mistakes))
    return stories


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self.mistakes: list[str] = []

    def stories(self, node: yaml.Node | None) -> dict[str, Story]:
        if node is None:
            self.mistakes.append(f"{self._file}: it is empty")
            return {}
        top = self._entries(node, {"topic", "stories"})
        if "topic" not in top or "stories" not in top:
            self.mistakes.append(f"{self._file}:{_line(node)}: needs 'topic' and 'stories'")
            return {}
        topic, told = str(self._value(top["topic"])), self._entries(top["stories"])
        if not told:
            self._wrong(top["stories"], "tells no story")
        return {name: story for name, held in told.items() if (story := self._story(name, topic, held)) is not None}

    def _story(self, name: str, topic: str, node: yaml.Node) -> Story | None:
        held = self._entries(node, STORY_KEYS)
        missing = [key for key in REQUIRED if key not in held]
        if missing:
            self._wrong(node, f"the story {name!r} has no {' and no '.join(missing)}")
            return None
        plain = {key: self._value(held[key]) for key in held.keys() - {"given", "timeline"}}
        for key, form in (("rules", dict), ("systems", dict), ("left for a person", list), ("refused", list)):
            if key in plain and not isinstance(plain[key], form):
                self._wrong(held[key], f"{key} is no {'mapping' if form is dict else 'list'}")
                return None
        return Story(
            name=name,
            topic=topic,
            title=str(plain["title"]),
            shows=str(plain["shows"]),
            given=self._steps(held["given"]) if "given" in held else (),
            timeline=self._steps(held["timeline"]),
            rules=plain.get("rules", {}),
            systems=plain.get("systems", {}),
            left_for_a_person=frozenset(plain.get("left for a person", ())),
            refused=frozenset(plain.get("refused", ())),
        )

    def _steps(self, node: yaml.Node) -> Steps:
        if not isinstance(node, yaml.SequenceNode):
            self._wrong(node, "expected a list of steps")
            return ()
        return tuple(step for each in node.value if (step := self._step(each)) is not None)

    def _step(self, node: yaml.Node) -> Step | None:
        """A phrase alone, or a phrase with what it is given."""
        phrase, argument = str(node.value), None
        if isinstance(node, yaml.MappingNode):
            held = self._entries(node)
            if len(held) != 1:
                self._wrong(node, f"one step at a time, not {', '.join(held)}")
                return None
            ((phrase, argument),) = held.items()
        chosen = VERBS.get(phrase)
        if chosen is None:
            self._wrong(node, f"{phrase!r} is no verb; {near(phrase, VERBS)}")
            return None
        if argument is not None and chosen.takes_steps:
            return Step(phrase, {next(iter(chosen.parameters)): self._steps(argument)}, _line(node))
        given, faults = bind(chosen, None if argument is None else self._value(argument))
        if phrase == EXPECT and not faults:
            faults = list(expectation_faults(given["what"]))
        for fault in faults:
            self._wrong(node, fault)
        return Step(phrase, {name.replace(" ", "_"): value for name, value in given.items()}, _line(node))

    def _value(self, node: yaml.Node) -> Any:
        """Plain data: numbers with a point become Decimals, dates stay texts."""
        if isinstance(node, yaml.MappingNode):
            return {name: self._value(held) for name, held in self._entries(node).items()}
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each) for each in node.value]
        match node.tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return node.value.lower() in ("true", "yes", "on")
            case "int":
                return int(node.value.replace("_", ""))
            case "float":
                return Decimal(node.value.replace("_", ""))
        return node.value

    def _entries(self, node: yaml.Node, known: set[str] | None = None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, "expected a mapping")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in found:
                self._wrong(key, f"{name!r} stands twice")
            elif known is not None and name not in known:
                self._wrong(key, f"{name!r} is not known here; {near(name, known)}")
            else:
                found[name] = value
        return found

    def _wrong(self, node: yaml.Node, fault: str) -> None:
        self.mistakes.append(f"{self._file}:{_line(node)}: {fault}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
