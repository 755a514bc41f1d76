"""Which records of the two systems belong together, and how that is known.

Evidence counts in this order: the ledger's link, the intent that our own create call put into Stripe's
metadata, the Salesforce id in Stripe's metadata, the Stripe id in the Salesforce field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync_pipeline.core.deal import subscription_intent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.salesforce_records import LineItem, Opportunity
from sync_pipeline.core.stripe_records import Customer, Subscription, SubscriptionItem, SubscriptionSchedule
from sync_pipeline.core.world import Billing, Deal, Link, World

SCHEDULE = "subscription_schedule"
BY_FIELD = "Opportunity field"


@dataclass(frozen=True, slots=True)
class Match:
    """The Stripe object of a Salesforce record, and what says so."""

    id: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Several Stripe objects claim the same Salesforce record; nothing is written until a person decides."""

    ids: tuple[str, ...]
    evidence: str


def match_subscription(
    opportunity: Opportunity, subscriptions: Iterable[Subscription], links: Iterable[Link], org_id: str
) -> Match | Ambiguous | None:
    """The subscription of a deal. An ended one still counts: it is never created again."""
    all_of_them, links = list(subscriptions), list(links)
    linked = {link.external_id for link in links if link.kind == "subscription" and link.subject == opportunity.id}
    intent = subscription_intent(org_id, opportunity.id)
    claims = (
        ("link", [s.id for s in all_of_them if s.id in linked]),
        ("metadata.sf_intent", [s.id for s in all_of_them if s.intent == intent]),
        ("metadata.sf_opportunity_id", [s.id for s in all_of_them if s.opportunity_id == opportunity.id]),
        (
            BY_FIELD,
            [
                s.id
                for s in all_of_them
                if s.id == opportunity.stripe_subscription_id and owner_of_named(opportunity, [s], links) is None
            ],
        ),
    )
    for evidence, ids in claims:
        if len(ids) == 1:
            return Match(ids[0], evidence)
        if ids:
            return Ambiguous(tuple(sorted(ids)), evidence)
    return None


def deals_by_subscription(world: World, billing: Billing) -> list[tuple[Subscription, list[Deal]]]:
    """The subscriptions that bill deals, by id, each with its deals, the one that closed first before the others."""
    deals: dict[str, list[Deal]] = {}
    for deal in sorted(world.deals, key=lambda each: (each.opportunity.close_date or "", each.opportunity.id)):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if isinstance(found, Match):
            deals.setdefault(found.id, []).append(deal)
    ordered = sorted(billing.subscriptions, key=lambda each: each.id)
    return [(subscription, deals[subscription.id]) for subscription in ordered if subscription.id in deals]


def owner_of_named(
    opportunity: Opportunity, subscriptions: Iterable[Subscription], links: Iterable[Link]
) -> str | None:
    """The other Opportunity whose subscription this one names in its field, as a copied Opportunity does.

    Only an amendment shares the subscription of another deal.
    """
    name = opportunity.stripe_subscription_id
    if name is None or opportunity.amends_opportunity_id:
        return None
    linked = [link.subject for link in links if (link.kind, link.external_id) == ("subscription", name)]
    owners = linked or [s.opportunity_id for s in subscriptions if s.id == name and s.opportunity_id]
    return min(owners) if owners and opportunity.id not in owners else None


def match_schedule(
    opportunity: Opportunity, schedules: Iterable[SubscriptionSchedule], links: Iterable[Link], org_id: str
) -> SubscriptionSchedule | None:
    """The schedule of a deal; one that was canceled or is over still counts. Of several, the first by id."""
    linked, intent = named_schedules(opportunity, links), subscription_intent(org_id, opportunity.id)
    ours = (s for s in schedules if s.id in linked or s.intent == intent or s.opportunity_id == opportunity.id)
    return min(ours, key=lambda schedule: schedule.id, default=None)


def named_subscriptions(opportunity: Opportunity, links: Iterable[Link]) -> set[str]:
    """The subscriptions that the ledger or the Opportunity itself names, whether Stripe shows them or not."""
    linked = {link.external_id for link in links if link.kind == "subscription" and link.subject == opportunity.id}
    return linked | ({opportunity.stripe_subscription_id} if opportunity.stripe_subscription_id else set())


def named_schedules(opportunity: Opportunity, links: Iterable[Link]) -> set[str]:
    """The schedules that the ledger knows the deal to have, whether its Account's customers have them or not."""
    return {link.external_id for link in links if link.kind == SCHEDULE and link.subject == opportunity.id}


def linked_customers(world: World) -> tuple[Customer, ...]:
    """The Account's own living customers, that of its first slot before those of other currencies.

    One that the Account merely names is not its own until it is adopted.
    """
    linked = (link for link in world.links if link.kind == "customer")
    in_order = sorted(linked, key=lambda link: (link.role != "primary", link.subject, link.external_id))
    found = (world.customers.get(link.external_id) for link in in_order)
    return tuple(each.value for each in found if isinstance(each, Present) and not each.value.deleted)


def first_customer(world: World) -> Customer | None:
    """The living customer of the Account's first slot: the one that the Account names. Where its own was deleted, one
    that came with a merged Account."""
    slot = {link.external_id for link in world.links if link.kind == "customer" and _is_first(world, link)}
    return next((customer for customer in linked_customers(world) if customer.id in slot), None)


def _is_first(world: World, link: Link) -> bool:
    return link.role != "former" and link.subject == world.account_id


def own_billing(world: World) -> Billing | None:
    """What Stripe holds for the Account's own customers, all together, when the look at it was whole.

    Rules read it from here. Those that were deleted count: what they were billed and paid stays what it was, and what
    they had has ended.
    """
    linked = {link.external_id for link in world.links if link.kind == "customer"}
    own = {each for each in linked if isinstance(world.customers.get(each), Present)}
    if not own or not isinstance(world.billing, Present):
        return None
    return world.billing.value if own == world.customers.keys() else world.billing.value.of(own)


def match_item(line: LineItem, items: Iterable[SubscriptionItem], subscription_id: str) -> Match | None:
    """The subscription item that bills a line; of several that claim it, the first by id."""
    candidates = sorted((item for item in items if item.subscription == subscription_id), key=lambda item: item.id)
    for item in candidates:
        if line.id in item.line_ids:
            return Match(item.id, "metadata.sf_line_id")
    for item in candidates:
        if item.id == line.stripe_item_id:
            return Match(item.id, "OpportunityLineItem field")
    return None
