"""Both systems at the end of a story as a comparable value: without ids that differ per run, and without moments.

What a fault on the way may change is when something happened and which id it got; everything else must be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.oracle import rows

STRIPE_ID = re.compile(r"\b(cus|sub|si|ch|in|ii|il|pi|py|re|pm|txi|coupon|price|card|src|inpay)_[A-Za-z0-9]{8,}")
INVOICE_NUMBER = re.compile(r"\b[0-9A-Z]{8}-(\d{4})\b")
"""Stripe gives each customer a prefix of its own, and one that is made later another."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+\d{4})?|\b\d\d:\d\d\b|\b1[789]\d{8}\b")
SYSTEM_FIELDS = frozenset(
    "Id attributes CreatedDate CreatedById LastModifiedDate LastModifiedById SystemModstamp IsDeleted".split()
)
SALESFORCE = (
    "Account",
    "Opportunity",
    "OpportunityLineItem",
    "Contract",
    "Churn_Record__c",
    "Stripe_Payment_Attempt__c",
    "Task",
)
STRIPE: Mapping[str, tuple[str, ...]] = {
    "customer": ("name", "address", "metadata", "deleted"),
    "tax_id": ("type", "value"),
    "product": ("id", "name", "active"),
    "price": ("lookup_key", "active", "unit_amount_decimal", "recurring"),
    "subscription": ("status", "metadata", "cancel_at_period_end", "collection_method", "days_until_due"),
    "subscription_item": ("quantity", "metadata", "deleted"),
    "refund": ("amount", "status"),
}


def end_state(sandbox: Sandbox) -> list[str]:
    """A line for every object of both systems, sorted."""
    found = [
        _line(kind, {name: value for name, value in row.items() if name not in SYSTEM_FIELDS})
        for kind in SALESFORCE
        for row in rows(sandbox, "salesforce", kind)
    ]
    for kind, names in STRIPE.items():
        found += [_line(kind, {name: row.get(name) for name in names}) for row in rows(sandbox, "stripe", kind)]
    found += [_line("invoice", _invoice(invoice)) for invoice in rows(sandbox, "stripe", "invoice")]
    return sorted(found)


def _invoice(invoice: dict[str, Any]) -> dict[str, Any]:
    """A proration counts seconds, so its amount depends on when the subscription began."""
    amounts = {name: invoice[name] for name in ("total", "amount_paid")}
    prorated = any(_is_proration(line) for line in invoice["lines"]["data"])
    return {"status": invoice["status"], **({} if prorated else amounts)}


def _is_proration(line: dict[str, Any]) -> bool:
    parent = line.get("parent") or {}
    return any((details or {}).get("proration") for details in parent.values() if isinstance(details, dict))


def _line(kind: str, values: Mapping[str, Any]) -> str:
    told = json.dumps({name: value for name, value in values.items() if value is not None}, sort_keys=True, default=str)
    return f"{kind} " + MOMENT.sub("a moment", INVOICE_NUMBER.sub(r"\1", STRIPE_ID.sub(r"\1_", told)))
