"""The audit: what was done to whom and why, append-only and hash-chained per account.

Each row's hash covers the row and the hash before it, so that a changed, removed or inserted row
shows. That makes tampering evident, not impossible: keep the heads where this database's owner
cannot write (`sync-pipeline ledger verify --heads FILE`). A chain whose oldest rows were removed
(audit_retention.py) begins at its anchor. Rows hold field names, hashes and ids, never personal
values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby

from sqlalchemy import Connection, bindparam, func, or_, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import ReturningInsert

from sync_pipeline.ledger.database import LedgerError
from sync_pipeline.ledger.statements import insert_for, record
from sync_pipeline.ledger.tables import audit, audit_anchor, audit_head


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry. `fields` is JSON; `attempt_id` is None for what was no API write (a person's decision)."""

    account: str
    seq: int
    at: int
    attempt_id: str | None
    actor: str
    what: str
    fields: str
    reason: str
    evidence: str
    run: str | None
    code_version: str
    request_id: str | None
    previous_hash: str
    hash: str


RETENTION = "audit retention"
"""What the row of a chain says that tells of the removal of older ones; its evidence is their anchor."""


HEAD_LOST = "audit head lost"
"""What the row of a chain says that goes on without its recorded end."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is left of the rows of a chain that were removed: the last one's number and hash; how many went with it."""

    seq: int
    hash: str
    removed: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A place where the chain of an account does not hold; `seq` is 0 where it is no row of it."""

    account: str
    seq: int
    what: str


def append(
    conn: Connection,
    *,
    account: str,
    attempt_id: str | None,
    at: int,
    actor: str,
    what: str,
    fields: str,
    reason: str,
    evidence: str,
    run: str | None,
    code_version: str,
    request_id: str | None,
) -> int:
    """Adds a row to the account's chain and returns its number (1, 2, 3 ... without gaps).

    Raises LedgerError when the attempt already has its row: an outcome is audited exactly once.
    """
    # Taking the number locks the head until the end of the transaction, so chains never fork.
    number = {"account": account, "seq": 1}
    head = conn.execute(_next_number(conn.dialect.name), number).one()
    if head.seq == 1 and (last := conn.execute(_LAST, {"of": account}).first()) is not None:
        # The write of which this row tells was made: a head that somebody has removed must not lose it.
        conn.execute(_HEAD_AGAIN, {"of": account, "last": last.seq, "digest": last.hash})
        append(
            conn,
            account=account,
            attempt_id=None,
            at=at,
            actor=actor,
            what=HEAD_LOST,
            fields="[]",
            reason="the end of the chain was not recorded any more; it goes on from the last row that was left",
            evidence="{}",
            run=None,
            code_version=code_version,
            request_id=None,
        )
        head = conn.execute(_next_number(conn.dialect.name), number).one()
    row = {
        "account": account,
        "seq": head.seq,
        "at": at,
        "attempt_id": attempt_id,
        "actor": actor,
        "what": what,
        "fields": fields,
        "reason": reason,
        "evidence": evidence,
        "run": run,
        "code_version": code_version,
        "request_id": request_id,
    }
    digest = _hash(head.hash, row)
    try:
        conn.execute(_INSERT, {**row, "previous_hash": head.hash, "hash": digest})
    except IntegrityError as error:
        if "attempt_id" in str(error.orig):
            raise LedgerError(f"attempt {attempt_id} of account {account} is already in the audit") from None
        raise LedgerError(
            f"row {head.seq} of the audit of account {account} is there already: somebody has set back the end of its "
            "chain; see `sync-pipeline ledger verify`"
        ) from None
    conn.execute(_NEW_HEAD, {"of": account, "digest": digest})
    return int(head.seq)


_INSERT = plain_insert(audit)
_LAST = (
    select(audit.c.seq, audit.c.hash).where(audit.c.account == bindparam("of")).order_by(audit.c.seq.desc()).limit(1)
)
_HEAD_AGAIN = (
    update(audit_head)
    .where(audit_head.c.account == bindparam("of"))
    .values(seq=bindparam("last"), hash=bindparam("digest"))
)
_NEW_HEAD = update(audit_head).where(audit_head.c.account == bindparam("of")).values(hash=bindparam("digest"))


@cache
def _next_number(dialect: str) -> ReturningInsert[tuple[int, str]]:
    return (
        insert_for(dialect, audit_head)
        .on_conflict_do_update(index_elements=[audit_head.c.account], set_={"seq": audit_head.c.seq + 1})
        .returning(audit_head.c.seq, audit_head.c.hash)
    )


def verify(conn: Connection, account: str | None = None) -> list[Problem]:
    """Recomputes the chains, of one account or of all, and returns where they do not hold."""
    rows, heads = select(audit).order_by(audit.c.account, audit.c.seq), select(audit_head)
    if account is not None:
        rows = rows.where(audit.c.account == account)
        heads = heads.where(audit_head.c.account == account)
    last = {head.account: (head.seq, head.hash) for head in conn.execute(heads)}
    cut = anchors(conn, account)
    problems: list[Problem] = []
    entries = (AuditRow(**record(row)) for row in conn.execute(rows))
    for name, chain in groupby(entries, key=lambda entry: entry.account):
        problems += _verify_chain(name, chain, cut.pop(name, []), last.pop(name, (0, "")))
    gone = "was removed with all before it, and what came after is gone"
    problems += [Problem(name, removed[-1].seq, gone) for name, removed in sorted(cut.items()) if name not in last]
    problems += [Problem(name, seq, "all rows are missing") for name, (seq, _) in sorted(last.items())]
    return problems


def anchors(conn: Connection, account: str | None = None) -> dict[str, list[Anchor]]:
    """By account what was removed of its chain, of one account or of all, the oldest first."""
    rows = select(audit_anchor).order_by(audit_anchor.c.account, audit_anchor.c.seq)
    if account is not None:
        rows = rows.where(audit_anchor.c.account == account)
    found: dict[str, list[Anchor]] = {}
    for row in conn.execute(rows):
        found.setdefault(row.account, []).append(Anchor(row.seq, row.hash, row.removed))
    return found


def extent(conn: Connection, account: str | None = None) -> tuple[int, int]:
    """How many chains there are, and how many rows in all of them."""
    counted = select(func.count(audit.c.account.distinct()), func.count())
    if account is not None:
        counted = counted.where(audit.c.account == account)
    chains, rows = conn.execute(counted).one()
    return chains, rows


def for_account(conn: Connection, account: str, limit: int | None = None) -> list[AuditRow]:
    """The newest `limit` rows of the account, or all of them, newest first."""
    rows = conn.execute(select(audit).where(audit.c.account == account).order_by(audit.c.seq.desc()).limit(limit))
    return [AuditRow(**record(row)) for row in rows]


def account_of(conn: Connection, named: str) -> str | None:
    """The account whose audit was the last to name something; see accounts_of."""
    return next(iter(accounts_of(conn, named)), None)


def accounts_of(conn: Connection, named: str) -> list[str]:
    """The accounts whose audit names something: a target, or the id of an object of Stripe; the last to do so first.

    Reads the whole audit; for a person's question.
    """
    is_named = or_(
        audit.c.what.contains(f"/{named}:", autoescape=True),
        audit.c.what.contains(f"/{named}/", autoescape=True),
        audit.c.what.contains(f" {named}:", autoescape=True),
        audit.c.evidence.contains(f'"{named}"', autoescape=True),
    )
    found = select(audit.c.account).where(is_named).group_by(audit.c.account)
    return list(conn.execute(found.order_by(func.max(audit.c.at).desc(), audit.c.account)).scalars())


def of_run(conn: Connection, run: str) -> list[AuditRow]:
    """Everything that a run has done, account by account in the order in which it did it."""
    rows = conn.execute(select(audit).where(audit.c.run == run).order_by(audit.c.account, audit.c.seq))
    return [AuditRow(**record(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run that has written: its first and last write that took effect (microseconds UTC), how many, and to how many
    accounts."""

    run: str
    first_at: int
    last_at: int
    accounts: int
    writes: int


def runs(conn: Connection, limit: int) -> list[RunSummary]:
    """The newest runs that have written, newest first."""
    last = func.max(audit.c.at)
    rows = conn.execute(
        select(
            audit.c.run,
            func.min(audit.c.at).label("first_at"),
            last.label("last_at"),
            func.count(audit.c.account.distinct()).label("accounts"),
            func.count(audit.c.attempt_id).label("writes"),
        )
        .where(audit.c.run.is_not(None), audit.c.attempt_id.is_not(None), audit.c.what.endswith(": done"))
        .group_by(audit.c.run)
        .order_by(last.desc(), audit.c.run)
        .limit(limit)
    )
    return [RunSummary(**record(row)) for row in rows]


def tells_of(entry: AuditRow, anchor: Anchor) -> bool:
    """Whether the row is the one that tells of the removal."""
    return entry.what == RETENTION and entry.evidence == as_evidence(anchor)


def as_evidence(anchor: Anchor) -> str:
    return json.dumps(asdict(anchor), sort_keys=True)


def _verify_chain(account: str, chain: Iterable[AuditRow], cut: list[Anchor], head: tuple[int, str]) -> list[Problem]:
    problems: list[Problem] = []
    first = cut[-1] if cut else Anchor(0, "", 0)
    untold = bool(cut)
    if sum(anchor.removed for anchor in cut) != first.seq:
        problems.append(Problem(account, first.seq, "is not as many rows as were removed"))
    seq, previous = first.seq, first.hash
    for entry in chain:
        if entry.seq <= first.seq:
            problems.append(Problem(account, entry.seq, f"stands although rows up to {first.seq} were removed"))
            continue
        untold = untold and not tells_of(entry, first)
        if entry.what == HEAD_LOST:
            problems.append(Problem(account, entry.seq, "tells that the end of the chain had been lost before it"))
        seq += 1
        if entry.seq != seq:
            problems.append(Problem(account, seq, f"missing up to row {entry.seq - 1}"))
            seq = entry.seq
        elif entry.previous_hash != previous:
            problems.append(Problem(account, seq, "does not follow the row before it"))
        content = asdict(entry)
        del content["previous_hash"], content["hash"]
        if _hash(entry.previous_hash, content) != entry.hash:
            problems.append(Problem(account, seq, "was changed after it was written"))
        previous = entry.hash
    if untold:
        problems.append(
            Problem(account, first.seq, "was removed with all before it, and the chain does not tell of it")
        )
    if (seq, previous) != head:
        problems.append(Problem(account, seq, f"is not the recorded end of the chain (row {head[0]})"))
    return problems


def _hash(previous: str, row: dict[str, object]) -> str:
    canonical = json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{canonical}".encode()).hexdigest()
