"""The terms of a running subscription, kept equal to the lines of its deal: quantities, prices, which lines there are.

What has to be written to one item goes in one request, prorated from the moment of the edit, frozen, so that a retry
bills the same pennies; edits within the quiet period are sent as one change. Lines always get Quantity and UnitPrice
together (Salesforce would recompute the price from an unchanged total otherwise). Items are added and removed in one
request per subscription: Stripe refuses two items of one price, so that none can be added twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.billed_items import (
    RATE,
    BilledItem,
    RunningDeal,
    agreed_rate,
    line_names,
    rate_of_item,
    running_deals,
)
from sync_pipeline.core.billed_lines import lines_billed_later, lines_billed_now
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement, Command, Entry, FieldChange, LookAgain, Review
from sync_pipeline.core.crosswalk import match_schedule, own_billing
from sync_pipeline.core.deal import Incomplete, midnight
from sync_pipeline.core.money import exponent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.prices import Prices, agreed_rates, as_agreed, changed_rates, decide_price, rate_of_new
from sync_pipeline.core.rate_card import is_priced_at, rate_card
from sync_pipeline.core.rates import Rate
from sync_pipeline.core.records import LineItem, SubscriptionItem
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.seats import RULE as QUANTITY
from sync_pipeline.core.seats import agreed_quantities, decide_quantity, line_quantity, spread
from sync_pipeline.core.two_way import Decision, braked_until, edit_war
from sync_pipeline.core.world import Catalogue, World

ITEMS = "subscription.items"
CHANGEABLE = frozenset({"active", "past_due", "trialing", "unpaid"})


def keep_line_terms(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written on either side, for every running subscription of a won deal, or decided by a person."""
    wanted = list(changed_rates(world, rules))
    if wanted and isinstance(world.catalogue, Present):
        yield from rate_card(world, world.catalogue.value, wanted)
        yield from _mismatches(world, world.catalogue.value, wanted)
    for running in running_deals(world, rules.commercial):
        changes = _ItemChanges()
        ramp = _ramp_ahead(world, rules, running)
        yield from _edited_ahead(world, rules, running, ramp)
        for billed in running.items:
            yield from _keep_item(world, rules, running, billed, ramp, changes)
        yield from _new_lines(world, rules, running, ramp, changes)
        yield from _unlined_items(world, rules, running, changes)
        yield from _item_changes(world, running, changes)


@dataclass(slots=True)
class _Change:
    """One entry of a subscription's items: what is sent, from when it is prorated (None: the moment of sending)."""

    entry: dict[str, Any]
    effective: int | None
    what: FieldChange
    subject: str
    agreements: tuple[Agreement, ...] = ()
    removes: bool = False


class _ItemChanges(list[_Change]):
    """The items to add to a subscription and to remove from it."""


@dataclass(frozen=True, slots=True)
class _Ramp:
    """The lines that a schedule bills in phases that have not begun; no schedule, no lines."""

    schedule: str = ""
    lines: Mapping[str, LineItem] = field(default_factory=dict)


def _ramp_ahead(world: World, rules: Rules, running: RunningDeal) -> _Ramp:
    billing, deal = own_billing(world), running.deal
    schedules = billing.schedules if billing is not None else ()
    schedule = match_schedule(deal.opportunity, schedules, world.links, world.org_id)
    if schedule is None or schedule.status != "active":
        return _Ramp()
    later = lines_billed_later(deal, running.subscription, rules.commercial, world.now)
    return _Ramp(schedule.id, {line.id: line for line in later})


def _edited_ahead(world: World, rules: Rules, running: RunningDeal, ramp: _Ramp) -> Iterator[Review]:
    """Lines that are billed only later and are not what the schedule was told."""
    now = lines_billed_now(running.deal, running.subscription, rules.commercial, world.now)
    for line in ramp.lines.values() if running.subscription.intent is not None else ():
        if line in now:
            continue
        rate = rate_of_new(running, line, rules.commercial)
        same_rate = not isinstance(rate, Incomplete) and as_agreed(rate) == agreed_rate(world, line)
        if not same_rate or world.base.get((line.id, QUANTITY)) != canonical.encode(number(line.quantity)):
            yield _ramp_edited(world, ramp, line)


def _ramp_edited(world: World, ramp: _Ramp, line: LineItem) -> Review:
    """A change of the current phase alone would be undone when the next one begins, on both sides."""
    detail = (
        f"line {_name(line)} was edited, but {ramp.schedule} bills it in a later phase as agreed before; edit the "
        "phases of the schedule at Stripe; what is left is applied when its last phase has begun"
    )
    return _review(world, "ramp_edited", line.id, detail)


def _keep_item(
    world: World, rules: Rules, running: RunningDeal, billed: BilledItem, ramp: _Ramp, changes: _ItemChanges
) -> Iterator[Entry]:
    before = _without_joining(billed)
    if before is not None and decide_quantity(world, rules, before).move != "agree":
        # What both sides had comes first: a line that joins is added to it, and must not look like a conflict.
        billed = before
    quantity, prices = decide_quantity(world, rules, billed), decide_price(world, rules, billed)
    yield from (*quantity.told, *prices.decision.told)
    spanning = [line for line in (*billed.lines, *billed.leaving) if line.id in ramp.lines]
    if spanning and "to_stripe" in (quantity.move, prices.decision.move):
        yield from (_ramp_edited(world, ramp, line) for line in spanning)
        return
    if (shown := rate_of_item(billed.item)) is not None:
        yield from agreed_rates((line.id for line in prices.agreed), shown)
    total = line_quantity(billed.lines)
    if quantity.move == "agree" and not billed.names_are_stale:
        yield from agreed_quantities((line.id, line.quantity) for line in billed.lines)
    if quantity.move == "to_salesforce" or prices.following:
        yield from _to_lines(world, rules, billed, quantity, prices)
    if quantity.writes_stripe and total == 0:
        changes.append(_removal(billed.item, "no seats are left on its lines", billed.lines[0].id))
    elif quantity.writes_stripe or prices.rate or (quantity.move == "agree" and billed.names_are_stale):
        yield from _to_stripe(world, rules, running, billed, quantity, prices)


def _without_joining(billed: BilledItem) -> BilledItem | None:
    joining = {line.id for line in billed.joining}
    lines = tuple(line for line in billed.lines if line.id not in joining)
    return replace(billed, lines=lines, joining=()) if joining and lines else None


def _to_stripe(
    world: World, rules: Rules, running: RunningDeal, billed: BilledItem, quantity: Decision, prices: Prices
) -> Iterator[Entry]:
    item = billed.item
    edited = "to_stripe" in (quantity.move, prices.decision.move)
    known = any((line.id, QUANTITY) in world.base for line in billed.lines)
    quiet_until = billed.edited_at + rules.commercial.quiet_seconds * 1_000_000
    if edited and known and world.now < quiet_until:
        yield LookAgain(quiet_until)
        return
    if running.subscription.status not in CHANGEABLE and (edited or prices.rate):
        detail = f"{running.subscription.id} is {running.subscription.status} and cannot be changed at Stripe now"
        yield Review(f"{QUANTITY}:{item.id}", world.account_id, QUANTITY, billed.lines[0].id, detail)
        return
    new_quantity = line_quantity(billed.lines) if quantity.writes_stripe else item.quantity
    params: dict[str, Any] = {}
    made: list[FieldChange] = []
    agreements: list[Agreement] = []
    if prices.rate is not None:
        price = _price_at_stripe(world, prices.rate)
        if price is None:
            return
        params |= {"price": price, "quantity": new_quantity}
        made.append(_priced(item, prices))
        agreements += agreed_rates((line.id for line in billed.lines), as_agreed(prices.rate))
    if quantity.writes_stripe:
        params["quantity"] = new_quantity
        put_back = item.id if quantity.move == "put_back" else None
        why = "seats were put back" if put_back else "seats were edited in Salesforce"
        made.append(
            FieldChange("quantity", number(item.quantity), number(new_quantity), QUANTITY, why, put_back=put_back)
        )
    if quantity.writes_stripe or quantity.move == "agree":
        shown = [(line.id, line.quantity) for line in billed.lines]
        agreements += agreed_quantities([*shown, *((line, 0) for line in billed.gone)])
    if params:
        params["proration_behavior"] = "create_prorations"
        if edited:
            params |= _prorated(world, rules, billed)
    if billed.names_are_stale:
        params["metadata"] = line_names(billed.lines)
    target = f"stripe/subscription_item/{item.id}"
    reasons = dict.fromkeys(change.reason for change in made) or {"the lines that it bills changed": None}
    yield Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="stripe.update",
        priority=Priority.SEATS,
        reason="; ".join(reasons),
        subject=billed.lines[0].id,
        body={"object": "subscription_item", "id": item.id, "params": params},
        changes=tuple(made),
        agreements=tuple(agreements),
    )


def _mismatches(world: World, catalogue: Catalogue, rates: Sequence[Rate]) -> Iterator[Review]:
    for rate in rates:
        known = catalogue.prices.get(rate.lookup_key)
        if known is not None and not is_priced_at(known, rate):
            detail = (
                f"{known.id} is archived or has not the terms that its lookup key says; move the key to one that fits"
            )
            yield _review(world, "price_mismatch", rate.line_ids[0], detail)


def _price_at_stripe(world: World, rate: Rate) -> str | None:
    """The price that bills a rate; None while it does not exist, or does not bill what its key says."""
    known = world.catalogue.value.prices.get(rate.lookup_key) if isinstance(world.catalogue, Present) else None
    return known.id if known is not None and is_priced_at(known, rate) else None


def _priced(item: SubscriptionItem, prices: Prices) -> FieldChange:
    assert prices.rate is not None
    put_back = prices.rate.line_ids[0] if prices.decision.move == "put_back" else None
    why = "the price was put back" if put_back else "the price was edited in Salesforce"
    old, new = number(item.unit_amount), number(prices.rate.unit_amount)
    return FieldChange("price", old, new, RATE, why, put_back=put_back)


def _prorated(world: World, rules: Rules, billed: BilledItem) -> dict[str, Any]:
    """From when a change is billed: the day of the lines that join, or else the edit; within the item's period."""
    joining = {line.id for line in billed.joining}
    edited = [line for line in (*billed.lines, *billed.leaving) if line.id not in joining]
    moments = [effective_at(line, rules) for line in billed.joining] or [line.modified_at or 0 for line in edited]
    return _within(billed.item.period_start, billed.item.period_end, max(moments) // 1_000_000)


def effective_at(line: LineItem, rules: Rules) -> int:
    """From when a line that was added counts: its day of service, or else the moment of its last edit."""
    try:
        return midnight(date.fromisoformat(line.service_date or ""), rules.commercial) * 1_000_000
    except ValueError:
        return line.modified_at or 0


def _within(start: int | None, end: int | None, moment: int) -> dict[str, Any]:
    """Stripe takes only moments of the running period; a change from its end on is not prorated at all."""
    starts, ends = (start or 0) // 1_000_000, (end or 0) // 1_000_000
    if moment >= ends > 0:
        return {"proration_behavior": "none"}
    return {"proration_date": max(moment, starts)}


def _to_lines(world: World, rules: Rules, billed: BilledItem, quantity: Decision, prices: Prices) -> Iterator[Command]:
    names = rules.salesforce["line"]
    shares = spread(billed.lines, billed.item.quantity or 0) if quantity.move == "to_salesforce" else None
    following = {line.id for line in prices.following}
    rate = rate_of_item(billed.item)
    assert rate is not None or not following
    settled = [(gone, 0) for gone in billed.gone]
    settled += [(line.id, shares[line.id]) for line in billed.lines if shares and shares.get(line.id) == line.quantity]
    for line in billed.lines:
        target = f"salesforce/{names.object}/{line.id}"
        new, price = line.quantity, line.unit_price
        changed: list[FieldChange] = []
        agreed: list[Agreement] = []
        if shares is not None and line.id in shares and shares[line.id] != line.quantity:
            new = Decimal(shares[line.id])
            why = "seats were changed at Stripe"
            changed.append(FieldChange(names.fields["quantity"], number(line.quantity), number(new), QUANTITY, why))
            agreed += agreed_quantities([(line.id, new), *settled])
            settled = []
        if line.id in following and rate is not None:
            price = rate.unit_amount.scaleb(-exponent(billed.item.currency))
            why = "the price was changed at Stripe"
            changed.append(FieldChange(names.fields["unit_price"], number(line.unit_price), number(price), RATE, why))
            agreed += agreed_rates([line.id], rate)
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


def _new_lines(world: World, rules: Rules, running: RunningDeal, ramp: _Ramp, changes: _ItemChanges) -> Iterator[Entry]:
    """Lines on no item: added in Salesforce, or their item was removed at Stripe."""
    groups: dict[str, list[tuple[LineItem, Rate]]] = {}
    for line in running.new:
        if line.id in ramp.lines:
            yield _ramp_edited(world, ramp, line)
            continue
        rate = rate_of_new(running, line, rules.commercial)
        if isinstance(rate, Incomplete):
            yield _review(world, "line_not_billed", line.id, f"line {_name(line)}: {'; '.join(rate.missing)}")
        else:
            groups.setdefault(rate.lookup_key, []).append((line, rate))
    for _, group in sorted(groups.items()):
        lines = [line for line, _ in group]
        yield from _new_rate(world, rules, running, lines, group[0][1], changes)


def _new_rate(
    world: World, rules: Rules, running: RunningDeal, lines: Sequence[LineItem], rate: Rate, changes: _ItemChanges
) -> Iterator[Entry]:
    commercial, first = rules.commercial, lines[0]
    quantity = line_quantity(lines)
    if quantity == 0:
        return
    was_billed = any(world.base.get((line.id, QUANTITY), '"0"') != '"0"' for line in lines)
    reaction = commercial.on_stripe_items if was_billed else commercial.changes_after_billing
    known = running.subscription.intent is not None and running.subscription.status in CHANGEABLE
    if quantity is None or reaction == "review" or not known:
        what = "is on no item any more of" if was_billed else "is on no item of"
        names = ", ".join(_name(line) for line in lines)
        detail = f"line {names} {what} {running.subscription.id}; add it there, or take it off the deal"
        yield _review(world, "line_not_billed", first.id, detail)
        return
    effective: int | None = None
    if was_billed:
        if (until := braked_until(world, commercial, first.id, ITEMS)) is not None:
            yield from edit_war(world, commercial, first.id, ITEMS, until)
            return
    else:
        edited = max(line.modified_at or 0 for line in lines)
        effective = max(effective_at(line, rules) for line in lines)
        due = max(effective, edited + commercial.quiet_seconds * 1_000_000)
        if world.now < due:
            yield LookAgain(due)
            return
    price = _price_at_stripe(world, rate)
    if price is None:
        return
    why = f"{rate.product_name} was put back" if was_billed else f"{rate.product_name} was added to the deal"
    put_back = first.id if was_billed else None
    changes.append(
        _Change(
            {"price": price, "quantity": quantity, "metadata": line_names(lines)},
            None if effective is None else effective // 1_000_000,
            FieldChange(f"items.{rate.stripe_product}", None, number(Decimal(quantity)), ITEMS, why, put_back=put_back),
            first.id,
            (
                *agreed_quantities((line.id, line.quantity) for line in lines),
                *agreed_rates((line.id for line in lines), as_agreed(rate)),
            ),
        )
    )


def _unlined_items(world: World, rules: Rules, running: RunningDeal, changes: _ItemChanges) -> Iterator[Entry]:
    """Items that bill no line: added at Stripe, or their lines were taken off the deal."""
    for item in running.unlined:
        taken_off = bool(item.line_ids)
        reaction = rules.commercial.removed_lines if taken_off else rules.commercial.on_stripe_items
        ours = running.subscription.intent is not None and running.subscription.status in CHANGEABLE
        if reaction == "review" or not ours:
            detail = f"Stripe bills {item.quantity} of {item.product} ({item.id}), which is on no line of the deal"
            yield _review(world, "item_on_no_line", running.deal.opportunity.id, detail, item.id)
        elif taken_off:
            agreed = agreed_quantities((line, 0) for line in item.line_ids)
            changes.append(_removal(item, "its lines were taken off the deal", running.deal.opportunity.id, agreed))
        elif (until := braked_until(world, rules.commercial, item.product, ITEMS)) is not None:
            yield from edit_war(world, rules.commercial, item.product, ITEMS, until)
        else:
            removed = _removal(item, "it was added at Stripe", running.deal.opportunity.id)
            changes.append(replace(removed, what=replace(removed.what, put_back=item.product)))


def _removal(item: SubscriptionItem, why: str, subject: str, agreements: tuple[Agreement, ...] = ()) -> _Change:
    what = FieldChange(f"items.{item.product}", number(item.quantity), None, ITEMS, why)
    return _Change({"id": item.id, "deleted": True}, None, what, subject, agreements, removes=True)


def _item_changes(world: World, running: RunningDeal, changes: _ItemChanges) -> Iterator[Entry]:
    """One request for the changes of one moment; others follow in the next round."""
    if not changes:
        return
    subscription = running.subscription
    kept = len(running.items) + len(running.unlined) - sum(change.removes for change in changes)
    if kept <= 0 and all(change.removes for change in changes):
        detail = f"nothing would be left on {subscription.id}; cancel it instead of taking off its last line"
        yield _review(world, "last_item", running.deal.opportunity.id, detail)
        return
    moment = min(changes, key=lambda change: change.effective or 0).effective
    now = [change for change in changes if change.effective == moment]
    params: dict[str, Any] = {"items": [change.entry for change in now], "proration_behavior": "create_prorations"}
    if moment is not None:
        periods = [(b.item.period_start, b.item.period_end) for b in running.items]
        start, end = periods[0] if periods else (None, None)
        params |= _within(start, end, moment)
    # Not one request with a change of the subscription's end, which has a proration of its own.
    target = f"stripe/subscription/{subscription.id}/items"
    yield Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="stripe.update",
        priority=Priority.SEATS,
        reason="; ".join(dict.fromkeys(change.what.reason for change in now)),
        subject=now[0].subject,
        body={"object": "subscription", "id": subscription.id, "params": params},
        changes=tuple(change.what for change in now),
        agreements=tuple(agreed for change in now for agreed in change.agreements),
    )


def _name(line: LineItem) -> str:
    return line.product_name or line.id


def _review(world: World, rule: str, subject: str, detail: str, key: str = "") -> Review:
    return Review(f"{rule}:{key or subject}", world.account_id, rule, subject, detail)
