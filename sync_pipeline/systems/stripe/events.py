"""What a Stripe event hints at: which customer or Account may have changed, and how urgent that is.

Only ids leave this module. The event's snapshot of the object is never applied: state is read again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync_pipeline.core.rules import Priority
from sync_pipeline.core.salesforce_ids import is_account_id
from sync_pipeline.systems.stripe.parse import at

EVENT_ID = re.compile(r"evt_[0-9A-Za-z_]{1,250}")
EVENT_TYPE = re.compile(r"[0-9a-z_.]{1,250}")
LAST_SECOND = 1 << 40
CHARGE_ID = re.compile(r"(ch|py)_[0-9A-Za-z_]{1,250}")
# The ids of products and coupons are words of the user's own; databases take no NUL and no half of a character.
OBJECT_ID = re.compile(r"[^\x00-\x1f\ud800-\udfff]{1,255}")
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
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
)
"""Events without which a change is found minutes later only, by the sweep."""


@dataclass(frozen=True, slots=True)
class Hint:
    """One event, reduced to ids. What does not have the shape of an id is not believed to be one.

    `account_id` comes from metadata. `charge` is what a dispute names instead of its customer; only events that have to
    be heard are worth asking it for that.
    """

    event_id: str
    type: str
    created_at: int
    object_ids: tuple[str, ...]
    customer: str | None
    charge: str | None
    account_id: str | None
    priority: Priority


def hint(event: Any) -> Hint:
    """The hint of an event. Raises ValueError for anything else; its message names the event as far as it can."""
    event_id, kind = _shaped(_within(event, "id"), EVENT_ID), _shaped(_within(event, "type"), EVENT_TYPE)
    created, thing = _within(event, "created"), _within(event, "data", "object")
    whole = isinstance(thing, Mapping) and isinstance(created, int) and 0 <= created < LAST_SECOND
    if event_id is None or kind is None or not whole:
        raise ValueError(f"Stripe: event {event_id or 'without an id'} ({kind or 'of no type'}) cannot be read")
    own = _id(thing, "id")
    customer = own if _within(thing, "object") == "customer" else _id(thing, "customer")
    charge = _shaped(_id(thing, "charge"), CHARGE_ID) if kind in HEARD else None
    return Hint(
        event_id=event_id,
        type=kind,
        created_at=at(created),
        object_ids=tuple(dict.fromkeys(each for each in (own, customer, charge) if each)),
        customer=customer,
        charge=charge,
        account_id=_account_id(thing),
        priority=urgency(kind),
    )


def _account_id(thing: Mapping[str, Any]) -> str | None:
    of_subscription = _within(thing, "parent", "subscription_details", "metadata", "sf_account_id")
    named = (_within(thing, "metadata", "sf_account_id"), of_subscription)
    return next((each for each in named if isinstance(each, str) and is_account_id(each)), None)


def _id(thing: Mapping[str, Any], name: str) -> str | None:
    """The id in an expandable field, expanded or not."""
    value = thing.get(name)
    return _shaped(_within(value, "id") if isinstance(value, Mapping) else value, OBJECT_ID)


def _within(value: Any, *path: str) -> Any:
    """What lies within nested objects; None where one of them is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _shaped(value: Any, shape: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and shape.fullmatch(value) else None


def urgency(kind: str) -> Priority:
    """Of an event of this type."""
    if kind in URGENT:
        return Priority.PAYMENT_FAILED
    return Priority.SEATS if kind.startswith("customer.subscription.") else Priority.WRITE_BACK
