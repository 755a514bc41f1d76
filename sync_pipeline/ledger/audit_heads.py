"""The heads of the audit's chains, kept where the owner of this database cannot write.

A head is the number and hash of a chain's newest row, and it stands for all rows before it: whoever has it can tell
later whether any of them was changed, cut off or taken away, with everything in the ledger that tells of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from sync_pipeline.ledger import audit as chains
from sync_pipeline.ledger.audit import Problem
from sync_pipeline.ledger.database import LedgerError
from sync_pipeline.ledger.tables import audit, audit_head

Heads = Mapping[str, tuple[int, str]]
"""By account the number and hash of the newest row of its chain."""
FORMAT = 1


def heads(conn: Connection) -> Heads:
    """The heads of all chains now."""
    return {row.account: (row.seq, row.hash) for row in conn.execute(select(audit_head).order_by(audit_head.c.account))}


def compare(conn: Connection, kept: Heads) -> list[Problem]:
    """Where the chains do not go on from the heads that were kept. What retention has removed since is excused."""
    cut = chains.anchors(conn)
    problems = []
    for account, (seq, digest) in sorted(kept.items()):
        removed = cut.get(account, [])
        row = select(audit.c.hash).where(audit.c.account == account, audit.c.seq == seq)
        now = next((each.hash for each in removed if each.seq == seq), None) or conn.execute(row).scalar()
        if now is None and any(each.seq > seq for each in removed):
            continue
        if now is None:
            problems.append(Problem(account, seq, "is gone, and was the newest when the heads were kept"))
        elif now != digest:
            problems.append(Problem(account, seq, "is another one than when the heads were kept"))
    return problems


def read(file: Path) -> Heads | None:
    """The heads in a file that `write` has made; None where there is none. Raises LedgerError for any other file."""
    try:
        found: Any = json.loads(file.read_text())
        if found["format"] != FORMAT:
            raise LedgerError(f"{file} was written by another version; keep it, and name a new file")
        return {account: (int(seq), str(digest)) for account, (seq, digest) in found["heads"].items()}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError(
            f"{file} holds no heads of `sync-pipeline ledger verify --heads`; name another file"
        ) from None


def write(file: Path, now: Heads) -> None:
    """Whole or not at all. Raises LedgerError where it cannot be written."""
    beside = file.with_name(f"{file.name}.new")
    try:
        beside.write_text(json.dumps({"format": FORMAT, "heads": now}, indent=1, sort_keys=True) + "\n")
        beside.replace(file)
    except OSError as error:
        raise LedgerError(f"{file} cannot be written: {error.strerror}") from None
