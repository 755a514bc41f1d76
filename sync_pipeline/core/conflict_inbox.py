"""The inbox of conflicts: each is recorded once, shown in Salesforce, and decided by its rule or by a person.

A ruling says whose of the two values shall count. It is in force while both systems show one or the other of them, and
until both show the one that was chosen: a third value is a later edit, and changes the question. What is decided stays
so, because the same values do not clash again unless somebody edits the field again; that is then another conflict.
Only the newest conflict of a field can be ruled on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from sync_pipeline.core import writing
from sync_pipeline.core.commands import Command, Entry
from sync_pipeline.core.conflict import Clash, Conflict, Side, Standing
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import SyncConflict
from sync_pipeline.core.world import World

RULE = "sync_conflict"
SIDES: tuple[Side, ...] = get_args(Side)
BY_RULE = "the rule of the field"
LONGEST = 255
"""Characters of a text field in Salesforce."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A person's word that is in force: whose value, which one (canonical), and since when (microseconds UTC)."""

    side: Side
    value: str
    at: int


def standing_on(world: World, standing: Standing) -> tuple[Standing, ...]:
    """The standing, where a conflict about the field is known: what became of it is read off the values of now."""
    return (standing,) if _newest(world, standing.rule, standing.subject) is not None else ()


def ruling_on(world: World, standing: Standing) -> Ruling | None:
    """The ruling that is in force for a field with these values."""
    conflict = _newest(world, standing.rule, standing.subject)
    if conflict is None or not _is_about(conflict, standing):
        return None
    record = _records(world).get(conflict.key)
    side = _in_force(conflict, record)
    if side is None:
        return None
    said_at = conflict.ruled_at if conflict.ruling else record.modified_at if record else None
    return Ruling(side, conflict.value_of(side), said_at or world.now)


def is_kept(world: World, standing: Standing) -> bool:
    """Whether it is decided, by a person or the rule of the field, that exactly these two values stay as they are."""
    conflict = _newest(world, standing.rule, standing.subject)
    return (
        conflict is not None
        and (conflict.salesforce, conflict.stripe) == (standing.salesforce, standing.stripe)
        and conflict.status == "Decided"
        and conflict.winner == standing.keeps
        and _in_force(conflict, _records(world).get(conflict.key)) is None
    )


def keep_conflicts(world: World, rules: Rules, entries: Iterable[Entry]) -> Iterator[Conflict | Command]:
    """Conflicts that are new or moved on, and the writes that show them in Salesforce.

    A new one is shown by the next plan, when the ledger knows of it.
    """
    if isinstance(world.billing, Unknown):
        return
    clashes = {entry.digest: entry for entry in entries if isinstance(entry, Clash)}
    standings = {(each.rule, each.subject): each for each in _standings(entries)}
    records = _records(world)
    times: dict[str, int] = {}
    still_open = set()
    for conflict in sorted(world.conflicts, key=_age):
        record = records.get(conflict.key)
        standing = standings.get((conflict.rule, conflict.subject))
        is_newest = _newest(world, conflict.rule, conflict.subject) == conflict
        now = _moved_on(world, conflict, record, standing if is_newest else None, conflict.digest in clashes)
        if now != conflict:
            yield now
        if (command := _shown(world, rules, now, record)) is not None:
            yield command
        times[now.digest] = times.get(now.digest, 0) + 1
        if now.status == "Open":
            still_open.add(now.digest)
    for digest, clash in sorted(clashes.items()):
        if digest not in still_open:
            yield _opened(world, clash, times.get(digest, 0) + 1)


def with_conflicts(world: World, changed: Iterable[Conflict]) -> World:
    """The world once the ledger knows of these."""
    known = {each.key: each for each in world.conflicts} | {each.key: each for each in changed}
    return replace(world, conflicts=tuple(known[key] for key in sorted(known)))


def _standings(entries: Iterable[Entry]) -> Iterator[Standing]:
    for entry in entries:
        if isinstance(entry, Standing):
            yield entry
        elif isinstance(entry, Clash):
            yield entry.standing


def _records(world: World) -> Mapping[str | None, SyncConflict]:
    return {record.key: record for record in world.conflict_records}


def _age(conflict: Conflict) -> tuple[int, str]:
    return (conflict.opened_at, conflict.key)


def _newest(world: World, rule: str, subject: str) -> Conflict | None:
    about = (c for c in world.conflicts if (c.rule, c.subject) == (rule, subject))
    return max(about, key=_age, default=None)


def _is_about(conflict: Conflict, standing: Standing) -> bool:
    return {standing.salesforce, standing.stripe} <= {conflict.salesforce, conflict.stripe}


def _in_force(conflict: Conflict, record: SyncConflict | None) -> Side | None:
    """What a person says and what has not been done yet."""
    said = conflict.ruling or (record.ruling if record else None)
    side = next((side for side in SIDES if side == said), None)
    done = conflict.status == "Overtaken" or (conflict.status == "Decided" and conflict.winner == side)
    return None if done else side


def _moved_on(
    world: World, conflict: Conflict, record: SyncConflict | None, standing: Standing | None, clashes: bool
) -> Conflict:
    """The conflict as the values of now leave it."""
    if record is not None and not conflict.shown:
        conflict = replace(conflict, shown=True)
    side = _in_force(conflict, record)
    if side is not None:
        conflict = _ruled(world, conflict, record, standing, side)
    elif conflict.status == "Open" and not clashes:
        conflict = _settled(world, conflict, standing)
    elif conflict.status == "Decided" and standing is not None and _was_kept(conflict, standing):
        conflict = _overtaken(world, conflict)
    is_done = conflict.ruling is not None and _in_force(conflict, record) is None
    if is_done and (record is None or record.ruling == conflict.ruling):
        conflict = replace(conflict, ruling=None, ruled_by=None, ruled_at=None)
    return conflict


def _was_kept(conflict: Conflict, standing: Standing) -> bool:
    """Two values were to stay as they were, and one of them has moved."""
    moved = (standing.salesforce, standing.stripe) != (conflict.salesforce, conflict.stripe)
    return moved and standing.keeps == conflict.winner


def _settled(world: World, conflict: Conflict, standing: Standing | None) -> Conflict:
    """What became of a conflict that is none any more, without a ruling."""
    if standing is None or standing.salesforce != standing.stripe or not _is_about(conflict, standing):
        return _overtaken(world, conflict)
    winner: Side = "Salesforce" if standing.salesforce == conflict.salesforce else "Stripe"
    if winner == standing.keeps:
        return _overtaken(world, conflict)
    by = BY_RULE if winner == conflict.winner else "a later edit"
    return _closed(world, conflict, winner, by)


def _ruled(
    world: World, conflict: Conflict, record: SyncConflict | None, standing: Standing | None, side: Side
) -> Conflict:
    if standing is None or not _is_about(conflict, standing):
        return _overtaken(world, conflict)
    value = conflict.value_of(side)
    shown = standing.salesforce if side == "Salesforce" else standing.stripe
    if standing.keeps == side and shown != value:
        # What was to stay as it is has gone since, by a ruling for the other side.
        return _overtaken(world, conflict)
    if standing.keeps not in (None, side) and standing.salesforce == standing.stripe != value:
        # Nothing writes such a field but the people who made both sides equal.
        return _overtaken(world, conflict)
    if standing.keeps != side and not standing.salesforce == standing.stripe == value:
        return conflict
    if conflict.ruling:
        by = f"{conflict.ruled_by} with sync-pipeline resolve"
    else:
        by = f"a ruling in Salesforce by {record.modified_by_id if record else None}"
    return _closed(world, conflict, side, by)


def _closed(world: World, conflict: Conflict, winner: Side, by: str) -> Conflict:
    return replace(conflict, status="Decided", winner=winner, decided_by=by, decided_at=world.now)


def _overtaken(world: World, conflict: Conflict) -> Conflict:
    return replace(conflict, status="Overtaken", decided_by="a later edit", decided_at=world.now)


def _opened(world: World, clash: Clash, number: int) -> Conflict:
    standing, about = clash.standing, clash.about
    base_in_words, salesforce_in_words, stripe_in_words = clash.words
    # Where the winner's value leaves both as they are, nothing more will happen.
    stays = clash.winner is not None and clash.winner == standing.keeps
    return Conflict(
        key=f"{clash.digest}:{number}",
        account=clash.account,
        rule=standing.rule,
        subject=standing.subject,
        record_id=about.record_id,
        opportunity_id=about.opportunity_id,
        base=clash.base,
        salesforce=standing.salesforce,
        stripe=standing.stripe,
        base_in_words=base_in_words,
        salesforce_in_words=salesforce_in_words,
        stripe_in_words=stripe_in_words,
        reason=clash.detail,
        winner=clash.winner,
        status="Decided" if stays else "Open",
        decided_by=BY_RULE if stays else None,
        decided_at=world.now if stays else None,
        opened_at=world.now,
        edited_by_id=about.edited_by_id,
        edited_at=about.edited_at,
        stripe_object=about.stripe_object,
    )


def _shown(world: World, rules: Rules, conflict: Conflict, record: SyncConflict | None) -> Command | None:
    """Makes the Salesforce record of a conflict, or brings it up to date; one that somebody deleted stays away."""
    if record is not None:
        values = _moving(conflict) | ({"ruling": conflict.ruling} if conflict.ruling else {})
        reason = f"the conflict is {conflict.status.lower()}"
        return writing.update(world, rules, RULE, record, values, rule=RULE, reason=reason)
    if conflict.shown:
        return None
    return writing.create(
        world,
        rules,
        RULE,
        conflict.key,
        _values(conflict),
        key_field="key",
        intent=f"conflict:{conflict.key}",
        subject=conflict.record_id,
        rule=RULE,
        reason=f"{conflict.rule} differs between the systems",
    )


def _values(conflict: Conflict) -> dict[str, Any]:
    return {
        "account_id": conflict.account,
        "opportunity_id": conflict.opportunity_id,
        "record_id": conflict.record_id,
        "field": conflict.rule,
        "base_value": _short(conflict.base_in_words),
        "salesforce_value": _short(conflict.salesforce_in_words),
        "stripe_value": _short(conflict.stripe_in_words),
        "reason": _short(conflict.reason),
        "salesforce_edited_by_id": conflict.edited_by_id,
        "salesforce_edited_at": conflict.edited_at,
        "stripe_event": conflict.stripe_event,
        "stripe_edited_at": conflict.stripe_edited_at,
        "ruling": conflict.ruling,
    } | _moving(conflict)


def _moving(conflict: Conflict) -> dict[str, Any]:
    return {
        "winner": conflict.winner,
        "status": conflict.status,
        "decided_by": conflict.decided_by,
        "decided_at": conflict.decided_at,
    }


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST else text[: LONGEST - 1] + "…"
