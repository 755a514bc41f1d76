"""What a Stripe event hints at: which customer or Account may have changed, and how urgent that is.

Only ids leave this module. The event's snapshot of the object is never applied: state is read again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync_pipeline.core.rules import Priority
from sync_pipeline.systems.stripe.parse import at, id_of

EVENT_ID = re.compile(r"evt_[0-9A-Za-z_]{1,250}")
EVENT_TYPE = re.compile(r"[0-9a-z_.]{1,250}")
LAST_SECOND = 1 << 40
ACCOUNT_ID = re.compile(r"001[0-9A-Za-z]{15}")
URGENT = frozenset({"invoice.payment_failed", "invoice.payment_action_required", "invoice.overdue"})

HEARD = (
    "customer.updated",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.overdue",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.closed",
)
"""Events without which a change is found minutes later only, by the sweep."""


@dataclass(frozen=True, slots=True)
class Hint:
    """One event, reduced to ids. `account_id` comes from metadata and is only believed if shaped like one."""

    event_id: str
    type: str
    created_at: int
    object_ids: tuple[str, ...]
    customer: str | None
    account_id: str | None
    priority: Priority


def hint(event: Mapping[str, Any]) -> Hint:
    """The hint of an event. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    event_id, kind, created = event["id"], event["type"], int(event["created"])
    if not EVENT_ID.fullmatch(event_id) or not EVENT_TYPE.fullmatch(kind) or not 0 <= created < LAST_SECOND:
        raise ValueError("not an event")
    thing = event["data"]["object"]
    is_customer = thing.get("object") == "customer"
    customer = thing.get("id") if is_customer else id_of(thing.get("customer"))
    ids = [thing.get("id"), customer]
    return Hint(
        event_id=event_id,
        type=kind,
        created_at=at(created),
        object_ids=tuple(dict.fromkeys(str(each) for each in ids if each)),
        customer=customer,
        account_id=_account_id(thing),
        priority=_priority(kind),
    )


def _account_id(thing: Mapping[str, Any]) -> str | None:
    parent = (thing.get("parent") or {}).get("subscription_details") or {}
    for metadata in (thing.get("metadata"), parent.get("metadata")):
        named = (metadata or {}).get("sf_account_id")
        if isinstance(named, str) and ACCOUNT_ID.fullmatch(named):
            return named
    return None


def _priority(kind: str) -> Priority:
    if kind in URGENT:
        return Priority.PAYMENT_FAILED
    return Priority.SEATS if kind.startswith("customer.subscription.") else Priority.WRITE_BACK
