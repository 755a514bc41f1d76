"""Seats: the quantity of a subscription item, and the sum of the lines that it bills.

Kept equal from either side. The base is kept line by line, so that lines of one item that were written only in part
still sum up to what was agreed. Salesforce takes no line of quantity zero, so a line always keeps one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from sync_pipeline.core import canonical
from sync_pipeline.core.billed_items import QUANTITY, BilledItem
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement, Review
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.two_way import Decision, Term, decide
from sync_pipeline.core.world import World


def line_quantity(lines: Iterable[LineItem]) -> int | None:
    """The lines' sum; None when it is not a whole number from zero that Stripe could bill."""
    quantities = [line.quantity for line in lines]
    total = sum((quantity for quantity in quantities if quantity is not None), Decimal(0))
    if any(quantity is None or quantity % 1 for quantity in quantities) or total < 0:
        return None
    return int(total)


def decide_quantity(world: World, rules: Rules, billed: BilledItem) -> tuple[Decision, BilledItem]:
    """Which side's quantity counts, and the item with the lines that this is about. A metered item has none.

    What both sides had comes first, and lines join or leave once they agree on that: otherwise those would look like an
    edit, and become half of a conflict.
    """
    before = billed.before
    if not before.lines or before.lines == billed.lines:
        return _decide(world, rules, billed), billed
    first = _decide(world, rules, before)
    # An edit of the seats and the price of a line, which nobody has to be told of, is one change.
    is_one_change = first.writes_stripe and not first.told and billed.leaving
    if not (first.move == "agree" or is_one_change):
        return first, before
    wanted = line_quantity(billed.lines)
    if wanted is None:
        return _decide(world, rules, billed), billed
    changes = first.move == "agree" and wanted != billed.item.quantity
    return (replace(first, move="to_stripe") if changes else first), billed


def _decide(world: World, rules: Rules, billed: BilledItem) -> Decision:
    shown = billed.item.quantity
    if shown is None:
        return Decision("leave")
    wanted = line_quantity(billed.lines)
    if wanted is None:
        detail = f"a line quantity is not a positive whole number; Stripe goes on billing {shown}"
        return Decision("leave", (_review(world, billed, detail),))
    base = _base(world, billed)
    left, right = (canonical.encode(number(value)) for value in (wanted, shown))
    last_edited = max(billed.lines, key=lambda line: line.modified_at or 0)
    taken_off = bool(agreed_quantity(world, billed.gone)) and base is not None and wanted < quantity_of(base)
    words = f"{wanted} in Salesforce, {shown} at Stripe"
    term = Term(
        subject=billed.item.id,
        rule=QUANTITY,
        salesforce=left,
        stripe=right,
        base=base,
        words=f"{words}, since lines of it were taken off the deal" if taken_off else words,
        said=(canonical.decode(base) if base else None, str(wanted), str(shown)),
        about=billed.about(last_edited),
    )
    # Of a subscription that was found nobody knows which of the two it was meant to have.
    is_ours = base is not None or billed.made_by_us
    carries = is_ours and (rules.commercial.removed_lines == "carry" or not taken_off)
    decision = decide(world, rules.commercial, term, rules.commercial.on_stripe_quantity, carries=carries)
    if decision.value is not None and spread(billed.lines, quantity_of(decision.value)) is None:
        detail = f"{quantity_of(decision.value)} are fewer than there are lines of it; take lines off the deal"
        return Decision("leave", (_review(world, billed, detail),))
    return decision


def quantity_of(value: str) -> int:
    """A quantity in its canonical form."""
    return int(Decimal(canonical.decode(value)))


def spread(lines: Sequence[LineItem], quantity: int) -> dict[str, int] | None:
    """An item's quantity over its lines, by line id: the first ones keep theirs, the last ones take the change.

    Lines that take seats back stay as they are. None when there is not one for every other line.
    """
    taken = sum(int(line.quantity or 0) for line in lines if (line.quantity or 0) < 0)
    sharing = [line for line in lines if (line.quantity or 0) >= 0]
    left = quantity - taken
    if left < len(sharing) or not sharing:
        return None
    shares = {}
    for still_to_come, line in zip(range(len(sharing) - 1, -1, -1), sharing, strict=True):
        shares[line.id] = max(1, min(left - still_to_come, int(line.quantity or 0)))
        left -= shares[line.id]
    shares[sharing[-1].id] += left
    return shares


def agreed_quantities(quantities: Iterable[tuple[str, Decimal | int | None]]) -> tuple[Agreement, ...]:
    """The merge base of these lines, by line id."""
    ordered = sorted(quantities, key=lambda each: each[0])
    return tuple(Agreement(line, QUANTITY, canonical.encode(number(quantity))) for line, quantity in ordered)


def agreed_quantity(world: World, line_ids: Iterable[str]) -> Decimal | None:
    """The sum on which both sides last agreed; None while they never did."""
    known = (world.base.get((line, QUANTITY)) for line in line_ids)
    agreed = [Decimal(canonical.decode(value)) for value in known if value is not None]
    return sum(agreed, Decimal(0)) if agreed else None


def _base(world: World, billed: BilledItem) -> str | None:
    if billed.held and line_quantity(billed.held) == billed.item.quantity:
        # Both sides have the same of the lines that were there before: those that join or leave are no edit of that.
        return canonical.encode(number(billed.item.quantity))
    # What Stripe brought to the deal was agreed on under its key, before the line had an id.
    keys = {line.id: line.stripe_change_key for line in (*billed.lines, *billed.leaving)}
    known = ((each, QUANTITY) in world.base for each in billed.agreed_lines)
    subjects = (
        each if is_known else keys.get(each) or each for each, is_known in zip(billed.agreed_lines, known, strict=True)
    )
    agreed = agreed_quantity(world, subjects)
    return None if agreed is None else canonical.encode(number(agreed))


def _review(world: World, billed: BilledItem, detail: str) -> Review:
    return Review(f"{QUANTITY}:{billed.item.id}", world.account_id, QUANTITY, billed.lines[0].id, detail)
