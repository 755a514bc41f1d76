"""From when a change of a running subscription is billed: frozen, so that a retry bills the same pennies."""

from __future__ import annotations

from datetime import date
from typing import Any

from sync_pipeline.core.deal import midnight
from sync_pipeline.core.records import LineItem
from sync_pipeline.core.rules import Rules


def effective_at(line: LineItem, rules: Rules) -> int:
    """From when a line that was added counts: its day of service, or else the moment of its last edit."""
    try:
        return midnight(date.fromisoformat(line.service_date or ""), rules.commercial) * 1_000_000
    except ValueError:
        return line.modified_at or 0


def within(start: int | None, end: int | None, moment: int) -> dict[str, Any]:
    """Stripe takes only moments of the running period; a change from its end on is not prorated at all."""
    starts, ends = (start or 0) // 1_000_000, (end or 0) // 1_000_000
    if moment >= ends > 0:
        return {"proration_behavior": "none"}
    return {"proration_date": max(moment, starts)}
