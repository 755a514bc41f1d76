"""The ids of the parts of a deal: the Opportunity's own, and behind it the number of a further part (006...:2)."""

from __future__ import annotations

MAX_PARTS = 9


def part_id(opportunity_id: str, number: int) -> str:
    return opportunity_id if number == 1 else f"{opportunity_id}:{number}"


def part_number(deal_id: str) -> int:
    return int(deal_id.partition(":")[2] or 1)


def opportunity_of(deal_id: str) -> str:
    """The Opportunity that a deal or a part of it belongs to."""
    return deal_id.partition(":")[0]


def is_further_part(deal_id: str) -> bool:
    return ":" in deal_id
