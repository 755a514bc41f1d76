"""What happens as one would read it aloud: a step of the story, a write of the sync."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.demo.records import OBJECTS, TABLES, Truth, id_of, name_of
from sync_pipeline.demo.story import Step

KIND_OF_OBJECT = {api_name: kind for kind, api_name in OBJECTS.items() if kind != "Renewal"}
KIND_OF_TABLE = {table: kind for kind, table in TABLES.items()}
MOMENTS = frozenset("backdate_start_date cancel_at end_date proration_date start_date trial_end".split())
"""Stripe's parameters that are moments, in seconds."""


def said(step: Step) -> str:
    """A step with what it is given."""
    given = [plain(value) for value in step.given.values() if not isinstance(value, tuple)]
    return f"{step.phrase}{': ' if given else ''}{'; '.join(given)}"


def plain(value: Any) -> str:
    """A value of a story or a write."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(held)}" for name, held in value.items())
    if isinstance(value, list):
        return " | ".join(plain(each) for each in value)
    return "nothing" if value is None else str(value)


def write_in_words(truth: Truth, kind: str, body: str, reason: str) -> str:
    """A write that took effect: `kind` and `body` as the ledger has them, names as `truth` does."""
    write: dict[str, Any] = json.loads(body, parse_float=Decimal)
    match kind:
        case "salesforce.update":
            return f"Salesforce: {_known(truth, 'salesforce', write)} gets {plain(write['fields'])}"
        case "salesforce.upsert":
            return f"Salesforce: a new {_kind(write['object'])} with {plain(write['fields'])}"
        case "salesforce.once":
            return f"Salesforce: a new {_kind(write['record']['object'])}; {reason}"
        case "stripe.create":
            return f"Stripe: a new {_kind(write['object'])}; {reason}"
        case "stripe.update":
            return f"Stripe: {_known(truth, 'stripe', write)} gets {plain(_readable(truth, write['params']))}"
        case "stripe.delete":
            return f"Stripe: {_known(truth, 'stripe', write)} is deleted; {reason}"
        case "alert.send":
            return f"Alert: {write['title']}"
    return reason


def _readable(truth: Truth, value: Any, name: str = "") -> Any:
    """What Stripe is given, with moments as times and lines and prices by name."""
    if isinstance(value, Mapping):
        return {"for" if key == "sf_line_id" else key: _readable(truth, held, key) for key, held in value.items()}
    if isinstance(value, list):
        return [_readable(truth, each) for each in value]
    if name in MOMENTS and isinstance(value, int):
        return f"{datetime.fromtimestamp(value, UTC):%d %b %Y %H:%M:%S} UTC"
    if name == "sf_line_id":
        return " and ".join(_by_id(truth, "salesforce", "Line", each) for each in str(value).split(","))
    return _by_id(truth, "stripe", name, value) if name == "price" else value


def _by_id(truth: Truth, system: str, kind: str, wanted: str) -> str:
    """A record by its name; by its id where it has none or is not there."""
    table = OBJECTS.get(kind, kind)
    found = next((each for each in truth[system].get(table, []) if id_of(each) == wanted), None)
    return (name_of(truth, kind, found) if found is not None else "") or wanted


def _known(truth: Truth, system: str, write: Mapping[str, Any]) -> str:
    """A record that is written to, by its name where it has one."""
    kind = _kind(write["object"])
    found = next((r for r in truth[system].get(write["object"], []) if id_of(r) == write["id"]), None)
    name = name_of(truth, kind, found) if found is not None else ""
    return f"{kind} {name or write['id']}"


def _kind(table: str) -> str:
    return KIND_OF_OBJECT.get(table) or KIND_OF_TABLE.get(table, table)
