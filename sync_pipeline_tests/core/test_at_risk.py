"""Which subscriptions' revenue is at risk."""

from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline.core.at_risk import subscriptions_at_risk
from sync_pipeline.core.stripe_records import Dispute, Invoice
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import CUSTOMER, NOW, SUBSCRIPTION, payment, subscription

DAY = 86_400 * MICROS
OPEN = {"status": "open", "amount_paid": 0, "amount_remaining": 100}


def invoice(**changed: Any) -> Invoice:
    values: dict[str, Any] = {
        "id": "in_1",
        "customer": CUSTOMER,
        "status": "paid",
        "currency": "GBP",
        "created_at": NOW,
        "total": 100,
        "amount_due": 100,
        "amount_paid": 100,
        "amount_remaining": 0,
        "subscription": SUBSCRIPTION,
        "collection_method": "charge_automatically",
    }
    return Invoice(**(values | changed))


def dispute(status: str) -> Dispute:
    values: dict[str, Any] = {"id": "dp_1", "customer": CUSTOMER, "charge": "ch_1", "currency": "GBP"}
    values |= {"amount": 100, "withdrawn": 100, "created_at": NOW}
    return Dispute(**values, status=status, payment_intent="pi_1")


@pytest.mark.parametrize(
    ("status", "bill", "disputed", "risky"),
    [
        ("active", {}, None, False),
        ("past_due", {}, None, True),
        ("unpaid", {}, None, True),
        ("canceled", {**OPEN, "attempt_count": 4}, None, False),
        ("active", {**OPEN, "attempt_count": 1}, None, True),
        ("active", OPEN, None, False),
        ("active", {**OPEN, "collection_method": "send_invoice", "due_at": NOW - 1}, None, True),
        ("active", {**OPEN, "collection_method": "send_invoice", "due_at": NOW + DAY}, None, False),
        ("active", {**OPEN, "attempt_count": 1, "subscription": None}, None, False),
        ("active", {}, "needs_response", True),
        ("active", {}, "warning_under_review", True),
        ("active", {}, "won", False),
        ("active", {}, "lost", False),
    ],
)
def test_at_risk(status: str, bill: dict[str, Any], disputed: str | None, risky: bool) -> None:
    billing = Billing(
        subscriptions=(subscription(status=status),),
        invoices=(invoice(**bill),),
        payments=(payment(),),
        disputes=(dispute(disputed),) if disputed else (),
    )
    assert subscriptions_at_risk(billing, NOW) == ({SUBSCRIPTION} if risky else set())
