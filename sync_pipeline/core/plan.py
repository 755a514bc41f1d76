"""The planner: one world in, every write that can be done now out. Pure, total and deterministic.

It emits only what is possible at this moment (the customer first; the subscription in the next round, when
the customer is known), so a plan needs no order between accounts and no compensation: apply, look again, plan
again, until nothing is left.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.commands import Agreement, Command, FieldChange, Plan, Review
from sync_pipeline.core.ensure import ensure_everything
from sync_pipeline.core.kinds import KINDS
from sync_pipeline.core.money import MoneyError
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.readings import READINGS, Subject, stripe_address, subjects
from sync_pipeline.core.rules import FieldRule, Priority, Rules
from sync_pipeline.core.world import World

CUSTOMER_PARAMS = {"name": ("name",), "address": ("address",), "account_id": ("metadata", "sf_account_id")}


@dataclass(slots=True)
class _Writes:
    """The field changes of one object, collected over all rules: one object, one write."""

    subject: Subject
    priority: Priority = Priority.SWEEP
    changes: list[FieldChange] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def plan(world: World, rules: Rules, personal_key: bytes) -> Plan:
    """Everything to do now for one account.

    `personal_key` keys the hashes by which personal fields are remembered in the base and the audit.
    """
    if isinstance(world.account, Unknown):
        return Plan()
    if isinstance(world.account, Absent):
        return Plan(reviews=tuple(_deleted_account(world)))
    commands: list[Command] = []
    reviews: list[Review] = []
    agreements: list[Agreement] = []
    for entry in ensure_everything(world, rules):
        if isinstance(entry, Command):
            commands.append(entry)
        else:
            reviews.append(entry)
    commands.extend(_field_writes(world, rules, personal_key, reviews, agreements))
    free = (command for command in commands if command.target not in world.blocked)
    return Plan(
        commands=tuple(sorted(free, key=Command.order)),
        reviews=tuple(sorted(reviews, key=lambda review: review.key)),
        agreements=tuple(sorted(agreements, key=lambda agreement: (agreement.subject, agreement.rule))),
    )


def remembered(rule: FieldRule, canonical_value: Any, personal_key: bytes) -> str:
    """A canonical value as the base keeps it: canonical JSON, or its keyed hash where it is personal."""
    form = canonical.encode(canonical_value)
    if not rule.personal:
        return form
    return "hmac:" + hmac.new(personal_key, form.encode(), hashlib.sha256).hexdigest()


def _field_writes(
    world: World, rules: Rules, personal_key: bytes, reviews: list[Review], agreements: list[Agreement]
) -> Iterable[Command]:
    for subject in subjects(world):
        writes = _Writes(subject)
        for rule in rules.fields:
            if rule.object == subject.object:
                _decide(world, rules, rule, writes, personal_key, reviews, agreements)
        if writes.changes:
            yield _command(world, rules, writes)


def _decide(
    world: World,
    rules: Rules,
    rule: FieldRule,
    writes: _Writes,
    personal_key: bytes,
    reviews: list[Review],
    agreements: list[Agreement],
) -> None:
    subject = writes.subject
    try:
        source = READINGS[rule.source](world, rules, subject)
    except MoneyError as error:
        reviews.append(Review(f"{rule.target}:{subject.id}", world.account_id, rule.target, subject.id, str(error)))
        return
    if not isinstance(source, Present):
        return
    wanted = CANON[rule.canon](source.value)
    shown = CANON[rule.canon](_shown(subject, rule))
    base = world.base.get((subject.id, rule.target))
    hashed_wanted, hashed_shown = (remembered(rule, value, personal_key) for value in (wanted, shown))
    if rule.kind in ("mirror", "fold"):
        decision = KINDS[rule.kind](hashed_wanted, hashed_shown, base)
    else:
        decision = KINDS[rule.kind](wanted, shown, None)
    if decision == "agree":
        agreements.append(Agreement(subject.id, rule.target, hashed_wanted))
    if decision == "foreign" and rule.on_foreign_edit == "review":
        detail = f"{rule.target} was edited by hand; it should follow {rule.source}"
        reviews.append(Review(f"{rule.target}:{subject.id}", world.account_id, rule.target, subject.id, detail))
    if decision == "write" or (decision == "foreign" and rule.on_foreign_edit == "revert"):
        reason = f"put back after an edit by hand: {rule.why}" if decision == "foreign" else rule.why
        name = rule.field if rule.side == "stripe" else rules.salesforce[rule.object].fields[rule.field]
        old, new = (hashed_shown, hashed_wanted) if rule.personal else (shown, wanted)
        writes.changes.append(FieldChange(name, old, new, rule.target, reason, rule.personal))
        writes.values[rule.field] = _written(rule, source.value, wanted)
        writes.priority = min(writes.priority, rule.priority)


def _shown(subject: Subject, rule: FieldRule) -> Any:
    if rule.object == "customer" and rule.field == "address":
        return stripe_address(subject.record)
    return getattr(subject.record, rule.field)


def _written(rule: FieldRule, value: Any, wanted: Any) -> Any:
    """The value as the API takes it: exact decimals for amounts, ISO 8601 for moments."""
    if rule.canon == "moment" and wanted is not None:
        return datetime.fromtimestamp(wanted, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    if rule.canon == "money" and wanted is not None:
        return value.decimal()
    if rule.canon == "number" and wanted is not None:
        return Decimal(wanted)
    return wanted


def _command(world: World, rules: Rules, writes: _Writes) -> Command:
    subject = writes.subject
    reason = "; ".join(sorted({change.reason for change in writes.changes}))
    common = Command(
        key="",
        account=world.account_id,
        target="",
        action="stripe.update",
        priority=writes.priority,
        reason=reason,
        subject=subject.id,
        body={},
        changes=tuple(writes.changes),
    )
    if subject.object == "customer":
        target = f"stripe/customer/{subject.id}"
        body = {"object": "customer", "id": subject.id, "params": _customer_update(writes.values)}
        return replace(common, key=f"set:{target}", target=target, body=body)
    names = rules.salesforce[subject.object]
    target = f"salesforce/{names.object}/{subject.id}"
    fields = {names.fields[name]: value for name, value in writes.values.items()}
    body = {"object": names.object, "id": subject.id, "fields": fields}
    return replace(common, key=f"set:{target}", target=target, action="salesforce.update", body=body)


def _customer_update(values: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = CUSTOMER_PARAMS[name]
        holder = params
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = "" if value is None else value
    return params


def _deleted_account(world: World) -> Iterable[Review]:
    if any(link.kind == "customer" for link in world.links):
        detail = "the Account is gone from Salesforce; its billing goes on untouched until a person decides"
        account = world.account_id
        yield Review(f"deleted_account:{account}", account, "deleted_account", account, detail)
