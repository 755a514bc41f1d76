"""YAML with places: the plain values of a document, and the line on which every part of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Keys and positions from the top of a document, as ("salesforce", "account", "object") or ("fields", 3, "kind")."""


class LocatedError(ValueError):
    """Text that is not usable YAML: `line` and what is wrong there."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True)
class Located:
    """`value` is made of dicts, lists and scalars; `lines` has the line of every key and entry, the first being 1."""

    value: Any
    lines: Mapping[Path, int]


def parse(text: str) -> Located:
    """The document of a text. A key that stands twice is an error, where YAML would silently keep the last."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return Located(None if node is None else loader.plain(node, ()), loader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise LocatedError(mark.line + 1 if mark else 1, str(error.problem)) from None
    except yaml.YAMLError as error:
        raise LocatedError(1, str(error).splitlines()[0]) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lines: dict[Path, int] = {}
        self._within: list[yaml.Node] = []

    def plain(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if any(node is outer for outer in self._within):
            raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
        self._within.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.plain(entry, (*path, number)) for number, entry in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._within.pop()

    def _scalar(self, node: yaml.Node) -> Any:
        """What has the form of a value and is none, as 2026-02-30, is the text that it is: whoever reads it says what
        was expected."""
        try:
            return self.construct_object(node)
        except (ValueError, LookupError, AttributeError, OverflowError):
            # A day or number that does not exist; a tag of something else than what it stands before.
            return node.value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        written: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
            if key.value in written:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
            written.add(key.value)
        self.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            self.lines[*path, key.value] = key.start_mark.line + 1
            found[key.value] = self.plain(value, (*path, key.value))
        return found
