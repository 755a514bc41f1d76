"""Hints: an event reduced to ids and an urgency."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.rules import Priority
from sync_pipeline.systems.stripe.events import hint
from sync_pipeline_tests.core.making import ACCOUNT
from sync_pipeline_tests.systems import raw

NAMED = {"sf_account_id": ACCOUNT}


@pytest.mark.parametrize(
    ("kind", "thing", "customer", "account"),
    [
        ("invoice.paid", raw.invoice(), "cus_1", None),
        ("invoice.paid", raw.invoice(customer={"id": "cus_1"}), "cus_1", None),
        (
            "invoice.paid",
            raw.invoice(parent={"subscription_details": {"subscription": "sub_1", "metadata": NAMED}}),
            "cus_1",
            ACCOUNT,
        ),
        ("customer.subscription.updated", raw.subscription(metadata=NAMED), "cus_1", ACCOUNT),
        ("customer.updated", raw.customer(metadata=NAMED), "cus_1", ACCOUNT),
        ("customer.deleted", {"id": "cus_1", "object": "customer", "deleted": True}, "cus_1", None),
        ("customer.tax_id.created", {"id": "txi_1", "object": "tax_id", "customer": "cus_1"}, "cus_1", None),
        ("refund.failed", raw.refund(), None, None),
        ("invoice_payment.paid", raw.invoice_payment(), None, None),
        (
            "invoice.upcoming",
            {"object": "invoice", "customer": "cus_1", "metadata": None, "parent": None},
            "cus_1",
            None,
        ),
    ],
)
def test_who_an_event_is_about(kind: str, thing: dict[str, Any], customer: str | None, account: str | None) -> None:
    found = hint(raw.event(kind, thing))
    assert (found.customer, found.account_id) == (customer, account)
    assert customer is None or customer in found.object_ids
    assert found.created_at == raw.CREATED * 1_000_000


@pytest.mark.parametrize(
    "claim", ["", "001", "006Aa0000000001IAA", "001Aa0000000001IAA'; --", ["001Aa0000000001IAA"], 5]
)
def test_metadata_is_believed_only_when_it_is_shaped_like_an_account(claim: Any) -> None:
    assert hint(raw.event("customer.updated", raw.customer(metadata={"sf_account_id": claim}))).account_id is None


@pytest.mark.parametrize(
    ("kind", "priority"),
    [
        ("invoice.payment_failed", Priority.PAYMENT_FAILED),
        ("invoice.payment_action_required", Priority.PAYMENT_FAILED),
        ("invoice.overdue", Priority.PAYMENT_FAILED),
        ("customer.subscription.updated", Priority.SEATS),
        ("invoice.paid", Priority.WRITE_BACK),
        ("something.of.the.future", Priority.WRITE_BACK),
    ],
)
def test_urgency_follows_the_kind_of_event(kind: str, priority: Priority) -> None:
    assert hint(raw.event(kind, raw.invoice())).priority is priority


def test_nothing_personal_leaves_with_a_hint() -> None:
    canary = raw.customer(name="Canary Ltd", email="canary@example.com", description="canary")
    assert "canary" not in repr(hint(raw.event("customer.updated", canary))).lower()


@given(
    st.dictionaries(st.sampled_from(["id", "type", "created", "data", "object"]), st.none() | st.text() | st.integers())
)
def test_a_body_that_is_no_event_is_an_error_that_the_receiver_knows(event: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError, AttributeError)):
        hint(event)
