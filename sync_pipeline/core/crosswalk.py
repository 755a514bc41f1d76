"""Which records of the two systems belong together, and how that is known.

Evidence counts in this order: the ledger's link, the intent that our own create call put into Stripe's
metadata, the Salesforce id in Stripe's metadata, the Stripe id in the Salesforce field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync_pipeline.core.deal import subscription_intent
from sync_pipeline.core.observation import Present
from sync_pipeline.core.records import Customer, LineItem, Opportunity, Subscription, SubscriptionItem
from sync_pipeline.core.world import Billing, Link, World


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
    all_of_them = list(subscriptions)
    linked = {link.external_id for link in links if link.kind == "subscription" and link.subject == opportunity.id}
    intent = subscription_intent(org_id, opportunity.id)
    claims = (
        ("link", [s.id for s in all_of_them if s.id in linked]),
        ("metadata.sf_intent", [s.id for s in all_of_them if s.intent == intent]),
        ("metadata.sf_opportunity_id", [s.id for s in all_of_them if s.opportunity_id == opportunity.id]),
        ("Opportunity field", [s.id for s in all_of_them if s.id == opportunity.stripe_subscription_id]),
    )
    for evidence, ids in claims:
        if len(ids) == 1:
            return Match(ids[0], evidence)
        if ids:
            return Ambiguous(tuple(sorted(ids)), evidence)
    return None


def named_subscriptions(opportunity: Opportunity, links: Iterable[Link]) -> set[str]:
    """The subscriptions that the ledger or the Opportunity itself names, whether Stripe shows them or not."""
    linked = {link.external_id for link in links if link.kind == "subscription" and link.subject == opportunity.id}
    return linked | ({opportunity.stripe_subscription_id} if opportunity.stripe_subscription_id else set())


def linked_customer(world: World) -> Customer | None:
    """The Account's own living customer. One that the Account merely names is not its own until it is adopted."""
    if not isinstance(world.customer, Present) or world.customer.value.deleted:
        return None
    customer = world.customer.value
    linked = any(link.kind == "customer" and link.external_id == customer.id for link in world.links)
    return customer if linked else None


def own_billing(world: World) -> Billing | None:
    """What Stripe holds for the Account's own customer, when the look at it was whole. Rules read it from here."""
    return world.billing.value if linked_customer(world) and isinstance(world.billing, Present) else None


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
