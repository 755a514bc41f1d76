"""Record ids: fifteen case-sensitive characters, three more that make them safe where case is lost."""

from __future__ import annotations

import random

from sync_pipeline.sandbox.store import Store

# In ASCII order, so that ids sort in the order in which they were given.
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def to18(short: str) -> str:
    """The 18-character form of a 15-character id."""
    checksum = ""
    for block in range(3):
        bits = sum(1 << k for k in range(5) if "A" <= short[block * 5 + k] <= "Z")
        checksum += _CHECKSUM[bits]
    return short + checksum


def normalise(text: object) -> str | None:
    """The 18-character form of a well-formed id in either form, None for anything else.

    The checksum says which letters are capitals, so an 18-character id that lost its case is restored.
    """
    if not isinstance(text, str) or len(text) not in (15, 18) or not (text.isascii() and text.isalnum()):
        return None
    if len(text) == 15:
        return to18(text)
    if to18(text[:15]) == text:
        return text
    checksum = text[15:].upper()
    if any(c not in _CHECKSUM for c in checksum):
        return None
    restored = "".join(
        c.upper() if _CHECKSUM.index(checksum[i // 5]) >> (i % 5) & 1 else c.lower() for i, c in enumerate(text[:15])
    )
    return restored + checksum if to18(restored) == restored + checksum else None


class Ids:
    """Ids in order, one counter per key prefix. The counters live in the store, so a rollback takes ids back."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        letters = random.Random(f"salesforce-{seed}")
        self._instance = "".join(letters.choice(_ALPHABET[10:]) for _ in range(2))

    def new(self, prefix: str) -> str:
        counter = self._store.get("_ids", prefix) or {"n": 0}
        n = counter["n"] + 1
        self._store.put("_ids", prefix, {"n": n})
        digits = ""
        for _ in range(9):
            n, digit = divmod(n, 62)
            digits = _ALPHABET[digit] + digits
        return to18(f"{prefix}{self._instance}0{digits}")
