"""A conflict: one field on which the two systems disagreed, from the look that found it to the last word on it.

What a look finds is a clash; it becomes a conflict when the ledger has it. What happens to it then, and what a person
may rule, is in `conflict_inbox.py`. Values are canonical JSON texts, personal ones keyed hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from sync_pipeline.core import canonical

Side = Literal["Salesforce", "Stripe"]
Status = Literal["Open", "Decided", "Overtaken"]


class Edited(Protocol):
    """A Salesforce record that says who edited it last, and when."""

    @property
    def id(self) -> str: ...

    @property
    def modified_by_id(self) -> str | None: ...

    @property
    def modified_at(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Where a field is, for people: its Salesforce record, the deal, the Stripe object; who edited the record last."""

    record_id: str
    opportunity_id: str | None = None
    stripe_object: str | None = None
    edited_by_id: str | None = None
    edited_at: int | None = None

    @classmethod
    def of(cls, record: Edited, *, opportunity_id: str | None, stripe_object: str) -> About:
        """Where a field of `record` is."""
        return cls(
            record_id=record.id,
            opportunity_id=opportunity_id,
            stripe_object=stripe_object,
            edited_by_id=record.modified_by_id,
            edited_at=record.modified_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What both systems say now of a field about which there was a conflict.

    A ruling for the side that it `keeps` leaves both as they are: nothing is written to the other system.
    """

    rule: str
    subject: str
    salesforce: str
    stripe: str
    keeps: Side | None = None


@dataclass(frozen=True, kw_only=True)
class Clash:
    """Values of one field that disagree and that no rule settles by itself, or that both sides moved.

    `words` are base, Salesforce's and Stripe's value as people say them. `winner` is the side that the rule of the
    field prefers; None where a person has to decide.
    """

    account: str
    standing: Standing
    about: About
    base: str | None
    words: tuple[str | None, str, str]
    winner: Side | None
    detail: str

    @cached_property
    def digest(self) -> str:
        """The same for the same field and the same values, however often they clash."""
        standing = self.standing
        parts = [standing.rule, standing.subject, self.base, standing.salesforce, standing.stripe]
        return canonical.sha256(parts)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What the ledger knows of a conflict. `key` is the clash's digest and how often it has come, from 1.

    Open: the systems disagree. Decided: the `winner`'s value counts, in both or by a ruling that keeps it. Overtaken: a
    later edit changed the question. `ruling` is what somebody said on the command line and the Salesforce record does
    not show yet; `shown` says that the record was seen. Moments are microseconds UTC.
    """

    key: str
    account: str
    rule: str
    subject: str
    record_id: str
    opportunity_id: str | None
    base: str | None
    salesforce: str
    stripe: str
    base_in_words: str | None
    salesforce_in_words: str
    stripe_in_words: str
    reason: str
    winner: Side | None
    status: Status
    opened_at: int
    edited_by_id: str | None = None
    edited_at: int | None = None
    stripe_object: str | None = None
    stripe_event: str | None = None
    stripe_edited_at: int | None = None
    decided_by: str | None = None
    decided_at: int | None = None
    ruling: Side | None = None
    ruled_by: str | None = None
    ruled_at: int | None = None
    shown: bool = False

    @property
    def digest(self) -> str:
        return self.key.partition(":")[0]

    def value_of(self, side: Side) -> str:
        return self.salesforce if side == "Salesforce" else self.stripe
