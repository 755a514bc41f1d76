"""The org's own rules in the order of save: automation, then validation, then duplicates.

Conditions are the WHERE part of a SOQL query, so they mean what they would mean in a query.
"""

from __future__ import annotations

from typing import Any

from sync_pipeline.sandbox.salesforce.access import Access
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.saving import Actor, Saver
from sync_pipeline.sandbox.salesforce.schema import SObject
from sync_pipeline.sandbox.salesforce.settings import DuplicateRule
from sync_pipeline.sandbox.salesforce.soql.rows import Session, matches
from sync_pipeline.sandbox.salesforce.values import accept
from sync_pipeline.sandbox.store import Row


class OrgRules:
    """Rules as the org's settings list them."""

    def __init__(self, db: Database, access: Access) -> None:
        self._session = Session(db, access, "")

    def automate(self, saver: Saver, o: SObject, new: Row) -> set[str]:
        if not saver.settings.automations:
            return set()
        before = dict(new)
        for automation in saver.settings.automations:
            if automation.object == o.name and self._holds(o, automation.when, new):
                new.update({name: accept(o.fields[name], value) for name, value in automation.set.items()})
        return {name for name in new if new[name] != before.get(name)}

    def check(self, saver: Saver, o: SObject, old: Row | None, new: Row, actor: Actor) -> None:
        for rule in saver.settings.validation_rules:
            if rule.object == o.name and self._holds(o, rule.when, new):
                fields = [rule.field] if rule.field else []
                raise SalesforceError("FIELD_CUSTOM_VALIDATION_EXCEPTION", rule.message, fields)
        for duplicates in saver.settings.duplicate_rules:
            if duplicates.object == o.name:
                _check_duplicates(saver, o, duplicates, old, new, actor)

    def _holds(self, o: SObject, when: str, row: Row) -> bool:
        return matches(self._session, o.name, when)(row)


def _check_duplicates(saver: Saver, o: SObject, rule: DuplicateRule, old: Row | None, new: Row, actor: Actor) -> None:
    key = _key(o, rule, new)
    if None in key or (old is not None and _key(o, rule, old) == key) or (actor.allow_duplicates and not rule.block):
        return
    same = [r for r in saver.db.scan(o) if r["Id"] != new["Id"] and not r.get("IsDeleted") and _key(o, rule, r) == key]
    if same:
        raise SalesforceError(
            "DUPLICATES_DETECTED", "Use one of these records?", [], duplicateResut=_result(o, rule, same)
        )


def _key(o: SObject, rule: DuplicateRule, row: Row) -> tuple[Any, ...]:
    return tuple(o.fields[name].index_key(row.get(name)) for name in rule.fields)


def _result(o: SObject, rule: DuplicateRule, same: list[Row]) -> dict[str, Any]:
    """What the client is told about the matches; Salesforce spells its key `duplicateResut`."""
    records = [
        {
            "additionalInformation": [],
            "fieldDiffs": [],
            "matchConfidence": 100.0,
            "record": {"attributes": {"type": o.name}, "Id": r["Id"]},
        }
        for r in same
    ]
    match = {
        "entityType": o.name,
        "errors": [],
        "matchEngine": "ExactMatchEngine",
        "matchRecords": records,
        "rule": rule.name,
        "size": len(records),
        "success": True,
    }
    return {
        "allowSave": not rule.block,
        "duplicateRule": rule.name,
        "duplicateRuleEntityType": o.name,
        "errorMessage": "Use one of these records?",
        "matchResults": [match],
    }
