"""What a system said when it refused a write, fit for places where nothing personal may stand."""

from __future__ import annotations

import re

QUOTED = re.compile(r"""(?<!\w)(['"`])(.{1,200}?)\1(?!\w)""")
AN_ADDRESS = re.compile(r"[^\s@'\"<>:]+@[^\s@'\"<>]+\.[a-zA-Z]{2,}")
NO_VALUE = re.compile("[0-9A-Za-z]{15}(?:[A-Z0-5]{3})?|[A-Za-z][A-Za-z0-9]*(?:__?[A-Za-z0-9]+)+")
"""Ids of both systems, and names with an underscore, as fields and parameters have."""


def without_values(message: str) -> str:
    """The message with … for the values that it quotes and for e-mail addresses; ids and names of fields stay."""
    hidden = QUOTED.sub(
        lambda quoted: quoted[0] if NO_VALUE.fullmatch(quoted[2]) else f"{quoted[1]}…{quoted[1]}", message
    )
    return AN_ADDRESS.sub("…", hidden)
