"""The tables of the certificate from the tables of the night, and its page beside them.

The same for the nightly run and the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sync_pipeline.core.rules import Commercial
from sync_pipeline.frames import certificate
from sync_pipeline.frames.cash import Listings, cash
from sync_pipeline.frames.mrr import recurring
from sync_pipeline.frames.tables import (
    ACCOUNT_CUSTOMERS,
    CERTIFICATE_ACCOUNTS,
    CERTIFICATE_HISTORY,
    DEAL_SUBSCRIPTIONS,
    MRR_AT_RISK,
    MRR_ROLLFORWARD,
    SNAPSHOTS,
)
from sync_pipeline.frames.unbilled import unbilled_deals
from sync_pipeline.warehouse.certificate_page import Shown, page
from sync_pipeline.warehouse.parquet import Warehouse, replace_file

PAGE = "certificate.html"


@dataclass(frozen=True, slots=True)
class Certified:
    """The two tables, and the figures whose parts do not add up: there must be none."""

    amounts: pl.DataFrame
    history: pl.DataFrame
    wrong: pl.DataFrame


def certify_amounts(
    warehouse: Warehouse, commercial: Commercial, base: pl.DataFrame, left: Iterable[str], at: int
) -> Certified:
    """Every figure of every Account, from the tables of this night. `base` is certificate.BASE; `left` are the
    Accounts that wait for a write or a person after the repair; `at` microseconds UTC."""

    def listing(name: str) -> pl.DataFrame:
        return warehouse.read(SNAPSHOTS[name])

    mapping, at_risk = warehouse.read(ACCOUNT_CUSTOMERS), warehouse.read(MRR_AT_RISK)
    items, lines = listing("stripe/subscription_items"), listing("stripe/invoice_lines")
    invoices = listing("stripe/invoices")
    money = ("invoice_payments", "charges", "refunds", "disputes", "credit_notes")
    entries = cash(Listings(invoices, *(listing(f"stripe/{name}") for name in money)))
    seen_at = int(warehouse.provenance(SNAPSHOTS["stripe/subscriptions"])["taken_at"])
    found = recurring(items, listing("stripe/subscriptions"), listing("stripe/discounts"), lines, mapping, seen_at)
    figures = certificate.account_figures(
        certificate.Money(found, at_risk, entries),
        listing("salesforce/accounts"),
        mapping,
        base,
        commercial.default_currency,
        at,
    )
    opportunities, deals = listing("salesforce/opportunities"), warehouse.read(DEAL_SUBSCRIPTIONS)
    billed = certificate.period_invoices(opportunities, deals, items, invoices, lines, at)
    schedules = listing("stripe/subscription_schedules")
    unbilled = unbilled_deals(
        opportunities, deals, listing("stripe/subscriptions"), schedules, invoices, commercial, at
    )
    before, past = (
        warehouse.read_or_empty(table, "certified_at")[0] for table in (CERTIFICATE_ACCOUNTS, CERTIFICATE_HISTORY)
    )
    rows = certificate.since_when(pl.concat([figures, billed, unbilled]), before)
    amounts = certificate.repaired(rows, left)
    return Certified(amounts, certificate.with_history(amounts, past, at), certificate.does_not_add_up(amounts))


def write_page(warehouse: Warehouse, certified: Certified, commercial: Commercial, *, agrees: bool, at: int) -> Path:
    """Writes the page into the warehouse's folder, whole or not at all, and returns where it is."""
    text = page(
        Shown(
            at=at,
            agrees=agrees,
            amounts=certified.amounts,
            history=certified.history,
            rollforward=warehouse.read(MRR_ROLLFORWARD),
            at_risk=warehouse.read(MRR_AT_RISK),
            reporting=commercial.default_currency,
        )
    )
    path = warehouse.folder / PAGE
    replace_file(path, text.encode())
    return path
