"""The SQL sum over the ledger's facts against the Polars sum over Stripe's listings, on both databases."""

from __future__ import annotations

import polars as pl

from sync_pipeline.core.facts import corrections
from sync_pipeline.frames.cash import SUMS, Listings, cash, disagreements, sums
from sync_pipeline.ledger import facts
from sync_pipeline.ledger.database import Ledger
from sync_pipeline_tests.frames.test_ltv import (
    charge,
    credit_note,
    dispute,
    facts_of,
    listings,
    mapping,
    payment,
    refund,
)

PAYMENTS = [
    payment(1, "cus_1", 12_000),
    payment(2, "cus_2", 5_000, currency="EUR"),
    payment(3, "cus_3", 9_000, currency="JPY"),
]
CHARGES = [
    charge(1, "cus_1", 12_000),
    charge(2, "cus_2", 5_000, currency="EUR", settled_currency="GBP", settled=4_300),
]
DISPUTED = {"customer": "cus_2", "currency": "EUR"}


def look(ledger: Ledger, found: Listings) -> dict[tuple[str, str, str], int]:
    """What every event does: what the records prove is held against the facts, and the difference is appended.

    Returns the sums that SQL finds and that are not 0, which Polars finds too.
    """
    with ledger.tx() as conn:
        known = facts.for_accounts(conn, ["001A", "001B"])
        for account, proved in facts_of(found).items():
            facts.append(conn, corrections(known.get(account, []), proved, 1))
    with ledger.read() as conn:
        by_sql = [(each.account, each.kind, each.currency, each.amount_minor) for each in facts.sums(conn)]
    by_polars = sums(cash(found), mapping())
    assert disagreements(by_polars, pl.DataFrame(by_sql, schema=SUMS, orient="row")).rows() == []
    return {(account, kind, currency): minor for account, kind, currency, minor in by_sql if minor}


def test_refunds_disputes_and_currencies_come_to_the_same_in_sql(ledger: Ledger) -> None:
    # A refund is on its way, and the payment in euros is disputed: it is gone, with the 43.00 that it was worth.
    before = look(
        ledger,
        listings(
            PAYMENTS,
            [refund(1, "cus_1", 2_500, status="pending")],
            CHARGES,
            [dispute(2, 5_000, settled=-4_300, **DISPUTED)],
        ),
    )
    collected = {
        ("001A", "payment", "GBP"): 12_000,
        ("001A", "payment", "EUR"): 5_000,
        ("001A", "settled_payment", "GBP"): 4_300,
        ("001B", "payment", "JPY"): 9_000,
    }
    assert before == collected | {("001A", "dispute", "EUR"): -5_000, ("001A", "settled_dispute", "GBP"): -4_300}
    # The refund has arrived, the dispute is won, yen are refunded in two parts, 7.00 were given back in cash.
    after = look(
        ledger,
        listings(
            PAYMENTS,
            [
                refund(1, "cus_1", 2_500),
                refund(2, "cus_3", 600, currency="JPY", payment="pi_3"),
                refund(3, "cus_3", 400, currency="JPY", payment="pi_3"),
            ],
            CHARGES,
            [dispute(2, 0, status="won", settled=0, **DISPUTED)],
            [credit_note(1, 700)],
        ),
    )
    assert after == collected | {
        ("001A", "refund", "GBP"): -2_500,
        ("001A", "credit_note", "GBP"): -700,
        ("001B", "refund", "JPY"): -1_000,
    }
