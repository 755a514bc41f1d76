"""The effective rule table as people, programs and the README read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from sync_pipeline.core.rules import FieldRule, Priority, Rules

HEADINGS = ("Field", "follows", "owner", "an edit by somebody else", "why")
EDITS = {"revert": "is put back", "review": "is shown to a person", "accept": "stays"}


def as_data(rules: Rules) -> dict[str, Any]:
    """The table as JSON-able data, in the shape of the rules file."""
    return {
        "commercial": {name: _plain(value) for name, value in asdict(rules.commercial).items()},
        "guards": {name: _plain(value) for name, value in asdict(rules.guards).items()},
        "retention": {name: _plain(value) for name, value in asdict(rules.retention).items()},
        "bulk": {name: _plain(value) for name, value in asdict(rules.bulk).items()},
        "snapshots": asdict(rules.snapshots),
        "salesforce": {kind: asdict(names) for kind, names in rules.salesforce.items()},
        "fields": [
            asdict(rule) | {"priority": Priority(rule.priority).name.lower(), "field": field_name(rules, rule)}
            for rule in rules.fields
        ],
    }


def as_text(rules: Rules) -> str:
    """The table for a terminal: the fields first, then the settings and the names."""
    rows = [HEADINGS, *_rows(rules)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows]
    settings = (
        ("Settings", rules.commercial),
        ("Guards", rules.guards),
        ("Retention", rules.retention),
        ("Bulk", rules.bulk),
        ("Snapshots", rules.snapshots),
    )
    for heading, part in settings:
        lines += ["", heading]
        lines += [f"  {field.name}: {_in_words(getattr(part, field.name))}" for field in fields(part)]
    for kind, names in rules.salesforce.items():
        lines += ["", f"{kind}: {names.object}"]
        lines += [f"  {name}: {api_name}" for name, api_name in names.fields.items()]
    return "\n".join(lines)


def as_markdown(rules: Rules) -> str:
    """The fields as the README shows them."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *((f"`{row[0]}`", *row[1:]) for row in _rows(rules))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def field_name(rules: Rules, rule: FieldRule) -> str:
    """A rule's target as its system calls it."""
    if rule.side == "stripe":
        return f"{rule.object}.{rule.field}"
    names = rules.salesforce[rule.object]
    return f"{names.object}.{names.fields[rule.field]}"


def _rows(rules: Rules) -> Iterator[tuple[str, ...]]:
    for rule in rules.fields:
        yield (
            field_name(rules, rule),
            f"{rule.source.replace('_', ' ')} ({rule.kind})",
            rule.owner.capitalize(),
            EDITS[rule.on_foreign_edit],
            rule.why,
        )


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    return {name: _plain(held) for name, held in value.items()} if isinstance(value, dict) else value


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_in_words(held)}" for name, held in value.items())
    if isinstance(value, (tuple, list, frozenset)):
        return ", ".join(str(each) for each in (sorted(value) if isinstance(value, frozenset) else value))
    return "not set" if value is None else str(value)
