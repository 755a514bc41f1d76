"""Canonical forms: when two values of a field count as the same.

A canonical form is a JSON-able value, total over whatever a system can show, and stable under our own write:
canon(read back(write(v))) == canon(v). Where that failed, the sync would write for ever.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import pycountry

from sync_pipeline.core.money import Money

VERSION = 1

# What people write and ISO 3166 does not list, compacted as `_compact` does.
ALSO_KNOWN_AS = {
    "brunei": "BN",
    "burma": "MM",
    "capeverde": "CV",
    "deutschland": "DE",
    "england": "GB",
    "espana": "ES",
    "greatbritain": "GB",
    "holland": "NL",
    "italia": "IT",
    "ivorycoast": "CI",
    "macau": "MO",
    "macedonia": "MK",
    "northernireland": "GB",
    "osterreich": "AT",
    "republicofireland": "IE",
    "russia": "RU",
    "schweiz": "CH",
    "scotland": "GB",
    "suisse": "CH",
    "swaziland": "SZ",
    "thenetherlands": "NL",
    "turkey": "TR",
    "uae": "AE",
    "uk": "GB",
    "vaticancity": "VA",
    "wales": "GB",
}


def text(value: Any) -> str | None:
    """Trimmed; Salesforce trims texts and shows an empty one as null."""
    stripped = str(value).strip() if value is not None else ""
    return stripped or None


def identifier(value: Any) -> str | None:
    return text(value)


def flag(value: Any) -> bool:
    """A checkbox: Salesforce has no third state."""
    return bool(value)


def number(value: Any) -> str | None:
    """A decimal without trailing zeros, as text and never rounded: Salesforce shows 35 as 35.0."""
    if value is None:
        return None
    plain = format(Decimal(value), "f")
    shortest = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if shortest == "-0" else shortest


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
    """ISO 3166-1 alpha-2 code of a country's name or code, however accented or punctuated; None when not known."""
    return _codes_by_name().get(_compact(name or ""))


@cache
def _codes_by_name() -> Mapping[str, str]:
    listed = {
        _compact(getattr(country, kind)): str(country.alpha_2)
        for country in pycountry.countries
        for kind in ("official_name", "name", "common_name", "alpha_3", "alpha_2")
        if hasattr(country, kind)
    }
    return listed | ALSO_KNOWN_AS


def _compact(name: str) -> str:
    """Letters without case and accents: "Côte d'Ivoire" is cotedivoire. A slash stays: n/a is not Namibia."""
    return "".join(each for each in unicodedata.normalize("NFKD", name).casefold() if each.isalpha() or each == "/")


CANON: Mapping[str, Callable[[Any], Any]] = {
    "text": text,
    "identifier": identifier,
    "number": number,
    "flag": flag,
    "money": money,
    "moment": moment,
    "address": address,
}
