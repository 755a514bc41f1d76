"""The rules file: YAML to the typed rule table, with every mistake named by line.

The shipped `rules.yaml` holds every setting; a user's file holds what differs from it, or all of it. The meaning
of the settings is in `core`; here is only reading and checking the text itself. Whether the org has what they name
is `core.rules_check`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints
from zoneinfo import available_timezones

from sync_pipeline.config.located import Located, LocatedError, parse
from sync_pipeline.config.located import Path as Place
from sync_pipeline.config.setting_values import setting_value
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.kinds import KINDS
from sync_pipeline.core.readings import FORMS, READINGS
from sync_pipeline.core.rules import (
    Bulk,
    Commercial,
    FieldRule,
    Guards,
    Names,
    Priority,
    Reaction,
    Retention,
    Rules,
    Side,
    Snapshots,
)
from sync_pipeline.core.salesforce_records import SALESFORCE_RECORDS

NOT_KEPT = "none"
"""The kind of a row that says: this field is not kept."""
AT_STRIPE = ("customer.name", "customer.address", "customer.account_id")


Settings = TypeVar("Settings", Commercial, Guards, Retention, Bulk, Snapshots)
SETTINGS = ("commercial", "guards", "retention", "bulk", "snapshots")
"""The parts of the file that hold settings."""


class RulesError(ValueError):
    """The rules file cannot be used; one line per mistake, each with its place."""


@dataclass(frozen=True, slots=True)
class RulesFile:
    """A rule table and where it was read: `lines` has the line of every part of the user's own file."""

    name: str
    rules: Rules
    lines: Mapping[Place, int]

    def place(self, part: Place) -> str:
        """Where a part of the rules stands, for a message; a part that the file leaves out is named as the default."""
        if part in self.lines:
            return f"{self.name}:{self.lines[part]}"
        return f"{self.name} (default of {'.'.join(map(str, part))})"


def load_rules(path: Path | None = None) -> Rules:
    """The rule table of a file, or the shipped one. Raises RulesError."""
    return read_rules(path).rules


def read_rules(path: Path | None = None) -> RulesFile:
    """The rules file with the lines of its parts; the line of a row is under ("fields", target). Raises RulesError."""
    if path is None:
        return _shipped_rules()
    name = str(path)
    try:
        document = parse(path.read_text("utf-8"))
    except LocatedError as error:
        raise RulesError(f"{name}:{error.line}: {error}") from None
    except FileNotFoundError:
        raise RulesError(f"there is no file {name}; mend SYNC_RULES, or make one: sync-pipeline init") from None
    except OSError as error:
        raise RulesError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RulesError(f"{name} is not a text in UTF-8") from None
    if document.value is None or (isinstance(document.value, dict) and not any(document.value.values())):
        # A file that is being saved is empty for a moment, and would bill deals from before go_live.
        raise RulesError(f"{name}:1: the file says nothing; write what differs, or take SYNC_RULES away")
    return _read(name, document, _shipped().value)


@cache
def _shipped() -> Located:
    return parse(resources.files(__package__).joinpath("rules.yaml").read_text("utf-8"))


@cache
def _shipped_rules() -> RulesFile:
    parts: dict[str, Any] = {name: {} for name in (*SETTINGS, "salesforce")}
    return _read("rules.yaml", _shipped(), parts | {"fields": []})


def _read(name: str, document: Located, defaults: Mapping[str, Any]) -> RulesFile:
    reader = _Reader(name, document)
    rules = reader.rules(defaults)
    if reader.mistakes:
        ordered = sorted(reader.mistakes)
        raise RulesError("\n".join(f"{name}:{line}: {mistake}" for line, mistake in ordered))
    rows: dict[Place, int] = {("fields", target): line for target, line in reader.row_lines.items()}
    return RulesFile(name, rules, {**document.lines, **rows})


class _Reader:
    """Reads a document over defaults, which are known to be right, and collects every mistake with its line."""

    def __init__(self, name: str, document: Located) -> None:
        self._name = name
        self._document = document
        self.row_lines: dict[str, int] = {}
        self.mistakes: list[tuple[int, str]] = []

    def rules(self, defaults: Mapping[str, Any]) -> Rules:
        top = self._mapping((), self._document.value, {*SETTINGS, "salesforce", "fields"})
        commercial = self._settings("commercial", Commercial, top, defaults)
        guards = self._settings("guards", Guards, top, defaults)
        retention = self._settings("retention", Retention, top, defaults)
        bulk = self._settings("bulk", Bulk, top, defaults)
        snapshots = self._settings("snapshots", Snapshots, top, defaults)
        names = self._all_names(top.get("salesforce", {}), defaults["salesforce"])
        rows = top.get("fields") or []
        if not isinstance(rows, list):
            self._wrong(("fields",), f"fields: expected a list of rows, found {_shown(rows)}")
            rows = []
        known = {row["target"]: row for row in defaults["fields"]}
        for number, row in enumerate(rows):
            self._row(("fields", number), row, known, names)
        rules = (_rule(row) for row in known.values() if row is not None)
        return Rules(tuple(rules), commercial, names, guards, retention, bulk, snapshots)

    def _settings(
        self, part: str, kind: type[Settings], top: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> Settings:
        """One part of the file whose entries are settings of a type, over the shipped part."""
        hints = get_type_hints(kind)
        values = {**defaults[part], **self._mapping((part,), top.get(part, {}), set(hints))}
        usable = {}
        for name, value in values.items():
            try:
                usable[name] = setting_value(name, hints[name], value)
            except ValueError as error:
                self._wrong((part, name), f"{name} {_shown(value)}: {error}")
        if "time_zone" in usable:
            self._one_of((part, "time_zone"), "time_zone", usable["time_zone"], available_timezones())
        return kind(**usable)

    def _all_names(self, entry: Any, defaults: Mapping[str, Any]) -> dict[str, Names]:
        # Objects that are only written have no record class; the shipped file is their list.
        known = set(defaults) or set(entry if isinstance(entry, dict) else ())
        given = self._mapping(("salesforce",), entry, known)
        return {name: self._names(name, given.get(name, {}), defaults.get(name, {})) for name in sorted(known)}

    def _names(self, name: str, entry: Any, default: Mapping[str, Any]) -> Names:
        place: Place = ("salesforce", name)
        values = self._mapping(place, entry, {"object", "fields"})
        record = SALESFORCE_RECORDS.get(name)
        own = {field.name for field in dataclasses.fields(record)} if record else set(default.get("fields", {}))
        fields = values.get("fields", {})
        given = self._mapping((*place, "fields"), fields, own or set(fields if isinstance(fields, dict) else ()))
        for field, api_name in given.items():
            self._api_name((*place, "fields", field), field, api_name)
            for other, taken in {**default.get("fields", {}), **given}.items():
                if taken == api_name and other != field:
                    self._wrong((*place, "fields", field), f"{field}: {api_name} is the field of {other} too")
        if "object" in values:
            self._api_name((*place, "object"), "object", values["object"])
        sobject = values.get("object", default.get("object"))
        return Names(str(sobject), {**default.get("fields", {}), **{k: str(v) for k, v in given.items()}})

    def _api_name(self, place: Place, what: str, value: Any) -> None:
        if not isinstance(value, str) or not all(part.isidentifier() for part in value.split(".")):
            self._wrong(place, f"{what}: expected an API name as My_Field__c, found {_shown(value)}")

    def _row(self, place: Place, row: Any, known: dict[str, Any], names: Mapping[str, Names]) -> None:
        """Takes a row of the file into `known`, over the row of the same target; None where it is switched off."""
        before = len(self.mistakes)
        values = self._mapping(place, row, {field.name for field in dataclasses.fields(FieldRule)})
        if len(self.mistakes) > before:
            return
        if "target" not in values:
            self._wrong(place, "target is missing")
            return
        target = values["target"]
        self._one_of((*place, "target"), "target", target, _targets(names))
        if not isinstance(target, str) or len(self.mistakes) > before:
            return
        if target in self.row_lines:
            self._wrong(place, f"target {target} stands twice")
            return
        self.row_lines[target] = self._line(place)
        if values.get("kind") == NOT_KEPT:
            known[target] = None
            return
        values = {**(known.get(target) or {}), **values}
        for missing in (field.name for field in dataclasses.fields(FieldRule) if field.name not in values):
            self._wrong(place, f"{missing} is missing")
        known[target] = values if len(self.mistakes) == before and self._fits(place, values) else None

    def _fits(self, place: Place, values: Mapping[str, Any]) -> bool:
        """Says what is wrong with the words of a row, or would fail or write nonsense at run time."""
        before = len(self.mistakes)
        allowed: dict[str, Collection[str]] = {
            "kind": {*KINDS, NOT_KEPT},
            "source": READINGS,
            "canon": CANON,
            "owner": get_args(Side),
            "on_foreign_edit": get_args(Reaction),
            "priority": {name.lower() for name in Priority.__members__},
        }
        for key, words in allowed.items():
            self._one_of((*place, key), key, values[key], words)
        if not isinstance(values["personal"], bool):
            self._wrong((*place, "personal"), f"personal is {_shown(values['personal'])}; write true or false")
        if not isinstance(values["why"], str) or not values["why"].strip():
            self._wrong((*place, "why"), f"why is {_shown(values['why'])}; say in words what the field is for")
        if len(self.mistakes) > before:
            return False
        source, canon, kind = values["source"], values["canon"], values["kind"]
        forms = {FORMS[source]} if source in FORMS else {"text", "identifier"}
        if canon not in forms:
            self._wrong(place, f"canon {canon} does not fit {source}; use {' or '.join(sorted(forms))}")
        elif kind == "latch" and source != "activation":
            self._wrong(place, f"kind latch knows the order of activation only, not of {source}")
        elif kind == "min" and canon != "moment":
            self._wrong(place, f"kind min needs moments, {source} is {canon}")
        return len(self.mistakes) == before

    def _mapping(self, place: Place, value: Any, known: Collection[str]) -> dict[str, Any]:
        """The entries of a mapping whose keys are known; a key that is not is a mistake, nothing is an empty one."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            what = place[-1] if place else "the file"
            self._wrong(place, f"{what}: expected names and values, found {_shown(value)}")
            return {}
        for key in value:
            self._one_of((*place, key), "key", key, known)
        return {key: held for key, held in value.items() if key in known}

    def _one_of(self, place: Place, what: str, value: Any, known: Collection[str]) -> None:
        if isinstance(value, str) and value in known:
            return
        near = difflib.get_close_matches(str(value), list(known), n=1)
        listed = ", ".join(sorted(known)) if len(known) < 40 else f"{len(known)} names"
        hint = f"did you mean {near[0]}?" if near else f"known: {listed}"
        self._wrong(place, f"{what} {_shown(value)} is not known; {hint}")

    def _wrong(self, place: Place, mistake: str) -> None:
        self.mistakes.append((self._line(place), mistake))

    def _line(self, place: Place) -> int:
        while place and place not in self._document.lines:
            place = place[:-1]
        return self._document.lines.get(place, 1)


def _rule(values: Mapping[str, Any]) -> FieldRule:
    return FieldRule(**{**values, "priority": Priority[values["priority"].upper()]})


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _targets(names: Mapping[str, Names]) -> set[str]:
    return {f"{name}.{field}" for name, entry in names.items() for field in entry.fields} | {*AT_STRIPE}
