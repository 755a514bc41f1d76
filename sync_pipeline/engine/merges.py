"""Accounts that were merged in Salesforce: what belonged to the one that is gone belongs to the one that is left.

Customers, subscriptions and money facts move; nothing at Stripe is merged, cancelled or made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from sync_pipeline.ledger import links


def follow_merges(conn: Connection, merged: Mapping[str, str], now: int) -> dict[str, str]:
    """Moves what belongs to each Account (key) that was merged into another (value); to whom it came.

    Following a merge again is a no-op. The caller marks those that are left dirty.
    """
    for old, new in sorted(merged.items()):
        left = links.merged_into(conn, [new]).get(new, new)
        if left != old:
            links.move_account(conn, old, left, now)
    return links.merged_into(conn, merged)


def back_from_the_bin(conn: Connection, accounts: Iterable[str]) -> None:
    """Accounts that Salesforce shows again: events that name them are their own. What moved with a merge stays."""
    links.unalias(conn, accounts)
