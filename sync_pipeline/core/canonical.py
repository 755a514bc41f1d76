"""Canonical JSON: the one text form of a value, with sorted keys and exact decimals.

Hashes, frozen command bodies and audit rows are made of it, so it must never change by itself.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: Any) -> str:
    """JSON text with sorted keys; a Decimal keeps its digits, a dataclass is the object of its fields. Raises TypeError
    for what JSON cannot hold."""
    return _encoder.encode(value).decode()


def decode(text: str | bytes) -> Any:
    """JSON to plain values; a number with a fraction or exponent becomes a Decimal, never a float."""
    return _decoder.decode(text)


def sha256(value: Any) -> str:
    """Hex digest of the canonical JSON of `value`."""
    return hashlib.sha256(_encoder.encode(value)).hexdigest()
