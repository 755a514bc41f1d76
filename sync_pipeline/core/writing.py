"""Salesforce writes as commands: set the fields of a record that differ, or make the record that carries a key.

What has to be written, and why, is the business of the rule modules that call this.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.commands import Agreement, Command, FieldChange
from sync_pipeline.core.money import Money
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.world import World

FORMS = {
    "amount": "money",
    "lost_mrr": "money",
    "open_debt": "money",
    "term_months": "number",
    "quantity": "number",
    "from_month": "number",
    "unit_price": "number",
    "is_voluntary": "flag",
    "salesforce_edited_at": "moment",
    "stripe_edited_at": "moment",
    "decided_at": "moment",
}
"""Canonical forms by field name; every other field is a text."""
PERSONAL = frozenset({"comment"})
"""Fields in which people write what they like: the audit keeps hashes of them."""


def record_currency(world: World, currency: str) -> str | None:
    """The currency of a record that is made; None where all records of the org have the same one."""
    several = isinstance(world.account, Present) and world.account.value.currency is not None
    return currency if several else None


def canonical_value(name: str, value: Any) -> Any:
    return CANON[FORMS.get(name, "text")](value)


def update(
    world: World,
    rules: Rules,
    kind: str,
    record: Any,
    values: Mapping[str, Any],
    *,
    rule: str,
    reason: str,
    agreements: tuple[Agreement, ...] = (),
) -> Command | None:
    """Sets the fields of a record that show something else than `values` (by the sync's names); None if none does."""
    names = rules.salesforce[kind]
    changes: list[FieldChange] = []
    fields: dict[str, Any] = {}
    for name, value in values.items():
        shown, wanted = canonical_value(name, getattr(record, name)), canonical_value(name, value)
        if shown != wanted:
            fields[names.fields[name]] = _as_sent(name, value)
            changes.append(_change(name, names.fields[name], shown, wanted, rule, reason))
    if not fields:
        return None
    target = f"salesforce/{names.object}/{record.id}"
    return Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="salesforce.update",
        priority=Priority.WRITE_BACK,
        reason=reason,
        subject=record.id,
        body={"object": names.object, "id": record.id, "fields": fields},
        changes=tuple(changes),
        agreements=agreements,
    )


def create(
    world: World,
    rules: Rules,
    kind: str,
    key: str,
    values: Mapping[str, Any],
    *,
    key_field: str,
    intent: str,
    subject: str,
    rule: str,
    reason: str,
) -> Command:
    """Makes the record that carries `key` in its field `key_field`, once ever: a second time it is found, and set.

    `intent` names the effect; empty values are left out.
    """
    names = rules.salesforce[kind]
    fields = {names.fields[name]: _as_sent(name, value) for name, value in values.items() if value is not None}
    written = {name: canonical_value(name, value) for name, value in values.items() if value is not None}
    return Command(
        key=intent,
        account=world.account_id,
        target=f"salesforce/{names.object}/{key}",
        action="salesforce.upsert",
        priority=Priority.WRITE_BACK,
        reason=reason,
        subject=subject,
        body={
            "object": names.object,
            "external_field": names.fields[key_field],
            "external_id": key,
            "fields": fields,
        },
        changes=tuple(_change(name, names.fields[name], None, value, rule, reason) for name, value in written.items()),
    )


def _change(name: str, field: str, old: Any, new: Any, rule: str, reason: str) -> FieldChange:
    if name not in PERSONAL:
        return FieldChange(field, old, new, rule, reason)
    before, after = (value and f"sha256:{canonical.sha256(value)}" for value in (old, new))
    return FieldChange(field, before, after, rule, reason, personal=True)


def _as_sent(name: str, value: Any) -> Any:
    if FORMS.get(name) == "moment" and value is not None:
        return datetime.fromtimestamp(value // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    return value.decimal() if isinstance(value, Money) else value
