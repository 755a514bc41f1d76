"""Why a field has the value that it has: its rule, what stands behind it, what was written and what was there before.

The present is read afresh from both systems and judged by the planner's own rules; the past comes from the audit.
Personal values appear as the keyed hashes that the ledger knows, never in the clear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from heapq import merge
from typing import Any

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import STRIPE_CREATE_ORDER
from sync_pipeline.core.evidence import Evidence, evidence
from sync_pipeline.core.fields import Braked, Fate, Judgement, fate, field_name, judge
from sync_pipeline.core.money import MoneyError
from sync_pipeline.core.observation import Absent, Unknown
from sync_pipeline.core.readings import Subject, subjects
from sync_pipeline.core.rules import FieldRule, Rules
from sync_pipeline.core.world import World
from sync_pipeline.engine.by_name import PREFIXES, kind_of
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.explain_failures import explained_failure
from sync_pipeline.engine.explain_terms import billing_with, explained_terms
from sync_pipeline.engine.explanation import MADE, Explanation, Written, history, known_since
from sync_pipeline.engine.observe import observe
from sync_pipeline.ledger import audit, commands, links
from sync_pipeline.systems.outcomes import ReadFailed

STRIPE_OBJECTS = (*STRIPE_CREATE_ORDER, "subscription_item")
FAILURES = ("task", "payment_attempt")
SHARED = ("product", "price", "coupon")
ONLY_READ = ("price_book_entry",)
FATES: Mapping[Fate, str] = {
    "agrees": "both systems agree",
    "stays": "it stays: the rule only goes forward",
    "written": "it will be written",
    "put back": "somebody edited it: it is put back",
    "asks": "somebody edited it: a person has to decide",
    "is decided": "somebody edited it, and it was decided that it stays so",
    "is left": "somebody edited it: it is left so",
}
SALESFORCE_ID = re.compile("[0-9A-Za-z]{18}")
STRIPE_ID = re.compile("[0-9A-Za-z_]+")


class NothingToExplain(Exception):
    """The object or field that was asked for does not exist or is none of ours; the message says which are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A record of an Account; `name` is empty where only its writes are known, by their target.

    `own` is the sync's name of a Salesforce object; `of` are the ids, keys and targets by which its writes know it;
    `shown` are its fields, where they are in no world. Of one that `is_gone` only the audit knows.
    """

    name: str
    id: str
    account: str
    own: str | None
    of: frozenset[str]
    shown: Mapping[str, Any] = field(default_factory=dict)
    is_gone: bool = False


def explain(engine: Engine, reference: str, field: str | None = None) -> list[Explanation]:
    """The fields of a record that the sync keeps or ever wrote.

    `reference` is OBJECT/ID (`Account/001...`, `subscription_item/si_...`), or the target of a write as `plan`, `undo`
    and `ledger status` show it. `field` names one of the fields. Raises NothingToExplain, or ReadFailed when a system
    does not answer.
    """
    asked = _asked(engine, reference)
    world = observe(engine, [asked.account])[asked.account]
    if why := world.unknown_parts:
        raise ReadFailed(f"Account {asked.account} cannot be explained now", "; ".join(why))
    with engine.ledger.read() as conn:
        histories = [audit.for_account(conn, each) for each in _known_under(conn, asked)]
        refused = {row.target: row.error for row in commands.parked(conn) if row.account == asked.account}
    rows = list(merge(*histories, key=lambda row: row.at, reverse=True))
    since = max((at for each in histories if (at := known_since(each)) is not None), default=None)
    found = [replace(_with_refusal(each, refused), known_since=since) for each in _found(engine, world, asked, rows)]
    if field is not None:
        wanted = [each for each in found if each.field.casefold() == field.casefold()]
        if not wanted:
            known = ", ".join(sorted({each.field for each in found})) or "none"
            raise NothingToExplain(f"the sync neither keeps nor ever wrote {field} of {reference}; it knows: {known}")
        return wanted
    if not found:
        raise NothingToExplain(f"the sync neither keeps nor ever wrote anything of {reference}")
    return found


def _known_under(conn: Connection, asked: Asked) -> set[str]:
    """The Accounts in whose audit its writes may be: its own, those merged into that, those that it was moved from."""
    named = (account for each in asked.of for account in audit.accounts_of(conn, each))
    return {asked.account, *links.merged_from(conn, asked.account), *named}


def _found(engine: Engine, world: World, asked: Asked, rows: Sequence[audit.AuditRow]) -> Iterator[Explanation]:
    """By the field table, by the terms of a deal, by a failed payment; and then what was written besides."""
    keys = {each.key for each in world.churn_records if each.id == asked.id and each.key is not None}
    keys |= {each.key for each in world.conflict_records if each.id == asked.id and each.key is not None}
    written = history(rows, asked.of | keys)
    subject = next((each for each in subjects(world) if each.id == asked.id), None)
    known: list[Explanation] = []
    if subject is not None:
        known += _by_rules(engine, world, subject, written)
    if asked.own in FAILURES:
        known += explained_failure(world, engine.rules, str(asked.own), asked.id, asked.shown, rows)
    else:
        known += explained_terms(world, engine.rules, asked.name, asked.id, rows)
    yield from known
    told = {each.field for each in known} | ({MADE} if known else set())
    made = {each.evidence.get("object") for each in written} - {None}
    behind = tuple(billing_with(world, asked.of | made))
    for name in dict.fromkeys(each.field for each in written if each.field not in told):
        yield _without_rule(engine.rules, asked, name, [each for each in written if each.field == name], behind)


def _with_refusal(found: Explanation, refused: Mapping[str, str | None]) -> Explanation:
    """A value that is wanted and was refused is not on its way."""
    agrees = found.field != MADE and found.shown == found.wanted == found.agreed
    if agrees or not found.writes:
        return found
    last = found.writes[0]
    if last.outcome != "rejected" or last.target not in refused:
        return found
    return replace(found, verdict=f"{found.verdict}; but it was refused, and waits: {refused[last.target]}")


def _asked(engine: Engine, reference: str) -> Asked:
    """The record, and the Account whose story it is part of."""
    bare = reference.removeprefix("salesforce/").removeprefix("stripe/")
    name, _, rest = bare.partition("/")
    record_id = rest.split("/")[0]
    own = next((own for own, names in engine.rules.salesforce.items() if names.object == name), None)
    objects = sorted(names.object for own, names in engine.rules.salesforce.items() if own not in ONLY_READ)
    known = (*objects, *STRIPE_OBJECTS)
    meant = next((each for each in known if each.casefold() == name.casefold()), name)
    if meant != name:
        raise NothingToExplain(f"{name!r} is not an object of the sync; did you mean {meant}?")
    if own in ONLY_READ:
        raise NothingToExplain(f"the sync reads {name} and writes nothing to it; ask for the line that it lists")
    if own is not None:
        return _of_salesforce(engine, name, own, record_id)
    if name in STRIPE_OBJECTS and STRIPE_ID.fullmatch(record_id):
        return _of_stripe(engine, name, record_id)
    # What is not there yet, or has no page of its own, is known by the target of its writes alone.
    targets = {bare, bare.replace("/", ":", 1)} if name in STRIPE_OBJECTS else {bare}
    with engine.ledger.read() as conn:
        account = next(filter(None, (audit.account_of(conn, each) for each in sorted(targets))), None)
    if account is not None:
        return Asked("", bare, account, None, frozenset(targets))
    if name in STRIPE_OBJECTS or ":" in bare:
        raise NothingToExplain(f"the sync never wrote {reference}")
    near = "".join(f"; did you mean {each}?" for each in get_close_matches(name, known, n=1))
    raise NothingToExplain(f"{name!r} is not an object of the sync; use one of {', '.join(known)} and an id{near}")


def _of_salesforce(engine: Engine, name: str, own: str, record_id: str) -> Asked:
    if not SALESFORCE_ID.fullmatch(record_id):
        raise NothingToExplain(f"{record_id!r} is not a Salesforce id (18 letters and digits)")
    of = kind_of(record_id)
    if of != name and (of is not None or name in PREFIXES.values()):
        raise NothingToExplain(f"{record_id} is no {name} id" + (f", but one of {of}" if of is not None else ""))
    shown: Mapping[str, Any] = {}
    if own in FAILURES:
        shown = engine.salesforce.record(own, record_id) or {}
        if shown and not shown["failure_key" if own == "task" else "key"]:
            raise NothingToExplain(f"the sync did not make {name} {record_id}: it names no failed payment")
        account = shown.get("what_id" if own == "task" else "account_id")
    else:
        account = engine.salesforce.account_of(own, record_id)
    named = frozenset({record_id})
    if account is not None:
        return Asked(name, record_id, account, own, named, shown)
    with engine.ledger.read() as conn:
        account = audit.account_of(conn, record_id)
    if account is None:
        raise NothingToExplain(f"there is no {name} {record_id}, or it belongs to no Account")
    return Asked(name, record_id, account, None, named, is_gone=True)


def _of_stripe(engine: Engine, name: str, record_id: str) -> Asked:
    with engine.ledger.read() as conn:
        account = links.accounts_of(conn, "stripe", name, [record_id]).get(record_id)
        # People choose the ids of products and coupons, and old ones of customers, which the links know.
        if account is None and name not in SHARED and (of := kind_of(record_id)) not in (None, name):
            raise NothingToExplain(f"{record_id} is no {name} id, but one of {of}")
        account = account or audit.account_of(conn, record_id)
    if account is None and name == "subscription_item":
        account = engine.salesforce.account_of("line", record_id, by="stripe_item_id")
    if account is None and name in SHARED:
        raise NothingToExplain(f"the sync did not make {name} {record_id}; ask for a subscription_item that bills it")
    if account is None:
        raise NothingToExplain(f"there is no {name} {record_id} that the sync knows, or it belongs to no Account")
    return Asked(name, record_id, account, None, frozenset({record_id}))


def _by_rules(engine: Engine, world: World, subject: Subject, writes: Sequence[Written]) -> Iterator[Explanation]:
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
            verdict=_verdict(world, engine.rules, rule, subject, judged),
            behind=evidence(world, engine.rules, rule.source, subject),
            writes=tuple(each for each in writes if each.field == name),
        )


def _verdict(
    world: World, rules: Rules, rule: FieldRule, subject: Subject, judged: Judgement | Absent | Unknown
) -> str:
    if not isinstance(judged, Judgement):
        return f"nothing is written: {judged.why if isinstance(judged, Unknown) else judged.proof}"
    becomes = fate(world, rules, rule, subject, judged)
    if isinstance(becomes, Braked):
        until = datetime.fromtimestamp(becomes.until / 1_000_000, UTC)
        often = rules.commercial.reverts_before_review
        return f"it was put back {often} times and edited again: it is left so until {until:%Y-%m-%d %H:%M} UTC"
    return FATES[becomes]


def _without_rule(
    rules: Rules, asked: Asked, name: str, writes: Sequence[Written], behind: tuple[Evidence, ...]
) -> Explanation:
    """A field that no row of the rule table keeps now, but that a command wrote: an end, a churn record, a record that
    is gone; or the whole."""
    by = f"written by {writes[0].rule}"
    if all(rule.target != writes[0].rule for rule in rules.fields):
        by += ", which is no row of the field table"
    if name == MADE:
        is_there = any(each.outcome == "done" for each in writes)
        by = "the sync made it" if is_there else "it was asked for, and is not there"
    if asked.is_gone:
        by = f"the record is not there any more; {by}"
    return Explanation(
        asked.name, asked.id, asked.account, name, None, None, writes[0].new, None, by, behind, tuple(writes)
    )


def _plain(base: str | None) -> Any:
    """A base value as it was before it was encoded; hashes are kept as they are."""
    return base if base is None or base.startswith("hmac:") else canonical.decode(base)
