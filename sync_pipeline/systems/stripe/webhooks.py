"""Stripe's webhook signature, checked on the raw bytes (docs.stripe.com/webhooks).

The SDK rejects old timestamps but lets future ones pass, so the distance from now is checked here as well.
Several secrets are accepted, because a rolled secret stays valid for a day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import stripe

from sync_pipeline.core import canonical

TOLERANCE_SECONDS = 300


class BadSignature(ValueError):
    """The request was not signed with one of our secrets within the last five minutes."""


def verify(payload: bytes, header: str, secrets: Iterable[str], wall_seconds: int) -> Mapping[str, Any]:
    """The event in a webhook's body. Raises BadSignature, or ValueError when the body is not an event."""
    timestamp = next((part[2:] for part in header.split(",") if part.startswith("t=")), "")
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(wall_seconds - int(timestamp)) > TOLERANCE_SECONDS:
        raise BadSignature("the timestamp is missing or more than five minutes from now")
    text = payload.decode("utf-8")
    if not header.isascii() or not any(_signed(text, header, secret) for secret in secrets):
        raise BadSignature("no configured secret made this signature")
    event = canonical.decode(payload)
    if not isinstance(event, dict) or event.get("object") != "event":
        raise ValueError("the body is not a Stripe event")
    return event


def _signed(text: str, header: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(text, header, secret, tolerance=None))
    except stripe.SignatureVerificationError:
        return False
