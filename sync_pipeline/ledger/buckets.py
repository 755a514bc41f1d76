"""Token buckets that all processes share: so many calls a second, so many retries.

A bucket fills at a steady rate up to its capacity. Taking may leave a debt, which is a reservation: whoever takes
waits until the debt is paid off, and the next one waits behind it. Levels are whole millionths of a token, so that
both databases count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from sync_pipeline.ledger.statements import insert
from sync_pipeline.ledger.tables import bucket

TOKEN = 1_000_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """`per_second` tokens flow in, up to `capacity`. It starts full."""

    name: str
    capacity: int
    per_second: int


def take(conn: Connection, wanted: Sequence[Bucket], *, cost: int, now_wall: int, longest_wait_us: int) -> int | None:
    """Takes `cost` tokens from every bucket and returns how long to wait before using them, in microseconds.

    None, and nothing is taken, when that would be longer than `longest_wait_us`.
    """
    found = {each.name: _find(conn, each, now_wall) for each in sorted(wanted, key=lambda each: each.name)}
    left = {each.name: found[each.name][0] - cost * TOKEN for each in wanted}
    wait = max([0, *(-(left[each.name] // each.per_second) for each in wanted)])
    if wait > longest_wait_us:
        return None
    for name, level in left.items():
        _put(conn, name, level, found[name][1])
    return wait


def give(conn: Connection, into: Bucket, *, tokens: int, now_wall: int) -> None:
    """Puts tokens back, up to the capacity; a negative number is a penalty."""
    level, at_wall = _find(conn, into, now_wall)
    _put(conn, into.name, min(into.capacity * TOKEN, level + tokens * TOKEN), at_wall)


def _find(conn: Connection, each: Bucket, now_wall: int) -> tuple[int, int]:
    """What is in the bucket, and as of when; its row is locked until the end of the transaction."""
    full = each.capacity * TOKEN
    row = insert(conn, bucket).on_conflict_do_nothing()
    conn.execute(row, {"name": each.name, "level": full, "at_wall": now_wall})
    found = conn.execute(select(bucket).where(bucket.c.name == each.name).with_for_update()).one()
    # Another process's clock may be ahead of ours: time never flows twice into a bucket.
    passed = max(0, now_wall - found.at_wall)
    return int(min(full, found.level + passed * each.per_second)), max(now_wall, found.at_wall)


def _put(conn: Connection, name: str, level: int, at_wall: int) -> None:
    conn.execute(update(bucket).where(bucket.c.name == name).values(level=level, at_wall=at_wall))
