"""The crosswalk: which Salesforce and Stripe objects belong to which account, and account merges.

The database is the arbiter of adoption: an external id has one account, and each slot (account,
system, kind, subject) has one live primary. Links are never deleted: an object that vanished is
tombstoned, so that its id can never be taken for a new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, select, update
from sqlalchemy.exc import IntegrityError

from sync_pipeline.ledger.statements import SOME, batches, insert
from sync_pipeline.ledger.tables import OPEN_STATES, alias, base, command, conflict, fact, link, review

System = Literal["salesforce", "stripe"]
Role = Literal["primary", "secondary"]
State = Literal["live", "tombstoned", "merged_into"]


@dataclass(frozen=True, slots=True)
class Link:
    """One external object of an account.

    `subject` is the Salesforce record the object belongs to: the Account id for a customer (with `:{currency}`
    for those after the first), the Opportunity id for a subscription, the line id for a subscription item, ''
    for none.
    """

    account: str
    system: System
    kind: str
    external_id: str
    role: Role = "primary"
    state: State = "live"
    subject: str = ""

    def __str__(self) -> str:
        of = f" for {self.subject}" if self.subject else ""
        return f"{self.system} {self.kind} {self.external_id} of account {self.account}{of}"


class LinkConflict(Exception):
    """Two sides claim one link. The transaction is still usable: the link was not changed."""

    def __init__(self, wanted: Link, existing: Link) -> None:
        super().__init__(f"cannot link {wanted}: taken by {existing}")
        self.wanted = wanted
        self.existing = existing


def put(conn: Connection, wanted: Link, now: int) -> None:
    """Records the link; the same link again is a no-op, another role, state or subject is an update.

    Raises LinkConflict when the external id belongs to another account, or when another live primary
    has the slot.
    """
    inserted = conn.execute(
        insert(conn, link).on_conflict_do_nothing().returning(link.c.external_id),
        [{**_values(wanted), "linked_at": now, "changed_at": now}],
    ).first()
    if inserted is not None:
        return
    existing = _get(conn, wanted.system, wanted.kind, wanted.external_id) or _rival(conn, wanted)
    if existing is None:
        # What stood in the way has gone in the meantime.
        put(conn, wanted, now)
    elif (existing.account, existing.external_id) != (wanted.account, wanted.external_id):
        raise LinkConflict(wanted, existing)
    elif existing != wanted:
        _rewrite(conn, wanted, now)


def set_state(conn: Connection, system: System, kind: str, external_id: str, state: State, now: int) -> bool:
    """Tombstones a link or brings it back; False when it is unknown or already so.

    Raises LinkConflict when a link that comes back finds its slot taken.
    """
    existing = _get(conn, system, kind, external_id)
    if existing is None or existing.state == state:
        return False
    _rewrite(conn, replace(existing, state=state), now)
    return True


def for_accounts(conn: Connection, accounts: Iterable[str]) -> dict[str, list[Link]]:
    """All links of each account, in a fixed order; an account without links is not in the result."""
    found: defaultdict[str, list[Link]] = defaultdict(list)
    for batch in batches(accounts):
        for row in conn.execute(_OF_ACCOUNTS, {"some": batch}):
            found[row.account].append(Link(*row))
    return dict(found)


def account_of(conn: Connection, system: System, kind: str, external_id: str) -> str | None:
    """The account that the external object belongs to."""
    return accounts_of(conn, system, kind, [external_id]).get(external_id)


def accounts_of(conn: Connection, system: System, kind: str, ids: Iterable[str]) -> dict[str, str]:
    """External id -> account, for the ids that are known."""
    found: dict[str, str] = {}
    for batch in batches(ids):
        rows = conn.execute(_ACCOUNTS, {"system": system, "kind": kind, "some": batch})
        found.update((row.external_id, row.account) for row in rows)
    return found


def customers_by_account(conn: Connection, accounts: Collection[str]) -> dict[str, list[str]]:
    """The living Stripe customers of those of the accounts that have any, by account."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for batch in batches(accounts):
        rows = conn.execute(
            select(link.c.account, link.c.external_id)
            .where(link.c.account.in_(batch), link.c.system == "stripe", link.c.kind == "customer")
            .where(link.c.state == "live")
            .order_by(link.c.account, link.c.external_id)
        )
        for row in rows:
            found[row.account].append(row.external_id)
    return dict(found)


def of_subjects(conn: Connection, system: System, kind: str, subjects: Iterable[str]) -> list[Link]:
    """The live primary links of Salesforce records, whichever account holds them, in a fixed order."""
    found: list[Link] = []
    for batch in batches(subjects):
        rows = conn.execute(_OF_SUBJECTS, {"system": system, "kind": kind, "some": batch})
        found.extend(Link(*row) for row in rows)
    return found


def all_accounts(conn: Connection, system: System, kind: str) -> list[str]:
    """Every account with a live link of this kind, sorted."""
    return list(
        conn.execute(
            select(link.c.account)
            .where(link.c.system == system, link.c.kind == kind, link.c.state == "live")
            .distinct()
            .order_by(link.c.account)
        ).scalars()
    )


def merged_into(conn: Connection, accounts: Iterable[str]) -> dict[str, str]:
    """Account -> the account that it was merged into, for those that were."""
    found: dict[str, str] = {}
    for batch in batches(accounts):
        rows = conn.execute(_MERGED, {"some": batch})
        found.update((row.old_id, row.new_id) for row in rows)
    return found


def merged_from(conn: Connection, account: str) -> list[str]:
    """The accounts that were merged into this one."""
    return list(conn.execute(_MERGED_FROM, {"of": account}).scalars())


def unalias(conn: Connection, accounts: Iterable[str]) -> None:
    """These accounts are there again after a merge was undone. What moved to the other account stays there."""
    for batch in batches(accounts):
        conn.execute(_UNALIASED, {"some": batch})


def move_account(conn: Connection, old: str, new: str, now: int) -> None:
    """Account `old` was merged into `new` in Salesforce: everything that belongs to `old` moves.

    Where both had a primary, that of `new` stays primary: two customers on one account are legal, but
    only one gets new subscriptions. Where both have a base value, that of `new` stays. Commands that
    may have reached their target stay unresolved, under `new`; planned ones are superseded. The audit
    stays where it was written. Doing it again is a no-op. The caller marks `new` dirty.
    """
    if old == new or merged_into(conn, [new]):
        raise ValueError(f"cannot merge account {old} into {new}: {new} is itself merged away")
    statement = insert(conn, alias)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[alias.c.system, alias.c.old_id], set_={"new_id": statement.excluded.new_id}
        ),
        {"system": "salesforce", "old_id": old, "new_id": new, "at": now},
    )
    conn.execute(update(alias).where(alias.c.new_id == old).values(new_id=new))
    _move_links(conn, old, new, now)
    _move_base(conn, old, new)
    for moved in (fact, conflict):
        conn.execute(update(moved).where(moved.c.account == old).values(account=new))
    conn.execute(
        update(command)
        .where(command.c.account == old, command.c.state == "planned")
        .values(state="superseded", changed_at=now)
    )
    conn.execute(update(command).where(command.c.account == old, command.c.state.in_(OPEN_STATES)).values(account=new))
    conn.execute(update(review).where(review.c.account == old, review.c.closed_at.is_(None)).values(closed_at=now))


def _move_links(conn: Connection, old: str, new: str, now: int) -> None:
    for moved in for_accounts(conn, [old]).get(old, []):
        # A customer of a further currency has the slot `{account}:{currency}`.
        subject = new + moved.subject.removeprefix(old) if moved.subject.startswith(old) else moved.subject
        target = replace(moved, account=new, subject=subject)
        if (moved.system, moved.external_id) == ("salesforce", old):
            target = replace(target, state="merged_into")
        if _rival(conn, target) is not None:
            target = replace(target, role="secondary")
        _rewrite(conn, target, now)


def _move_base(conn: Connection, old: str, new: str) -> None:
    kept = base.alias("kept")
    conn.execute(
        delete(base).where(
            base.c.account == old,
            exists().where(kept.c.account == new, kept.c.subject == base.c.subject, kept.c.field == base.c.field),
        )
    )
    conn.execute(update(base).where(base.c.account == old).values(account=new))


def _rewrite(conn: Connection, target: Link, now: int) -> None:
    rival = _rival(conn, target)
    if rival is not None:
        raise LinkConflict(target, rival)
    try:
        with conn.begin_nested():
            conn.execute(update(link).where(_is(target)).values(**_values(target), changed_at=now))
    except IntegrityError:
        # Another transaction took the slot between the look and the write.
        rival = _rival(conn, target)
        if rival is None:
            raise
        raise LinkConflict(target, rival) from None


def _rival(conn: Connection, wanted: Link) -> Link | None:
    """The other link that holds the slot which `wanted` needs."""
    if (wanted.role, wanted.state) != ("primary", "live"):
        return None
    row = conn.execute(
        select(*_COLUMNS).where(
            link.c.account == wanted.account,
            link.c.system == wanted.system,
            link.c.kind == wanted.kind,
            link.c.subject == wanted.subject,
            link.c.role == "primary",
            link.c.state == "live",
            link.c.external_id != wanted.external_id,
        )
    ).first()
    return None if row is None else Link(*row)


def _get(conn: Connection, system: System, kind: str, external_id: str) -> Link | None:
    row = conn.execute(
        select(*_COLUMNS).where(link.c.system == system, link.c.kind == kind, link.c.external_id == external_id)
    ).first()
    return None if row is None else Link(*row)


def _is(target: Link) -> ColumnElement[bool]:
    return and_(link.c.system == target.system, link.c.kind == target.kind, link.c.external_id == target.external_id)


def _values(item: Link) -> dict[str, str]:
    return {column.name: getattr(item, column.name) for column in _COLUMNS}


_COLUMNS = (
    link.c.account,
    link.c.system,
    link.c.kind,
    link.c.external_id,
    link.c.role,
    link.c.state,
    link.c.subject,
)
_OF_KIND = and_(link.c.system == bindparam("system"), link.c.kind == bindparam("kind"))
_OF_ACCOUNTS = (
    select(*_COLUMNS)
    .where(link.c.account.in_(SOME))
    .order_by(link.c.account, link.c.system, link.c.kind, link.c.subject, link.c.external_id)
)
_ACCOUNTS = select(link.c.external_id, link.c.account).where(_OF_KIND, link.c.external_id.in_(SOME))
_OF_SUBJECTS = (
    select(*_COLUMNS)
    .where(_OF_KIND, link.c.subject.in_(SOME), link.c.role == "primary", link.c.state == "live")
    .order_by(link.c.account, link.c.subject, link.c.external_id)
)
_MERGED = select(alias.c.old_id, alias.c.new_id).where(alias.c.system == "salesforce", alias.c.old_id.in_(SOME))
_MERGED_FROM = select(alias.c.old_id).where(alias.c.system == "salesforce", alias.c.new_id == bindparam("of"))
_UNALIASED = delete(alias).where(alias.c.system == "salesforce", alias.c.old_id.in_(SOME))
