"""A phase of a schedule as it is remembered and compared: when it runs, and how many of which prices it bills."""

from __future__ import annotations

from collections.abc import Iterable


def phase_form(starts_at: int, ends_at: int, items: Iterable[tuple[str, int]]) -> str:
    """Moments are seconds UTC, items prices with quantities."""
    billed = ",".join(f"{price}*{quantity}" for price, quantity in sorted(items))
    return f"{starts_at}-{ends_at}:{billed}"


def without_quantities(form: str) -> str:
    """When the phase runs, and which prices it bills."""
    span, _, billed = form.partition(":")
    return f"{span}:{','.join(each.partition('*')[0] for each in billed.split(','))}"


def starts_at(form: str) -> int:
    """When the phase begins, seconds UTC."""
    return int(form.partition("-")[0])
