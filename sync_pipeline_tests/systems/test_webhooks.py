"""Stripe's signature: ours, fresh, on these very bytes; anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.systems.stripe.webhooks import BadSignature, verify
from sync_pipeline_tests.systems import raw

NOW = 1_795_000_000
OLD, NEW = "whsec_old", "whsec_new"
EVENT = raw.event("invoice.paid", raw.invoice())
BODY = json.dumps(EVENT).encode()


def header(*secrets: str, body: bytes = BODY, at: int = NOW) -> str:
    signatures = [stripe.WebhookSignature._compute_signature(f"{at}.{body.decode()}", secret) for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={signature}" for signature in signatures), "v0=ignored"])


@pytest.mark.parametrize(
    ("signed_with", "known"),
    [((NEW,), (NEW,)), ((NEW,), (OLD, NEW)), ((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW,)), ((OLD, NEW), (OLD,))],
)
def test_any_known_secret_counts_while_one_is_rolled(signed_with: tuple[str, ...], known: tuple[str, ...]) -> None:
    assert verify(BODY, header(*signed_with), known, NOW) == EVENT


@pytest.mark.parametrize("known", [(), ("",), ("whsec_other",), (" ",)])
def test_a_forged_signature_is_refused(known: tuple[str, ...]) -> None:
    with pytest.raises(BadSignature, match="no configured secret"):
        verify(BODY, header(NEW), known, NOW)


def test_a_signature_with_an_empty_key_is_refused() -> None:
    with pytest.raises(BadSignature):
        verify(BODY, header(""), ("",), NOW)


@pytest.mark.parametrize("age", [-300, -1, 0, 1, 300])
def test_five_minutes_either_way_are_fresh(age: int) -> None:
    assert verify(BODY, header(NEW, at=NOW - age), (NEW,), NOW) == EVENT


@pytest.mark.parametrize("age", [301, 86_400, -301, -86_400])
def test_an_old_or_future_signature_is_refused(age: int) -> None:
    with pytest.raises(BadSignature, match="five minutes"):
        verify(BODY, header(NEW, at=NOW - age), (NEW,), NOW)


def test_a_fresh_timestamp_in_front_does_not_refresh_an_old_signature() -> None:
    captured = header(NEW, at=NOW - 86_400)
    for forged in (f"t={NOW},{captured}", f"{captured},t={NOW}", captured.replace("t=", f"t={NOW}t=")):
        with pytest.raises(BadSignature):
            verify(BODY, forged, (NEW,), NOW)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"paid", b"Paid"), b""])
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(body, header(NEW), (NEW,), NOW)


@given(st.text())
def test_any_header_is_refused_and_none_crashes(text: str) -> None:
    for malformed in (text, f"t={NOW},v1={text}", f"t={text},v1=00"):
        with pytest.raises(BadSignature):
            verify(BODY, malformed, (NEW,), NOW)


@pytest.mark.parametrize("thing", [[], 5, None, "text", {}, {"object": "v2.core.event"}])
def test_a_signed_body_that_is_no_event_is_a_value_error(thing: Any) -> None:
    body = json.dumps(thing).encode()
    with pytest.raises(ValueError, match="not a Stripe event"):
        verify(body, header(NEW, body=body), (NEW,), NOW)


def test_bytes_that_are_no_text_are_a_value_error() -> None:
    with pytest.raises(ValueError):
        verify(b"\xff\xfe", f"t={NOW},v1=00", (NEW,), NOW)


def test_a_number_in_the_body_never_becomes_a_float() -> None:
    from decimal import Decimal

    body = json.dumps(EVENT | {"rate": 0.1}).encode()
    assert verify(body, header(NEW, body=body), (NEW,), NOW)["rate"] == Decimal("0.1")
