"""Which items a running subscription has: lines that came to its deal or were taken off it, items that bill no line.

Items are added and removed in one request per subscription: Stripe refuses two items of one price, so that none can be
added twice. Lines that move from one item to another do so in one request too, from one moment: no worker that stops
leaves them billed twice or nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical, stripe_writing
from sync_pipeline.core.billed_items import (
    RATE,
    BilledItem,
    RunningDeal,
    agreed_price,
    billed_from,
    ends_of_periods,
    line_names,
    minor_price,
    rate_of_item,
    remembered_rate,
)
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement, Entry, FieldChange, LookAgain, Review
from sync_pipeline.core.conflict import About, Clash, Standing
from sync_pipeline.core.conflict_inbox import Ruling, is_kept, ruling_on, standing_on
from sync_pipeline.core.deal import Incomplete
from sync_pipeline.core.lifecycle import CHANGEABLE
from sync_pipeline.core.prices import NOT_BILLED, agreed_rates, as_agreed, price_at_stripe, rate_of_new
from sync_pipeline.core.product_names import product_name
from sync_pipeline.core.proration import within
from sync_pipeline.core.quiet import resting
from sync_pipeline.core.ramps_ahead import RampAhead, ramp_edited
from sync_pipeline.core.rates import Rate
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.seats import agreed_quantities, agreed_quantity, decide_quantity, line_quantity
from sync_pipeline.core.stripe_lines import ITEMS, is_exchanged, line_of_added, lines_taken_back, was_taken_off
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.two_way import braked_until, edit_war
from sync_pipeline.core.world import World

ON_NO_LINE = "item_on_no_line"
NOTHING = canonical.encode(None)
RULED = "a person decided a conflict"
LINES_CHANGED = "the lines that it bills changed"


@dataclass(slots=True)
class ItemChange:
    """One entry of a subscription's items: what is sent, from when it is prorated (seconds UTC; None: the moment of
    sending), and the `lines` that the item names then.

    `period_end` is that of the item, microseconds UTC: an item of another interval has another one. None for a new item
    of which none that is there tells it.
    """

    entry: dict[str, Any]
    effective: int | None
    period_end: int | None
    made: tuple[FieldChange, ...]
    subject: str
    agreements: tuple[Agreement, ...] = ()
    lines: tuple[LineItem, ...] = ()

    @property
    def more_items(self) -> int:
        """How many items a subscription has more by it."""
        return -1 if "deleted" in self.entry else int("id" not in self.entry)

    @property
    def waits_for_renewal(self) -> bool:
        """It counts from the end of the item's period on: the next one bills it whole, and nothing is prorated."""
        return self.effective is not None and "proration_date" not in within(None, self.period_end, self.effective)


class ItemChanges(list[ItemChange]):
    """The items to add to a subscription, to remove from it, and those between which lines move."""


def new_lines(
    world: World, rules: Rules, running: RunningDeal, ramp: RampAhead, changes: ItemChanges
) -> Iterator[Entry]:
    """Lines on no item: added in Salesforce, or their item was removed at Stripe."""
    for line, at in running.waiting:
        yield LookAgain(at, line.id, f"{line.called} comes to {running.subscription.id} on its day")
    groups: dict[str, list[tuple[LineItem, Rate]]] = {}
    for line in running.new:
        if line.id in ramp.lines:
            yield from ramp_edited(world, ramp, line)
            continue
        rate = rate_of_new(running, line, rules.commercial)
        if isinstance(rate, Incomplete):
            yield _review(world, NOT_BILLED, line.id, f"line {line.called}: {'; '.join(rate.missing)}")
        else:
            groups.setdefault(rate.lookup_key, []).append((line, rate))
    for _, group in sorted(groups.items()):
        lines = [line for line, _ in group]
        yield from _new_rate(world, rules, running, lines, group[0][1], changes)


def _new_rate(
    world: World, rules: Rules, running: RunningDeal, lines: Sequence[LineItem], rate: Rate, changes: ItemChanges
) -> Iterator[Entry]:
    commercial, first = rules.commercial, lines[0]
    quantity = line_quantity(lines)
    if quantity == 0:
        return
    leave = all(line.id in running.leaving for line in lines)
    was_billed = not leave and agreed_quantity(world, (line.id for line in lines)) not in (None, 0)
    carried = leave or all(line.amends_line_id for line in lines)
    reaction = commercial.on_stripe_items if was_billed else "carry" if carried else commercial.changes_after_billing
    if not was_billed and any(
        billed.item.product == rate.stripe_product
        and not billed.is_moved
        and was_taken_off(world, running.deal, billed.item)
        for billed in running.unlined
    ):
        # Lines are deleted and made again by quoting tools: both would be billed until a person rules on the old one.
        reaction = "review"
    edited_here = was_billed and any(_was_edited_here(world, line, rate.currency) for line in lines)
    changeable = running.subscription.status in CHANGEABLE
    what = "is on no item any more of" if was_billed else "is on no item of"
    names = ", ".join(line.called for line in lines)
    detail = f"line {names} {what} {running.subscription.id}; add it there, or take it off the deal"
    if was_billed and reaction == "accept":
        # What was added to the deal meanwhile is billed once these are taken back.
        were_billed = [line for line in lines if agreed_quantity(world, [line.id]) is not None]
        taken = lines_taken_back(world, rules, running, were_billed, "it was removed at Stripe")
        taken = "it was edited since" if edited_here else taken
        if not isinstance(taken, str):
            yield from taken
            return
        detail, reaction = f"{detail}; it is not taken off by itself: {taken}", "review"
    if quantity is None:
        detail = f"{detail}; its quantity is no whole number"
    if quantity is None or not changeable:
        yield _review(world, NOT_BILLED, first.id, detail)
        return
    assert rate.interval is not None
    ends = ends_of_periods(running.all_items, rate.interval)
    ruled_at = 0
    said = (canonical.encode(number(Decimal(quantity))), NOTHING)
    words = (None, f"{quantity} of {names}", "nothing")
    clash = _clash(world, running, NOT_BILLED, first.id, first, said, words, detail)
    if reaction == "review" or (running.subscription.intent is None and not leave):
        ruling, told = _asked(world, clash)
        yield from told
        if ruling is None:
            return
        ruled_at = ruling.at
    effective: int | None = None
    if was_billed:
        if (until := braked_until(world, commercial, first.id, ITEMS)) is not None:
            yield from edit_war(world, commercial, first.id, ITEMS, until)
            return
        if edited_here and not ruled_at:
            detail = f"line {names} was edited, while its item was removed from {running.subscription.id}"
            yield replace(clash, winner="Salesforce", detail=f"{detail}; Salesforce wins")
    else:
        edited = max(line.modified_at or 0 for line in lines)
        effective = max(ruled_at, *(billed_from(world, line, ends, commercial) for line in lines))
        if (rest := resting(world, commercial, edited, first.id)) is not None:
            yield rest
            return
    price = price_at_stripe(world, rate)
    if price is None:
        return
    why = f"{rate.product_name} was put back" if was_billed else f"{rate.product_name} was added to the deal"
    why = f"the price of {rate.product_name} was edited on one of its lines" if leave else why
    put_back = first.id if was_billed else None
    changes.append(
        ItemChange(
            {"price": price, "quantity": quantity, "metadata": line_names(lines)},
            None if effective is None else effective // 1_000_000,
            min(ends, default=None),
            (
                FieldChange(
                    f"items.{rate.stripe_product}", None, number(Decimal(quantity)), ITEMS, why, put_back=put_back
                ),
            ),
            first.id,
            (
                *agreed_quantities((line.id, line.quantity) for line in lines),
                *agreed_rates((line.id for line in lines), as_agreed(rate)),
            ),
            tuple(lines),
        )
    )


def unlined_items(world: World, rules: Rules, running: RunningDeal, changes: ItemChanges) -> Iterator[Entry]:
    """Items that bill no line: added at Stripe, or their lines were taken off the deal, or others bill those by now."""
    for billed in running.unlined:
        item = billed.item
        taken_off = was_taken_off(world, running.deal, item)
        exchanged = not (taken_off or billed.is_moved) and is_exchanged(running.deal, item)
        reaction = rules.commercial.removed_lines if taken_off else rules.commercial.on_stripe_items
        name = product_name(world, item.product)
        detail = f"Stripe bills {item.quantity} of {name} ({item.id}), which is on no line of the deal"
        if taken_off and _was_edited_there(world, item):
            detail, reaction = f"{detail}; it was changed at Stripe since its lines were taken off", "review"
        if exchanged or (reaction == "accept" and not billed.is_moved):
            line = line_of_added(world, rules, running, item)
            if not isinstance(line, str):
                yield line
                continue
            detail, reaction = f"{detail} and does not become one: {line}", "review"
        if running.subscription.status not in CHANGEABLE:
            yield _review(world, ON_NO_LINE, running.deal.opportunity.id, detail, item.id)
        elif billed.is_moved:
            if billed.loses_all and decide_quantity(world, rules, billed)[1].lines:
                # Its lines stay until their seats are settled (line_terms.py).
                continue
            moved = {line.id for line in billed.leaving} | set(billed.left)
            edited = max(line.modified_at or 0 for line in running.deal.lines if line.id in moved)
            why = "another item bills its lines since their price was edited"
            changes.append(removal(item, why, running.deal.opportunity.id, effective=edited // 1_000_000))
        elif reaction == "review" or running.subscription.intent is None:
            said = (NOTHING, canonical.encode([item.product, number(item.quantity)]))
            words = (None, "nothing", f"{item.quantity} of {name}")
            ruling, told = _asked(world, _clash(world, running, ON_NO_LINE, item.id, None, said, words, detail))
            yield from told
            if ruling is not None:
                changes.append(removal(item, RULED, running.deal.opportunity.id, _no_seats(billed)))
        elif taken_off:
            why = "its lines were taken off the deal"
            changes.append(removal(item, why, running.deal.opportunity.id, _no_seats(billed)))
        elif (until := braked_until(world, rules.commercial, item.product, ITEMS)) is not None:
            yield from edit_war(world, rules.commercial, item.product, ITEMS, until)
        else:
            removed = removal(item, "it was added at Stripe", running.deal.opportunity.id)
            changes.append(replace(removed, made=(replace(removed.made[0], put_back=item.product),)))


def settled_items(world: World, running: RunningDeal) -> Iterator[Standing]:
    """What became of lines and items about which there was a conflict, and which are on neither side alone any more."""
    alone = {line.id for line in running.new} | {billed.item.id for billed in running.unlined}
    both = {billed.item.id for billed in running.items} | {line.id for each in running.items for line in each.lines}
    for conflict in world.conflicts:
        of_this = conflict.rule in (NOT_BILLED, ON_NO_LINE) and conflict.stripe_object == running.subscription.id
        if of_this and conflict.subject not in alone:
            there = conflict.salesforce if conflict.rule == NOT_BILLED else conflict.stripe
            value = there if conflict.subject in both else NOTHING
            yield Standing(rule=conflict.rule, subject=conflict.subject, salesforce=value, stripe=value, keeps="Stripe")


def _asked(world: World, clash: Clash) -> tuple[Ruling | None, tuple[Entry, ...]]:
    """What is told of a line or an item that is on one side only, and a person's ruling that Stripe has to follow."""
    known = standing_on(world, clash.standing)
    ruling = ruling_on(world, clash.standing)
    if ruling is not None:
        return (ruling if ruling.side == "Salesforce" else None), known
    return None, known if is_kept(world, clash.standing) else (clash,)


def _clash(
    world: World,
    running: RunningDeal,
    rule: str,
    subject: str,
    line: LineItem | None,
    said: tuple[str, str],
    words: tuple[str | None, str, str],
    detail: str,
) -> Clash:
    """A line or an item that is on one side only, for a person to decide."""
    opportunity = running.deal.opportunity
    edited = line or opportunity
    return Clash(
        account=world.account_id,
        standing=Standing(rule=rule, subject=subject, salesforce=said[0], stripe=said[1], keeps="Stripe"),
        about=About.of(edited, opportunity_id=opportunity.id, stripe_object=running.subscription.id),
        base=None,
        words=words,
        winner=None,
        detail=detail,
    )


def _was_edited_here(world: World, line: LineItem, currency: str) -> bool:
    """Whether a line that was billed says something else than what both sides last agreed on."""
    quantity, price = agreed_quantity(world, [line.id]), agreed_price(world, line)
    return quantity not in (None, line.quantity) or price not in (None, minor_price(line, currency))


def _was_edited_there(world: World, item: SubscriptionItem) -> bool:
    """Whether an item bills something else than what both sides last agreed on for the lines that it names."""
    agreed = [remembered_rate(world.base[line, RATE]) for line in item.line_ids if (line, RATE) in world.base]
    quantity = agreed_quantity(world, item.line_ids)
    return quantity not in (None, item.quantity) or any(rate != rate_of_item(item) for rate in agreed)


def _no_seats(billed: BilledItem) -> tuple[Agreement, ...]:
    """What is agreed on of the lines that were taken off."""
    return agreed_quantities((line, 0) for line in billed.item.line_ids if line not in billed.left)


def removal(
    item: SubscriptionItem, why: str, subject: str, agreements: tuple[Agreement, ...] = (), effective: int | None = None
) -> ItemChange:
    what = FieldChange(f"items.{item.product}", number(item.quantity), None, ITEMS, why)
    return ItemChange({"id": item.id, "deleted": True}, effective, item.period_end, (what,), subject, agreements)


def in_one_request(world: World, rules: Rules, running: RunningDeal, changes: ItemChanges) -> Iterator[Entry]:
    """One request for the changes of one moment that are prorated alike; others follow in the next round.

    The earliest moment comes first, except that Stripe refuses a request that leaves a subscription without items.
    """
    changes = _moves_together(running, changes)
    if not changes:
        return
    subscription, items = running.subscription, len(running.items) + len(running.unlined)
    if all(change.more_items < 0 for change in changes) and len(changes) >= items:
        detail = f"nothing would be left on {subscription.id}; cancel it instead of taking off its last line"
        yield _review(world, "last_item", running.deal.opportunity.id, detail)
        return
    alike: dict[tuple[int | None, bool], list[ItemChange]] = defaultdict(list)
    for change in sorted(changes, key=lambda change: change.effective or 0):
        alike[change.effective, change.waits_for_renewal].append(change)
    now = next(each for each in alike.values() if items + sum(change.more_items for change in each) > 0)
    params: dict[str, Any] = {
        "items": [change.entry for change in now],
        "proration_behavior": rules.commercial.proration,
    }
    if now[0].effective is not None:
        params |= within(running.all_in_period_since, now[0].period_end, now[0].effective)
    yield stripe_writing.update(
        world,
        "subscription",
        subscription.id,
        params,
        subject=now[0].subject,
        priority=Priority.SEATS,
        reason="; ".join(dict.fromkeys(made.reason for change in now for made in change.made)) or LINES_CHANGED,
        changes=(made for change in now for made in change.made),
        agreements=(agreed for change in now for agreed in change.agreements),
        # Not one request with a change of the subscription's end, which has a proration of its own.
        part="items",
    )


def _moves_together(running: RunningDeal, changes: ItemChanges) -> ItemChanges:
    """Lines that move are given up by all their items and taken by all others from one moment, or none moves yet."""
    losing = {each.item.id: each for each in (*running.items, *running.unlined) if each.leaving}
    owing = {
        name for name, each in losing.items() if each.names_are_stale or line_quantity(each.lines) != each.item.quantity
    }
    moving = [
        change
        for change in changes
        if change.entry.get("id") in losing or not running.leaving.isdisjoint(line.id for line in change.lines)
    ]
    given_up = {change.entry["id"] for change in moving if "id" in change.entry}
    taken = {line.id for change in moving for line in change.lines}
    if not (owing <= given_up and running.leaving <= taken):
        return ItemChanges(change for change in changes if change not in moving)
    moment = max((change.effective or 0 for change in moving), default=0)
    end = max((change.period_end or 0 for change in moving), default=0)
    return ItemChanges(
        replace(change, effective=moment, period_end=end) if change in moving else change for change in changes
    )


def _review(world: World, rule: str, subject: str, detail: str, key: str = "") -> Review:
    return Review(f"{rule}:{key or subject}", world.account_id, rule, subject, detail)
