"""Token buckets that all processes share: so many calls a second, so many retries, so many invoices a day.

A bucket fills at a steady rate up to its capacity. Taking may leave a debt, which is a reservation: whoever takes
waits until the debt is paid off, and the next one waits behind it. Levels are whole millionths of a token, so that
both databases count alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects import sqlite

from sync_pipeline.ledger.statements import insert_for
from sync_pipeline.ledger.tables import bucket

TOKEN = 1_000_000
LONGEST_LEAD_US = 10_000_000
"""A clock that is further ahead of another one is wrong."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`tokens` flow in every `seconds`, up to `capacity`. It starts full. Nobody waits for it longer than
    `patience_us`: who would have to takes nothing."""

    name: str
    capacity: int
    tokens: int
    seconds: int = 1
    patience_us: int = 0


def take(conn: Connection, wanted: Mapping[Bucket, int], *, now_wall: int) -> int | Bucket:
    """Takes so many tokens from every bucket and returns how long to wait before using them, in microseconds.

    Where that would be longer than the patience for a bucket, nothing is taken, and that bucket is returned.
    """
    left = {}
    longest = 0
    for each in sorted(wanted, key=lambda each: each.name):
        level, at_wall = _find(conn, each, now_wall)
        level -= wanted[each] * TOKEN
        wait = max(0, -(level * each.seconds // each.tokens))
        if wait > each.patience_us:
            return each
        longest = max(longest, wait)
        left[each.name] = level, at_wall
    for name, (level, at_wall) in left.items():
        _put(conn, name, level, at_wall)
    return longest


def give(conn: Connection, into: Bucket, *, tokens: int, now_wall: int) -> None:
    """Puts tokens back, up to the capacity; a negative number is a penalty."""
    level, at_wall = _find(conn, into, now_wall)
    _put(conn, into.name, min(into.capacity * TOKEN, level + tokens * TOKEN), at_wall)


def prune(conn: Connection, before_wall: int) -> int:
    """Deletes the buckets that nobody has used since `before_wall`: they are full again, as they would start."""
    return conn.execute(delete(bucket).where(bucket.c.at_wall < before_wall)).rowcount


def _find(conn: Connection, each: Bucket, now_wall: int) -> tuple[int, int]:
    """What is in the bucket, and as of when; its row is locked until the end of the transaction."""
    full = each.capacity * TOKEN
    conn.execute(_new(conn.dialect.name), {"name": each.name, "level": full, "at_wall": now_wall})
    found = conn.execute(_STANDS, {"of": each.name}).one()
    # Another process's clock may be ahead of ours: time never flows twice into a bucket. But nobody waits until ours is
    # where a wrong one was, which may take days; while that one runs, the system's own limits hold us back.
    at_wall = found.at_wall if found.at_wall - now_wall <= LONGEST_LEAD_US else now_wall
    passed = max(0, now_wall - at_wall)
    return int(min(full, found.level + passed * each.tokens // each.seconds)), max(now_wall, at_wall)


def _put(conn: Connection, name: str, level: int, at_wall: int) -> None:
    conn.execute(_MOVED, {"of": name, "level": level, "at_wall": at_wall})


_STANDS = select(bucket).where(bucket.c.name == bindparam("of")).with_for_update()
_MOVED = update(bucket).where(bucket.c.name == bindparam("of"))


@cache
def _new(dialect: str) -> sqlite.Insert:
    return insert_for(dialect, bucket).on_conflict_do_nothing()
