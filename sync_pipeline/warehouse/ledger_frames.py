"""What the ledger knows, as the frames that the listings are compared with."""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from sync_pipeline.frames.cash import SUMS
from sync_pipeline.frames.mapping import LINKS
from sync_pipeline.ledger import facts, links


def links_to_stripe(conn: Connection) -> pl.DataFrame:
    """LINKS: the live primary ones, and those of customers that were deleted at Stripe: what they paid counts."""
    accounts = {name for kind in ("customer", "subscription") for name in links.all_accounts(conn, "stripe", kind)}
    found = links.for_accounts(conn, sorted(accounts))
    rows = [
        (link.account, link.kind, link.subject, link.external_id)
        for each in found.values()
        for link in each
        if link.system == "stripe"
        and ((link.state, link.role) == ("live", "primary") or (link.state, link.kind) == ("tombstoned", "customer"))
    ]
    return pl.DataFrame(rows, schema=LINKS, orient="row")


def sums_of_facts(conn: Connection) -> pl.DataFrame:
    """SUMS of the facts that were collected event by event."""
    sums = [(each.account, each.kind, each.currency, each.amount_minor) for each in facts.sums(conn)]
    return pl.DataFrame(sums, schema=SUMS, orient="row")
