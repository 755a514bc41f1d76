"""The terms of a running subscription, kept equal to the lines of its deal: quantities, prices, which lines there are.

What has to be written to one item goes in one request, prorated from the moment of the edit, frozen, so that a retry
bills the same pennies; edits within the quiet period are sent as one change. Lines always get Quantity and UnitPrice
together (Salesforce would recompute the price from an unchanged total otherwise).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sync_pipeline.core import stripe_writing
from sync_pipeline.core.billed_items import (
    QUANTITY,
    RATE,
    BilledItem,
    RunningDeal,
    billed_from,
    line_names,
    price_standing,
    rate_of_item,
)
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement, Command, Entry, FieldChange, Review
from sync_pipeline.core.conflict_inbox import standing_on
from sync_pipeline.core.item_changes import (
    LINES_CHANGED,
    RULED,
    ItemChange,
    ItemChanges,
    in_one_request,
    new_lines,
    removal,
    settled_items,
    unlined_items,
)
from sync_pipeline.core.lifecycle import CHANGEABLE
from sync_pipeline.core.money import exponent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.prices import Prices, agreed_rates, as_agreed, changed_rates, decide_price, price_at_stripe
from sync_pipeline.core.proration import within
from sync_pipeline.core.quiet import resting
from sync_pipeline.core.ramps_ahead import RampAhead, ramp_ahead, ramp_edited
from sync_pipeline.core.rate_card import is_priced_at, rate_card
from sync_pipeline.core.rates import Rate
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.seats import agreed_quantities, decide_quantity, line_quantity, quantity_of, spread
from sync_pipeline.core.stripe_lines import lines_taken_back, why_no_exchange
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.two_way import Decision
from sync_pipeline.core.world import Catalogue, World


def keep_line_terms(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written on either side, for every running subscription of a won deal, or decided by a person."""
    wanted = list(changed_rates(world, rules))
    if wanted and isinstance(world.catalogue, Present):
        yield from rate_card(world, world.catalogue.value, wanted)
        yield from _mismatches(world, world.catalogue.value, wanted)
    for running in running_deals(world, rules.commercial):
        changes = ItemChanges()
        ramp = ramp_ahead(world, rules, running)
        for billed in (*running.items, *(each for each in running.unlined if each.loses_all)):
            yield from _keep_item(world, rules, running, billed, ramp, changes)
        yield from new_lines(world, rules, running, ramp, changes)
        yield from unlined_items(world, rules, running, changes)
        yield from settled_items(world, running)
        yield from in_one_request(world, rules, running, changes)


def to_be_written(world: World, rules: Rules) -> frozenset[str]:
    """The subscriptions whose seats or prices Salesforce has the last word on and Stripe does not show yet."""
    return frozenset(
        running.subscription.id
        for running in running_deals(world, rules.commercial)
        for billed in running.items
        if decide_quantity(world, rules, billed)[0].writes_stripe
        or decide_price(world, rules, billed).decision.writes_stripe
    )


def _keep_item(
    world: World, rules: Rules, running: RunningDeal, billed: BilledItem, ramp: RampAhead, changes: ItemChanges
) -> Iterator[Entry]:
    leaving = billed.leaving
    quantity, billed = decide_quantity(world, rules, billed)
    # Lines that leave ask for a price of another item, and keep this one at theirs for as long as they stay.
    staying = tuple(line for line in billed.lines if line not in leaving)
    prices = decide_price(world, rules, replace(billed, lines=staying))
    prices = replace(prices, rate=None) if billed.waits or staying != billed.lines else prices
    yield from (*quantity.told, *prices.decision.told)
    for line in leaving:
        if (standing := price_standing(world, line, billed.item)) is not None:
            yield from standing_on(world, standing)
    if not billed.lines:
        return
    spanning = [line for line in (*billed.lines, *billed.leaving) if line.id in ramp.lines]
    if spanning and "to_stripe" in (quantity.move, prices.decision.move):
        for line in spanning:
            yield from ramp_edited(world, ramp, line)
        return
    if (shown := rate_of_item(billed.item)) is not None:
        # Of lines that join it is agreed once they did.
        yield from agreed_rates((line.id for line in prices.agreed if line not in billed.joining), shown)
    if prices.exchanged and not quantity.writes_stripe:
        yield from _exchanged(world, rules, billed, prices)
        return
    total = line_quantity(billed.lines)
    if quantity.move == "agree" and not billed.names_are_stale:
        yield from agreed_quantities((line.id, line.quantity) for line in billed.lines)
    if quantity.move == "to_salesforce" or prices.following:
        yield from _to_lines(world, rules, billed, quantity, prices)
    if not (quantity.writes_stripe or prices.rate or (quantity.move == "agree" and billed.names_are_stale)):
        return
    edited = "to_stripe" in (quantity.move, prices.decision.move)
    known = any((line.id, QUANTITY) in world.base for line in billed.lines)
    rest = resting(world, rules.commercial, billed.edited_at, billed.lines[0].id) if edited and known else None
    if rest is not None:
        yield rest
    elif quantity.writes_stripe and total == 0:
        agreed = agreed_quantities((line.id, line.quantity) for line in billed.lines)
        why, effective = "no seats are left on its lines", _counts_from(world, rules, billed, quantity, prices)
        changes.append(removal(billed.item, why, billed.lines[0].id, agreed, effective))
    else:
        yield from _to_stripe(world, rules, running, billed, quantity, prices, changes)


def _exchanged(world: World, rules: Rules, billed: BilledItem, prices: Prices) -> Iterator[Entry]:
    """The lines of the product that was billed before; the one that is billed now becomes a line after that."""
    why = "another product or interval is billed at Stripe"
    taken = lines_taken_back(world, rules, billed, prices.exchanged, why)
    by_hand = why_no_exchange(world, rules, billed, prices.exchanged, billed.item)
    if by_hand is None and not isinstance(taken, str):
        yield from taken
        return
    for line in prices.exchanged:
        detail = f"line {line.called} is billed as something else at Stripe, but stays: {by_hand}"
        yield _review(world, RATE, line.id, detail)


def _to_stripe(
    world: World,
    rules: Rules,
    running: RunningDeal,
    billed: BilledItem,
    quantity: Decision,
    prices: Prices,
    changes: ItemChanges,
) -> Iterator[Entry]:
    item = billed.item
    edited = "to_stripe" in (quantity.move, prices.decision.move)
    if running.subscription.status not in CHANGEABLE and (edited or prices.rate):
        detail = f"{running.subscription.id} is {running.subscription.status} and cannot be changed at Stripe now"
        yield Review(f"{QUANTITY}:{item.id}", world.account_id, QUANTITY, billed.lines[0].id, detail)
        return
    new_quantity = line_quantity(billed.lines) if quantity.writes_stripe else item.quantity
    entry: dict[str, Any] = {}
    made: list[FieldChange] = []
    agreements: list[Agreement] = []
    if prices.rate is not None:
        price = price_at_stripe(world, prices.rate)
        if price is None:
            return
        entry |= {"price": price, "quantity": new_quantity}
        made.append(_priced(item, prices))
        agreements += agreed_rates((line.id for line in billed.lines), as_agreed(prices.rate))
    elif (shown := rate_of_item(item)) is not None:
        agreements += agreed_rates((line.id for line in prices.agreed if line in billed.joining), shown)
    if quantity.writes_stripe:
        entry["quantity"] = new_quantity
        put_back = item.id if quantity.move == "put_back" else None
        why = "a line with another price is billed apart" if billed.leaving else "seats were edited in Salesforce"
        why = "seats were put back" if put_back else why
        made.append(
            FieldChange("quantity", number(item.quantity), number(new_quantity), QUANTITY, why, put_back=put_back)
        )
    settled = quantity.writes_stripe or quantity.move == "agree"
    if settled:
        quantities = [(line.id, line.quantity) for line in billed.lines]
        agreements += agreed_quantities([*quantities, *((line, 0) for line in billed.gone)])
    # A line whose seats a person is asked about stays on record.
    is_renamed = billed.names_are_stale and {line.id for line in billed.lines} != set(item.line_ids)
    names = {"metadata": line_names(billed.lines)} if settled and is_renamed else {}
    effective = _counts_from(world, rules, billed, quantity, prices)
    if billed.leaving or not running.leaving.isdisjoint(line.id for line in billed.joining):
        if settled:
            of_item = tuple(replace(change, field=f"items.{item.product}.{change.field}") for change in made)
            whole = {"id": item.id, **entry, **names}
            subject = billed.lines[0].id
            changes.append(
                ItemChange(whole, effective, item.period_end, of_item, subject, tuple(agreements), billed.lines)
            )
        return
    params = {**entry, **names}
    if entry:
        params["proration_behavior"] = rules.commercial.proration
        if edited:
            params |= within(running.all_in_period_since, item.period_end, effective)
    yield stripe_writing.update(
        world,
        "subscription_item",
        item.id,
        params,
        subject=billed.lines[0].id,
        priority=Priority.SEATS,
        reason="; ".join(dict.fromkeys(change.reason for change in made)) or LINES_CHANGED,
        changes=made,
        agreements=agreements,
        subscription=item.subscription,
    )


def _mismatches(world: World, catalogue: Catalogue, rates: Sequence[Rate]) -> Iterator[Review]:
    for rate in rates:
        known = catalogue.prices.get(rate.lookup_key)
        if known is not None and not is_priced_at(known, rate):
            detail = (
                f"{known.id} is archived or has not the terms that its lookup key says; move the key to one that fits"
            )
            yield _review(world, "price_mismatch", rate.line_ids[0], detail)


def _priced(item: SubscriptionItem, prices: Prices) -> FieldChange:
    assert prices.rate is not None
    put_back = prices.rate.line_ids[0] if prices.decision.move == "put_back" else None
    why = "the price was put back" if put_back else "the price was edited in Salesforce"
    old, new = number(item.unit_amount), number(prices.rate.unit_amount)
    return FieldChange("price", old, new, RATE, why, put_back=put_back)


def _counts_from(world: World, rules: Rules, billed: BilledItem, quantity: Decision, prices: Prices) -> int:
    """From when a change is billed: the day of the lines that join, or else the edit; not before a person's ruling
    asked for it. Seconds UTC."""
    joining = {line.id for line in billed.joining}
    edited = [line for line in (*billed.lines, *billed.leaving) if line.id not in joining]
    ends = (billed.item.period_end,)
    moments = [billed_from(world, line, ends, rules.commercial) for line in billed.joining]
    moments = moments or [line.modified_at or 0 for line in edited]
    return max(*moments, quantity.ruled_at or 0, prices.decision.ruled_at or 0) // 1_000_000


def _to_lines(world: World, rules: Rules, billed: BilledItem, quantity: Decision, prices: Prices) -> Iterator[Command]:
    names = rules.salesforce["line"]
    shares = spread(billed.lines, quantity_of(quantity.value)) if quantity.value is not None else None
    # What a person ruled is agreed on when Stripe has it too, in the next round.
    follows = shares is not None and sum(shares.values()) == billed.item.quantity
    settled = [(gone, 0) for gone in billed.gone]
    settled += [(line.id, shares[line.id]) for line in billed.lines if shares and shares.get(line.id) == line.quantity]
    for line in billed.lines:
        target = f"salesforce/{names.object}/{line.id}"
        new, price = line.quantity, line.unit_price
        changed: list[FieldChange] = []
        agreed: list[Agreement] = []
        if shares is not None and line.id in shares and shares[line.id] != line.quantity:
            new = Decimal(shares[line.id])
            why = "seats were changed at Stripe" if follows else RULED
            changed.append(FieldChange(names.fields["quantity"], number(line.quantity), number(new), QUANTITY, why))
            agreed += agreed_quantities([(line.id, new), *settled]) if follows else ()
            settled = []
        if (rate := prices.following.get(line.id)) is not None:
            price = rate.unit_amount.scaleb(-exponent(billed.item.currency))
            is_billed = rate == rate_of_item(billed.item)
            why = "the price was changed at Stripe" if is_billed else RULED
            changed.append(FieldChange(names.fields["unit_price"], number(line.unit_price), number(price), RATE, why))
            agreed += agreed_rates([line.id], rate) if is_billed else ()
        if not changed:
            continue
        yield Command(
            key=f"set:{target}",
            account=world.account_id,
            target=target,
            action="salesforce.update",
            priority=Priority.SEATS,
            reason="; ".join(dict.fromkeys(change.reason for change in changed)),
            subject=line.id,
            body={
                "object": names.object,
                "id": line.id,
                "fields": {names.fields["quantity"]: new, names.fields["unit_price"]: price},
            },
            changes=tuple(changed),
            agreements=tuple(agreed),
        )


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
