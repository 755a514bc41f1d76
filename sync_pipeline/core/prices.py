"""Prices of a running subscription: what its items bill per unit, and the unit prices of their lines.

The base is the whole rate (product, interval, unit amount), so that a change of plan made at Stripe is told from an
edit of the line's price. Lines of one item are decided one by one: they may have been written only in part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sync_pipeline.core.billed_items import (
    RATE,
    AgreedRate,
    BilledItem,
    RunningDeal,
    agreed_rate,
    priced_for,
    rate_of_item,
    remembered_rate,
    wanted_rate,
)
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Agreement, Entry, Review
from sync_pipeline.core.deal import Incomplete, rate_of
from sync_pipeline.core.money import MoneyError, exponent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.product_names import product_name
from sync_pipeline.core.rate_card import is_priced_at
from sync_pipeline.core.rates import Rate, discount_fault, interval_of
from sync_pipeline.core.rules import Commercial, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_lines import why_no_exchange
from sync_pipeline.core.two_way import Decision, Term, decide
from sync_pipeline.core.world import World

NOT_BILLED = "line_not_billed"
"""The rule of a line that is on no item of its subscription."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What is to happen to the price of one item: `rate` is what it should bill instead, by `decision`; `following`
    lines, by id, take the price of a rate; `agreed` ones show the item's; `exchanged` ones sell what it bills no more.
    """

    decision: Decision
    rate: Rate | None = None
    following: Mapping[str, AgreedRate] = field(default_factory=dict)
    agreed: tuple[LineItem, ...] = ()
    exchanged: tuple[LineItem, ...] = ()


def decide_price(world: World, rules: Rules, billed: BilledItem) -> Prices:
    """Which side's price counts, for every line of an item. Of two currencies or intervals none does: a person is asked
    (agreed_terms.py).
    """
    shown = rate_of_item(billed.item)
    if shown is None:
        detail = f"{billed.item.price} has no unit amount, which a line could show"
        return Prices(Decision("leave", tuple(_review(world, line, detail) for line in billed.lines[:1])))
    told: list[Entry] = []
    following: dict[str, AgreedRate] = {}
    agreed, writes, exchanged = [], [], []
    for line in billed.lines:
        interval = priced_for(world, rules.commercial, billed, line)
        if interval is None:
            continue
        wanted = wanted_rate(line, agreed_rate(world, line) or shown, interval, billed.item.currency)
        if wanted is None:
            fault = discount_fault(line) or f"the unit price is {number(line.unit_price) or 'empty'}"
            told.append(_review(world, line, f"line {line.called}: {fault}"))
            continue
        decision = _decide(world, rules, billed, line, wanted, shown)
        told += decision.told
        if decision.move == "agree":
            agreed.append(line)
        elif decision.value is not None and is_same_plan(remembered_rate(decision.value), wanted):
            following[line.id] = remembered_rate(decision.value)
        elif decision.value is not None:
            exchanged.append(line)
        elif decision.writes_stripe:
            writes.append((line, decision, wanted))
    if not writes:
        moved = Decision("agree" if len(agreed) == len(billed.lines) else "leave", tuple(told))
        return Prices(moved, following=following, agreed=tuple(agreed), exchanged=tuple(exchanged))
    line, decision, wanted = writes[0]
    rate = rate_of(line, billed.item.currency, (wanted.interval, wanted.interval_count), rules.commercial)
    if isinstance(rate, Incomplete):
        told += [_review(world, line, "; ".join(rate.missing))]
        return Prices(Decision("leave", tuple(told)), following=following, agreed=tuple(agreed))
    return Prices(replace(decision, told=tuple(told)), rate, following, tuple(agreed))


def agreed_rates(line_ids: Iterable[str], rate: AgreedRate) -> tuple[Agreement, ...]:
    """The merge base of these lines."""
    return tuple(Agreement(line, RATE, rate.remembered()) for line in line_ids)


def as_agreed(rate: Rate) -> AgreedRate:
    """What is agreed on once an item bills the recurring rate."""
    assert rate.interval is not None
    return AgreedRate(rate.stripe_product, *rate.interval, rate.unit_amount)


def rate_of_new(running: RunningDeal, line: LineItem, commercial: Commercial) -> Rate | Incomplete:
    """What a line on no item asks for; a running subscription keeps its currency, and the deal its interval."""
    interval = interval_of(line, running.deal.opportunity.billing_interval, commercial)
    if interval is None:
        return Incomplete((f"the billing interval is {running.deal.opportunity.billing_interval!r}",))
    if not running.is_in_one_currency:
        return Incomplete((in_two_currencies(running),))
    return rate_of(line, running.currency, interval, commercial)


def in_two_currencies(running: RunningDeal) -> str:
    """Why nothing of a deal can be added to a subscription that bills in another currency."""
    return f"the deal is in {running.currency}, its subscription in {running.subscription.currency}"


def price_at_stripe(world: World, rate: Rate) -> str | None:
    """The price that bills a rate; None while it does not exist, or does not bill what its key says."""
    known = world.catalogue.value.prices.get(rate.lookup_key) if isinstance(world.catalogue, Present) else None
    return known.id if known is not None and is_priced_at(known, rate) else None


def changed_rates(world: World, rules: Rules) -> Iterator[Rate]:
    """The rates that running subscriptions may have to bill next; their prices have to be known to plan it."""
    adds = rules.commercial.changes_after_billing == "carry" or rules.commercial.on_stripe_items == "revert"
    asked = {conflict.subject for conflict in world.conflicts if conflict.rule == NOT_BILLED}
    for running in running_deals(world, rules.commercial):
        ours = adds and running.subscription.intent is not None
        ours = ours or bool(asked.intersection(line.id for line in running.new))
        for line in running.new:
            rate = rate_of_new(running, line, rules.commercial) if ours or line.id in running.leaving else None
            if isinstance(rate, Rate):
                yield rate
        for billed in running.items:
            if (changed := decide_price(world, rules, billed).rate) is not None:
                yield changed


def is_same_plan(one: AgreedRate, other: AgreedRate) -> bool:
    """Both bill one product by one interval, at whatever price."""
    return replace(one, unit_amount=other.unit_amount) == other


def _decide(
    world: World, rules: Rules, billed: BilledItem, line: LineItem, wanted: AgreedRate, shown: AgreedRate
) -> Decision:
    base, currency, commercial = agreed_rate(world, line), billed.item.currency, rules.commercial
    same_plan = base is None or is_same_plan(shown, base)

    def told(rate: AgreedRate) -> str:
        every = _shown(rate, currency)
        sold = line.product_name if base is not None and rate.product == base.product else None
        return every if same_plan else f"{sold or product_name(world, rate.product)} at {every}"

    words = f"line {line.called} says {number(line.unit_price)}, Stripe bills {told(shown)}"
    if not same_plan:
        words = f"the deal has {told(wanted)}, Stripe bills {told(shown)} instead"
    reaction = commercial.on_stripe_price if same_plan else commercial.on_stripe_items
    if reaction == "accept" and not same_plan:
        by_hand = why_no_exchange(world, rules, billed, billed.lines, billed.item)
        reaction, words = ("review", f"{words}; the deal does not follow: {by_hand}") if by_hand else (reaction, words)
    term = Term(
        subject=line.id,
        rule=RATE,
        salesforce=wanted.remembered(),
        stripe=shown.remembered(),
        base=base.remembered() if base else None,
        words=words,
        said=(told(base) if base else None, told(wanted), told(shown)),
        about=billed.about(line),
    )
    carries = base is not None and commercial.changes_after_billing == "carry"
    return decide(world, commercial, term, reaction, carries=carries)


def _shown(rate: AgreedRate, currency: str) -> str:
    """A rate in words: major units where the currency is known."""
    every = f"{rate.interval_count} {rate.interval}s" if rate.interval_count > 1 else rate.interval
    try:
        major = number(rate.unit_amount.scaleb(-exponent(currency)))
    except MoneyError:
        return f"{currency} {number(rate.unit_amount)} (minor units) per {every}"
    return f"{currency} {major} per {every}"


def _review(world: World, line: LineItem, detail: str) -> Review:
    return Review(f"{RATE}:{line.id}", world.account_id, RATE, line.id, detail)
