"""Short ways to say what recurs: one customer of one Account unless a test says otherwise, at noon on 2026-11-23."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from sync_pipeline.core.stripe_records import Discount, InvoiceLine, Subscription, SubscriptionItem
from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.mrr import Recurring, recurring
from sync_pipeline.frames.rows import AccountCustomer
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, SNAPSHOTS
from sync_pipeline_tests.core.making import ACCOUNT, CUSTOMER, NOW, subscription

DAY = 86_400_000_000
PERIOD = {"period_start": NOW - 10 * DAY, "period_end": NOW + 20 * DAY}


def mapped(**accounts: str) -> pl.DataFrame:
    """customer=account; the usual customer has the usual Account."""
    rows = [
        AccountCustomer(
            customer_id=c, account_id=a, evidence="link", state="matched", in_salesforce=True, in_stripe=True
        )
        for c, a in ({CUSTOMER: ACCOUNT} | accounts).items()
    ]
    return to_frame(rows, ACCOUNT_CUSTOMERS)


def discount(duration: str = "forever", **changed: Any) -> Discount:
    values: dict[str, Any] = {
        "id": "di_1",
        "subscription": "sub_northwind",
        "duration": duration,
        "start_at": NOW - 10 * DAY,
    }
    return Discount(**(values | changed))


def line(**changed: Any) -> InvoiceLine:
    values: dict[str, Any] = {
        "id": "il_1",
        "invoice": "in_1",
        "subscription": "sub_northwind",
        "item": "si_1",
        "price": "price_1",
        "currency": "GBP",
        "amount": 1000,
        "quantity": 1,
        "unit_amount": Decimal(1000),
    }
    return InvoiceLine(**(values | PERIOD | changed))


def what_recurs(
    items: Sequence[SubscriptionItem],
    subscriptions: Sequence[Subscription] | None = None,
    discounts: Sequence[Discount] = (),
    lines: Sequence[InvoiceLine] = (),
    mapping: pl.DataFrame | None = None,
) -> Recurring:
    return recurring(
        to_frame(items, SNAPSHOTS["stripe/subscription_items"]),
        to_frame([subscription()] if subscriptions is None else subscriptions, SNAPSHOTS["stripe/subscriptions"]),
        to_frame(discounts, SNAPSHOTS["stripe/discounts"]),
        to_frame(lines, SNAPSHOTS["stripe/invoice_lines"]),
        mapped() if mapping is None else mapping,
        NOW,
    )
