"""The rules against the org: every name that they use, looked up in the org's own schema.

What the org does not have, or does not let the integration user do, is told before the first write, all at once,
each with the nearest name that would be right.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from sync_pipeline.core.org_schema import OrgField, OrgObject, OrgSchema
from sync_pipeline.core.rules import MASTER, Names, Rules
from sync_pipeline.core.salesforce_records import SALESFORCE_RECORDS
from sync_pipeline.core.written import CREATED, ONCE_ONLY, Use, written_fields

TEXTS = frozenset(
    "string textarea picklist multipicklist email phone url id reference combobox encryptedstring".split()
)
NUMBERS = frozenset({"int", "double", "currency", "percent"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not fit. `part` is its place in the rules file.

    Nothing at all can be read while a `fatal` one is there; another keeps single writes from succeeding.
    """

    part: tuple[str, ...]
    message: str
    fatal: bool


def faults(rules: Rules, schema: OrgSchema) -> list[Fault]:
    """Everything in the rules that the org does not have or does not allow, in the order of the rules."""
    uses = written_fields(rules)
    found: list[Fault] = []
    for kind, names in rules.salesforce.items():
        found.extend(_of_object(kind, names, uses, schema))
    found.extend(_of_stages(rules, schema))
    found.extend(_of_record_types(rules, schema))
    found.extend(_of_intervals(rules, schema))
    return found


def parents(rules: Rules, schema: OrgSchema) -> set[str]:
    """The objects that mapped paths (Owner.IsActive) lead to and that were not described."""
    needed = set()
    for names in rules.salesforce.values():
        described = schema.objects.get(names.object)
        for api_name in names.fields.values() if described else ():
            reference = described.relationship(api_name.split(".")[0]) if "." in api_name and described else None
            needed |= set(reference.refers_to[:1]) if reference else set()
    return needed - schema.objects.keys()


def _of_object(kind: str, names: Names, uses: Mapping[tuple[str, str], Use], schema: OrgSchema) -> Iterator[Fault]:
    described = schema.objects.get(names.object)
    place = ("salesforce", kind, "object")
    if described is None:
        yield Fault(place, _unknown(f"the org has no object {names.object}", names.object, schema.all_names), True)
        return
    if kind in CREATED and not described.createable:
        yield Fault(place, f"the integration user may not create {names.object} records; {_PERMIT}", False)
    is_updated = any(use.updated for (of, _), use in uses.items() if of == kind)
    if is_updated and not described.updateable:
        yield Fault(place, f"the integration user may not edit {names.object} records; {_PERMIT}", False)
    for name, api_name in names.fields.items():
        part = ("salesforce", kind, "fields", name)
        if described.lacks(api_name):
            continue
        field = _find(api_name, described, schema)
        if isinstance(field, str):
            yield Fault(part, field, True)
            continue
        wanted = expected_types(kind, name)
        if field.type not in wanted:
            known = ", ".join(sorted(wanted)) if len(wanted) < 5 else "a text"
            what = f"{names.object}.{api_name} is of type {field.type}, {name} needs {known}"
            yield Fault(part, what, True)
        elif use := uses.get((kind, name)):
            yield from _of_written(part, f"{names.object}.{api_name}", field, use, described)
        if name in ONCE_ONLY.get(kind, ()) and not (field.external_id and field.unique and field.case_sensitive):
            what = (
                f"{names.object}.{api_name} must be an external id, unique and case-sensitive: it keeps a record "
                "from being made twice"
            )
            yield Fault(part, what, True)


def _of_written(part: tuple[str, ...], shown: str, field: OrgField, use: Use, described: OrgObject) -> Iterator[Fault]:
    if (use.updated and described.updateable and not field.updateable) or (
        use.created and described.createable and not field.createable
    ):
        yield Fault(part, f"the integration user may not write {shown}; {_PERMIT}", False)
    if field.restricted:
        for word in sorted(set(use.words) - set(field.choices)):
            what = _unknown(f"the picklist {shown} has no value {word!r}", word, field.choices)
            yield Fault(part, f"{what}; add it to the picklist", False)


def _of_stages(rules: Rules, schema: OrgSchema) -> Iterator[Fault]:
    """The stages that are written have to exist and to mean what they are written for."""
    commercial = rules.commercial
    meanings = {
        "renewal_stage": (commercial.renewal_stage, False, False, "open"),
        "won_stage": (commercial.won_stage, True, True, "won"),
        "lost_stage": (commercial.lost_stage, True, False, "lost"),
    }
    for setting, (name, closed, won, meaning) in meanings.items():
        stage = schema.stages.get(name)
        part = ("commercial", setting)
        if stage is None:
            yield Fault(part, _unknown(f"{setting}: the org has no active stage {name!r}", name, schema.stages), False)
        elif (stage.closed, stage.won) != (closed, won):
            fitting = ", ".join(sorted(s.name for s in schema.stages.values() if (s.closed, s.won) == (closed, won)))
            yield Fault(part, f"{setting}: {name!r} is not {meaning} in this org; {meaning} stages: {fitting}", False)


def _of_record_types(rules: Rules, schema: OrgSchema) -> Iterator[Fault]:
    """Those of Opportunities that the rules name have to be there, and the one that is given to renewals be granted."""
    commercial, described = rules.commercial, schema.objects.get(rules.salesforce["opportunity"].object)
    if described is None:
        return
    renewal = commercial.renewal_record_type
    settings = {
        "deal_record_types": commercial.deal_record_types - {MASTER},
        "amendment_record_types": commercial.amendment_record_types - {MASTER},
        "renewal_record_type": {renewal} if renewal is not None else set(),
    }
    for setting, names in settings.items():
        for name in sorted(names - described.record_types.keys()):
            what = f"{setting}: {described.name} has no record type {name!r}"
            yield Fault(("commercial", setting), _unknown(what, name, described.record_types), False)
    known = described.record_types.get(renewal) if renewal is not None else None
    if known is not None and not known.usable:
        what = f"renewal_record_type: the integration user may not make {described.name} records of {renewal!r}"
        yield Fault(("commercial", "renewal_record_type"), f"{what}; {_ASSIGN}", False)


def _of_intervals(rules: Rules, schema: OrgSchema) -> Iterator[Fault]:
    """An interval that no deal can have is a misspelt one."""
    names = rules.salesforce["opportunity"]
    described = schema.objects.get(names.object)
    field = described.fields.get(names.fields["billing_interval"]) if described else None
    if field is None or not field.restricted:
        return
    for name in rules.commercial.intervals:
        if name not in field.choices:
            what = f"the picklist {names.object}.{field.name} has no value {name!r}"
            yield Fault(("commercial", "intervals", name), _unknown(what, name, field.choices), False)


def expected_types(kind: str, name: str) -> frozenset[str]:
    """The Salesforce types that a field of a record can have, from its Python type and the ending of its name."""
    if name.endswith("_at"):
        return frozenset({"datetime"})
    if name.endswith(("_date", "_on")):
        return frozenset({"date"})
    wanted = _hints(kind).get(name, "")
    if "Decimal" in wanted:
        return NUMBERS
    return frozenset({"boolean"}) if "bool" in wanted else TEXTS


@cache
def _hints(kind: str) -> Mapping[str, str]:
    record = SALESFORCE_RECORDS.get(kind)
    if record is None:
        return {}
    hints = get_type_hints(record)
    return {field.name: str(hints[field.name]) for field in dataclasses.fields(record)}


def _find(api_name: str, described: OrgObject, schema: OrgSchema) -> OrgField | str:
    """The field that a name or a path leads to, or what is wrong with it."""
    *path, last = api_name.split(".")
    at = described
    for step in path:
        reference = at.relationship(step)
        if reference is None:
            known = {field.relationship for field in at.fields.values() if field.relationship}
            return _unknown(f"{at.name} has no relationship {step} that the integration user can see", step, known)
        parent = schema.objects.get(reference.refers_to[0])
        if parent is None:
            return f"the integration user cannot see {reference.refers_to[0]}, to which {api_name} leads; {_PERMIT}"
        at = parent
    field = at.fields.get(last)
    if field is not None:
        return field
    why = f"the org has no field {at.name}.{last} that the integration user can see"
    return _unknown(why, last, at.fields) + (f"; {_DEPLOY}" if last.endswith("__c") else "")


def _unknown(what: str, name: str, known: Iterable[Any]) -> str:
    by_small_letters = {str(each).lower(): str(each) for each in known}
    near = difflib.get_close_matches(name.lower(), list(by_small_letters), n=1)
    if near:
        return f"{what}; did you mean {by_small_letters[near[0]]}?"
    few = f"; known: {', '.join(sorted(by_small_letters.values()))}" if 0 < len(by_small_letters) <= 20 else ""
    return what + few


_ASSIGN = "activate it, and assign it to that user in a permission set of your own (salesforce_package/README.md)"
_PERMIT = "assign it the permission set Stripe_Sync, or grant it"
_DEPLOY = "deploy salesforce_package and assign the permission set Stripe_Sync, or map another field"
