"""What was charged once: remembered by line, with its price and its deal, because Stripe's side of it never changes.

Invoiced is invoiced: what becomes of the line later is told to a person (late_charges.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement
from sync_pipeline.core.rates import Rate
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.world import Deal, World

CHARGED = "late_charge.price"
NOT_CHARGED = canonical.encode(None)


def charged(deal: Deal, line: LineItem) -> Agreement:
    """A line of the deal that is charged at its price."""
    return Agreement(line.id, CHARGED, canonical.encode([deal.opportunity.id, number(line.unit_price)]))


def charged_lines(world: World, deal: Deal) -> Iterator[tuple[str, str]]:
    """The lines that were charged for the deal, by id, each with the unit price that it had."""
    remembered = ((subject, value) for (subject, rule), value in world.base.items() if rule == CHARGED)
    for subject, value in sorted(remembered):
        if value != NOT_CHARGED:
            opportunity_id, price = canonical.decode(value)
            if opportunity_id == deal.opportunity.id:
                yield subject, price


def not_charged_after_all(world: World, deal: Deal, charges: Iterable[Rate]) -> Iterator[Agreement]:
    """Lines that a schedule was to charge and does not any more: it was changed before it began."""
    still = {line for rate in charges for line in rate.line_ids}
    return (Agreement(each, CHARGED, NOT_CHARGED) for each, _ in charged_lines(world, deal) if each not in still)
