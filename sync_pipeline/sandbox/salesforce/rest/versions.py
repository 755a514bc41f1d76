"""The versions of the REST API that the org answers: their list, and the refusal of any other."""

from __future__ import annotations

import re

from sync_pipeline.sandbox.salesforce.errors import SalesforceError, not_found

_OLDEST, NEWEST = 31, 67


def listing() -> list[dict[str, str]]:
    """The body of GET /services/data"""
    found = []
    for number in range(_OLDEST, NEWEST + 1):
        # Three releases a year; v31 was Summer '14, and Winter belongs to the year that it leads into.
        season = ("Spring", "Summer", "Winter")[number % 3]
        label = f"{season} '{(number + 13) // 3}"
        found.append({"label": label, "url": f"/services/data/v{number}.0", "version": f"{number}.0"})
    return found


def check(segment: str) -> str:
    """The version, `64.0`, of a path's segment `v64.0`. Raises SalesforceError 410 for a retired one, else 404."""
    version = segment.removeprefix("v")
    if not re.fullmatch(r"v\d+\.\d", segment):
        raise not_found()
    if float(version) < _OLDEST:
        raise SalesforceError("UNSUPPORTED_API_VERSION", f"API version {version} is no longer supported", status=410)
    if float(version) > NEWEST or not float(version).is_integer():
        raise not_found()
    return version
