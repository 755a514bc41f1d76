"""Salesforce record ids as people have them: 18 characters, the 15 of older reports, or the link of the record's page.

The last three characters of the long form say which of the first fifteen are capitals, so that it survives programs
that do not tell capitals from small letters (help.salesforce.com, "15-character and 18-character record IDs").
"""

from __future__ import annotations

import re
from string import ascii_uppercase

CHECK = ascii_uppercase + "012345"
CHUNK = 5
RECORD = re.compile("[0-9A-Za-z]{15}(?:[A-Z0-5]{3})?")
IN_A_LINK = re.compile(r"[/=]([0-9A-Za-z]{15}(?:[A-Z0-5]{3})?)(?=[/?&#]|%2F|$)")


def record_id(text: str) -> str | None:
    """The 18-character id that a person means by an id or a link; None for what is neither, or was mistyped.

    >>> record_id("https://acme.lightning.force.com/lightning/r/Account/001Kj00000XyzAB/view")
    '001Kj00000XyzABIAZ'
    """
    named = text.strip()
    if "/" in named:
        found = IN_A_LINK.search(named)
        named = found[1] if found else ""
    if not RECORD.fullmatch(named):
        return None
    whole = named[:15] + "".join(_check(named[at : at + CHUNK]) for at in range(0, 15, CHUNK))
    return whole if len(named) == 15 or named == whole else None


def is_account_id(text: str) -> bool:
    """Whether it is the 18-character id of an Account, with each letter as Salesforce writes it."""
    return text.startswith("001") and len(text) == 18 and record_id(text) == text


def _check(chunk: str) -> str:
    return CHECK[sum(1 << place for place, letter in enumerate(chunk) if letter in ascii_uppercase)]
