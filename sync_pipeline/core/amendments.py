"""Amendments: won Opportunities that change what another deal's running subscription bills.

An amendment has no subscription of its own. Its lines are differences: a positive quantity adds, a negative one takes
back. They come to the deal that it amends as lines of that deal, each once, on the day on which they take effect; from
then on they are billed as every line is. That day is the line's date, else the amendment's first day of service, else
the day on which it was closed. An amendment that only takes back waits for the end of the term that runs on that day,
by rule; one that also adds is an exchange, of which both halves count from its day, or else both would be billed.

On a ramp that has phases to come a line is for the phase that runs and all later ones, and counts from the moment at
which the schedule is told: it takes no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from sync_pipeline.core.billed_lines import first_month_billed_now, lines_billed_later, lines_billed_now
from sync_pipeline.core.canon import number, text
from sync_pipeline.core.crosswalk import Match, match_schedule, match_subscription, own_billing
from sync_pipeline.core.deal import Incomplete, is_billable, rate_of, terms, today
from sync_pipeline.core.lifecycle import CHANGEABLE, has_ended
from sync_pipeline.core.observation import Present
from sync_pipeline.core.proration import sent_from
from sync_pipeline.core.rates import Interval, Rate, interval_of, is_one_time, item_faults, line_faults, rate_card
from sync_pipeline.core.rules import MASTER, Commercial, Rules
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.stripe_records import Subscription, SubscriptionItem
from sync_pipeline.core.term import term_of_day, whole_months
from sync_pipeline.core.world import Billing, Deal, World

RULE = "amendment.line"


@dataclass(frozen=True, slots=True)
class Pending:
    """A line of an amendment as it will stand on the deal, and from when (microseconds UTC)."""

    line: LineItem
    due_at: int


@dataclass(frozen=True, slots=True)
class Amendment:
    """`pending` lines have not come to the deal yet; with `faults`, or while there is no `subscription`, none does."""

    deal: Deal
    original: Deal | None = None
    subscription: Subscription | None = None
    pending: tuple[Pending, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.deal.opportunity.id


def is_amendment(world: World, deal: Deal, commercial: Commercial) -> bool:
    """It names the deal that it amends, or has a type or record type that means one.

    A deal with a subscription of its own is none.
    """
    opportunity = deal.opportunity
    is_told = opportunity.type in commercial.amendment_types or (
        (opportunity.record_type or MASTER) in commercial.amendment_record_types
    )
    if not opportunity.amends_opportunity_id and not is_told:
        return False
    billing, unnamed = own_billing(world) or Billing(), replace(opportunity, stripe_subscription_id=None)
    return (
        match_subscription(unnamed, billing.subscriptions, world.links, world.org_id) is None
        and match_schedule(unnamed, billing.schedules, world.links, world.org_id) is None
    )


def amendments(world: World, rules: Rules) -> tuple[Amendment, ...]:
    """The won amendments in the order in which they closed; what one of them takes back another may have added."""
    commercial, billing = rules.commercial, own_billing(world)
    found = [deal for deal in world.deals if is_amendment(world, deal, commercial) and is_billable(deal, commercial)]
    brought: dict[str, list[LineItem]] = {}
    read = []
    for deal in sorted(found, key=lambda each: (each.opportunity.close_date or "", each.opportunity.id)):
        amendment = _read(world, rules, billing, deal, brought)
        if amendment.original is not None and not amendment.faults:
            lines = brought.setdefault(amendment.original.opportunity.id, [])
            lines += [pending.line for pending in amendment.pending]
        read.append(amendment)
    return tuple(read)


def copies_of_lines(world: World) -> dict[str, LineItem]:
    """The lines that amendments brought to deals, by the id of the amendment's line."""
    return {line.amends_line_id: line for deal in world.deals for line in deal.lines if line.amends_line_id}


def with_pending(world: World, rules: Rules, billing: Billing, subscription: Subscription, day: date) -> Billing:
    """The billing as it will be on a day on which the amendments that wait for it have come over."""
    items = {item.id: item for item in billing.items}
    for amendment in amendments(world, rules):
        if amendment.subscription is None or amendment.original is None or amendment.subscription.id != subscription.id:
            continue
        for line in (pending.line for pending in amendment.pending):
            interval = interval_of(line, amendment.original.opportunity.billing_interval, rules.commercial)
            if is_one_time(line, rules.commercial) or interval is None or (line.service_date or "") > day.isoformat():
                continue
            rate = rate_of(line, subscription.currency, interval, rules.commercial)
            if not isinstance(rate, Incomplete):
                item = _billing_of(rate, interval, subscription, items.values(), int(line.quantity or 0))
                items[item.id] = item
    return replace(billing, items=tuple(items.values()))


def _billing_of(
    rate: Rate, interval: Interval, subscription: Subscription, items: Iterable[SubscriptionItem], more: int
) -> SubscriptionItem:
    """The item that bills a rate with so many more, which may be a new one."""
    wanted = (subscription.id, rate.stripe_product, rate.unit_amount, *interval)
    for item in items:
        if (item.subscription, item.product, item.unit_amount, item.interval, item.interval_count) == wanted:
            return replace(item, quantity=(item.quantity or 0) + more)
    unit, count = interval
    return SubscriptionItem(
        id=f"(new item of {rate.lookup_key})",
        subscription=subscription.id,
        price=rate.lookup_key,
        product=rate.stripe_product,
        currency=rate.currency,
        interval=unit,
        interval_count=count,
        usage_type="licensed",
        unit_amount=rate.unit_amount,
        quantity=more,
    )


def pending_until(amendment: Amendment, now: int) -> str | None:
    """In words what a sound amendment waits for at a moment; None where what is left of it can come over now."""
    if amendment.faults or amendment.original is None or not amendment.pending:
        return None
    if amendment.subscription is None:
        return f"Waits until Opportunity {amendment.original.opportunity.id}, which it amends, is billed"
    ahead = [pending.line for pending in amendment.pending if pending.due_at > now]
    told = [f"{number(line.quantity)} {line.called}" for line in ahead]
    day = min((line.service_date or "" for line in ahead), default="")
    return f"Takes effect on {day}: {', '.join(told)}" if ahead else None


def _read(
    world: World, rules: Rules, billing: Billing | None, deal: Deal, brought: dict[str, list[LineItem]]
) -> Amendment:
    commercial, copies = rules.commercial, copies_of_lines(world)
    coming = [line for line in deal.lines if line.id not in copies and (line.id, RULE) not in world.base]
    original = _original(world, commercial, deal)
    if isinstance(original, str):
        return Amendment(deal, faults=(original,) if coming or not deal.lines else ())
    subscription = _subscription(world, billing, original)
    if not coming and deal.lines:
        return Amendment(deal, original, subscription)
    if commercial.amendments == "by_hand":
        told = f"it amends Opportunity {original.opportunity.id}, and the rules leave that to people"
        return Amendment(deal, original, subscription, faults=(told,))
    faults = [*_faults_of_deal(deal), *_faults_of_lines(deal, original, commercial)]
    if subscription is None or billing is None:
        waiting = tuple(Pending(line, world.now) for line in coming)
        return Amendment(deal, original, faults=tuple(faults), pending=waiting)
    faults += _faults_of_subscription(world, commercial, billing, deal, original, subscription)
    if faults:
        return Amendment(deal, original, subscription, faults=tuple(faults))
    held = lines_billed_now(original, subscription, commercial, world.now)
    from_month = _running_month_of_ramp(world, commercial, billing, original, subscription)
    waits = commercial.reductions == "at_renewal" and all((line.quantity or 0) < 0 for line in deal.lines)
    pending = []
    for line in sorted(coming, key=lambda each: each.id):
        day = _effective_day(deal, line, commercial, world.now)
        if waits:
            months = whole_months(original.opportunity)
            if months is None:
                told = "it takes back at the renewal, and the deal that it amends has no term in whole months"
                return Amendment(deal, original, subscription, faults=(told,))
            day = term_of_day(subscription, months, commercial, day).day
        stands = _as_it_stands(deal, original, line, day, from_month)
        periods = [item.period_end for item in billing.items if item.subscription == subscription.id]
        pending.append(Pending(stands, sent_from(stands, periods, commercial)))
    added = [*brought.get(original.opportunity.id, ()), *(each.line for each in pending)]
    faults += _faults_together(original, [*held, *added], subscription.currency, commercial)
    if from_month is not None and isinstance(world.account, Present):
        then = terms(replace(original, lines=(*original.lines, *added)), world.account.value, commercial, world.now)
        faults += then.missing if isinstance(then, Incomplete) else ()
    return Amendment(deal, original, subscription, () if faults else tuple(pending), tuple(dict.fromkeys(faults)))


def _original(world: World, commercial: Commercial, deal: Deal) -> Deal | str:
    """The deal whose subscription an amendment changes, by way of amendments in between; or why there is none."""
    by_id = {each.opportunity.id: each for each in world.deals}
    seen, at = {deal.opportunity.id}, deal
    while is_amendment(world, at, commercial):
        name = at.opportunity.amends_opportunity_id
        if name is None:
            return _only_one(world, commercial)
        if name in seen:
            return f"it amends Opportunity {name}, which amends this one"
        seen.add(name)
        if name not in by_id or not by_id[name].opportunity.is_won:
            return f"it amends Opportunity {name}, which is no won deal of this Account"
        at = by_id[name]
    return at


def _only_one(world: World, commercial: Commercial) -> Deal | str:
    """What an amendment amends that is only told by its type: the Account's one deal that is being billed."""
    billing = own_billing(world)
    running = [
        deal
        for deal in world.deals
        if deal.opportunity.is_won
        and not is_amendment(world, deal, commercial)
        and (subscription := _subscription(world, billing, deal)) is not None
        and not has_ended(subscription)
    ]
    if len(running) == 1:
        return running[0]
    names = ", ".join(sorted(deal.opportunity.id for deal in running))
    found = f"{len(running)} deals of this Account are billed ({names})" if running else "no deal of it is billed"
    return f"it is an amendment that names no Opportunity, and {found}; name the one that it amends"


def _subscription(world: World, billing: Billing | None, deal: Deal) -> Subscription | None:
    if billing is None:
        return None
    found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
    return next((s for s in billing.subscriptions if s.id == found.id), None) if isinstance(found, Match) else None


def _running_month_of_ramp(
    world: World, commercial: Commercial, billing: Billing, original: Deal, subscription: Subscription
) -> int | None:
    """The month of the term in which the running phase of a ramp began, while later ones are to come."""
    schedule = match_schedule(original.opportunity, billing.schedules, world.links, world.org_id)
    runs = schedule is not None and schedule.status == "active"
    if not runs or not lines_billed_later(original, subscription, commercial, world.now):
        return None
    return first_month_billed_now(original, subscription, commercial, world.now)


def _faults_of_deal(deal: Deal) -> Iterator[str]:
    """What is said of a whole deal and cannot be said of a part of one."""
    opportunity = deal.opportunity
    if not deal.lines:
        yield "there are no line items"
    for day in (opportunity.service_start_date, opportunity.close_date):
        if day and not _is_day(day):
            yield f"{day!r} is not a date"
    if opportunity.discount_percent or opportunity.discount_amount:
        yield "it has a discount of its own; the discount of the deal that it amends holds, use negotiated prices"
    if opportunity.free_months:
        yield "it has free months; give its lines the day from which they are billed"


def _faults_of_lines(deal: Deal, original: Deal, commercial: Commercial) -> Iterator[str]:
    for line in sorted(deal.lines, key=lambda each: each.id):
        name, quantity = line.called, line.quantity or Decimal(0)
        said = _interval_word(deal, original, line)
        currency = commercial.currency_of(deal.opportunity.currency)
        of_line = list(line_faults(replace(line, quantity=abs(quantity)), currency, commercial))
        if is_one_time(line, commercial):
            if quantity < 0:
                of_line.append("it takes back a one-time charge; credit the invoice at Stripe")
        elif said not in commercial.intervals:
            of_line.append(f"the billing interval is {said!r} (known: {', '.join(commercial.intervals)})")
        if line.service_date and not _is_day(line.service_date):
            of_line.append(f"the service date {line.service_date!r} is not a date")
        if line.from_month is not None or line.to_month is not None:
            of_line.append("it is for some months of the term only; an amendment is no ramp")
        yield from (f"line {name}: {fault}" for fault in of_line)


def _faults_of_subscription(
    world: World, commercial: Commercial, billing: Billing, deal: Deal, original: Deal, subscription: Subscription
) -> Iterator[str]:
    """Why the subscription cannot take an amendment."""
    currency = commercial.currency_of(deal.opportunity.currency)
    if has_ended(subscription):
        yield f"{subscription.id}, which it amends, has ended; sell it as a deal of its own"
    elif subscription.status not in CHANGEABLE:
        yield f"{subscription.id}, which it amends, is {subscription.status} and cannot be changed now"
    elif subscription.intent is None:
        yield f"{subscription.id}, which it amends, was not made by the sync; change it at Stripe, and the deal with it"
    if currency != subscription.currency:
        yield f"it is in {currency}, {subscription.id}, which it amends, in {subscription.currency}"


def _faults_together(original: Deal, lines: Sequence[LineItem], currency: str, commercial: Commercial) -> Iterator[str]:
    """What is wrong only with the lines of the deal and of its amendments together."""
    sold: list[tuple[LineItem, Interval | None]] = []
    for line in lines:
        interval = interval_of(line, original.opportunity.billing_interval, commercial)
        if is_one_time(line, commercial) or interval is None:
            continue
        if not isinstance(rate_of(line, currency, interval, commercial), Incomplete):
            sold.append((line, interval))
    rates = rate_card(sold, currency)
    for rate in rates:
        if rate.quantity < 0:
            yield f"it takes back {-rate.quantity} more of {rate.product_name} than the deal has at that price"
    if not any(rate.quantity > 0 for rate in rates):
        yield "it would leave nothing of the deal that it amends; enter a cancel date in the Contract instead"
    yield from item_faults(tuple(rate for rate in rates if rate.quantity > 0))


def _effective_day(deal: Deal, line: LineItem, commercial: Commercial, now: int) -> date:
    """A deal that is closed before its close date counts from the day on which it is seen."""
    day = today(now, commercial)
    said = line.service_date or deal.opportunity.service_start_date
    if said:
        return date.fromisoformat(said)
    closed = deal.opportunity.close_date
    return min(date.fromisoformat(closed), day) if closed else day


def _is_day(said: str) -> bool:
    try:
        date.fromisoformat(said)
    except ValueError:
        return False
    return True


def _interval_word(deal: Deal, original: Deal, line: LineItem) -> str | None:
    """How often a line is billed: its own word, else the amendment's, else that of the deal."""
    own = text(line.billing_interval) or text(deal.opportunity.billing_interval)
    return own or text(original.opportunity.billing_interval)


def _as_it_stands(deal: Deal, original: Deal, line: LineItem, day: date, from_month: int | None) -> LineItem:
    said = _interval_word(deal, original, line)
    own = said if said != text(original.opportunity.billing_interval) else None
    return replace(
        line,
        opportunity_id=original.opportunity.id,
        amends_line_id=line.id,
        service_date=day.isoformat(),
        billing_interval=own,
        from_month=None if from_month is None else Decimal(from_month),
        stripe_item_id=None,
    )
