"""Hints: an event reduced to ids and an urgency."""

from __future__ import annotations

import re
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
    ("kind", "thing", "charge"),
    [
        ("charge.dispute.closed", raw.dispute(), "ch_1"),
        ("charge.dispute.closed", raw.dispute(charge={"id": "py_1"}), "py_1"),
        ("charge.dispute.closed", raw.dispute(charge="../customers"), None),
        ("charge.dispute.updated", raw.dispute(), None),
        ("review.opened", {"id": "prv_1", "object": "review", "charge": "ch_1"}, None),
        ("charge.refunded", {"id": "ch_1", "object": "charge", "customer": None}, None),
    ],
)
def test_whose_charge_has_to_be_asked(kind: str, thing: dict[str, Any], charge: str | None) -> None:
    found = hint(raw.event(kind, thing))
    assert (found.customer, found.charge) == (None, charge)
    assert found.object_ids == tuple(each for each in (thing["id"], charge) if each)


@pytest.mark.parametrize(
    "strange",
    [
        {"parent": "sku_1"},
        {"parent": {"subscription_details": ["sub_1"]}},
        {"metadata": ["sf_account_id"]},
        {"metadata": {"sf_account_id": {}}},
        {"charge": 5},
        {"id": 5},
    ],
)
def test_a_field_of_an_unknown_shape_hides_nothing_else(strange: dict[str, Any]) -> None:
    assert hint(raw.event("invoice.paid", raw.invoice(**strange))).customer == "cus_1"


@pytest.mark.parametrize("customer", [5, [], {}, {"id": 5}, "", "cus_\0", "cus_\ud800"])
def test_a_customer_is_believed_only_when_it_is_shaped_like_an_id(customer: Any) -> None:
    found = hint(raw.event("invoice.paid", raw.invoice(customer=customer)))
    assert (found.customer, found.object_ids) == (None, ("in_1",))


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (raw.event("customer.updated", raw.customer(), created="today"), "evt_1 (customer.updated)"),
        (raw.event("customer.updated", raw.customer(), data=None), "evt_1 (customer.updated)"),
        (raw.event("customer.updated", raw.customer(), id=5), "without an id (customer.updated)"),
        (raw.event("Jane Personal", raw.customer()), "evt_1 (of no type)"),
        ("Jane Personal", "without an id (of no type)"),
    ],
)
def test_what_cannot_be_read_is_named_by_nothing_but_its_id_and_type(event: Any, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"event {named} cannot be read")):
        hint(event)


@pytest.mark.parametrize(
    "claim",
    [
        "",
        "001",
        "006Aa0000000001IAA",
        "001Aa0000000001IAA'; --",
        "001aa0000000001iaa",
        "001Aa0000000001ZZZ",
        ["001Aa0000000001IAA"],
        5,
    ],
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
    with pytest.raises(ValueError):
        hint(event)
