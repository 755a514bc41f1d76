"""The field rules at work: every row of the rule table against every record whose field it keeps.

Here a row's source is read, both sides are brought to canonical form, and the row's kind decides. Each
difference becomes one small write; the planner merges those of one object. What has to be put back again and again is
fought over by another automation: then it is left alone, and a person is told.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from sync_pipeline.core import canonical
from sync_pipeline.core.addresses import stripe_address
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.commands import Agreement, Command, Entry, FieldChange, Review
from sync_pipeline.core.conflict import About, Clash, Standing
from sync_pipeline.core.conflict_inbox import is_kept, ruling_on, standing_on
from sync_pipeline.core.evidence import invoices_behind
from sync_pipeline.core.kinds import KINDS, Decision
from sync_pipeline.core.money import MoneyError
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.readings import READINGS, Subject, subjects
from sync_pipeline.core.rules import FieldRule, Rules
from sync_pipeline.core.two_way import braked_until, edit_war
from sync_pipeline.core.world import World

CUSTOMER_PARAMS = {"name": ("name",), "address": ("address",), "account_id": ("metadata", "sf_account_id")}


@dataclass(frozen=True, slots=True)
class Braked:
    """It was put back too often of late, and is left as it is `until` a moment (microseconds UTC)."""

    until: int


Fate = Literal["agrees", "stays", "written", "put back", "asks", "is decided", "is left"] | Braked


def keep_fields(world: World, rules: Rules, personal_key: bytes) -> Iterator[Entry]:
    """What the field rules ask for: writes, reviews, and the agreements that become the next base."""
    for subject in subjects(world):
        for rule in rules.fields:
            if rule.object == subject.object:
                yield from _keep(world, rules, rule, subject, personal_key)


def remembered(rule: FieldRule, canonical_value: Any, personal_key: bytes) -> str:
    """A canonical value as the base keeps it: canonical JSON, or its keyed hash where it is personal."""
    form = canonical.encode(canonical_value)
    return keyed_hash(form, personal_key) if rule.personal else form


def keyed_hash(form: str, personal_key: bytes) -> str:
    """What the base, the audit and the tags of runs keep of something that they must not tell."""
    return "hmac:" + hmac.new(personal_key, form.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Judgement:
    """One field of one record held against its rule: canonical values, personal ones as hashes.

    `source` is the raw value that the rule wants; `base` what both sides last agreed on; `standing` what both say now.
    """

    source: Any
    wanted: Any
    shown: Any
    base: str | None
    decision: Decision
    agreement: Agreement
    standing: Standing


def judge(
    world: World, rules: Rules, rule: FieldRule, subject: Subject, personal_key: bytes
) -> Judgement | Absent | Unknown:
    """What the rule makes of the field; an observation that is not present when there is nothing to say yet.

    Raises MoneyError when the money behind it does not add up.
    """
    source = READINGS[rule.source](world, rules, subject)
    if not isinstance(source, Present):
        return source
    wanted = CANON[rule.canon](source.value)
    shown = CANON[rule.canon](_shown(subject, rule))
    base = world.base.get((subject.id, rule.target))
    hashed_wanted, hashed_shown = (remembered(rule, value, personal_key) for value in (wanted, shown))
    if rule.kind in ("mirror", "fold"):
        decision = KINDS[rule.kind](hashed_wanted, hashed_shown, base)
    else:
        decision = KINDS[rule.kind](wanted, shown, None)
    if rule.personal:
        wanted, shown = hashed_wanted, hashed_shown
    written = rule.side == "salesforce"
    standing = Standing(
        rule=rule.target,
        subject=subject.id,
        salesforce=hashed_shown if written else hashed_wanted,
        stripe=hashed_wanted if written else hashed_shown,
        keeps="Salesforce" if written else "Stripe",
    )
    agreement = Agreement(subject.id, rule.target, hashed_wanted)
    return Judgement(source.value, wanted, shown, base, decision, agreement, standing)


def fate(world: World, rules: Rules, rule: FieldRule, subject: Subject, found: Judgement) -> Fate:
    """What becomes of a field that was judged, by its rule and by what people have decided."""
    if found.decision == "agree":
        return "agrees"
    if found.decision == "keep":
        return "stays"
    if found.decision == "foreign" and rule.on_foreign_edit == "accept":
        return "is left"
    if found.decision == "foreign" and rule.on_foreign_edit == "review":
        ruling = ruling_on(world, found.standing)
        if ruling is None and not is_kept(world, found.standing):
            return "asks"
        if ruling is None or ruling.side == found.standing.keeps:
            return "is decided"
    # Also what goes forward only has been edited, where both sides agreed on what is wanted.
    if found.base != found.agreement.value:
        return "written"
    until = braked_until(world, rules.commercial, subject.id, rule.target)
    return "put back" if until is None else Braked(until)


def _keep(world: World, rules: Rules, rule: FieldRule, subject: Subject, personal_key: bytes) -> Iterator[Entry]:
    try:
        found = judge(world, rules, rule, subject, personal_key)
    except MoneyError as error:
        yield _review(world, rule, subject, str(error))
        return
    if not isinstance(found, Judgement):
        return
    becomes = fate(world, rules, rule, subject, found)
    if becomes == "agrees":
        yield found.agreement
    yield from standing_on(world, found.standing)
    if becomes == "asks":
        yield _clash(world, rule, subject, found)
    elif isinstance(becomes, Braked):
        yield from edit_war(world, rules.commercial, subject.id, rule.target, becomes.until)
    elif becomes in ("written", "put back"):
        edited = becomes == "put back"
        reason = f"put back after an edit by hand: {rule.why}" if edited else rule.why
        name, of = field_name(rules, rule), subject.id if edited else None
        behind = invoices_behind(world, rules, rule.source, subject)
        change = FieldChange(
            name, found.shown, found.wanted, rule.target, reason, rule.personal, put_back=of, invoices=behind
        )
        yield _write(world, rules, rule, subject, change, found.agreement, _written(rule, found.source))


def field_name(rules: Rules, rule: FieldRule) -> str:
    """The field as its own system calls it."""
    return rule.field if rule.side == "stripe" else rules.salesforce[rule.object].fields[rule.field]


def _shown(subject: Subject, rule: FieldRule) -> Any:
    if rule.object == "customer" and rule.field == "address":
        return stripe_address(subject.record)
    return getattr(subject.record, rule.field)


def _written(rule: FieldRule, value: Any) -> Any:
    """The value as the API takes it: exact decimals for amounts, ISO 8601 for moments."""
    wanted = CANON[rule.canon](value)
    if wanted is None:
        return None
    if rule.canon == "moment":
        return datetime.fromtimestamp(wanted, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    if rule.canon == "money":
        return value.decimal()
    return Decimal(wanted) if rule.canon == "number" else wanted


def _write(
    world: World, rules: Rules, rule: FieldRule, subject: Subject, change: FieldChange, agreed: Agreement, value: Any
) -> Command:
    body: dict[str, Any]
    if rule.side == "stripe":
        target, body = f"stripe/customer/{subject.id}", {"object": "customer", "params": _param(rule.field, value)}
    else:
        kind = rules.salesforce[subject.object].object
        target, body = f"salesforce/{kind}/{subject.id}", {"object": kind, "fields": {change.field: value}}
    return Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="stripe.update" if rule.side == "stripe" else "salesforce.update",
        priority=rule.priority,
        reason=change.reason,
        subject=subject.id,
        body=body | {"id": subject.id},
        changes=(change,),
        agreements=(agreed,),
    )


def _param(field: str, value: Any) -> dict[str, Any]:
    """A customer's field as the form of Stripe's API; an empty text clears."""
    nested: Any = "" if value is None else value
    for name in reversed(CUSTOMER_PARAMS[field]):
        nested = {name: nested}
    params: dict[str, Any] = nested
    return params


def _clash(world: World, rule: FieldRule, subject: Subject, found: Judgement) -> Clash:
    said = [_in_words(value, rule) for value in (found.shown, found.wanted)]
    salesforce, stripe = said if rule.side == "salesforce" else reversed(said)
    base = found.base and ("(personal)" if rule.personal else str(canonical.decode(found.base)))
    edited = subject.record if rule.side == "salesforce" else None
    return Clash(
        account=world.account_id,
        standing=found.standing,
        about=About(
            record_id=subject.id if rule.side == "salesforce" else world.account_id,
            opportunity_id=subject.deal.opportunity.id if subject.deal else None,
            stripe_object=subject.id if rule.side == "stripe" else None,
            edited_by_id=edited.modified_by_id if edited else None,
            edited_at=edited.modified_at if edited else None,
        ),
        base=found.base,
        words=(base, salesforce, stripe),
        winner=None,
        detail=f"{rule.target} was edited by hand; it should follow {rule.source}",
    )


def _in_words(value: Any, rule: FieldRule) -> str:
    if value is None:
        return "nothing"
    return "(personal)" if rule.personal else str(value)


def _review(world: World, rule: FieldRule, subject: Subject, detail: str) -> Review:
    return Review(f"{rule.target}:{subject.id}", world.account_id, rule.target, subject.id, detail)
