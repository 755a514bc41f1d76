"""One-time charges that come to a deal after its first invoice: each is put on the next one, once.

What was charged, then or on the first invoice, is remembered with the quantity and the price of its line: what becomes
of the line later is told. Where the ledger does not know of a charge, the invoice items at Stripe tell: each names the
lines that it charges, and an item that somebody deletes there is not made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from sync_pipeline.core.billed_items import RunningDeal
from sync_pipeline.core.canon import number
from sync_pipeline.core.charged import charged, charged_lines
from sync_pipeline.core.commands import Command, Entry, LookAgain, Review
from sync_pipeline.core.deal import Incomplete, rate_of
from sync_pipeline.core.ensure import deal_metadata
from sync_pipeline.core.lifecycle import CHANGEABLE, is_ending
from sync_pipeline.core.observation import Present
from sync_pipeline.core.prices import in_two_currencies, price_at_stripe
from sync_pipeline.core.proration import sent_from
from sync_pipeline.core.quiet import quiet_until
from sync_pipeline.core.rate_card import rate_card
from sync_pipeline.core.rates import Rate, discount_fault, is_one_time
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.seats import agreed_quantities, agreed_quantity
from sync_pipeline.core.world import World

RULE = "late_charge"


def late_charges(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be charged, or told to a person, for every running subscription that the sync made."""
    rates = list(charged_rates(world, rules))
    if rates and isinstance(world.catalogue, Present):
        yield from rate_card(world, world.catalogue.value, rates)
    for running in _own(world, rules.commercial):
        prices = dict(charged_lines(world, running.deal))
        for line in _one_time(running, rules.commercial):
            agreed, price = agreed_quantity(world, [line.id]), prices.get(line.id)
            if agreed is None:
                yield from _charge(world, rules, running, line)
            elif agreed != line.quantity or price not in (None, number(line.unit_price)):
                yield _review(world, line, _changed(line, agreed, price))
            elif (fault := discount_fault(line)) is not None:
                yield _review(world, line, f"line {line.called} was charged once, and {fault}")
            elif price is None:
                # It was charged by a version that remembered the quantity only.
                yield charged(running.deal, line)
        for gone in prices.keys() - {line.id for line in running.deal.lines}:
            detail = f"line {gone} was charged once and is not on the deal any more; credit it by hand"
            yield Review(f"{RULE}:{gone}", world.account_id, RULE, gone, detail)


def customers_to_look_at(world: World, commercial: Commercial) -> frozenset[str]:
    """The customers whose invoice items have to be read: they have a charge of which the ledger does not know."""
    return frozenset(
        running.subscription.customer
        for running in _own(world, commercial)
        if any(agreed_quantity(world, [line.id]) is None for line in _one_time(running, commercial))
    )


def charged_rates(world: World, rules: Rules) -> Iterator[Rate]:
    """The rates that are to be charged; their prices have to be known to plan it."""
    if not isinstance(world.charged, Present):
        return
    for running in _own(world, rules.commercial):
        for line in _one_time(running, rules.commercial):
            if agreed_quantity(world, [line.id]) is None and line.id not in world.charged.value:
                rate = _rate(running, line, rules.commercial)
                if isinstance(rate, Rate):
                    yield rate


def _own(world: World, commercial: Commercial) -> Iterator[RunningDeal]:
    return (running for running in running_deals(world, commercial) if running.subscription.intent is not None)


def _one_time(running: RunningDeal, commercial: Commercial) -> Sequence[LineItem]:
    return [each for each in sorted(running.deal.lines, key=lambda line: line.id) if is_one_time(each, commercial)]


def _rate(running: RunningDeal, line: LineItem, commercial: Commercial) -> Rate | Incomplete:
    """What a line charges on the next invoice, in the subscription's currency; or why it does not."""
    subscription = running.subscription
    if commercial.changes_after_billing != "carry":
        return Incomplete(("the first invoice has been made",))
    if subscription.status not in CHANGEABLE or is_ending(subscription):
        return Incomplete((f"{subscription.id} will perhaps have no further invoice",))
    if not running.is_in_one_currency:
        return Incomplete((in_two_currencies(running),))
    if line.quantity is None or line.quantity <= 0 or line.quantity % 1:
        return Incomplete((f"the quantity is {number(line.quantity) or 'empty'}, not a positive whole number",))
    return rate_of(line, running.currency, None, commercial)


def _changed(line: LineItem, agreed: Decimal, price: str | None) -> str:
    """`price` is what was remembered of it; charges of earlier versions have none."""
    was, says = number(agreed), number(line.quantity)
    if price is not None:
        was, says = f"{was} at {price} each", f"{says} at {number(line.unit_price)} each"
    return (
        f"line {line.called} was charged once, for {was}, and says {says} now; invoice or credit the difference by hand"
    )


def _charge(world: World, rules: Rules, running: RunningDeal, line: LineItem) -> Iterator[Entry]:
    if not isinstance(world.charged, Present):
        return
    if line.id in world.charged.value:
        yield from agreed_quantities([(line.id, line.quantity)])
        return
    rate = _rate(running, line, rules.commercial)
    if isinstance(rate, Incomplete):
        why = "; ".join(rate.missing)
        yield _review(world, line, f"line {line.called} is a one-time charge, and {why}; invoice it by hand")
        return
    rested = quiet_until(line.modified_at, rules.commercial)
    due_at = max(rested, sent_from(line, running.period_ends, rules.commercial))
    if world.now < due_at:
        yield LookAgain(due_at, line.id, f"{line.called} is put on the next invoice of {running.subscription.id}")
    elif (price := price_at_stripe(world, rate)) is not None:
        yield _made(world, running, line, price)


def _made(world: World, running: RunningDeal, line: LineItem, price: str) -> Command:
    intent = f"charge:{world.org_id[:15]}:{line.id}"
    metadata = deal_metadata(world, running.deal.opportunity.id) | {"sf_intent": intent, "sf_line_id": line.id}
    params: dict[str, Any] = {
        "customer": running.subscription.customer,
        "subscription": running.subscription.id,
        "pricing": {"price": price},
        "quantity_decimal": number(line.quantity),
        "metadata": metadata,
    }
    return Command(
        key=intent,
        account=world.account_id,
        target=intent,
        action="stripe.create",
        priority=Priority.SEATS,
        reason=f"{line.called} is charged once, on the next invoice of {running.subscription.id}",
        subject=line.id,
        body={"object": "invoiceitem", "params": params},
        agreements=(*agreed_quantities([(line.id, line.quantity)]), charged(running.deal, line)),
    )


def _review(world: World, line: LineItem, detail: str) -> Review:
    return Review(f"{RULE}:{line.id}", world.account_id, RULE, line.id, detail)
