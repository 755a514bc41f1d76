"""Ramps that are edited while they run: the schedule is told the phases that are still to come, and the one that runs.

One request says all of them, because a change of the running phase alone would be undone when the next one begins. What
is billed for the running phase only is sent to its items first, as for any subscription. Phases that somebody edited at
Stripe are put back or told, by the rule of the field; where the deal was edited too, Salesforce wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sync_pipeline.core import canonical, stripe_writing
from sync_pipeline.core.billed_items import RunningDeal
from sync_pipeline.core.commands import Agreement, Entry, FieldChange, Review
from sync_pipeline.core.crosswalk import SCHEDULE, match_schedule, own_billing
from sync_pipeline.core.deal import Incomplete, Terms, terms
from sync_pipeline.core.ensure import agreements_of, catalogue_fault, deal_metadata
from sync_pipeline.core.lifecycle import CHANGEABLE
from sync_pipeline.core.observation import Present
from sync_pipeline.core.prices import decide_price
from sync_pipeline.core.quiet import resting
from sync_pipeline.core.ramps_ahead import ramp_ahead
from sync_pipeline.core.rate_card import coupons, rate_card
from sync_pipeline.core.rules import Commercial, Priority, Reaction, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.schedule_phases import starts_at, without_quantities
from sync_pipeline.core.seats import decide_quantity
from sync_pipeline.core.stripe_records import SubscriptionSchedule
from sync_pipeline.core.stripe_terms import RunningPhase, phase_at, running_schedule_params
from sync_pipeline.core.term import paid_from
from sync_pipeline.core.two_way import braked_until, edit_war
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, World

RULE = "schedule.phases"


@dataclass(frozen=True, slots=True)
class RampChange:
    """A running schedule that has to be told other terms, or its own once more where somebody edited it."""

    running: RunningDeal
    schedule: SubscriptionSchedule
    agreed: Terms
    puts_back: bool = False


def keep_ramps(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be written to the schedules of running ramps, or decided by a person."""
    for found in _ramps(world, rules):
        if isinstance(found, RampChange):
            yield from _write(world, rules, found)
        else:
            yield found


def changed_ramps(world: World, rules: Rules) -> Iterator[Terms]:
    """Terms that running schedules have to be told; their prices and coupons have to be known to plan it."""
    return (found.agreed for found in _ramps(world, rules) if isinstance(found, RampChange))


def _ramps(world: World, rules: Rules) -> Iterator[RampChange | Entry]:
    billing = own_billing(world)
    for running in running_deals(world, rules.commercial) if billing is not None else ():
        assert billing is not None
        schedule = match_schedule(running.deal.opportunity, billing.schedules, world.links, world.org_id)
        is_ours = schedule is not None and schedule.terms and running.subscription.intent
        if schedule is not None and schedule.status == "active" and is_ours and running.is_in_one_currency:
            yield from _of_one(world, rules, billing, running, schedule)


def _of_one(
    world: World, rules: Rules, billing: Billing, running: RunningDeal, schedule: SubscriptionSchedule
) -> Iterator[RampChange | Entry]:
    subject = running.deal.opportunity.id
    assert isinstance(world.account, Present)
    agreed = terms(running.deal, world.account.value, rules.commercial, world.now)
    if not _is_ramp_ahead(world, running, schedule, agreed):
        return
    if isinstance(agreed, Incomplete):
        detail = f"{schedule.id} will bill what was agreed before, because: {'; '.join(agreed.missing)}"
        yield _review(world, "schedule_not_changed", subject, detail)
        return
    base = canonical.decode(world.base.get((schedule.id, RULE), "null"))
    there, reaction = _edits_at_stripe(world, rules.commercial, schedule, base)
    edited_here = agreed.digest != schedule.terms
    if there and not edited_here and reaction == "revert":
        if (until := braked_until(world, rules.commercial, schedule.id, RULE)) is not None:
            yield from edit_war(world, rules.commercial, schedule.id, RULE, until)
        elif (fault := _fault(world, billing, running, agreed)) is not None:
            yield _review(world, "ramp_edited_at_stripe", subject, f"{schedule.id} was edited at Stripe: {fault}")
        elif _is_settled_now(world, rules, running):
            yield RampChange(running, schedule, agreed, puts_back=True)
        return
    if there:
        wins = "the deal was edited too, and Salesforce wins" if edited_here else "put back there what the deal says"
        detail = f"later phases of {schedule.id} were edited at Stripe; {wins}, or edit the deal"
        yield _review(world, "ramp_edited_at_stripe", subject, detail)
    elif not edited_here:
        yield Agreement(schedule.id, RULE, canonical.encode(list(schedule.phases)))
    if not edited_here:
        return
    if rules.commercial.changes_after_billing == "review":
        yield _review(
            world, "ramp_edited", subject, f"{schedule.id} bills its phases as agreed before; make them equal"
        )
        return
    edits = [running.deal.opportunity.modified_at, *(line.modified_at for line in running.deal.lines)]
    edited_at = max(moment or 0 for moment in edits)
    if (rest := resting(world, rules.commercial, edited_at, subject)) is not None:
        yield rest
    elif (fault := _fault(world, billing, running, agreed)) is not None:
        yield _review(world, "ramp_edited", subject, f"{schedule.id} bills its phases as agreed before: {fault}")
    elif _is_settled_now(world, rules, running):
        yield RampChange(running, schedule, agreed)


def _is_ramp_ahead(
    world: World, running: RunningDeal, schedule: SubscriptionSchedule, agreed: Terms | Incomplete
) -> bool:
    """Some phase is still to come, by the schedule or by the deal; in its last one it has nothing left to say."""
    if any(starts_at(form) * MICROS > world.now for form in schedule.phases):
        return True
    if isinstance(agreed, Incomplete):
        return False
    return phase_at(agreed, paid_from(running.subscription) // MICROS, world.now // MICROS) is not agreed.phases[-1]


def _edits_at_stripe(
    world: World, commercial: Commercial, schedule: SubscriptionSchedule, base: Sequence[str] | None
) -> tuple[bool, Reaction]:
    """Whether phases that are still to come are others than those that were agreed on, and by rule what follows.

    A deal cannot follow the phases of its schedule: where the rule is to accept, a person is asked.
    """
    if base is None:
        return False, "review"
    agreed, shown = (
        [form for form in forms if starts_at(form) * MICROS > world.now] for forms in (base, schedule.phases)
    )
    seats_only = list(map(without_quantities, agreed)) == list(map(without_quantities, shown))
    reaction = commercial.on_stripe_quantity if seats_only else commercial.on_stripe_price
    return agreed != shown, reaction


def _fault(world: World, billing: Billing, running: RunningDeal, agreed: Terms) -> str | None:
    """What a schedule that runs cannot be told."""
    subscription = running.subscription
    if subscription.status not in CHANGEABLE:
        return f"{subscription.id} is {subscription.status} and cannot be changed at Stripe now"
    if any(each.subscription == subscription.id and each.item is not None for each in billing.discounts):
        return "one of its items has a discount of its own, which the change would take away"
    current = phase_at(agreed, paid_from(subscription) // MICROS, world.now // MICROS)
    billed = {(each.item.interval, each.item.interval_count) for each in running.items}
    if any(rate.interval not in billed for rate in current.rates):
        return "the billing interval of the phase that runs was edited"
    return None


def _is_settled_now(world: World, rules: Rules, running: RunningDeal) -> bool:
    """All that is billed for the running phase only is as the deal says; the rest goes with the later phases."""
    later = ramp_ahead(world, rules, running).lines
    for billed in running.items:
        spans = any(line.id in later for line in (*billed.lines, *billed.leaving))
        moves = {decide_quantity(world, rules, billed)[0].move, decide_price(world, rules, billed).decision.move}
        if not moves <= ({"agree", "to_stripe"} if spans else {"agree"}):
            return False
    return not running.unlined and all(line.id in later for line in running.new)


def _write(world: World, rules: Rules, change: RampChange) -> Iterator[Entry]:
    if not isinstance(world.catalogue, Present):
        return
    running, schedule, agreed, catalogue = change.running, change.schedule, change.agreed, world.catalogue.value
    yield from rate_card(world, catalogue, agreed.rates)
    yield from coupons(world, catalogue, [agreed.discount] if agreed.discount is not None else [])
    subject = running.deal.opportunity.id
    if fault := catalogue_fault(catalogue, agreed):
        rule, detail = fault
        if detail:
            yield _review(world, rule, subject, detail)
        return
    subscription = running.subscription
    trial_end = subscription.trial_end_at
    billing = own_billing(world)
    assert billing is not None
    phase = RunningPhase(
        began=(schedule.phase_starts_at or subscription.start_at) // MICROS,
        paid_from=paid_from(subscription) // MICROS,
        trial_end=trial_end // MICROS if trial_end is not None and trial_end > world.now else None,
        discounts=tuple(each.id for each in billing.discounts if each.subscription == subscription.id),
    )
    prices = {rate.lookup_key: catalogue.prices[rate.lookup_key].id for rate in agreed.rates}
    metadata, now = deal_metadata(world, subject), world.now // MICROS
    reason = "the ramp was put back" if change.puts_back else "the ramp was edited in Salesforce"
    changed = FieldChange("terms", schedule.terms, agreed.digest, "schedule.terms", reason)
    if change.puts_back:
        agreed_phases = canonical.decode(world.base[schedule.id, RULE])
        changed = FieldChange("phases", list(schedule.phases), agreed_phases, RULE, reason, put_back=schedule.id)
    yield stripe_writing.update(
        world,
        SCHEDULE,
        schedule.id,
        running_schedule_params(agreed, prices, metadata, phase, rules.commercial, now),
        subject=subject,
        priority=Priority.SEATS,
        reason=reason,
        changes=(changed,),
        agreements=(*agreements_of(running.deal, agreed), Agreement(schedule.id, RULE, "null")),
    )


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
