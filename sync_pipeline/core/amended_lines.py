"""What amendments do to the deals that they amend: their lines come over, each once, when they take effect.

A line that came over remembers what it said then. An amendment that is edited later is followed as long as nobody
changed the line on the deal; both changed, one that was taken off the deal again, or an amendment that is no longer
won: a person decides, and what is billed stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical, writing
from sync_pipeline.core.amendments import RULE, Amendment, amendments, copies_of_lines, pending_until
from sync_pipeline.core.canon import number, text
from sync_pipeline.core.commands import Agreement, Entry, LookAgain, Review
from sync_pipeline.core.rates import discount_fault
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.world import World


def amended_lines(world: World, rules: Rules) -> Iterator[Entry]:
    """The lines to bring over now, to follow, or to tell a person of."""
    copies = copies_of_lines(world)
    found = amendments(world, rules)
    for amendment in found:
        if amendment.original is None:
            continue
        if not amendment.faults:
            yield from _named(world, rules, amendment)
            yield from _brought(world, rules, amendment)
        for line in sorted(amendment.deal.lines, key=lambda each: each.id):
            if line.id in copies:
                yield from _followed(world, rules, line, copies[line.id])
    speaking = {line.id for amendment in found for line in amendment.deal.lines}
    for amends, copy in sorted(copies.items()):
        if amends not in speaking:
            detail = (
                f"line {copy.called} came from line {amends} of an amendment that is not won any more or is gone; "
                "what it bills goes on; take it off the deal, or win the amendment again"
            )
            yield Review(f"amendment_gone:{copy.id}", world.account_id, "amendment_gone", copy.id, detail)


def _named(world: World, rules: Rules, amendment: Amendment) -> Iterator[Entry]:
    """An amendment that only its type tells gets the name of the deal that it amends, and keeps to it."""
    opportunity = amendment.deal.opportunity
    if opportunity.amends_opportunity_id is None and amendment.original is not None:
        values = {"amends_opportunity_id": amendment.original.opportunity.id}
        reason = "the only deal of the Account that is billed"
        command = writing.update(world, rules, "opportunity", opportunity, values, rule="amendment", reason=reason)
        if command is not None:
            yield command


def _brought(world: World, rules: Rules, amendment: Amendment) -> Iterator[Entry]:
    if amendment.subscription is None:
        return
    for pending in amendment.pending:
        line = pending.line
        if pending.due_at > world.now:
            yield LookAgain(pending.due_at, amendment.id, pending_until(amendment, world.now) or "")
            continue
        values: dict[str, Any] = {
            "opportunity_id": line.opportunity_id,
            "pricebook_entry_id": line.pricebook_entry_id,
            "quantity": line.quantity,
            "unit_price": line.unit_price,
            "service_date": line.service_date,
            "billing_interval": text(line.billing_interval),
            "charge_type": text(line.charge_type),
            "from_month": line.from_month,
        }
        made = writing.create(
            world,
            rules,
            "line",
            line.id,
            values,
            key_field="amends_line_id",
            intent=f"amendment:{line.id}",
            subject=line.opportunity_id,
            rule=RULE,
            reason=f"Opportunity {amendment.id} amends the deal",
        )
        yield replace(made, agreements=(_agreement(line, line),))


def _followed(world: World, rules: Rules, line: LineItem, copy: LineItem) -> Iterator[Entry]:
    """Quantity and price of a line that came over; the amendment's later edits count from their own moment."""
    said, base = _said(line), world.base.get((line.id, RULE))
    if (fault := discount_fault(line)) is not None:
        yield _edited(world, line, f"line {line.called} of the amendment: {fault}")
    elif base is None or said == _said(copy):
        yield _agreement(line, line)
    elif said != base and _said(copy) == base:
        values = {"quantity": line.quantity, "unit_price": line.unit_price}
        reason = "the amendment that brought the line was edited"
        command = writing.update(
            world, rules, "line", copy, values, rule=RULE, reason=reason, agreements=(_agreement(line, line),)
        )
        if command is not None:
            # Quantity alone would have Salesforce compute the price anew from an unchanged total.
            names = rules.salesforce["line"].fields
            both = {names[name]: value for name, value in values.items()}
            yield replace(command, body={**command.body, "fields": both})
    elif said != base:
        detail = (
            f"line {line.called} of the amendment says {_words(line)} now, its line on the deal {_words(copy)}; "
            "make them equal"
        )
        yield _edited(world, line, detail)


def _edited(world: World, line: LineItem, detail: str) -> Review:
    return Review(f"amendment_edited:{line.id}", world.account_id, "amendment_edited", line.id, detail)


def _agreement(line: LineItem, said: LineItem) -> Agreement:
    return Agreement(line.id, RULE, _said(said))


def _said(line: LineItem) -> str:
    return canonical.encode([number(line.quantity), number(line.unit_price)])


def _words(line: LineItem) -> str:
    return f"{number(line.quantity or Decimal(0))} at {number(line.unit_price or Decimal(0))}"
