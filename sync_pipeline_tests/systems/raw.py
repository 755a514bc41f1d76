"""Stripe's JSON in the shapes of API version 2026-10-28.endive, with only what a test changes left out."""

from __future__ import annotations

from typing import Any

CREATED = 1_762_000_000


def subscription(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "sub_1",
        "object": "subscription",
        "billing_cycle_anchor": CREATED,
        "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}, "updated_at": CREATED},
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "send_invoice",
        "created": CREATED,
        "currency": "gbp",
        "customer": "cus_1",
        "days_until_due": 30,
        "discounts": [],
        "ended_at": None,
        "items": {
            "object": "list",
            "has_more": False,
            "url": "/v1/subscription_items?subscription=sub_1",
            "data": [subscription_item()],
        },
        "latest_invoice": "in_1",
        "livemode": False,
        "metadata": {},
        "pause_collection": None,
        "schedule": None,
        "start_date": CREATED,
        "status": "active",
        "test_clock": None,
        "trial_end": None,
        "trial_start": None,
    }
    return body | changed


def subscription_item(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "si_1",
        "object": "subscription_item",
        "created": CREATED,
        "current_period_start": CREATED,
        "current_period_end": CREATED + 2_592_000,
        "discounts": [],
        "metadata": {"sf_line_id": "00kB,00kA"},
        "price": price(),
        "quantity": 2,
        "subscription": "sub_1",
        "tax_rates": [],
    }
    return body | changed


def price(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "price_1",
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": CREATED,
        "currency": "gbp",
        "lookup_key": None,
        "metadata": {},
        "product": "prod_1",
        "recurring": {
            "interval": "month",
            "interval_count": 1,
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        },
        "tiers_mode": None,
        "type": "recurring",
        "unit_amount": 1250,
        "unit_amount_decimal": "1250",
    }
    return body | changed


def customer(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "cus_1",
        "object": "customer",
        "address": None,
        "created": CREATED,
        "currency": None,
        "email": None,
        "livemode": False,
        "metadata": {},
        "name": "Northwind",
    }
    return body | changed


def invoice(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "in_1",
        "object": "invoice",
        "amount_due": 2500,
        "amount_paid": 0,
        "amount_remaining": 2500,
        "attempt_count": 0,
        "billing_reason": "subscription_create",
        "collection_method": "send_invoice",
        "created": CREATED,
        "currency": "gbp",
        "customer": "cus_1",
        "due_date": CREATED + 2_592_000,
        "metadata": {},
        "next_payment_attempt": None,
        "number": "N-0001",
        "parent": {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": {"subscription": "sub_1", "metadata": {}},
        },
        "status": "open",
        "status_transitions": {
            "finalized_at": CREATED + 1,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "total": 2500,
    }
    return body | changed


def invoice_payment(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "inpay_1",
        "object": "invoice_payment",
        "amount_paid": 2500,
        "amount_requested": 2500,
        "created": CREATED,
        "currency": "gbp",
        "invoice": "in_1",
        "is_default": True,
        "livemode": False,
        "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": CREATED + 5},
    }
    return body | changed


def refund(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "re_1",
        "object": "refund",
        "amount": 500,
        "charge": "ch_1",
        "created": CREATED,
        "currency": "gbp",
        "metadata": {},
        "payment_intent": "pi_1",
        "status": "succeeded",
    }
    return body | changed


def dispute(**changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "du_1",
        "object": "dispute",
        "amount": 500,
        "charge": "ch_1",
        "created": CREATED,
        "currency": "gbp",
        "metadata": {},
        "payment_intent": "pi_1",
        "status": "lost",
    }
    return body | changed


def event(kind: str, thing: dict[str, Any], **changed: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": CREATED,
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    return body | changed
