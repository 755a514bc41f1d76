"""The rules file: YAML to the typed rule table, with every mistake named by line.

The meaning of the rows is in `core`; here is only reading and checking. The shipped `rules.yaml` is the default.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml

from sync_pipeline.core.canon import CANON
from sync_pipeline.core.kinds import KINDS
from sync_pipeline.core.readings import READINGS
from sync_pipeline.core.rules import Commercial, FieldRule, Names, Priority, Reaction, Rules, Side


class RulesError(ValueError):
    """The rules file cannot be used; one line per mistake, each with its place."""


def load_rules(path: Path | None = None) -> Rules:
    """The rule table of a file, or the shipped one. Raises RulesError."""
    name = str(path) if path else "rules.yaml"
    try:
        text = path.read_text("utf-8") if path else resources.files(__package__).joinpath("rules.yaml").read_text()
        document = _Located.load(text)
    except (OSError, yaml.YAMLError) as error:
        raise RulesError(f"{name}: {error}") from None
    reader = _Reader(name)
    rules = reader.rules(document)
    if reader.mistakes:
        raise RulesError("\n".join(reader.mistakes))
    return rules


class _Located(yaml.SafeLoader):
    """A loader that notes the line of every mapping under the key `__line__`."""

    @classmethod
    def load(cls, text: str) -> Any:
        return yaml.load(text, cls)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        mapping["__line__"] = node.start_mark.line + 1
        return mapping


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self.mistakes: list[str] = []

    def rules(self, document: Any) -> Rules:
        top = self._mapping(document, {"commercial", "salesforce", "fields"}, required={"salesforce", "fields"})
        names = {name: self._names(entry) for name, entry in _entries(top.get("salesforce"))}
        rows = top.get("fields") or []
        return Rules(
            fields=tuple(rule for row in rows if (rule := self._field(row, names)) is not None),
            commercial=self._commercial(top.get("commercial") or {}),
            salesforce=names,
        )

    def _commercial(self, entry: Any) -> Commercial:
        known = {field.name for field in dataclasses.fields(Commercial)}
        values = self._mapping(entry, known, required=set())
        if "intervals" in values:
            values["intervals"] = {name: (pair[0], int(pair[1])) for name, pair in _entries(values["intervals"])}
        if "retry_days" in values:
            values["retry_days"] = tuple(values["retry_days"])
        for name in ("seat_families", "unusable_names"):
            if name in values:
                values[name] = frozenset(values[name])
        if values.get("go_live") is not None:
            values["go_live"] = str(values["go_live"])
        return Commercial(**values)

    def _names(self, entry: Any) -> Names:
        values = self._mapping(entry, {"object", "fields"}, required={"object", "fields"})
        return Names(str(values.get("object")), dict(_entries(values.get("fields"))))

    def _field(self, row: Any, names: Mapping[str, Names]) -> FieldRule | None:
        known = {field.name for field in dataclasses.fields(FieldRule)}
        before = len(self.mistakes)
        values = self._mapping(row, known, required=known)
        if len(self.mistakes) > before:
            return None
        line = row["__line__"]
        values["priority"] = str(values["priority"]).upper()
        self._one_of(line, "kind", values["kind"], KINDS)
        self._one_of(line, "source", values["source"], READINGS)
        self._one_of(line, "canon", values["canon"], CANON)
        self._one_of(line, "owner", values["owner"], get_args(Side))
        self._one_of(line, "on_foreign_edit", values["on_foreign_edit"], get_args(Reaction))
        self._one_of(line, "priority", values["priority"], Priority.__members__)
        self._one_of(line, "target", values["target"], _targets(names))
        if len(self.mistakes) > before:
            return None
        return FieldRule(**{**values, "priority": Priority[values["priority"]]})

    def _mapping(self, value: Any, known: set[str], *, required: set[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.mistakes.append(f"{self._name}: expected a mapping, found {value!r}")
            return {}
        line = value.get("__line__", 1)
        for key in value.keys() - known - {"__line__"}:
            self._one_of(line, "key", str(key), known)
        for key in sorted(required - value.keys()):
            self.mistakes.append(f"{self._name}:{line}: {key} is missing")
        return {key: value[key] for key in known & value.keys()}

    def _one_of(self, line: int, what: str, value: Any, known: Collection[str]) -> None:
        if value in known:
            return
        near = difflib.get_close_matches(str(value), list(known), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        self.mistakes.append(f"{self._name}:{line}: {what} {value!r} is not known; {hint}")


def _entries(mapping: Any) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in (mapping or {}).items() if key != "__line__"]


def _targets(names: Mapping[str, Names]) -> set[str]:
    at_salesforce = {f"{name}.{field}" for name, entry in names.items() for field in entry.fields}
    return at_salesforce | {"customer.name", "customer.address", "customer.account_id"}
