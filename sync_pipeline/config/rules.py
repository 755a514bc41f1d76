"""The rules file: YAML to the typed rule table, with every mistake named by line.

The meaning of the rows is in `core`; here is only reading and checking. The shipped `rules.yaml` is the default.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints
from zoneinfo import available_timezones

import yaml

from sync_pipeline.core.canon import CANON
from sync_pipeline.core.kinds import KINDS
from sync_pipeline.core.mrr import PERIODS_PER_YEAR
from sync_pipeline.core.readings import FORMS, READINGS
from sync_pipeline.core.records import SALESFORCE_RECORDS
from sync_pipeline.core.rules import Commercial, FieldRule, Names, Priority, Reaction, Rules, Side


class RulesError(ValueError):
    """The rules file cannot be used; one line per mistake, each with its place."""


def load_rules(path: Path | None = None) -> Rules:
    """The rule table of a file, or the shipped one. Raises RulesError."""
    name = str(path) if path else "rules.yaml"
    try:
        text = path.read_text("utf-8") if path else resources.files(__package__).joinpath("rules.yaml").read_text()
        document = _Located.load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RulesError(f"{name}:{line}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RulesError(f"{name}: {error}") from None
    reader = _Reader(name)
    rules = reader.rules(document)
    if reader.mistakes:
        raise RulesError("\n".join(reader.mistakes))
    return rules


class _Located(yaml.SafeLoader):
    """A loader that notes the line of every mapping under the key `__line__` and takes no key twice."""

    @classmethod
    def load(cls, text: str) -> Any:
        return yaml.load(text, cls)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        mapping = super().construct_mapping(node, deep=deep)
        mapping["__line__"] = node.start_mark.line + 1
        return mapping


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: set[str] = set()
        self.mistakes: list[str] = []

    def rules(self, document: Any) -> Rules:
        top = self._mapping(document, {"commercial", "salesforce", "fields"}, required={"salesforce", "fields"})
        written = {
            name
            for name, _ in _entries(top.get("salesforce"))
            if not difflib.get_close_matches(name, SALESFORCE_RECORDS)
        }
        objects = self._mapping(
            top.get("salesforce", {}), set(SALESFORCE_RECORDS) | written, required=set(SALESFORCE_RECORDS)
        )
        names = {name: self._names(name, entry) for name, entry in objects.items()}
        rows = top.get("fields", [])
        if not isinstance(rows, list):
            self.mistakes.append(f"{self._name}: fields: expected a list, found {rows!r}")
            rows = []
        fields = [rule for row in rows if (rule := self._field(row, names)) is not None]
        return Rules(tuple(fields), self._commercial(top.get("commercial", {})), names)

    def _commercial(self, entry: Any) -> Commercial:
        hints = get_type_hints(Commercial)
        values = self._mapping(entry, set(hints), required=set())
        line = entry.get("__line__", 1) if isinstance(entry, dict) else 1
        usable = {}
        for name, value in values.items():
            try:
                usable[name] = _commercial_value(name, hints[name], value)
            except (ValueError, TypeError) as error:
                self.mistakes.append(f"{self._name}:{line}: {name} {value!r}: {error}")
        self._one_of(line, "time_zone", usable.get("time_zone", "UTC"), available_timezones())
        method = get_args(hints["collection_method"])
        self._one_of(line, "collection_method", usable.get("collection_method", method[0]), method)
        return Commercial(**usable)

    def _names(self, name: str, entry: Any) -> Names:
        values = self._mapping(entry, {"object", "fields"}, required={"object", "fields"})
        record = SALESFORCE_RECORDS.get(name)
        fields = values.get("fields", {})
        if record is not None and "fields" in values:
            known = dataclasses.fields(record)
            required = {field.name for field in known if field.default is dataclasses.MISSING}
            fields = self._mapping(fields, {field.name for field in known}, required=required)
        return Names(str(values.get("object")), dict(_entries(fields)) if isinstance(fields, dict) else {})

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
        self._fits(line, values)
        if len(self.mistakes) > before:
            return None
        self._taken.add(values["target"])
        return FieldRule(**{**values, "priority": Priority[values["priority"]]})

    def _fits(self, line: int, values: Mapping[str, Any]) -> None:
        """What is right word by word and would still fail, or write nonsense, at run time."""
        place, source, canon, kind = f"{self._name}:{line}", values["source"], values["canon"], values["kind"]
        if not isinstance(values["personal"], bool):
            self.mistakes.append(f"{place}: personal is {values['personal']!r}; write true or false")
        if values["target"] in self._taken:
            self.mistakes.append(f"{place}: target {values['target']} stands twice")
        forms = {FORMS[source]} if source in FORMS else {"text", "identifier"}
        if canon not in forms:
            self.mistakes.append(f"{place}: canon {canon} does not fit {source}; use {' or '.join(sorted(forms))}")
        elif kind == "latch" and source != "activation":
            self.mistakes.append(f"{place}: kind latch knows the order of activation only, not of {source}")
        elif kind == "min" and canon != "moment":
            self.mistakes.append(f"{place}: kind min needs moments, {source} is {canon}")

    def _mapping(self, value: Any, known: set[str], *, required: set[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.mistakes.append(f"{self._name}: expected a mapping, found {value!r}")
            return {}
        line = value.get("__line__", 1)
        for key in value.keys() - known - {"__line__"}:
            self._one_of(line, "key", str(key), known)
        for key in sorted(required - value.keys()):
            self.mistakes.append(f"{self._name}:{line}: {key} is missing")
        return {key: held for key, held in value.items() if key in known}

    def _one_of(self, line: int, what: str, value: Any, known: Collection[str]) -> None:
        if isinstance(value, str) and value in known:
            return
        near = difflib.get_close_matches(str(value), list(known), n=1)
        listed = ", ".join(sorted(known)) if len(known) < 40 else f"{len(known)} names"
        hint = f"did you mean {near[0]}?" if near else f"known: {listed}"
        self.mistakes.append(f"{self._name}:{line}: {what} {value!r} is not known; {hint}")


def _entries(mapping: Any) -> list[tuple[str, Any]]:
    held = mapping if isinstance(mapping, dict) else {}
    return [(key, value) for key, value in held.items() if key != "__line__"]


def _commercial_value(name: str, hint: Any, value: Any) -> Any:
    """A value of the commercial part as its type; ValueError says what was expected."""
    if name == "intervals":
        if not isinstance(value, dict):
            raise ValueError("expected names with a unit and a count each")
        return {label: _interval(pair) for label, pair in _entries(value)}
    if name == "go_live":
        return None if value is None else date.fromisoformat(str(value)).isoformat()
    if hint is int:
        return _whole_number(value)
    if hint == tuple[int, ...] or hint == frozenset[str]:
        if not isinstance(value, list):
            raise ValueError("expected a list")
        return tuple(map(_whole_number, value)) if hint == tuple[int, ...] else frozenset(map(str, value))
    if not isinstance(value, str):
        raise ValueError("expected a text")
    # One that Stripe does not bill is said on every deal, where the people who sold it see it.
    if name == "default_currency" and not re.fullmatch("[A-Z]{3}", value):
        raise ValueError("expected an ISO code of three capital letters")
    return value


def _interval(pair: Any) -> tuple[str, int]:
    if not isinstance(pair, list) or len(pair) != 2 or pair[0] not in PERIODS_PER_YEAR:
        raise ValueError(f"expected a unit ({', '.join(PERIODS_PER_YEAR)}) and a count, as [month, 3]")
    return pair[0], _whole_number(pair[1], at_least=1)


def _whole_number(value: Any, at_least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"expected a whole number from {at_least}")
    return value


def _targets(names: Mapping[str, Names]) -> set[str]:
    at_salesforce = {f"{name}.{field}" for name, entry in names.items() for field in entry.fields}
    return at_salesforce | {"customer.name", "customer.address", "customer.account_id"}
