"""Seats, kept equal from either side: the quantity of a subscription item and of the lines that it bills.

A three-way merge against the quantity on which both last agreed. Where both moved, Salesforce wins (commercial
terms) and a person is told. A change towards Stripe is prorated from the moment at which the line was edited,
frozen, so that a retry bills the same pennies; edits within the quiet period are sent as one change. The base is kept
line by line, so that lines of one item that were written only in part still sum up to what was agreed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement, Command, Entry, FieldChange, LookAgain, Review
from sync_pipeline.core.crosswalk import Match, match_item, match_subscription, own_billing
from sync_pipeline.core.kinds import merge3
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.records import LineItem, Subscription, SubscriptionItem
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.world import Billing, World

RULE = "item.quantity"


@dataclass(frozen=True, slots=True)
class _Billed:
    """One subscription item with the lines that it bills, by id; `made_by_us` is its subscription's origin."""

    item: SubscriptionItem
    lines: tuple[LineItem, ...]
    made_by_us: bool

    @property
    def line_quantity(self) -> Decimal | None:
        """The lines' sum; None when it is not a positive whole number that Stripe could bill."""
        quantities = [line.quantity for line in self.lines]
        if any(quantity is None or quantity <= 0 or quantity % 1 for quantity in quantities):
            return None
        return sum((quantity for quantity in quantities if quantity is not None), Decimal(0))

    @property
    def edited_at(self) -> int:
        return max(line.modified_at or 0 for line in self.lines)

    @property
    def gone(self) -> list[str]:
        """Lines that the item billed and the deal has no longer."""
        return sorted(set(self.item.line_ids) - {line.id for line in self.lines})

    def base(self, world: World) -> str | None:
        """The quantity on which both sides last agreed; None while they never did."""
        known = (world.base.get((line, RULE)) for line in (*(line.id for line in self.lines), *self.gone))
        agreed = [Decimal(canonical.decode(value)) for value in known if value is not None]
        return canonical.encode(number(sum(agreed, Decimal(0)))) if agreed else None


def keep_seats(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written on either side, for every item that bills lines of a won deal."""
    billing = own_billing(world)
    if billing is None:
        return
    for billed in _billed_items(world, billing):
        wanted, shown = billed.line_quantity, billed.item.quantity
        if shown is None:
            continue
        if wanted is None:
            detail = f"a line quantity is not a positive whole number; Stripe goes on billing {shown}"
            yield _review(world, billed, detail)
            continue
        base = billed.base(world)
        left, right = canonical.encode(number(wanted)), canonical.encode(number(shown))
        decision = merge3(left, right, base)
        if decision == "agree":
            yield from _agreed(billed)
            continue
        if decision == "conflict" and base is None and not billed.made_by_us:
            detail = f"Salesforce has {number(wanted)}, the subscription that was found has {shown}; make them equal"
            yield _review(world, billed, detail)
            continue
        if decision == "conflict" and base is not None:
            detail = f"changed on both sides: {number(wanted)} in Salesforce, {shown} at Stripe; Salesforce wins"
            yield _review(world, billed, detail)
        if decision == "write_left":
            yield from _to_lines(world, rules, billed, shown)
        else:
            quiet_until = billed.edited_at + rules.commercial.quiet_seconds * 1_000_000
            if base is not None and world.now < quiet_until:
                yield LookAgain(quiet_until)
            else:
                yield _to_stripe(world, billed, int(wanted))


def _billed_items(world: World, billing: Billing) -> Iterator[_Billed]:
    running: dict[str, Subscription] = {s.id: s for s in billing.subscriptions if not has_ended(s)}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if not deal.opportunity.is_won or not isinstance(found, Match) or found.id not in running:
            continue
        items = {item.id: item for item in billing.items if item.subscription == found.id}
        lines: dict[str, list[LineItem]] = {}
        for line in sorted(deal.lines, key=lambda each: each.id):
            if match := match_item(line, items.values(), found.id):
                lines.setdefault(match.id, []).append(line)
        for item_id, together in sorted(lines.items()):
            yield _Billed(items[item_id], tuple(together), running[found.id].intent is not None)


def agreed_quantities(quantities: Iterable[tuple[str, Decimal | int | None]]) -> tuple[Agreement, ...]:
    """The merge base of these lines, by line id."""
    ordered = sorted(quantities, key=lambda each: each[0])
    return tuple(Agreement(line, RULE, canonical.encode(number(quantity))) for line, quantity in ordered)


def _agreed(billed: _Billed) -> tuple[Agreement, ...]:
    """Both sides hold what the lines show."""
    shown = ((line.id, line.quantity) for line in billed.lines)
    return agreed_quantities((*shown, *((line, 0) for line in billed.gone)))


def _to_stripe(world: World, billed: _Billed, quantity: int) -> Command:
    item = billed.item
    start, end = (item.period_start or 0) // 1_000_000, (item.period_end or 0) // 1_000_000
    effective = min(max(billed.edited_at // 1_000_000, start), end - 1)
    params = {"quantity": quantity, "proration_behavior": "create_prorations", "proration_date": effective}
    target = f"stripe/subscription_item/{item.id}"
    reason = "seats were edited in Salesforce"
    change = FieldChange("quantity", number(item.quantity), number(quantity), RULE, reason)
    return Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="stripe.update",
        priority=Priority.SEATS,
        reason=reason,
        subject=billed.lines[0].id,
        body={"object": "subscription_item", "id": item.id, "params": params},
        changes=(change,),
        agreements=_agreed(billed),
    )


def _to_lines(world: World, rules: Rules, billed: _Billed, quantity: int) -> Iterator[Command]:
    """Brings the lines to Stripe's quantity; Quantity and UnitPrice always go together (Salesforce would
    recompute the price from an unchanged total otherwise)."""
    names = rules.salesforce["line"]
    spread = _spread(billed.lines, quantity)
    unwritten = [(line.id, new) for line, new in spread.items() if line.quantity == new]
    unwritten += [(line, 0) for line in billed.gone]
    for line, new in spread.items():
        if line.quantity == new:
            continue
        target = f"salesforce/{names.object}/{line.id}"
        fields: Mapping[str, Any] = {
            names.fields["quantity"]: Decimal(new),
            names.fields["unit_price"]: line.unit_price,
        }
        reason = "seats were changed at Stripe"
        yield Command(
            key=f"set:{target}",
            account=world.account_id,
            target=target,
            action="salesforce.update",
            priority=Priority.SEATS,
            reason=reason,
            subject=line.id,
            body={"object": names.object, "id": line.id, "fields": fields},
            changes=(FieldChange(names.fields["quantity"], number(line.quantity), number(new), RULE, reason),),
            agreements=agreed_quantities([(line.id, new), *unwritten]),
        )
        unwritten = []


def _spread(lines: tuple[LineItem, ...], quantity: int) -> dict[LineItem, int]:
    """One item's quantity over its lines: the first ones keep theirs, the last ones take the change."""
    left = quantity
    spread: dict[LineItem, int] = {}
    for line in lines:
        spread[line] = min(left, int(line.quantity or 0))
        left -= spread[line]
    spread[lines[-1]] += left
    return spread


def _review(world: World, billed: _Billed, detail: str) -> Review:
    subject = billed.lines[0].id
    return Review(f"seats:{billed.item.id}", world.account_id, RULE, subject, detail)
