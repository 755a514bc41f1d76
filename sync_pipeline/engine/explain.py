"""Why a field has the value that it has: its rule, what stands behind it, what was written and what was there before.

The present is read afresh from both systems and judged by the planner's own rules; the past comes from the audit.
Personal values appear as the keyed hashes that the ledger knows, never in the clear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.evidence import Evidence, evidence
from sync_pipeline.core.fields import Judgement, field_name, judge
from sync_pipeline.core.money import MoneyError
from sync_pipeline.core.observation import Absent, Unknown
from sync_pipeline.core.readings import Subject, subjects
from sync_pipeline.core.rules import FieldRule
from sync_pipeline.core.world import World
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.observe import observe
from sync_pipeline.ledger import audit, links

STRIPE_OBJECTS = ("customer", "subscription")
RECORD_ID = re.compile("[0-9A-Za-z]{18}")


class NothingToExplain(Exception):
    """The object or field that was asked for does not exist or is none of ours; the message says which are."""


@dataclass(frozen=True, slots=True)
class Written:
    """One write of the field, from the audit. `outcome` is done, rejected, throttled ...; values are canonical."""

    at: int
    old: Any
    new: Any
    rule: str
    reason: str
    outcome: str
    actor: str
    run: str | None
    request_id: str | None
    evidence: Any


@dataclass(frozen=True, slots=True)
class Explanation:
    """One field of one record. Values are canonical; `verdict` says in words what the rule makes of them now."""

    object: str
    id: str
    account: str
    field: str
    rule: FieldRule | None
    shown: Any
    wanted: Any
    agreed: Any
    verdict: str
    behind: tuple[Evidence, ...]
    writes: tuple[Written, ...]


def explain(engine: Engine, reference: str, field: str | None = None) -> list[Explanation]:
    """The fields of a record (`Account/001...`, `customer/cus_...`) that the sync keeps or ever wrote.

    `field` names one of them. Raises NothingToExplain, or ReadFailed when a system does not answer.
    """
    name, _, record_id = reference.partition("/")
    account = _account_of(engine, name, record_id)
    world = observe(engine, [account])[account]
    with engine.ledger.read() as conn:
        rows = audit.for_account(conn, account)
    keys = {each.key for each in world.churn_records if each.id == record_id and each.key is not None}
    keys |= {each.key for each in world.conflict_records if each.id == record_id and each.key is not None}
    history = list(_writes(rows, tuple(f"/{each}" for each in {record_id, *keys})))
    subject = next((each for each in subjects(world) if each.id == record_id), None)
    found = [] if subject is None else list(_by_rules(engine, world, subject, history))
    by_rule = {each.field for each in found}
    others = dict.fromkeys(written for written, _ in history if written not in by_rule)
    found += [_without_rule(name, record_id, account, each, history) for each in others]
    if field is not None:
        wanted = [each for each in found if each.field.casefold() == field.casefold()]
        if not wanted:
            known = ", ".join(sorted(each.field for each in found)) or "none"
            raise NothingToExplain(f"the sync neither keeps nor ever wrote {field} of {reference}; it knows: {known}")
        return wanted
    if not found:
        raise NothingToExplain(f"the sync neither keeps nor ever wrote anything of {reference}")
    return found


def _account_of(engine: Engine, name: str, record_id: str) -> str:
    """The Account whose story the record is part of."""
    if name in STRIPE_OBJECTS:
        with engine.ledger.read() as conn:
            found = links.accounts_of(conn, "stripe", name, [record_id]).get(record_id)
    else:
        own = next((own for own, names in engine.rules.salesforce.items() if names.object == name), None)
        if own is None:
            known = sorted({names.object for names in engine.rules.salesforce.values()}) + list(STRIPE_OBJECTS)
            raise NothingToExplain(f"{name!r} is not an object of the sync; use one of {', '.join(known)} and an id")
        if not RECORD_ID.fullmatch(record_id):
            raise NothingToExplain(f"{record_id!r} is not a Salesforce id (18 letters and digits)")
        found = engine.salesforce.account_of(own, record_id)
    if found is None:
        raise NothingToExplain(f"there is no {name} {record_id}, or it belongs to no Account")
    return found


def _by_rules(
    engine: Engine, world: World, subject: Subject, history: list[tuple[str, Written]]
) -> Iterator[Explanation]:
    for rule in engine.rules.fields:
        if rule.object != subject.object:
            continue
        name = field_name(engine.rules, rule)
        object_name = "customer" if rule.side == "stripe" else engine.rules.salesforce[rule.object].object
        judged: Judgement | Absent | Unknown
        try:
            judged = judge(world, engine.rules, rule, subject, engine.personal_key)
        except MoneyError as error:
            judged = Unknown(f"a person has to look: {error}")
        known = judged if isinstance(judged, Judgement) else None
        yield Explanation(
            object=object_name,
            id=subject.id,
            account=world.account_id,
            field=name,
            rule=rule,
            shown=known.shown if known else None,
            wanted=known.wanted if known else None,
            agreed=_plain(known.base) if known else None,
            verdict=_verdict(judged, rule),
            behind=evidence(world, rule.source, subject),
            writes=tuple(written for field, written in history if field == name),
        )


def _verdict(judged: Judgement | Absent | Unknown, rule: FieldRule) -> str:
    if not isinstance(judged, Judgement):
        return f"nothing is written: {judged.why if isinstance(judged, Unknown) else judged.proof}"
    match judged.decision:
        case "agree":
            return "both systems agree"
        case "keep":
            return "it stays: the rule only goes forward"
        case "foreign":
            then = {"revert": "it is put back", "review": "a person has to decide", "accept": "it is left so"}
            return f"somebody edited it: {then[rule.on_foreign_edit]}"
        case _:
            return "it will be written"


def _without_rule(
    name: str, record_id: str, account: str, field: str, history: list[tuple[str, Written]]
) -> Explanation:
    """A field that no row of the rule table keeps, but that a command wrote: a line's quantity, a churn record."""
    writes = tuple(written for each, written in history if each == field)
    verdict = f"written by {writes[0].rule}, which is no row of the field table"
    return Explanation(name, record_id, account, field, None, None, writes[0].new, None, verdict, (), writes)


def _writes(rows: list[audit.AuditRow], targets: tuple[str, ...]) -> Iterator[tuple[str, Written]]:
    """Field name and write, newest first, of the rows whose target ends in one of `targets`."""
    for row in rows:
        what, _, outcome = row.what.rpartition(": ")
        if not what.endswith(targets):
            continue
        for change in canonical.decode(row.fields):
            yield (
                change["field"],
                Written(
                    at=row.at,
                    old=change["old"],
                    new=change["new"],
                    rule=change["rule"],
                    reason=change["reason"],
                    outcome=outcome,
                    actor=row.actor,
                    run=row.run,
                    request_id=row.request_id,
                    evidence=canonical.decode(row.evidence),
                ),
            )


def _plain(base: str | None) -> Any:
    """A base value as it was before it was encoded; hashes are kept as they are."""
    return base if base is None or base.startswith("hmac:") else canonical.decode(base)
