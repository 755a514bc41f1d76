"""Won deals that were never billed: ready with their terms, or with exactly what keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sync_pipeline.core.amendments import amendments, is_amendment
from sync_pipeline.core.crosswalk import (
    Match,
    match_schedule,
    match_subscription,
    named_schedules,
    named_subscriptions,
    own_billing,
    owner_of_named,
)
from sync_pipeline.core.customers import home_currency
from sync_pipeline.core.deal import Incomplete, Terms, is_billable, terms
from sync_pipeline.core.lifecycle import never_began
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import SubscriptionSchedule
from sync_pipeline.core.world import Billing, Deal, World

SELL_ANEW = "what was billed once is never billed again: win it as a new Opportunity, or mark this one as lost"


@dataclass(frozen=True, slots=True)
class Unbilled:
    """The deals that wait, in the order of their ids; `home` is the currency of the Account's first customer.

    `rescheduled` are deals that were edited after their schedule was made and before it begins.
    """

    home: str
    ready: tuple[tuple[Deal, Terms], ...] = ()
    rescheduled: tuple[tuple[Deal, Terms, SubscriptionSchedule], ...] = ()
    incomplete: Mapping[str, Incomplete] = field(default_factory=dict)

    @property
    def currencies(self) -> frozenset[str]:
        return frozenset(agreed.currency for _, agreed in self.ready)


def unbilled_deals(world: World, rules: Rules) -> Unbilled:
    """Won deals that never had a subscription; none while the Account or Stripe is unknown."""
    if not isinstance(world.account, Present) or isinstance(world.billing, Unknown):
        return Unbilled(rules.commercial.default_currency)
    account = world.account.value
    waiting = [
        (deal, terms(deal, account, rules.commercial, world.now, is_new=True))
        for deal in sorted(world.deals, key=lambda deal: deal.opportunity.id)
        if is_billable(deal, rules.commercial)
        and not _was_billed(world, deal)
        and not is_amendment(world, deal, rules.commercial)
    ]
    ready = [(deal, agreed) for deal, agreed in waiting if isinstance(agreed, Terms)]
    incomplete = {deal.opportunity.id: agreed for deal, agreed in waiting if isinstance(agreed, Incomplete)}
    incomplete |= dict(_copies(world, rules)) | dict(_never_begun(world)) | dict(_never_paid(world, rules))
    incomplete |= {each.id: Incomplete(each.faults) for each in amendments(world, rules) if each.faults}
    home = home_currency(world, account, rules.commercial, {agreed.currency for _, agreed in ready})
    if rules.commercial.other_currencies == "refuse":
        incomplete |= dict(_in_other_currencies(ready, home))
        ready = [(deal, agreed) for deal, agreed in ready if deal.opportunity.id not in incomplete]
    return Unbilled(home, tuple(ready), _rescheduled(world, account, rules), incomplete)


def _copies(world: World, rules: Rules) -> Iterable[tuple[str, Incomplete]]:
    """Won deals that name the subscription of another: a copied Opportunity brings the ids of the first with it."""
    subscriptions = world.billing.value.subscriptions if isinstance(world.billing, Present) else ()
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        opportunity = deal.opportunity
        owner = owner_of_named(opportunity, subscriptions, world.links)
        matched = match_subscription(opportunity, subscriptions, world.links, world.org_id)
        if owner is not None and matched is None and is_billable(deal, rules.commercial):
            detail = (
                f"it names {opportunity.stripe_subscription_id}, which bills Opportunity {owner}; "
                "clear that id if this is a deal of its own, or name the Opportunity that it amends"
            )
            yield opportunity.id, Incomplete((detail,))


def _never_begun(world: World) -> Iterable[tuple[str, Incomplete]]:
    """Won deals whose schedule was canceled at Stripe, perhaps with its customer, before their service began."""
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        opportunity = deal.opportunity
        schedule = match_schedule(opportunity, billing.schedules, world.links, world.org_id)
        if schedule is None or schedule.status != "canceled" or not opportunity.is_won:
            continue
        begun = schedule.subscription or named_subscriptions(opportunity, world.links)
        if not begun and match_subscription(opportunity, billing.subscriptions, world.links, world.org_id) is None:
            detail = f"{schedule.id}, which was to begin it, was canceled at Stripe; {SELL_ANEW}"
            yield opportunity.id, Incomplete((detail,))


def _never_paid(world: World, rules: Rules) -> Iterable[tuple[str, Incomplete]]:
    """Won deals whose subscription expired at Stripe because its first payment did not come."""
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    expired = {each.id for each in billing.subscriptions if never_began(each)}
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        is_own = is_billable(deal, rules.commercial) and not is_amendment(world, deal, rules.commercial)
        if isinstance(found, Match) and found.id in expired and is_own:
            detail = f"{found.id} expired at Stripe, because its first payment did not come; {SELL_ANEW}"
            yield opportunity_of(deal.opportunity.id), Incomplete((detail,))


def _was_billed(world: World, deal: Deal) -> bool:
    """A subscription or schedule of the deal is there, ended or not, or one is named that Stripe does not show."""
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    if match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id) is not None:
        return True
    if match_schedule(deal.opportunity, billing.schedules, world.links, world.org_id) is not None:
        return True
    named = named_subscriptions(deal.opportunity, world.links) | named_schedules(deal.opportunity, world.links)
    return bool(named)


def _rescheduled(world: World, account: Account, rules: Rules) -> tuple[tuple[Deal, Terms, SubscriptionSchedule], ...]:
    billing = own_billing(world)
    found = []
    for deal in sorted(world.deals, key=lambda deal: deal.opportunity.id) if billing is not None else ():
        assert billing is not None
        schedule = match_schedule(deal.opportunity, billing.schedules, world.links, world.org_id)
        if schedule is not None and schedule.status == "not_started" and deal.opportunity.is_won and schedule.terms:
            agreed = terms(deal, account, rules.commercial, world.now, is_new=True)
            if isinstance(agreed, Terms) and agreed.digest != schedule.terms:
                found.append((deal, agreed, schedule))
    return tuple(found)


def _in_other_currencies(ready: Iterable[tuple[Deal, Terms]], home: str) -> Iterable[tuple[str, Incomplete]]:
    for deal, agreed in ready:
        if agreed.currency != home:
            detail = (
                f"it is in {agreed.currency}, the Account is billed in {home}, "
                "and other_currencies in the rules allows no customer for a second currency"
            )
            yield deal.opportunity.id, Incomplete((detail,))
