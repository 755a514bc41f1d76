"""Canonical forms: when two values of a field count as the same.

A canonical form is a JSON-able value, total over whatever a system can show, and stable under our own write:
canon(read back(write(v))) == canon(v). Where that failed, the sync would write for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pycountry

from sync_pipeline.core.money import Money

VERSION = 1

ALSO_KNOWN_AS = {"uk": "GB", "great britain": "GB", "england": "GB", "usa": "US", "the netherlands": "NL"}


def text(value: Any) -> str | None:
    """Trimmed; Salesforce trims texts and shows an empty one as null."""
    stripped = str(value).strip() if value is not None else ""
    return stripped or None


def identifier(value: Any) -> str | None:
    return text(value)


def number(value: Any) -> str | None:
    """A decimal without trailing zeros, as text: Salesforce shows 35 as 35.0."""
    return None if value is None else format(Decimal(value).normalize(), "f")


def money(value: Any) -> str | None:
    """Major units without trailing zeros; Money is converted exactly."""
    return number(value.decimal() if isinstance(value, Money) else value)


def moment(value: Any) -> int | None:
    """Whole seconds: neither system shows finer time."""
    return None if value is None else int(value) // 1_000_000


def address(value: Any) -> dict[str, str] | None:
    """The filled parts of an address."""
    if not isinstance(value, Mapping):
        return None
    parts = {part: cleaned for part, raw in sorted(value.items()) if (cleaned := text(raw)) is not None}
    return parts or None


def country_code(name: str | None) -> str | None:
    """ISO 3166-1 alpha-2 code of a country's name or code; None when it is not known."""
    wanted = text(name)
    if wanted is None:
        return None
    if known := ALSO_KNOWN_AS.get(wanted.lower()):
        return known
    try:
        return str(pycountry.countries.lookup(wanted).alpha_2)
    except LookupError:
        return None


CANON: Mapping[str, Callable[[Any], Any]] = {
    "text": text,
    "identifier": identifier,
    "number": number,
    "money": money,
    "moment": moment,
    "address": address,
}
