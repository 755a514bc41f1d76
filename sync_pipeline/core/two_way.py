"""What a difference of a two-way term means, once the three-way merge has said which side moved.

Salesforce owns the terms of a deal, so its edits are carried to Stripe. A change made at Stripe is followed, put back
or told to a person, by the rule of the field; what a person rules comes before the rule. What is put back again and
again is fought over: then it is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sync_pipeline.core.commands import Entry, LookAgain, Review
from sync_pipeline.core.conflict import About, Clash, Side, Standing
from sync_pipeline.core.conflict_inbox import Ruling, is_kept, ruling_on, standing_on
from sync_pipeline.core.kinds import merge3
from sync_pipeline.core.rules import Commercial, Priority, Reaction
from sync_pipeline.core.world import World

Move = Literal["agree", "to_stripe", "to_salesforce", "put_back", "leave"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which side is written, and what is told besides. `put_back` writes Salesforce's value to Stripe.

    `value` (canonical) is what Salesforce gets where it is written. `ruled_at` is since when a person wants it so.
    """

    move: Move
    told: tuple[Entry, ...] = ()
    value: str | None = None
    ruled_at: int | None = None

    @property
    def writes_stripe(self) -> bool:
        return self.move in ("to_stripe", "put_back")


@dataclass(frozen=True, slots=True)
class Term:
    """One term on both sides, in canonical form. `rule` and `subject` name it; `words` say it to a person.

    `said` are base, Salesforce's and Stripe's value for people. A ruling for the side that it `keeps` leaves both as
    they are, because the other side cannot say its value.
    """

    subject: str
    rule: str
    salesforce: str
    stripe: str
    base: str | None
    words: str
    said: tuple[str | None, str, str]
    about: About
    keeps: Side | None = None

    @property
    def standing(self) -> Standing:
        return Standing(
            rule=self.rule, subject=self.subject, salesforce=self.salesforce, stripe=self.stripe, keeps=self.keeps
        )


def decide(world: World, commercial: Commercial, term: Term, reaction: Reaction, *, carries: bool) -> Decision:
    """What to do about one term. `carries` is whether Salesforce's edits are billed without asking a person."""
    ruling = ruling_on(world, term.standing)
    if ruling is not None:
        decided = _ruled(term, ruling)
    elif is_kept(world, term.standing):
        decided = Decision("leave")
    else:
        decided = _merged(world, commercial, term, reaction, carries)
    return replace(decided, told=(*decided.told, *standing_on(world, term.standing)))


def _ruled(term: Term, ruling: Ruling) -> Decision:
    """What carries a ruling out. Where neither side has its value, Salesforce gets it first, and then Stripe."""
    if ruling.side == term.keeps:
        return Decision("leave")
    if term.salesforce != ruling.value:
        return Decision("to_salesforce", value=ruling.value)
    return Decision("agree") if term.stripe == ruling.value else Decision("to_stripe", ruled_at=ruling.at)


def _merged(world: World, commercial: Commercial, term: Term, reaction: Reaction, carries: bool) -> Decision:
    decision = merge3(term.salesforce, term.stripe, term.base)
    if decision == "agree":
        return Decision("agree")
    if decision == "write_left":
        return _changed_at_stripe(world, commercial, term, reaction)
    if not carries:
        return _asked(world, term, f"{term.words}; make them equal")
    if decision == "write_right":
        return Decision("to_stripe")
    found = "they never agreed" if term.base is None else "changed on both sides"
    told = _clash(world, term, f"{found}: {term.words}; Salesforce wins", "Salesforce")
    return Decision("to_stripe", (told,))


def braked_until(world: World, commercial: Commercial, subject: str, rule: str) -> int | None:
    """When a field may be put back again (microseconds UTC), where it was put back too often of late."""
    since = world.now - commercial.reverts_within_us
    recent = sorted(moment for moment in world.reverts.get((subject, rule), ()) if moment > since)
    if len(recent) < commercial.reverts_before_review:
        return None
    return recent[-commercial.reverts_before_review] + commercial.reverts_within_us


def edit_war(world: World, commercial: Commercial, subject: str, rule: str, until: int) -> Sequence[Entry]:
    """One review of a field that something else keeps changing, and when it is tried again."""
    often, hours = commercial.reverts_before_review, commercial.reverts_within_hours
    detail = f"{rule} was put back {often} times in {hours} hours and changed again; find what changes it"
    return (
        Review(f"edit_war:{rule}:{subject}", world.account_id, "edit_war", subject, detail),
        LookAgain(until, priority=Priority.BULK),
    )


def _changed_at_stripe(world: World, commercial: Commercial, term: Term, reaction: Reaction) -> Decision:
    if reaction == "accept":
        return Decision("to_salesforce", value=term.stripe)
    if reaction == "review":
        return _asked(world, term, f"changed at Stripe: {term.words}; make them equal")
    if (until := braked_until(world, commercial, term.subject, term.rule)) is not None:
        return Decision("leave", tuple(edit_war(world, commercial, term.subject, term.rule, until)))
    return Decision("put_back")


def _asked(world: World, term: Term, detail: str) -> Decision:
    return Decision("leave", (_clash(world, term, detail, None),))


def _clash(world: World, term: Term, detail: str, winner: Side | None) -> Clash:
    return Clash(
        account=world.account_id,
        standing=term.standing,
        about=term.about,
        base=term.base,
        words=term.said,
        winner=winner,
        detail=detail,
    )
